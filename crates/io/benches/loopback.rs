//! What sending and receiving by kernel sockets cost over `lo`, in this thread's own processor time.
//!
//! `cargo bench -p barewire-io --bench loopback`
//!
//! Over `lo` the receiving side's interrupt work is done within the sender's call, and so counted as its time. Every way
//! is run in turn, several times; the table has the best and the median of each.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{LineConfig, Receiver, Stamps};

const PATIENCE: Duration = Duration::from_secs(1);
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

fn receiver(groups: &[Ipv4Addr], timestamps: Stamps) -> KernelReceiver {
    let line = |(number, group): (u8, &Ipv4Addr)| LineConfig {
        group: *group,
        port: PORT,
        interface: Some("lo".into()),
        source: None,
        allow: Vec::new(),
        line: number,
    };
    let lines: Vec<_> = (0u8..).zip(groups).map(line).collect();
    let options = KernelOptions { rcvbuf_bytes: Some(32 << 20), timestamps, ..KernelOptions::default() };
    KernelReceiver::open(&lines, options).unwrap_or_else(|error| panic!("{error}"))
}

fn sender(segmentation: bool) -> UdpSender {
    let options = SendOptions { interface: Some("lo".into()), segmentation, ..SendOptions::default() };
    UdpSender::open(&options).unwrap_or_else(|error| panic!("{error}"))
}

fn drain(receiver: &mut KernelReceiver) -> usize {
    let mut packets = 0;
    let mut sink = |packet: barewire_io::Packet<'_>| packets += usize::from(black_box(packet).payload.len() < 65_536);
    while receiver.receive(&mut sink).unwrap() > 0 {}
    packets
}

/// Nanoseconds a packet of `take`, which takes what 64 sent packets have put into a socket.
fn taking(to: SocketAddrV4, mut take: impl FnMut() -> usize) -> f64 {
    let mut sender = sender(false);
    let (mut spent, mut taken) = (0, 0);
    for _ in 0..50 {
        sender.send_all(&[Outgoing { to, payload: &[0x41; 1_418] }; 64], PATIENCE).unwrap();
        let begun = thread_time();
        taken += take();
        spent += thread_time() - begun;
    }
    spent as f64 / taken as f64
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
    let sending = [
        ("send: one call a packet, mixed lengths", 1, false, &mixed),
        ("send: batches, mixed lengths", 64, false, &mixed),
        ("send: batches, equal lengths", 64, false, &equal),
        ("send: batches, segmentation, mixed lengths", 64, true, &mixed),
        ("send: batches, segmentation, equal lengths", 64, true, &equal),
    ];
    let receiving =
        ["receive: batches, kernel times", "receive: batches, no times", "receive: one recv a packet, no times"];
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); sending.len() + receiving.len()];
    let mut lost = 0;
    for _ in 0..ROUNDS {
        let mut both = receiver(&LINES, Stamps::Kernel);
        for (way, (_, call, segmentation, batches)) in sending.iter().enumerate() {
            let mut sender = sender(*segmentation);
            let begun = thread_time();
            for datagrams in batches.iter().flat_map(|batch| batch.chunks(*call)) {
                sender.send_all(datagrams, PATIENCE).unwrap();
            }
            times[way].push((thread_time() - begun) as f64 / PACKETS as f64);
            lost += PACKETS - drain(&mut both);
        }
        drop(both);
        for (way, timestamps) in [Stamps::Kernel, Stamps::User].into_iter().enumerate() {
            let mut one = receiver(&LINES[..1], timestamps);
            times[sending.len() + way].push(taking(SocketAddrV4::new(LINES[0], PORT), || drain(&mut one)));
        }
        let single = UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        single.set_nonblocking(true).unwrap();
        let mut buffer = [0; 2_000];
        let take = || std::iter::from_fn(|| single.recv(black_box(&mut buffer)).ok()).count();
        times[sending.len() + 2].push(taking(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT), take));
    }
    println!("{:<46} {:>8} {:>8}   ns of processor time a packet; {lost} lost", "", "best", "median");
    for (name, mut times) in sending.iter().map(|way| way.0).chain(receiving).zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{name:<46} {:>8.0} {:>8.0}", times[0], times[times.len() / 2]);
    }
}
