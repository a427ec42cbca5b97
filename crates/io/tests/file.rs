//! Receiving from capture files: by lines, with every frame in one counter; and real captures.

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use barewire_io::capture::{Capture, CaptureError, End, Format, PcapWriter};
use barewire_io::file::FileReceiver;
use barewire_io::{LineConfig, Packet, Receiver, ReceiverCounters};
use barewire_types::{TsSource, UnixNanos};
use barewire_wire::frame::FrameError;
use common::{Kept, Order, PcapNg, binary, open, pcap};

const A: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 5000);
const B: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 2), 5000);
const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 0, 0, 1), 5001);
const OURS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 9);
const THEIRS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 9);

fn line(number: u8, to: SocketAddrV4, source: Option<Ipv4Addr>) -> LineConfig {
    LineConfig { group: *to.ip(), port: to.port(), interface: None, source, allow: Vec::new(), line: number }
}

fn frame(src: SocketAddrV4, dst: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    writer.write_datagram(UnixNanos(0), src, dst, payload).unwrap();
    writer.finish().unwrap()[40..].to_vec()
}

type Taken = (u8, Vec<u8>, u64, TsSource, SocketAddrV4);

fn receive_all(receiver: &mut FileReceiver) -> Vec<Taken> {
    let mut taken = Vec::new();
    let mut take = |packet: Packet<'_>| {
        taken.push((packet.line, packet.payload.to_vec(), packet.ts_recv.0, packet.ts_source, packet.src));
    };
    while !receiver.is_finished() {
        receiver.receive(&mut take).unwrap();
    }
    assert_eq!(receiver.receive(&mut take).unwrap(), 0);
    taken
}

#[test]
fn frames_go_to_their_lines_and_every_other_is_counted_once() {
    let good = frame(OURS, A, b"a");
    let mut fragment = good.clone();
    fragment[20] |= 0x20;
    let mut bad_length = good.clone();
    bad_length[39] = 3;
    let mut arp = good.clone();
    arp[13] = 6;
    let mut tcp = good.clone();
    tcp[23] = 6;
    let cut = Kept { original_len: good.len() as u32, ..Kept::new(3, &good[..30]) };
    let whole = [
        good,
        frame(THEIRS, B, b"b1"),
        frame(OURS, B, b"b2"),
        frame(OURS, OTHER, b"x"),
        fragment,
        bad_length,
        arp,
        tcp,
    ];
    let mut frames: Vec<_> = (10..).zip(whole).map(|(ts, data)| Kept::new(ts, data)).collect();
    frames.push(cut);
    // Cut by nobody, and still too short.
    frames.push(Kept::new(4, &frames[0].data.clone()[..30]));
    let (file, _) = pcap(Order::Little, true, 1, &frames);

    let lines = [line(4, A, None), line(5, B, Some(*OURS.ip()))];
    let mut receiver = FileReceiver::new(open(&file).unwrap(), &lines).unwrap();
    let expected: [Taken; 2] =
        [(4, b"a".into(), 10, TsSource::Capture, OURS), (5, b"b2".into(), 12, TsSource::Capture, OURS)];
    assert_eq!(receive_all(&mut receiver), expected);
    let counters = receiver.counters();
    let expected = ReceiverCounters {
        packets: 2,
        bytes: 3,
        wrong_source: 1,
        other_destination: 1,
        fragments: 1,
        malformed: 2,
        not_udp: 2,
        truncated: 1,
        batches: 1,
        ..ReceiverCounters::default()
    };
    assert_eq!(counters, expected);
    assert_eq!(receiver.capture().counters().frames, 10);

    // Without lines, all datagrams are line 0's.
    let mut receiver = FileReceiver::new(open(&file).unwrap(), &[]).unwrap();
    assert!(receive_all(&mut receiver).iter().map(|taken| (taken.0, taken.1.as_slice())).eq([
        (0, &b"a"[..]),
        (0, b"b1"),
        (0, b"b2"),
        (0, b"x")
    ]));
}

