//! The tables that Rust declares, as Python data: record layouts, protocols, counters.

use barewire_types::{Bbo, Field, FieldKind, Gap, Layout, Mbo, Status};
use barewire_wire::{PROTOCOLS, ProtocolSpec};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

fn kind(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::UintBe => "uint_be",
        FieldKind::UintLe => "uint_le",
        FieldKind::IntLe => "int_le",
        FieldKind::Text => "text",
        FieldKind::Bytes => "bytes",
    }
}

/// A field table, as Python data.
pub fn fields<'py>(py: Python<'py>, fields: &[Field], protocol: Option<&ProtocolSpec>) -> PyResult<Bound<'py, PyList>> {
    let rows = PyList::empty(py);
    for field in fields {
        let row = PyDict::new(py);
        row.set_item("name", field.name)?;
        row.set_item("offset", field.offset)?;
        row.set_item("len", field.len)?;
        row.set_item("kind", kind(field.kind))?;
        row.set_item("unit", field.unit)?;
        row.set_item("doc", field.doc)?;
        let codes = PyDict::new(py);
        for (code, meaning) in protocol.map_or(&[][..], |protocol| protocol.codes(field.name)) {
            codes.set_item(code, meaning)?;
        }
        row.set_item("codes", codes)?;
        rows.append(row)?;
    }
    Ok(rows)
}

/// The record kinds and their fields; offsets are within the 56-byte record.
#[pyfunction]
pub fn record_layouts(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let layouts = PyDict::new(py);
    for (name, table) in
        [(Mbo::NAME, Mbo::FIELDS), (Bbo::NAME, Bbo::FIELDS), (Gap::NAME, Gap::FIELDS), (Status::NAME, Status::FIELDS)]
    {
        layouts.set_item(name, fields(py, table, None)?)?;
    }
    Ok(layouts)
}

/// Every protocol: its messages, framing structures, fields and codes.
#[pyfunction]
pub fn protocols(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let all = PyDict::new(py);
    for protocol in PROTOCOLS {
        let entry = PyDict::new(py);
        entry.set_item("title", protocol.title)?;
        entry.set_item("source", protocol.source)?;
        let messages = PyDict::new(py);
        for message in protocol.messages {
            let row = PyDict::new(py);
            row.set_item("name", message.name)?;
            row.set_item("len", message.len)?;
            row.set_item("fields", fields(py, message.fields, Some(protocol))?)?;
            messages.set_item(char::from(message.type_code).to_string(), row)?;
        }
        entry.set_item("messages", messages)?;
        let structures = PyDict::new(py);
        for structure in protocol.structures {
            let row = PyDict::new(py);
            row.set_item("len", structure.len)?;
            row.set_item("fields", fields(py, structure.fields, Some(protocol))?)?;
            structures.set_item(structure.name, row)?;
        }
        entry.set_item("structures", structures)?;
        all.set_item(protocol.name, entry)?;
    }
    Ok(all)
}

/// Every statistic of a feed: name and meaning, in the order of the statistics page.
#[pyfunction]
pub fn counters() -> Vec<(&'static str, &'static str)> {
    barewire_engine::counters::TABLE.to_vec()
}
