//! What draining a full queue costs: AF_XDP against batches from sockets, in this thread's own processor time.
//!
//! `cargo bench -p barewire-io --bench af_xdp`, as root. Makes a network namespace of its own, and in it a pair of virtual
//! interfaces; there the kernel's part of receiving is done within the sender's call. The ways are run in turn, several
//! times; the table has the best and the median of each.

#[allow(dead_code, reason = "shared with tests")]
#[path = "../tests/paths/net.rs"]
mod net;
#[allow(dead_code, reason = "shared with tests")]
#[path = "../tests/af_xdp/tools.rs"]
mod tools;

use std::hint::black_box;
use std::net::SocketAddrV4;

use barewire_io::Receiver;
use barewire_io::af_xdp::{AfXdpOptions, AfXdpReceiver, Attach};
use barewire_io::kernel::{KernelOptions, KernelReceiver};
use barewire_io::send::Outgoing;
use net::{A, PATIENCE, PORT, RIGHT};

const ROUNDS: usize = 9;
/// Packets of a round: they fit the queues.
const PACKETS: usize = 16_000;

/// Nanoseconds for which this thread has run.
fn thread_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sends a round by a socket, whose packets no card sums up.
fn by_socket(payload: &[u8]) {
    let mut sender = net::sender("right", RIGHT, false);
    let batch = vec![Outgoing { to: SocketAddrV4::new(A, PORT), payload }; 100];
    for _ in 0..PACKETS / batch.len() {
        assert_eq!(sender.send_all(&batch, PATIENCE).unwrap(), batch.len());
    }
}

/// Sends a round of frames with their sums, as they come from a wire.
fn summed(payload: &[u8]) {
    let into = tools::Injector::on("right");
    let frame = tools::udp(None, RIGHT, A, PORT, payload);
    (0..PACKETS).for_each(|_| into.inject(&frame));
}

/// Sends a round, then takes it; nanoseconds a packet.
fn round(receiver: &mut impl Receiver, send: impl FnOnce(&[u8]), payload: &[u8]) -> f64 {
    send(payload);
    std::thread::sleep(std::time::Duration::from_millis(5));
    let (mut taken, mut sum) = (0, 0);
    let begun = thread_time();
    loop {
        // As little as can be done with a packet: its first byte and its length.
        let mut look = |packet: barewire_io::Packet<'_>| sum += usize::from(packet.payload[0]) + packet.payload.len();
        match receiver.receive(&mut look).unwrap() {
            0 => break,
            some => taken += some,
        }
    }
    let spent = thread_time() - begun;
    black_box(sum);
    receiver.refresh().unwrap();
    assert_eq!(taken, PACKETS, "{:?}", receiver.counters());
    spent as f64 / taken as f64
}

fn main() {
    // `cargo test --benches` asks only whether it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    net::in_namespace(|| {
        println!("{PACKETS} packets drained, {ROUNDS} rounds in turn; nanoseconds of this thread a packet\n");
        println!("{:>8} {:26} {:>8} {:>8} {:>12}", "payload", "path", "best", "median", "million/s");
        for bytes in [100, 400, 1_400] {
            let payload = vec![7; bytes];
            let lines = [net::line(0, A, "left")];
            let xdp = |attach, send: fn(&[u8])| {
                let options = AfXdpOptions { attach, ..AfXdpOptions::default() };
                let receiver = AfXdpReceiver::open(&lines, options);
                round(&mut receiver.unwrap_or_else(|error| panic!("{error}")), send, &payload)
            };
            let sockets = || {
                let options = KernelOptions { rcvbuf_bytes: Some(64 << 20), ..KernelOptions::default() };
                let receiver = KernelReceiver::open(&lines, options);
                round(&mut receiver.unwrap_or_else(|error| panic!("{error}")), by_socket, &payload)
            };
            let mut times = [const { Vec::new() }; 4];
            for _ in 0..ROUNDS {
                times[0].push(xdp(Attach::Native, by_socket));
                times[1].push(xdp(Attach::Native, summed));
                times[2].push(xdp(Attach::Generic, by_socket));
                times[3].push(sockets());
            }
            for (name, times) in
                ["AF_XDP, native", "AF_XDP, native, summed up", "AF_XDP, generic", "recvmmsg, 64 a call"]
                    .iter()
                    .zip(&mut times)
            {
                times.sort_by(f64::total_cmp);
                let (best, median) = (times[0], times[ROUNDS / 2]);
                println!("{bytes:>8} {name:26} {best:>8.1} {median:>8.1} {:>12.1}", 1_000.0 / best);
            }
        }
    });
}
