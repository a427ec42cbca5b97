//! Any bytes as a BinaryFILE.
#![no_main]

use barewire_wire::binaryfile::{END, HEADER_LEN, Step, encode, records, step};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut out = vec![0; bytes.len()];
    let mut at = 0;
    let mut records = records(bytes);
    for message in records.by_ref() {
        assert!(!message.is_empty());
        at += encode(&mut out[at..], message).unwrap();
    }
    assert_eq!(out[..at], bytes[..at]);
    let rest = records.rest();
    assert_eq!(rest, &bytes[at..]);
    match step(rest) {
        Step::Message { .. } => panic!("a whole record was left"),
        Step::End => assert!(rest.starts_with(&END)),
        Step::NeedMore => {
            // With what is missing, there is one record more, and nothing behind it.
            let mut whole = rest.to_vec();
            whole.resize(HEADER_LEN.max(rest.len()), 1);
            let len = u16::from_be_bytes([whole[0], whole[1]]);
            whole.resize(HEADER_LEN + usize::from(len), 1);
            assert!(matches!(step(&whole), Step::Message { rest: [], .. }));
        }
    }
});
