//! Frames that a program in the kernel sends: each comes whole and in order, numbered, stamped, with a right checksum, by
//! every receive path.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use barewire_io::af_xdp::{AfXdpOptions, AfXdpReceiver};
use barewire_io::io_uring::{IoUringOptions, IoUringReceiver};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::live_frames::{FrameError, FrameOptions, FrameSender, Frames, Schedule, receive_offload};
use barewire_io::netns::NetNs;
use barewire_io::packet_mmap::{PacketMmapOptions, PacketMmapReceiver};
use barewire_io::{LineConfig, Receiver, clock};
use barewire_wire::frame;

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 98, 7, 1), 26_001);
const SOURCE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 98, 0, 1), 26_000);
const HEADERS: usize = 42;
/// Number of the first unit, number of units, and then the units: 6 bytes of time and some others.
const NUMBER_AT: usize = HEADERS + 2;

/// What the frame of so many units, each so long, is without its number and times; and where the times go.
fn payload(frame: usize) -> (Vec<u8>, Vec<u16>) {
    let units = 1 + frame * 7 % 12;
    let mut bytes = vec![frame as u8; 11];
    bytes.push(units as u8);
    let mut times = Vec::new();
    for unit in 0..units {
        bytes.extend((0..(unit + frame) % 5).map(|n| (n * 31 + frame) as u8));
        times.push((HEADERS + bytes.len()) as u16);
        bytes.extend([0xee; 6]);
    }
    bytes.extend(vec![0x5a; frame * 37 % 900]);
    (bytes, times)
}

const FRAMES: usize = 300;

fn frames() -> Frames {
    let mut frames = Frames::new(NUMBER_AT as u16);
    for n in 0..FRAMES {
        let (payload, times) = payload(n);
        let mut bytes = [0; 1514];
        let len = frame::encode(&mut bytes, None, SOURCE, GROUP, &payload).unwrap();
        frames.push(&bytes[..len], &times).unwrap();
    }
    frames
}

fn line(interface: &str) -> LineConfig {
    LineConfig {
        group: *GROUP.ip(),
        port: GROUP.port(),
        interface: Some(interface.to_owned()),
        source: None,
        allow: Vec::new(),
        line: 0,
    }
}

/// Sends for a while and takes what comes; every packet has to be the next one, with a time in order.
fn check(sender: &NetNs, receiver: &mut impl Receiver, batch: u32) {
    receiver.set_timeout(Some(Duration::from_millis(20)));
    receiver.receive(&mut |_| {}).unwrap();
    let begin = clock::monotonic();
    let start = begin + 20_000_000;
    let schedule = Schedule {
        start,
        origin: begin - 5_000_000_000,
        ns_per_unit: 2_000.0,
        duration_ns: 200_000_000,
        overtime_ns: 10_000_000_000,
    };
    let (sent, came) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            sender.enter().unwrap();
            let options = FrameOptions { batch, ..FrameOptions::default() };
            FrameSender::open("bw-frm-s", &frames(), options).unwrap().send(&schedule).unwrap()
        });
        let (mut packets, mut units, mut last) = (0usize, 0u64, 0u64);
        let mut heard = Instant::now();
        while heard.elapsed() < Duration::from_millis(500) || !sending.is_finished() {
            let received = receiver.receive(&mut |packet| {
                let (mut expected, times) = payload(packets % FRAMES);
                assert_eq!(packet.payload.len(), expected.len());
                let time_at = usize::from(times[0]) - HEADERS;
                let time: [u8; 6] = packet.payload[time_at..time_at + 6].try_into().unwrap();
                expected[NUMBER_AT - HEADERS..][..8].copy_from_slice(&(units + 1).to_be_bytes());
                times.iter().for_each(|at| expected[usize::from(*at) - HEADERS..][..6].copy_from_slice(&time));
                assert_eq!(packet.payload, expected, "packet {packets}");
                let time = time.into_iter().fold(0, |time, byte| time << 8 | u64::from(byte)) + schedule.origin;
                assert!(time >= last && time >= start + units * 2_000 && time <= clock::monotonic(), "{packets}");
                last = time;
                packets += 1;
                units += times.len() as u64;
            });
            if received.unwrap() > 0 {
                heard = Instant::now();
            }
        }
        (sending.join().unwrap(), (packets, units))
    });
    assert_eq!((sent.frames as usize, sent.units), came);
    assert!((99_000..=100_100).contains(&sent.units), "{sent:?}");
    let counters = receiver.counters();
    assert_eq!((counters.malformed, counters.kernel_drops), (0, 0));
}

#[test]
fn frames_come_whole_and_in_order() {
    let made = NetNs::new().and_then(|sender| Ok((sender, NetNs::new()?)));
    let (sender, receiver) = match made {
        Ok(made) => made,
        Err(error) if std::env::var_os("CI").is_none() => return eprintln!("skipped: no namespaces: {error}"),
        Err(error) => panic!("CI can make namespaces: {error}"),
    };
    sender.connect(("bw-frm-s", "10.98.0.1/24"), &receiver, ("bw-frm-r", "10.98.0.2/24")).unwrap();
    receiver.enter().unwrap();
    receive_offload("bw-frm-r", true).unwrap();
    for batch in [1, 8] {
        let options = KernelOptions { rcvbuf_bytes: Some(64 << 20), ..KernelOptions::default() };
        check(&sender, &mut KernelReceiver::open(&[line("bw-frm-r")], options).unwrap(), batch);
        let options = AfXdpOptions { frames: Some(1 << 16), ..AfXdpOptions::default() };
        check(&sender, &mut AfXdpReceiver::open(&[line("bw-frm-r")], options).unwrap(), batch);
    }
    let options = IoUringOptions { rcvbuf_bytes: Some(64 << 20), ..IoUringOptions::default() };
    check(&sender, &mut IoUringReceiver::open(&[line("bw-frm-r")], options).unwrap(), 1);
    let options = PacketMmapOptions::default();
    check(&sender, &mut PacketMmapReceiver::open(&[line("bw-frm-r")], options).unwrap(), 1);
}

#[test]
fn what_cannot_be_sent_so_is_refused() {
    let mut frames = Frames::new(NUMBER_AT as u16);
    let (payload, times) = payload(3);
    let mut bytes = [0; 1514];
    let len = frame::encode(&mut bytes, None, SOURCE, GROUP, &payload).unwrap();
    assert_eq!(frames.push(&bytes[..40], &times), Err(FrameError::NotSuch));
    assert_eq!(frames.push(&[0; 1515], &times), Err(FrameError::NotSuch));
    assert_eq!(frames.push(&bytes[..len], &[]), Err(FrameError::BadPlaces));
    assert_eq!(frames.push(&bytes[..len], &[len as u16 - 5]), Err(FrameError::BadPlaces));
    assert_eq!(frames.push(&bytes[..len], &[50; 73]), Err(FrameError::BadPlaces));
    assert!(frames.is_empty());
    assert_eq!(Frames::new(NUMBER_AT as u16 + 1).push(&bytes[..len], &times), Err(FrameError::BadPlaces));
    frames.push(&bytes[..len], &times).unwrap();
    assert!(!frames.is_empty());
}
