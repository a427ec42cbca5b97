//! Any bytes as an ITCH message; and, in the length that their type has, as a message that must decode.
#![no_main]

use barewire_wire::itch50::{ItchError, Message, Prefix, SPEC, locate, spec};
use barewire_wire::{Value, value};
use libfuzzer_sys::fuzz_target;

/// A message from its fields' values alone.
fn encode_by_table(bytes: &[u8]) -> Vec<u8> {
    let spec = spec(bytes[0]).unwrap();
    let mut out = vec![b' '; spec.len];
    for field in spec.fields {
        let to = &mut out[field.offset..field.offset + field.len];
        match value(field, bytes).unwrap() {
            Value::Uint(value) => to.copy_from_slice(&value.to_be_bytes()[8 - field.len..]),
            Value::Text(text) => to[..text.len()].copy_from_slice(text),
            Value::Bytes(bytes) => to.copy_from_slice(bytes),
            Value::Int(_) => panic!("{} has no signed field", SPEC.name),
        }
    }
    out
}

fn check(bytes: &[u8]) {
    let spec = bytes.first().and_then(|code| spec(*code));
    match Message::parse(bytes) {
        Ok(message) => {
            let spec = spec.unwrap();
            assert_eq!(message.as_bytes(), bytes);
            assert_eq!((message.spec(), spec.len), (spec, bytes.len()));
            assert_eq!(encode_by_table(bytes), bytes);
            let prefix = Prefix::of(bytes).unwrap();
            assert_eq!(Some(prefix.stock_locate.get()), locate(bytes));
            assert_eq!(prefix.timestamp_ns(), prefix.timestamp.get());
            assert!(message.to_string().is_ascii());
        }
        Err(ItchError::Empty) => assert!(bytes.is_empty()),
        Err(ItchError::UnknownType(code)) => assert!(spec.is_none() && code == bytes[0]),
        Err(ItchError::BadLength { type_code, expected, found }) => {
            assert_eq!((type_code, found), (bytes[0], bytes.len()));
            assert!(expected != found && spec.unwrap().len == expected);
        }
        Err(other) => panic!("{other}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(spec) = bytes.first().and_then(|code| spec(*code)) {
        let mut whole = bytes.to_vec();
        whole.resize(spec.len, b' ');
        Message::parse(&whole).unwrap();
        check(&whole);
    }
});
