//! Any bytes as a stream of SoupBinTCP packets, and as what a snapshot server says.
//!
//! The first four bytes choose how it is cut, how long a snapshot may be and how its end is meant.
#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};

use barewire_engine::recovery::glimpse::{Ended, GlimpseClient, GlimpseOptions};
use barewire_engine::recovery::{FetchError, SnapshotConfig};
use barewire_wire::binaryfile;
use barewire_wire::glimpse50::Message;
use barewire_wire::soupbintcp::{
    Frame, HEADER_LEN, MAX_PACKET_LEN, Packet, Step, debug, login_accepted, login_rejected, sequenced, step,
    unsequenced,
};
use libfuzzer_sys::fuzz_target;

const SECOND: u64 = 1_000_000_000;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[cut, wait, limit, flags], stream)) = bytes.split_first_chunk() else { return };
    packets(stream);
    let config = SnapshotConfig {
        servers: vec![SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)],
        username: "user".to_owned(),
        password: String::new(),
        timeout_ns: 20 * SECOND,
        attempts: 1,
        retry_ns: 0,
        max_bytes: usize::from(limit) << 4,
        last_included: flags & 1 != 0,
    };
    let whole = fetch(&config, stream, usize::MAX, 0);
    check(&config, &whole);
    // However it comes in time, the same comes of it, unless the time was too long.
    let wait = u64::from(wait) << 24;
    let in_pieces = fetch(&config, stream, usize::from(cut) + 1, wait);
    if !matches!(in_pieces, Some(Err(FetchError::Timeout | FetchError::Silent))) {
        assert_eq!(in_pieces, whole);
    }
});

/// Packets, then what is left, make up the stream; written again they are the same.
fn packets(stream: &[u8]) {
    let mut rest = stream;
    while let Step::Packet { frame, rest: behind } = step(rest) {
        let (packet, _) = rest.split_at(rest.len() - behind.len());
        assert!(packet.len() <= MAX_PACKET_LEN);
        assert_eq!(packet.len(), HEADER_LEN + frame.payload.len());
        again(packet, frame);
        rest = behind;
    }
    match step(rest) {
        Step::Broken => assert!(rest.starts_with(&[0, 0])),
        _ => assert!(rest.len() < MAX_PACKET_LEN),
    }
}

fn again(packet: &[u8], frame: Frame<'_>) {
    let Ok(parsed) = frame.parse() else { return };
    assert!(!parsed.to_string().is_empty());
    let mut out = vec![0; packet.len()];
    let encode = match parsed {
        Packet::Sequenced(_) => sequenced,
        Packet::Unsequenced(_) => unsequenced,
        Packet::Debug(_) => debug,
        // Numbers may be padded otherwise: what is written is what it says.
        Packet::LoginRequest(login) => return same(&login.encode(), parsed),
        Packet::LoginAccepted { session, next } => return same(&login_accepted(session, next), parsed),
        Packet::LoginRejected(reason) => return assert_eq!(packet, login_rejected(reason)),
        _ => return assert!(packet.len() == HEADER_LEN),
    };
    assert_eq!(encode(&mut out, frame.payload), Some(packet.len()));
    assert_eq!(out, packet);
}

fn same(written: &[u8], parsed: Packet<'_>) {
    let Step::Packet { frame, rest: [] } = step(written) else { panic!("{written:?}") };
    assert_eq!(frame.parse(), Ok(parsed));
}

/// Runs a client over the stream, `cut` bytes every `wait` nanoseconds.
fn fetch(config: &SnapshotConfig, stream: &[u8], cut: usize, wait: u64) -> Ended {
    let mut client = GlimpseClient::new(GlimpseOptions::new(config).expect("a right account"), 0);
    client.connected(0);
    let (mut now, mut rest) = (0u64, stream);
    while !rest.is_empty() {
        client.sent(usize::MAX);
        now += wait;
        if let Some(error) = client.tick(now) {
            return Some(Err(error));
        }
        assert!(client.next_tick() > now);
        let space = client.space();
        assert!(!space.is_empty(), "there is always room");
        let (piece, later) = rest.split_at(cut.min(rest.len()).min(space.len()));
        space[..piece.len()].copy_from_slice(piece);
        rest = later;
        let ended = client.received(piece.len(), now);
        if ended.is_some() {
            return ended;
        }
    }
    None
}

/// A snapshot is so many whole messages within the limit, none of them its end.
fn check(config: &SnapshotConfig, ended: &Ended) {
    let Some(Ok(snapshot)) = ended else { return };
    assert!(snapshot.messages.len() <= config.max_bytes && snapshot.messages.capacity() <= config.max_bytes);
    assert!(snapshot.next.0 > 0);
    let mut records = binaryfile::records(&snapshot.messages);
    let count =
        records.by_ref().inspect(|message| assert_eq!(Message::parse(message), Ok(Message::Itch(message)))).count();
    assert_eq!((count as u64, records.rest()), (snapshot.count, &b""[..]));
}
