//! Bytes written out by hand from RFC 3376 and its elders, and behaviour against its rules.

use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ME: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
const OTHER: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const SOURCES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

fn line(group: Ipv4Addr, source: Option<Ipv4Addr>) -> LineConfig {
    LineConfig { group, port: 1, interface: None, source, allow: Vec::new(), line: 0 }
}

fn speaker(lines: &[LineConfig]) -> Speaker {
    Speaker::new(lines, MAC, ME, None).unwrap()
}

fn said(what: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    what(&mut |frame: &[u8]| frames.push(frame.to_vec()));
    frames
}

/// A version 3 report's records, once its frame has been looked at: type, group, sources.
fn records(frame: &[u8]) -> Vec<(u8, Ipv4Addr, Vec<Ipv4Addr>)> {
    assert!(is_igmp(frame) && frame.len() >= 60);
    assert_eq!(frame[30..34], ROUTERS_V3.octets());
    let total = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let message = &frame[38..total];
    assert_eq!((checksum(&frame[14..38]), checksum(message), message[0]), (0, 0, 0x22));
    let mut rest = &message[8..];
    let mut found = Vec::new();
    let address = |bytes: &[u8]| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
    for _ in 0..u16::from_be_bytes([message[6], message[7]]) {
        let end = 8 + 4 * usize::from(rest[3]);
        found.push((rest[0], address(&rest[4..]), rest[8..end].chunks(4).map(address).collect()));
        rest = &rest[end..];
    }
    assert!(rest.is_empty());
    found
}

/// A query: its version 3 part is left out with `None`.
fn query(group: Ipv4Addr, code: u8, v3: Option<(u8, &[Ipv4Addr])>) -> Vec<u8> {
    let mut message = vec![0x11, code, 0, 0];
    message.extend(group.octets());
    if let Some((robustness, sources)) = v3 {
        message.extend([robustness, 125, 0, sources.len() as u8]);
        sources.iter().for_each(|source| message.extend(source.octets()));
    }
    let sum = checksum(&message);
    put(&mut message, 2, sum);
    let mut frame = vec![1, 0, 0x5e, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0, 0x45, 0, 0, 20 + message.len() as u8];
    frame.extend([0, 0, 0, 0, 1, 2, 0, 0, 10, 0, 0, 254, 224, 0, 0, 1]);
    let sum = checksum(&frame[14..34]);
    put(&mut frame, 24, sum);
    frame.extend(message);
    frame.resize(frame.len().max(60), 0);
    frame
}

#[test]
fn a_join_is_these_bytes() {
    let mut any = speaker(&[line(GROUP, None)]);
    #[rustfmt::skip]
    let expected = [
        0x01, 0x00, 0x5e, 0x00, 0x00, 0x16, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00,
        0x46, 0xc0, 0x00, 0x28, 0x00, 0x00, 0x40, 0x00, 0x01, 0x02, 0xf9, 0xf8, 10, 0, 0, 1, 224, 0, 0, 22,
        0x94, 0x04, 0x00, 0x00,
        0x22, 0x00, 0xe8, 0xf9, 0x00, 0x00, 0x00, 0x01, 0x04, 0x00, 0x00, 0x00, 239, 1, 2, 3,
        0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(said(|send| any.start(0, send)), [expected]);
    let tagged = Speaker::new(&[line(GROUP, None)], MAC, ME, Some(5));
    let frames = said(|send| tagged.unwrap().start(0, send));
    assert_eq!(frames[0][12..18], [0x81, 0, 0, 5, 8, 0]);
    assert_eq!(frames[0][18..], expected[14..54].iter().chain(&[0; 2]).copied().collect::<Vec<u8>>());
    assert!(is_igmp(&frames[0]));
    assert_eq!(any.addresses().collect::<Vec<_>>(), [[1, 0, 0x5e, 1, 2, 3], [1, 0, 0x5e, 0, 0, 1]]);
}

#[test]
fn groups_are_joined_repeated_and_left() {
    let [one, two] = SOURCES;
    let lines = [line(GROUP, Some(two)), line(GROUP, Some(one)), line(OTHER, Some(one)), line(OTHER, None)];
    let unicast = line(Ipv4Addr::new(10, 0, 0, 1), None);
    assert!(Speaker::new([&unicast], MAC, ME, None).is_none());
    let mut speaker = Speaker::new(lines.iter().chain([&unicast]), MAC, ME, None).unwrap();
    let join = vec![(5, GROUP, vec![one, two]), (4, OTHER, vec![])];
    assert_eq!(records(&said(|send| speaker.start(0, send))[0]), join);
    // Once more within a second, then no more.
    assert!(!speaker.is_due(0) || speaker.repeat_due == 0);
    assert!(speaker.is_due(SECOND));
    let frames = said(|send| speaker.work(SECOND, send));
    assert_eq!((frames.len(), records(&frames[0])), (1, join));
    assert!(!speaker.is_due(u64::MAX));
    let frames = said(|send| speaker.end(5 * SECOND, send));
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert_eq!(records(&frame), [(6, GROUP, vec![one, two]), (3, OTHER, vec![])]);
    }
    assert_eq!(speaker.reports, 4);
}

