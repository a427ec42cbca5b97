//! The layouts against the specification's tables, transcribed from the field tables of the edition of 2026-02-19
//! without a look at the structs.

use std::collections::BTreeSet;

use barewire_types::{Field, FieldKind};
use barewire_wire::itch50::{CODES, MAX_LEN, SPEC, spec};

const TABLE: &str = include_str!("itch50_2026.txt");

#[derive(Debug)]
struct Row<'a> {
    offset: usize,
    len: usize,
    kind: &'a str,
    name: &'a str,
}

struct Expected<'a> {
    type_code: u8,
    len: usize,
    name: &'a str,
    rows: Vec<Row<'a>>,
}

fn lines() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#'))
}

fn expected() -> Vec<Expected<'static>> {
    let mut messages: Vec<Expected> = Vec::new();
    for line in lines().filter(|line| !line.starts_with('=')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [offset, len, kind, name] = words[..] {
            let row = Row { offset: offset.parse().unwrap(), len: len.parse().unwrap(), kind, name };
            messages.last_mut().unwrap().rows.push(row);
        } else {
            let [code, len, name] = words[..] else { panic!("{line}") };
            let (type_code, len) = (code.as_bytes()[0], len.parse().unwrap());
            messages.push(Expected { type_code, len, name, rows: Vec::new() });
        }
    }
    messages
}

fn same(row: &Row, field: &Field) -> bool {
    let kind = match row.kind.split('/').next().unwrap() {
        "uint" => field.kind == FieldKind::UintBe,
        "code" | "text" => field.kind == FieldKind::Text,
        other => panic!("{other}"),
    };
    let places = row.kind.split_once('/').map_or("", |(_, places)| places);
    let unit = places.is_empty() || field.unit.starts_with(&format!("1e-{places} "));
    kind && unit && (row.offset, row.len, row.name) == (field.offset, field.len, field.name)
}

#[test]
fn every_field_is_where_the_specification_has_it() {
    let expected = expected();
    assert_eq!(expected.len(), 23);
    assert_eq!(SPEC.messages.len(), 23);
    assert_eq!(expected.iter().map(|message| message.len).max(), Some(MAX_LEN));
    for (message, found) in expected.iter().zip(SPEC.messages) {
        assert_eq!(
            (message.type_code, message.len, message.name),
            (found.type_code, found.len, found.name),
            "in the order of the codes"
        );
        let (first, fields) = found.fields.split_first().unwrap();
        assert_eq!((first.name, first.offset, first.len), ("message_type", 0, 1));
        assert_eq!(message.rows.len(), fields.len(), "{}", message.name);
        let mut end = 1;
        for (row, field) in message.rows.iter().zip(fields) {
            assert!(same(row, field), "{}: {row:?} {field:?}", message.name);
            assert_eq!(field.offset, end, "{}: hole before {}", message.name, field.name);
            assert!(!field.doc.is_empty(), "{}: {} says nothing", message.name, field.name);
            end += field.len;
        }
        assert_eq!(end, message.len, "{}", message.name);
    }
}

#[test]
fn a_type_is_found_by_its_code_alone() {
    for code in 0..=u8::MAX {
        assert_eq!(spec(code), SPEC.message(code));
        assert_eq!(spec(code).is_some(), expected().iter().any(|message| message.type_code == code));
    }
}

#[test]
fn codes_are_the_specifications() {
    let mut seen = BTreeSet::new();
    for line in lines().filter_map(|line| line.strip_prefix("= ")) {
        let (field, codes) = line.split_once(' ').unwrap();
        let codes: BTreeSet<&str> = codes.split(' ').map(|code| if code == "." { "" } else { code }).collect();
        let found: BTreeSet<&str> = SPEC.codes(field).iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, found, "{field}");
        assert_eq!(found.len(), SPEC.codes(field).len(), "{field}: a code twice");
        assert!(SPEC.codes(field).iter().all(|(_, meaning)| !meaning.is_empty()));
        seen.insert(field);
    }
    assert_eq!(seen, CODES.iter().map(|codes| codes.field).collect());
    let coded = expected().into_iter().flat_map(|message| message.rows).filter(|row| row.kind == "code");
    assert_eq!(seen, coded.map(|row| row.name).collect());
}

#[test]
fn a_code_is_found_without_its_padding() {
    assert_eq!(SPEC.meaning("reason_code", b"T1  "), Some("Halt, news pending"));
    assert_eq!(SPEC.meaning("reason_code", b"    "), Some("Reason not available"));
    assert_eq!(SPEC.meaning("reason_code", b"T99 "), None);
    assert_eq!(SPEC.meaning("event_code", b"Q"), Some("Start of market hours"));
    assert_eq!(SPEC.meaning("stock", b"AAPL    "), None);
}
