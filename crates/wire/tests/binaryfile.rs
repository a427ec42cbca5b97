//! BinaryFILE: records written, read back whole, in pieces and cut off.

use barewire_wire::binaryfile::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn file(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![0; messages.iter().map(|message| HEADER_LEN + message.len()).sum()];
    let mut at = 0;
    for message in messages {
        at += encode(&mut out[at..], message).unwrap();
    }
    assert_eq!(at, out.len());
    out
}

#[test]
fn a_hand_made_file() {
    let bytes = b"\0\x05hello\0\x01!\0\0behind";
    let Step::Message { message, rest } = step(bytes) else { panic!() };
    assert_eq!((message, rest.len()), (&b"hello"[..], bytes.len() - 7));
    let mut records = records(bytes);
    assert!(records.by_ref().eq([&b"hello"[..], b"!"]));
    assert_eq!(step(records.rest()), Step::End);
    assert_eq!(step(&END), Step::End);
    assert_eq!(step(b""), Step::NeedMore);
}

#[test]
fn what_no_record_can_hold_is_not_written() {
    let mut out = vec![7; 70_000];
    assert_eq!(encode(&mut out, b""), None);
    assert_eq!(encode(&mut out, &[0; 0x1_0000]), None);
    assert_eq!(encode(&mut out[..3], b"ab"), None);
    assert!(out.iter().all(|byte| *byte == 7));
    assert_eq!(encode(&mut out, &[0; 0xffff]), Some(0x1_0001));
    assert_eq!(encode(&mut out[..4], b"ab"), Some(4));
    assert_eq!(out[..4], *b"\0\x02ab");
}

proptest! {
    /// However a file is cut: the whole records come, and then what was cut is asked for, or was the end.
    #[test]
    fn records_come_back(messages in vec(vec(any::<u8>(), 1..70), 0..20), cut in 0..1400usize) {
        let mut bytes = file(&messages);
        bytes.truncate(cut);
        let mut iterator = records(&bytes);
        let found: Vec<_> = iterator.by_ref().collect();
        prop_assert!(found.iter().zip(&messages).all(|(found, message)| found == message));
        let rest = iterator.rest();
        prop_assert_eq!(step(rest), Step::NeedMore);
        let whole: usize = found.iter().map(|message| HEADER_LEN + message.len()).sum();
        prop_assert_eq!(whole + rest.len(), bytes.len());
        // No whole record is left: what follows the last found one is longer than what is left over.
        prop_assert!(messages.get(found.len()).is_none_or(|next| HEADER_LEN + next.len() > rest.len()));
    }

    /// Any bytes are records, then an end or a lack: nothing is lost and nothing comes twice.
    #[test]
    fn any_bytes_are_used_up(bytes in vec(any::<u8>(), 0..200), short in any::<bool>()) {
        let mut bytes = bytes;
        bytes.iter_mut().step_by(2).for_each(|byte| *byte = if short { 0 } else { *byte });
        let mut rest = &bytes[..];
        let mut used = Vec::new();
        while let Step::Message { message, rest: behind } = step(rest) {
            used.extend_from_slice(&(message.len() as u16).to_be_bytes());
            used.extend_from_slice(message);
            rest = behind;
        }
        used.extend_from_slice(rest);
        prop_assert_eq!(&used, &bytes);
        prop_assert!(step(rest) == Step::NeedMore || rest.starts_with(&END));
    }
}