#[test]
fn frames_without_a_time_say_so() {
    let data = frame(OURS, A, b"a");
    let file = PcapNg::new(Order::Little).interface(1, 0, None, None).simple(&data, data.len() as u32);
    let mut receiver = FileReceiver::new(open(&file.bytes).unwrap(), &[line(0, A, None)]).unwrap();
    assert_eq!(receive_all(&mut receiver), [(0, b"a".to_vec(), 0, TsSource::None, OURS)]);
}

#[test]
fn a_binary_file_holds_no_packets() {
    let (file, _) = binary(&[b"S".to_vec()]);
    assert!(matches!(FileReceiver::new(open(&file).unwrap(), &[]), Err(CaptureError::NoFrames)));
}

/// The real captures, where this machine has them.
fn captures() -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/captures"));
    let path = std::env::var_os("BAREWIRE_CAPTURES").map_or_else(beside, PathBuf::from);
    if !path.is_dir() {
        eprintln!("skipped: no captures in {}; BAREWIRE_CAPTURES names another place", path.display());
        return None;
    }
    Some(path)
}

fn files(under: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(under).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Values of a key that stands on a line of its own, as in the decoders' output beside the captures.
fn values<'t>(json: &'t str, key: &str) -> Vec<&'t str> {
    let prefix = format!("\"{key}\": \"");
    json.lines().filter_map(|line| line.strip_prefix(&prefix)?.trim_end_matches(',').strip_suffix('"')).collect()
}

/// Another decoder's count, times and ports of every frame.
#[test]
fn real_captures_hold_what_another_decoder_found() {
    let Some(captures) = captures() else { return };
    let mut compared = 0;
    for path in files(&captures.join("itch50")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "pcap"))
    {
        let json = std::fs::read_to_string(path.with_extension("expected.json")).unwrap();
        let mut receiver = FileReceiver::new(Capture::open(&path).unwrap(), &[]).unwrap();
        let times: Vec<_> = receive_all(&mut receiver)
            .iter()
            .map(|taken| format!("{}.{:09}", taken.2 / 1_000_000_000, taken.2 % 1_000_000_000))
            .collect();
        assert_eq!(times, values(&json, "time_epoch"), "{}", path.display());
        assert_eq!(receiver.capture().end(), End::Complete, "{}", path.display());
        let mut capture = Capture::open(&path).unwrap();
        let mut ports = Vec::new();
        while let Some(frame) = capture.next_frame().unwrap() {
            ports.push(frame.datagram().unwrap().dst.port().to_string());
        }
        assert_eq!(ports, values(&json, "udp_dstport"), "{}", path.display());
        compared += 1;
    }
    assert!(compared > 0);
}

/// Every capture is read to its end.
#[test]
fn real_captures_are_read_to_their_end() {
    let Some(captures) = captures() else { return };
    for path in files(&captures).into_iter().filter(|path| path.extension().is_none_or(|e| e != "json")) {
        let mut capture = Capture::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if capture.format() == Format::BinaryFile {
            while let Some(batch) = capture.next_messages().unwrap() {
                batch.for_each(|message| assert!(message[0].is_ascii_uppercase()));
            }
        } else {
            while let Some(frame) = capture.next_frame().unwrap() {
                match frame.datagram() {
                    Ok(datagram) => assert!(!datagram.payload.is_empty()),
                    // The sample of trailers is of TCP.
                    Err(error) => assert_eq!(error, FrameError::NotUdp, "{}", path.display()),
                }
            }
        }
        assert_eq!(capture.end(), End::Complete, "{}", path.display());
        let (name, counters) = (path.strip_prefix(&captures).unwrap(), capture.counters());
        println!("{}: {} in {}: {counters:?}", name.display(), capture.format(), capture.compression());
    }
}
