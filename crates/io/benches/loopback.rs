//! What sending and receiving by kernel sockets cost over `lo`, in this thread's own processor time.
//!
//! `cargo bench -p barewire-io --bench loopback`
//!
//! Over `lo` the receiving side's interrupt work is done within the sender's call, and so counted as its time. Every way
//! is run in turn, several times; the table has the best and the median of each.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{LineConfig, Receiver};

const ROUNDS: usize = 9;
/// Packets of a round, half of them a line. As many as the receive buffers hold.
const PACKETS: usize = 8_000;
const LINES: [Ipv4Addr; 2] = [Ipv4Addr::new(239, 77, 1, 1), Ipv4Addr::new(239, 77, 1, 2)];
const PORT: u16 = 26_477;

/// Nanoseconds for which this thread has run.
fn thread_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Payload lengths as of 40 messages of mixed kinds (1,418 bytes, give or take 60), or all alike.
fn lens(equal: bool) -> impl Iterator<Item = usize> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % 31
        };
        if equal { 1_418 } else { 1_358 + (0..8).map(|_| next()).sum::<usize>() / 2 }
    })
}

fn receiver() -> KernelReceiver {
    let line =
        |(number, group)| LineConfig { group, port: PORT, interface: Some("lo".into()), source: None, line: number };
    let lines: Vec<_> = (0u8..).zip(LINES).map(line).collect();
    let options = KernelOptions { rcvbuf_bytes: Some(32 << 20), ..KernelOptions::default() };
    KernelReceiver::open(&lines, options).unwrap_or_else(|error| panic!("{error}"))
}

fn sender(segmentation: bool) -> UdpSender {
    let options = SendOptions { interface: Some("lo".into()), segmentation, ..SendOptions::default() };
    UdpSender::open(&options).unwrap_or_else(|error| panic!("{error}"))
}

fn drain(receiver: &mut KernelReceiver) -> u64 {
    let mut packets = 0;
    while receiver
        .receive(&mut |packet| packets += u64::from(std::hint::black_box(packet).payload.len() < 65_536))
        .unwrap()
        > 0
    {}
    packets
}

fn main() {
    let memory = vec![0x41u8; 2_000];
    let batches = |equal: bool| -> Vec<Vec<Outgoing<'_>>> {
        // Each packet goes to both lines: 32 of A, then the same 32 of B.
        let lens: Vec<usize> = lens(equal).take(PACKETS / 2).collect();
        let half = |lens: &[usize], group| -> Vec<Outgoing<'_>> {
            lens.iter().map(|len| Outgoing { to: SocketAddrV4::new(group, PORT), payload: &memory[..*len] }).collect()
        };
        lens.chunks(32).map(|lens| LINES.into_iter().flat_map(|group| half(lens, group)).collect()).collect()
    };
    let (mixed, equal) = (batches(false), batches(true));
    let ways = [
        ("send: one call a packet, mixed lengths", 1, false, &mixed),
        ("send: batches, mixed lengths", 64, false, &mixed),
        ("send: batches, equal lengths", 64, false, &equal),
        ("send: batches, segmentation, mixed lengths", 64, true, &mixed),
        ("send: batches, segmentation, equal lengths", 64, true, &equal),
    ];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len() + 2];
    let mut receiver = receiver();
    let single = UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
    let mut lost = 0;
    for _ in 0..ROUNDS {
        for (way, (_, call, segmentation, batches)) in ways.iter().enumerate() {
            let mut sender = sender(*segmentation);
            let begun = thread_time();
            for datagrams in batches.iter().flat_map(|batch| batch.chunks(*call)) {
                sender.send_all(datagrams, Duration::from_secs(1)).unwrap();
            }
            times[way].push((thread_time() - begun) as f64 / PACKETS as f64);
            let begun = thread_time();
            let received = drain(&mut receiver);
            if received > 0 {
                times[ways.len()].push((thread_time() - begun) as f64 / received as f64);
            }
            lost += PACKETS as u64 - received;
        }
        // The plainest way: one recv a packet, without times. Its buffer holds about 80.
        let (mut spent, mut received) = (0, 0);
        let mut sender = sender(false);
        let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT);
        single.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2_000];
        for _ in 0..50 {
            sender.send_all(&[Outgoing { to, payload: &memory[..1_418] }; 64], Duration::from_secs(1)).unwrap();
            let begun = thread_time();
            while single.recv(&mut buffer).is_ok() {
                received += 1;
            }
            spent += thread_time() - begun;
        }
        times[ways.len() + 1].push(spent as f64 / f64::from(received));
    }
    println!("{:<46} {:>8} {:>8}   ns of processor time a packet; {lost} lost", "", "best", "median");
    let names = ways.iter().map(|way| way.0).chain(["receive: batches of 64 with times", "receive: one recv a packet"]);
    for (name, mut times) in names.zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{name:<46} {:>8.0} {:>8.0}", times[0], times[times.len() / 2]);
    }
}