#[test]
fn queries_are_answered_within_their_time() {
    let [one, two] = SOURCES;
    let stranger = Ipv4Addr::new(192, 0, 2, 9);
    let everybody = Ipv4Addr::UNSPECIFIED;
    let (all, group) = (vec![(1, GROUP, vec![one, two]), (2, OTHER, vec![])], vec![(1, GROUP, vec![one, two])]);
    for (asked, sources, answer) in [
        (everybody, vec![], all),
        (GROUP, vec![], group),
        (GROUP, vec![two, stranger], vec![(1, GROUP, vec![two])]),
        (GROUP, vec![stranger], vec![]),
        (OTHER, vec![stranger], vec![(2, OTHER, vec![])]),
        (Ipv4Addr::new(239, 9, 9, 9), vec![], vec![]),
    ] {
        let mut speaker = speaker(&[line(GROUP, Some(one)), line(GROUP, Some(two)), line(OTHER, None)]);
        // However often it is asked: ten seconds, by the code's tenths.
        for _ in 0..100 {
            speaker.hear(&query(asked, 100, Some((3, &sources))), 0);
        }
        assert_eq!((speaker.queries, speaker.robustness), (100, 3));
        assert_eq!(speaker.is_due(10 * SECOND), !answer.is_empty(), "{asked} {sources:?}");
        let frames = said(|send| speaker.work(10 * SECOND, send));
        assert_eq!(frames.iter().flat_map(|frame| records(frame)).collect::<Vec<_>>(), answer);
        assert!(!speaker.is_due(u64::MAX));
    }
    // Above 127 the code is a mantissa and an exponent (section 4.1.1): 0x9f is (16 + 15) << 4 tenths.
    assert_eq!(Query::read(&query(everybody, 0x9f, Some((2, &[])))).unwrap().within_ns, 31 * 16 * SECOND / 10);
}

/// What RFC 2236 and RFC 1112 have their hosts say, while a router of theirs is around.
#[test]
fn older_routers_are_spoken_to_in_their_words() {
    let mut speaker = speaker(&[line(GROUP, Some(SOURCES[0])), line(OTHER, None)]);
    speaker.hear(&query(Ipv4Addr::UNSPECIFIED, 10, None), 0);
    let frames = said(|send| speaker.work(SECOND, send));
    let words = |frame: &[u8]| (frame[30..34].to_vec(), frame[38], frame[42..46].to_vec(), checksum(&frame[38..46]));
    let report = |kind: u8, group: Ipv4Addr| (group.octets().to_vec(), kind, group.octets().to_vec(), 0);
    assert_eq!(frames.iter().map(|frame| words(frame)).collect::<Vec<_>>(), [report(0x16, GROUP), report(0x16, OTHER)]);
    assert_eq!(frames[0][..6], [1, 0, 0x5e, 1, 2, 3]);
    let left = said(|send| speaker.end(SECOND, send));
    assert_eq!(words(&left[0]), (ROUTERS.octets().to_vec(), 0x17, GROUP.octets().to_vec(), 0));
    // Version 1 has no code, ten seconds, and no leave.
    speaker.hear(&query(Ipv4Addr::UNSPECIFIED, 0, None), 2 * SECOND);
    let frames = said(|send| speaker.work(12 * SECOND, send));
    assert_eq!(words(&frames[0]), report(0x12, GROUP));
    assert!(said(|send| speaker.end(13 * SECOND, send)).is_empty());
    // Nobody asked so for long enough.
    assert_eq!(records(&said(|send| speaker.start(300 * SECOND, send))[0]).len(), 2);
}

