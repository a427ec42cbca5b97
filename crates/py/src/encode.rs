//! Messages from their fields.

use barewire_types::FieldKind;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::feed::check_protocol;

fn value_error(message: String) -> PyErr {
    PyValueError::new_err(message)
}

/// The bytes of a message of type `type` with these fields: integers as on the wire, text padded with spaces.
#[pyfunction]
pub fn encode<'py>(
    py: Python<'py>,
    protocol: &str,
    r#type: &str,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyBytes>> {
    let protocol = check_protocol(py, protocol)?;
    let spec = match r#type.as_bytes() {
        [code] => protocol.message(*code),
        _ => None,
    };
    let Some(spec) = spec else {
        let known: String = protocol.messages.iter().map(|m| char::from(m.type_code)).collect();
        return Err(value_error(format!("unknown message type '{type}': expected one of {known}", type = r#type)));
    };
    for name in fields.keys() {
        let name: String = name.extract()?;
        if !spec.fields.iter().skip(1).any(|field| field.name == name) {
            return Err(value_error(format!("{} has no field '{name}'", spec.name)));
        }
    }
    let mut message = vec![0; spec.len];
    for field in spec.fields {
        let place = &mut message[field.offset..field.offset + field.len];
        if field.offset == 0 {
            place.fill(spec.type_code);
            continue;
        }
        let value = fields
            .get_item(field.name)?
            .ok_or_else(|| value_error(format!("{}: field '{}' is missing", spec.name, field.name)))?;
        match field.kind {
            FieldKind::Text | FieldKind::Bytes => {
                let text: String = value.extract()?;
                if text.chars().count() > field.len || !text.chars().all(|c| u32::from(c) < 256) {
                    let expected = format!("at most {} characters of one byte", field.len);
                    return Err(value_error(format!("{}: expected {expected}, found '{text}'", field.name)));
                }
                place.fill(b' ');
                place.iter_mut().zip(text.chars()).for_each(|(to, c)| *to = c as u8);
            }
            FieldKind::UintBe | FieldKind::UintLe | FieldKind::IntLe => {
                let value: u64 = value.extract()?;
                let bytes = value.to_be_bytes();
                let (above, fits) = bytes.split_at(8 - field.len);
                if above.iter().any(|byte| *byte != 0) {
                    let expected = format!("a value of {} bytes", field.len);
                    return Err(value_error(format!("{}: expected {expected}, found {value}", field.name)));
                }
                place.copy_from_slice(fits);
                if field.kind != FieldKind::UintBe {
                    place.reverse();
                }
            }
        }
    }
    Ok(PyBytes::new(py, &message))
}
