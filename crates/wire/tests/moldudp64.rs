//! MoldUDP64 packets: hand-made ones, built ones, and a slow second decoder to agree with.

use barewire_types::{Layout, Seq};
use barewire_wire::moldudp64::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SESSION: Session = Session(*b"000010059B");

fn packet(sequence: u64, count: u16, blocks: &[u8]) -> Vec<u8> {
    [&SESSION.0[..], &sequence.to_be_bytes(), &count.to_be_bytes(), blocks].concat()
}

fn messages(packet: &Packet) -> Vec<Vec<u8>> {
    packet.messages().map(<[u8]>::to_vec).collect()
}

/// The whole messages and how many bytes are left over, from the document alone.
fn slow_blocks(payload: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let count = u16::from_be_bytes([payload[18], payload[19]]);
    let mut at = 20;
    let mut whole = Vec::new();
    for _ in 0..if count == 0xffff { 0 } else { count } {
        let Some(len) = payload.get(at..at + 2) else { break };
        let end = at + 2 + usize::from(len[0]) * 256 + usize::from(len[1]);
        let Some(message) = payload.get(at + 2..end) else { break };
        whole.push(message.to_vec());
        at = end;
    }
    (whole, payload.len() - at)
}

#[test]
fn a_hand_made_packet() {
    let bytes = *b"000010059B\0\0\0\0\0\0\x73\xc0\0\x03\0\x05hello\0\0\0\x01!";
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!((packet.session(), packet.sequence(), packet.kind()), (SESSION, Seq(29_632), PacketKind::Messages));
    assert_eq!((packet.declared(), packet.whole(), packet.is_damaged()), (3, 3, false));
    assert_eq!(packet.next_sequence(), Seq(29_635));
    assert_eq!(packet.messages().len(), 3);
    assert!(packet.messages().eq([&b"hello"[..], b"", b"!"]));
    assert_eq!(packet.to_string(), "session=000010059B sequence=29632 messages=3");
    assert_eq!((Header::LEN, BlockHeader::LEN, RequestHeader::LEN), (20, 2, 20));
}

#[test]
fn heartbeat_and_end_carry_only_the_next_number() {
    for (bytes, kind, text) in [
        (heartbeat(SESSION, Seq(7)), PacketKind::Heartbeat, "session=000010059B sequence=7 heartbeat"),
        (end_of_session(SESSION, Seq(7)), PacketKind::EndOfSession, "session=000010059B sequence=7 end_of_session"),
    ] {
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.kind(), packet.whole(), packet.is_damaged()), (kind, 0, false));
        assert_eq!((packet.sequence(), packet.next_sequence(), packet.messages().next()), (Seq(7), Seq(7), None));
        assert_eq!(packet.to_string(), text);
        // A block behind such a header is none: nothing declares it.
        let longer = [&bytes[..], b"\0\x01!"].concat();
        let packet = Packet::parse(&longer).unwrap();
        assert_eq!((packet.kind(), packet.whole(), packet.trailing().len()), (kind, 0, 3));
        assert!(packet.is_damaged());
    }
    assert_eq!(end_of_session(SESSION, Seq(7))[18..], [0xff, 0xff]);
}

/// Every way in which count and length can disagree: what is whole is yielded, the rest is told.
#[test]
fn damage_is_told_and_whole_blocks_are_kept() {
    for (count, blocks, whole, trailing) in [
        (2, &b"\0\x01a\0\x01b"[..], 2, 0),
        (3, b"\0\x01a\0\x01b", 2, 0), // declares one more
        (1, b"\0\x01a\0\x01b", 1, 3), // declares one less
        (2, b"\0\x01a\0\x02b", 1, 3), // cut within a message
        (2, b"\0\x01a\0", 1, 1),      // cut within a length
        (2, b"\0\x01a", 1, 0),        // cut between blocks
        (1, b"", 0, 0),
        (2, b"\0\0\0\0", 2, 0), // empty messages are messages
        (0xfffe, b"\0\0", 1, 0),
    ] {
        let bytes = packet(1, count, blocks);
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(
            (packet.declared(), packet.whole(), packet.trailing().len()),
            (count, whole, trailing),
            "{blocks:?}"
        );
        assert_eq!(packet.is_damaged(), whole != count || trailing > 0);
        assert_eq!(packet.messages().count(), usize::from(whole));
    }
    let bytes = packet(9, 3, b"\0\x01a\0\x09b");
    let text = "session=000010059B sequence=9 messages=1 damaged declared=3 trailing_bytes=3";
    assert_eq!(Packet::parse(&bytes).unwrap().to_string(), text);
}

#[test]
fn headers_that_are_refused() {
    let whole = packet(1, 0, b"");
    for len in 0..20 {
        assert_eq!(Packet::parse(&whole[..len]).unwrap_err(), MoldError::Truncated);
        assert_eq!(Request::parse(&whole[..len]), Err(MoldError::Truncated));
    }
    assert_eq!(Packet::parse(&packet(u64::MAX - 1, 2, b"")).unwrap_err(), MoldError::SequenceOverflow);
    // The last numbers that there are; sequence 0, which re-wrapped captures have.
    for (sequence, count) in [(u64::MAX - 2, 2), (u64::MAX, 0), (u64::MAX, 0xffff), (0, 1)] {
        assert!(Packet::parse(&packet(sequence, count, b"")).is_ok());
    }
    assert_eq!(Request::parse(&packet(1, 1, b"!")), Err(MoldError::Oversized));
    assert_eq!(Request::parse(&packet(u64::MAX, 1, b"")), Err(MoldError::SequenceOverflow));
    assert!(MoldError::ALL.iter().all(|error| error.to_string() == error.name()));
}