/// Section 7.2.1: each older version has a timer of its own, and the oldest that runs counts.
#[test]
fn one_query_of_version_1_is_forgotten_while_version_2_goes_on() {
    let mut speaker = speaker(&[line(GROUP, None)]);
    let hear = |speaker: &mut Speaker, code, at| speaker.hear(&query(Ipv4Addr::UNSPECIFIED, code, None), at * SECOND);
    hear(&mut speaker, 100, 0);
    assert_eq!(speaker.spoken(SECOND), Version::V2);
    hear(&mut speaker, 0, 2);
    for at in [125, 250] {
        hear(&mut speaker, 100, at);
        assert_eq!(speaker.spoken(at * SECOND), Version::V1);
    }
    assert_eq!(speaker.spoken(262 * SECOND - 1), Version::V1);
    assert_eq!(speaker.spoken(262 * SECOND), Version::V2);
    assert_eq!(speaker.spoken(510 * SECOND), Version::V3);
}

/// What was asked before a general answer is answered by it.
#[test]
fn a_general_answer_settles_what_was_asked_of_sources() {
    let [one, two] = SOURCES;
    let mut speaker = speaker(&[line(GROUP, Some(one)), line(GROUP, Some(two))]);
    speaker.hear(&query(GROUP, 100, Some((2, &[one]))), 0);
    speaker.hear(&query(Ipv4Addr::UNSPECIFIED, 1, Some((2, &[]))), 0);
    let frames = said(|send| speaker.work(SECOND / 10, send));
    assert_eq!((frames.len(), records(&frames[0])), (1, vec![(1, GROUP, vec![one, two])]));
    speaker.hear(&query(GROUP, 1, Some((2, &[two]))), SECOND);
    let frames = said(|send| speaker.work(2 * SECOND, send));
    assert_eq!((frames.len(), records(&frames[0])), (1, vec![(1, GROUP, vec![two])]));
}

/// A hundred thousand groups and sources go into frames that any network carries.
#[test]
fn many_groups_are_many_frames() {
    let sources = (0..1000u32).map(|n| line(GROUP, Some(Ipv4Addr::from_bits(0xc000_0200 + n))));
    let groups = (0..1000u32).map(|n| line(Ipv4Addr::from_bits(0xef02_0000 + n), None));
    let lines: Vec<LineConfig> = sources.chain(groups).collect();
    let frames = said(|send| speaker(&lines).start(0, send));
    assert!(frames.iter().all(|frame| frame.len() <= 1100));
    let records: Vec<_> = frames.iter().flat_map(|frame| records(frame)).collect();
    assert_eq!(records.iter().filter(|(kind, ..)| *kind == 4).count(), 1000);
    let sources = records.iter().filter(|(kind, group, _)| (*kind, *group) == (5, GROUP));
    assert_eq!(sources.map(|(_, _, sources)| sources.len()).sum::<usize>(), 1000);
}

proptest! {
    /// Anything may come: nothing panics, and a query that was damaged in any bit is none.
    #[test]
    fn damaged_queries_are_passed_over(bytes in proptest::collection::vec(any::<u8>(), 0..100), bit in 14usize * 8..54 * 8) {
        let mut speaker = speaker(&[line(GROUP, Some(SOURCES[0])), line(OTHER, None)]);
        speaker.hear(&bytes, 0);
        let mut frame = query(GROUP, 100, Some((2, &SOURCES)));
        speaker.hear(&frame, 0);
        prop_assert_eq!(speaker.queries, 1);
        frame[bit / 8] ^= 1 << (bit % 8);
        speaker.hear(&frame, 0);
        prop_assert_eq!(speaker.queries, 1);
        for len in 0..frame.len() {
            speaker.hear(&query(GROUP, 100, Some((2, &SOURCES)))[..len], 0);
        }
        said(|send| speaker.work(u64::MAX / 2, send));
        prop_assert!(!speaker.is_due(u64::MAX / 2) || speaker.repeats > 0);
    }
}
