//! Tables of messages and fields, and reading a field by its row.
//!
//! None of this is for the path a packet takes: it is what `inspect`, the reference pages and the numpy dtypes are made
//! from.

use core::fmt;

use barewire_types::{Field, FieldKind};

/// One message type of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSpec {
    /// The byte that tells this type from the others.
    pub type_code: u8,
    /// Name in snake case, as the specification's table has it.
    pub name: &'static str,
    /// Length in bytes, `message_type` included.
    pub len: usize,
    /// Every field in order; `message_type` is the first.
    pub fields: &'static [Field],
}

/// A structure that frames messages: a packet's header, a record's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Name in snake case, as the specification's table has it.
    pub name: &'static str,
    /// Length in bytes.
    pub len: usize,
    /// Every field in order.
    pub fields: &'static [Field],
}

/// The codes that one field of a protocol takes, wherever the field stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldCodes {
    /// The field's name.
    pub field: &'static str,
    /// Code, without the spaces that pad it, and what it means. Venues add codes: a list is never complete.
    pub codes: &'static [(&'static str, &'static str)],
}

/// A protocol: where it is specified, and all its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolSpec {
    /// Name and version, as configuration and commands have it, e.g. `itch-5.0`.
    pub name: &'static str,
    /// The specification's title.
    pub title: &'static str,
    /// Edition and date of the specification.
    pub source: &'static str,
    /// What stands around the messages; empty where nothing does.
    pub structures: &'static [Structure],
    /// Every message type, in the order of their codes; empty for a protocol that only frames another's messages.
    pub messages: &'static [MessageSpec],
    /// The codes of fields that take codes.
    pub codes: &'static [FieldCodes],
}

impl ProtocolSpec {
    /// The message type with this code. Looks through the list: not for the hot path.
    pub fn message(&self, type_code: u8) -> Option<&'static MessageSpec> {
        self.messages.iter().find(|message| message.type_code == type_code)
    }

    /// The codes that a field takes, by its name; empty where it takes none.
    pub fn codes(&self, field: &str) -> &'static [(&'static str, &'static str)] {
        self.codes.iter().find(|codes| codes.field == field).map_or(&[], |codes| codes.codes)
    }

    /// What the code in a field means; `None` for a code that the table does not have, and for a field without codes.
    pub fn meaning(&self, field: &str, code: &[u8]) -> Option<&'static str> {
        let code = trim_end(code);
        self.codes(field).iter().find(|(known, _)| known.as_bytes() == code).map(|(_, meaning)| *meaning)
    }
}

/// A field's value, read by its row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An unsigned integer.
    Uint(u64),
    /// A signed integer.
    Int(i64),
    /// ASCII text without the spaces that pad it on the right. Not checked to be ASCII.
    Text(&'a [u8]),
    /// Bytes as they are.
    Bytes(&'a [u8]),
}

/// Reads a field of the message that `bytes` begin with.
///
/// `None` where `bytes` end before the field does, and for an integer of more than eight bytes.
pub fn value<'a>(field: &Field, bytes: &'a [u8]) -> Option<Value<'a>> {
    let (_, bytes) = bytes.split_at_checked(field.offset)?;
    let (bytes, _) = bytes.split_at_checked(field.len)?;
    if field.len > 8 && matches!(field.kind, FieldKind::UintBe | FieldKind::UintLe | FieldKind::IntLe) {
        return None;
    }
    let shift_in = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
    let unsigned_le = || bytes.iter().rev().fold(0, shift_in);
    Some(match field.kind {
        FieldKind::UintBe => Value::Uint(bytes.iter().fold(0, shift_in)),
        FieldKind::UintLe => Value::Uint(unsigned_le()),
        FieldKind::IntLe => {
            let above = 64 - 8 * field.len.max(1) as u32;
            Value::Int((unsigned_le() << above).cast_signed() >> above)
        }
        FieldKind::Text => Value::Text(trim_end(bytes)),
        FieldKind::Bytes => Value::Bytes(bytes),
    })
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [head @ .., b' '] = text {
        text = head;
    }
    text
}

impl fmt::Display for Value<'_> {
    /// Integers in decimal; text as it is, with what does not print escaped; bytes in hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Uint(value) => value.fmt(f),
            Value::Int(value) => value.fmt(f),
            Value::Text(text) => text.escape_ascii().fmt(f),
            Value::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// Bytes with the table of their fields: displays as `name=value` after `name=value`.
///
/// An integer in a decimal unit (`1e-4 USD`) is shown with its places: `price=189.3000`.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    /// The table.
    pub fields: &'static [Field],
    /// The bytes that the table describes.
    pub bytes: &'a [u8],
}

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for field in self.fields {
            write!(f, "{separator}{}=", field.name)?;
            separator = " ";
            match (value(field, self.bytes), decimal_places(field.unit)) {
                (Some(Value::Uint(value)), Some(places)) => {
                    let one = 10u64.pow(places);
                    write!(f, "{}.{:0width$}", value / one, value % one, width = places as usize)?;
                }
                (Some(value), _) => value.fmt(f)?,
                (None, _) => f.write_str("?")?,
            }
        }
        Ok(())
    }
}

/// The places of a unit `1e-N ...` with N from 1 to 9.
fn decimal_places(unit: &str) -> Option<u32> {
    match unit.as_bytes() {
        [b'1', b'e', b'-', digit @ b'1'..=b'9', b' ', ..] => Some(u32::from(digit - b'0')),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    const fn field(offset: usize, len: usize, kind: FieldKind, unit: &'static str) -> Field {
        Field { name: "x", offset, len, kind, unit, doc: "" }
    }

    #[test]
    fn reads_every_kind() {
        let bytes = [1, 2, 0xff, 0xff, b'A', b' ', 0];
        assert_eq!(value(&field(0, 2, FieldKind::UintBe, ""), &bytes), Some(Value::Uint(0x0102)));
        assert_eq!(value(&field(0, 3, FieldKind::UintLe, ""), &bytes), Some(Value::Uint(0xff_0201)));
        assert_eq!(value(&field(1, 2, FieldKind::IntLe, ""), &bytes), Some(Value::Int(-254)));
        assert_eq!(value(&field(4, 2, FieldKind::Text, ""), &bytes), Some(Value::Text(b"A")));
        assert_eq!(value(&field(4, 3, FieldKind::Bytes, ""), &bytes), Some(Value::Bytes(b"A \0")));
    }

    #[test]
    fn never_reads_beyond_the_bytes() {
        for (offset, len) in [(0, 8), (6, 2), (7, 1), (8, 0), (usize::MAX, 1), (1, usize::MAX)] {
            assert_eq!(value(&field(offset, len, FieldKind::UintBe, ""), &[0; 7]), None);
        }
        assert_eq!(value(&field(0, 9, FieldKind::IntLe, ""), &[0; 9]), None);
        assert_eq!(value(&field(0, 0, FieldKind::IntLe, ""), &[0; 9]), Some(Value::Int(0)));
    }

    #[test]
    fn decimal_units_show_their_places() {
        const FIELDS: &[Field] = &[field(0, 4, FieldKind::UintBe, "1e-4 USD"), field(4, 1, FieldKind::Text, "")];
        let described = Described { fields: FIELDS, bytes: &[0, 0x1c, 0xe2, 0xa8, 0x07] };
        assert_eq!(described.to_string(), "x=189.3032 x=\\x07");
    }
}