#[test]
fn a_session_shows_as_text() {
    for (bytes, text) in [
        (*b"000010059B", "000010059B"),
        (*b"  A B     ", "A B"),
        (*b"          ", ""),
        (*b"\0\0\0\0\0\0\0\0\0\0", r"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
        (*b"a\\b\n\xff     ", r"a\\b\n\xff"),
    ] {
        assert_eq!(Session(bytes).to_string(), text);
    }
}

#[test]
fn a_builder_refuses_what_does_not_fit() {
    let mut out = [7; 30];
    let mut builder = Builder::new(&mut out, SESSION, Seq(1));
    assert!(builder.push(9).is_none());
    assert!(builder.push(usize::MAX).is_none());
    assert_eq!((builder.count(), builder.len()), (0, 20));
    assert_eq!(builder.push(8).unwrap(), [7; 8]);
    assert!(builder.push(0).is_none());
    assert_eq!((builder.count(), builder.finish()), (1, 30));

    let mut out = [0; 1 << 18];
    let mut builder = Builder::new(&mut out, SESSION, Seq(1));
    assert!(builder.push(0x1_0000).is_none());
    assert_eq!(builder.push(0xffff).unwrap().len(), 0xffff);
    while builder.push(0).is_some() {}
    assert_eq!(builder.count(), MAX_COUNT);
    let len = builder.finish();
    let packet = Packet::parse(&out[..len]).unwrap();
    assert_eq!((packet.kind(), packet.whole(), packet.is_damaged()), (PacketKind::Messages, MAX_COUNT, false));

    for len in 0..20 {
        let mut builder = Builder::new(&mut out[..len], SESSION, Seq(1));
        assert!(builder.push(0).is_none());
        assert_eq!(builder.finish(), 0);
    }
    assert_eq!(Builder::new(&mut out[..20], SESSION, Seq(3)).finish(), 20);
    assert_eq!(out[..20], heartbeat(SESSION, Seq(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_built_comes_back(
        session in any::<[u8; 10]>(), sequence in 0..u64::MAX - 100, sent in vec(vec(any::<u8>(), 0..70), 0..40),
    ) {
        let mut out = [0xaa; 4096];
        let mut builder = Builder::new(&mut out, Session(session), Seq(sequence));
        for message in &sent {
            builder.push(message.len()).unwrap().copy_from_slice(message);
        }
        let len = builder.finish();
        let packet = Packet::parse(&out[..len]).unwrap();
        prop_assert_eq!((packet.session(), packet.sequence()), (Session(session), Seq(sequence)));
        prop_assert_eq!(usize::from(packet.whole()), sent.len());
        prop_assert_eq!(packet.messages().len(), sent.len());
        prop_assert!(!packet.is_damaged());
        prop_assert_eq!(messages(&packet), sent);
    }

    #[test]
    fn a_cut_packet_yields_what_is_whole(
        sent in vec(vec(any::<u8>(), 0..9), 1..12), cut in 0..120usize, declared in 0..14u16,
    ) {
        let blocks: Vec<u8> =
            sent.iter().flat_map(|message| [&(message.len() as u16).to_be_bytes(), &message[..]].concat()).collect();
        let mut bytes = packet(5, declared, &blocks);
        bytes.truncate(20 + cut);
        let packet = Packet::parse(&bytes).unwrap();
        let (whole, trailing) = slow_blocks(&bytes);
        prop_assert_eq!(packet.trailing().len(), trailing);
        prop_assert_eq!(packet.next_sequence().0, 5 + whole.len() as u64);
        prop_assert_eq!(messages(&packet), whole);
    }

    #[test]
    fn any_bytes_agree_with_the_slow_decoder(
        bytes in vec(any::<u8>(), 0..80), count in 0..5u16, short in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if let (true, Some(to)) = (short, bytes.get_mut(18..20)) {
            to.copy_from_slice(&count.to_be_bytes());
        }
        // Lengths below 256, or hardly a block would be whole.
        bytes.iter_mut().skip(20).step_by(2).for_each(|byte| *byte = if short { 0 } else { *byte });
        match Packet::parse(&bytes) {
            Ok(packet) => {
                let (whole, trailing) = slow_blocks(&bytes);
                prop_assert_eq!(usize::from(packet.whole()), whole.len());
                prop_assert_eq!(packet.trailing().len(), trailing);
                prop_assert_eq!(messages(&packet), whole);
            }
            Err(error) => prop_assert_eq!(error == MoldError::Truncated, bytes.len() < 20),
        }
    }

    #[test]
    fn requests_come_back(session in any::<[u8; 10]>(), sequence in 0..u64::MAX - 0xffff, count in any::<u16>()) {
        let request = Request { session: Session(session), sequence: Seq(sequence), count };
        prop_assert_eq!(Request::parse(&request.encode()), Ok(request));
    }
}

#[test]
fn a_request_is_twenty_bytes() {
    let request = Request { session: SESSION, sequence: Seq(0x0102), count: 0x0304 };
    assert_eq!(request.encode(), *b"000010059B\0\0\0\0\0\0\x01\x02\x03\x04");
    assert_eq!(request.to_string(), "request session=000010059B sequence=258 count=772");
}
