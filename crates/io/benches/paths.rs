//! What each receive path costs a packet over `lo`, in this thread's own processor time.
//!
//! `cargo bench -p barewire-io --bench paths`
//!
//! The sender has put so many packets before the receiver looks, as a burst does; its own time does not count, and over
//! `lo` neither does the interrupt's, in which `packet_mmap` copies the packet. `drain` takes what is there. Every path is
//! run in turn, several times; the table has the best and the median of each, less what reading the clock costs. Packet
//! sockets need CAP_NET_RAW.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use barewire_io::io_uring::{IoUringOptions, IoUringReceiver};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::packet_mmap::{PacketMmapOptions, PacketMmapReceiver};
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_io::{LineConfig, Packet, Receiver};

const PATIENCE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 9;
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 77, 1, 3);
const PORT: u16 = 26_478;
const LENS: [usize; 2] = [100, 1_418];
const BURSTS: [usize; 3] = [1, 64, 1_024];
const PATHS: [&str; 4] = ["kernel, one packet a call", "kernel", "io_uring", "packet_mmap"];

/// Nanoseconds for which this thread has run.
fn thread_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds that two readings of the clock seem to be apart.
fn reading() -> u64 {
    (0..1_000)
        .map(|_| {
            let begun = thread_time();
            thread_time() - begun
        })
        .min()
        .unwrap()
}

/// Nanoseconds a packet of taking bursts of so many packets of this length.
fn drain(receiver: &mut impl Receiver, len: usize, burst: usize) -> f64 {
    let mut sender = UdpSender::open(&SendOptions { interface: Some("lo".into()), ..SendOptions::default() }).unwrap();
    let payload = vec![0x41; len];
    let batch = vec![Outgoing { to: SocketAddrV4::new(GROUP, PORT), payload: &payload }; burst];
    let (mut spent, mut taken, mut sent) = (0, 0, 0);
    let mut sink = |packet: Packet<'_>| {
        black_box(packet);
    };
    let reading = reading();
    // The first look sets things up.
    receiver.receive(&mut sink).unwrap();
    for _ in 0..8_192 / burst {
        sent += sender.send_all(&batch, PATIENCE).unwrap();
        let begun = thread_time();
        while taken < sent {
            taken += receiver.receive(&mut sink).unwrap();
        }
        spent += (thread_time() - begun).saturating_sub(reading);
    }
    spent as f64 / taken as f64
}

/// By the path of this number; `None` where it cannot be opened.
fn run(path: usize, len: usize, burst: usize) -> Option<f64> {
    let line = [LineConfig {
        group: GROUP,
        port: PORT,
        interface: Some("lo".into()),
        source: None,
        allow: Vec::new(),
        line: 0,
    }];
    let kernel = KernelOptions::default();
    Some(match path {
        0 => drain(&mut KernelReceiver::open(&line, KernelOptions { batch: 1, ..kernel }).unwrap(), len, burst),
        1 => drain(&mut KernelReceiver::open(&line, kernel).unwrap(), len, burst),
        2 => drain(&mut IoUringReceiver::open(&line, IoUringOptions::default()).ok()?, len, burst),
        _ => drain(&mut PacketMmapReceiver::open(&line, PacketMmapOptions::default()).ok()?, len, burst),
    })
}

fn main() {
    println!("{:<28} {:>6} {:>6} {:>8} {:>8}   ns of processor time a packet", "", "bytes", "burst", "best", "median");
    for (len, burst) in LENS.into_iter().flat_map(|len| BURSTS.map(|burst| (len, burst))) {
        let mut times = [const { Vec::new() }; PATHS.len()];
        for _ in 0..ROUNDS {
            for (path, times) in times.iter_mut().enumerate() {
                times.extend(run(path, len, burst));
            }
        }
        for (path, mut times) in PATHS.into_iter().zip(times) {
            times.sort_by(f64::total_cmp);
            match (times.first(), times.get(times.len() / 2)) {
                (Some(best), Some(median)) => println!("{path:<28} {len:>6} {burst:>6} {best:>8.0} {median:>8.0}"),
                _ => println!("{path:<28} {len:>6} {burst:>6}  could not be opened"),
            }
        }
    }
}
