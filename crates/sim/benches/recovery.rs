//! What the servers cost: the sender for keeping its messages, the follower for following them, a snapshot.
//!
//! `cargo bench -p barewire-sim --bench recovery [-- MESSAGES INSTRUMENTS LIVE_ORDERS]`
//!
//! At the end a GLIMPSE server follows a sender on the other core, at a million messages a second and as quickly as it can be
//! sent, while a client takes one snapshot after the other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use barewire_io::clock;
use barewire_sim::recovery::{Fault, GlimpseServer, Mirror, Store};
use barewire_sim::{ExchangeConfig, Length, Line, PacketMemory, SessionConfig, Simulator, SimulatorConfig};
use barewire_types::Seq;
use barewire_wire::moldudp64::Packet;
use barewire_wire::soupbintcp::{CURRENT_SESSION, LoginRequest};

/// Nanoseconds that this thread has had a core: what others take on a shared machine is not in it.
fn on_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// A session's packets, 40 messages each.
fn packets(messages: u32, instruments: u32, live_orders: u32) -> PacketMemory {
    let length = Length::Messages(messages.into());
    let exchange = ExchangeConfig { instruments, live_orders, length, ..Default::default() };
    let session =
        SessionConfig { b_line: false, messages_per_packet: Some(40), max_payload: 1_472, ..Default::default() };
    let simulator = Simulator::new(SimulatorConfig { exchange, session, ..Default::default() });
    let mut packets = PacketMemory::default();
    let report = simulator.expect("a valid configuration").run(&mut [&mut packets], &AtomicBool::new(false));
    report.expect("memory takes everything");
    packets
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let shapes = match numbers[..] {
        [messages, instruments, live_orders] => vec![(messages, instruments, live_orders)],
        _ => vec![(2_000_000, 100, 10_000), (3_000_000, 1_000, 100_000), (6_000_000, 9_000, 1_000_000)],
    };
    println!(
        "{:>12} {:>12} {:>12} {:>10} {:>10} {:>12} {:>12}",
        "instruments", "live orders", "messages", "keep ns", "follow ns", "snapshot ms", "snapshot MB"
    );
    for (messages, instruments, live_orders) in shapes {
        let packets = packets(messages, instruments, live_orders);
        let all: Vec<&[u8]> = packets.line(Line::A).map(|packet| packet.payload).collect();
        let count: u64 =
            all.iter().flat_map(|payload| Packet::parse(payload)).map(|packet| u64::from(packet.whole())).sum();

        let store = Store::new(64 << 20);
        let begin = on_cpu_ns();
        all.chunks(8).for_each(|batch| store.take(batch.iter().copied()));
        let keep = (on_cpu_ns() - begin) as f64 / count as f64;

        let mut mirror = Mirror::new();
        let begin = on_cpu_ns();
        for packet in all.iter().flat_map(|payload| Packet::parse(payload)) {
            packet.messages().for_each(|message| mirror.message(message));
        }
        let follow = (on_cpu_ns() - begin) as f64 / count as f64;
        let mut half = Mirror::new();
        for packet in all.iter().take(all.len() / 2).flat_map(|payload| Packet::parse(payload)) {
            packet.messages().for_each(|message| half.message(message));
        }
        // Shorter than the kernel's accounts of time on a core are exact: by the clock, and the best of several.
        let snapshots = (0..7).map(|_| {
            let begin = clock::monotonic();
            let snapshot = half.snapshot();
            (clock::monotonic() - begin, snapshot)
        });
        let (ns, snapshot) = snapshots.min_by_key(|(ns, _)| *ns).unwrap_or_default();
        let ms = ns as f64 / 1e6;
        let mb = snapshot.messages.len() as f64 / 1e6;
        println!(
            "{instruments:>12} {:>12} {count:>12} {keep:>10.1} {follow:>10.1} {ms:>12.2} {mb:>12.1}",
            half.live_orders()
        );
        for rate in [1_000_000, u64::MAX] {
            live(&all, rate);
        }
    }
}

/// Sends at so many messages a second what a server follows and serves.
fn live(packets: &[&[u8]], rate: u64) {
    let store = Arc::new(Store::new(256 << 20));
    let server = GlimpseServer::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), Arc::clone(&store), Fault::None);
    let server = server.expect("a port on lo");
    let is_over = AtomicBool::new(false);
    let mut longest_ms = 0.0_f64;
    let (elapsed, lag) = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let begin = clock::monotonic();
            let (mut sent, mut lag) = (0_u64, 0);
            for packet in packets {
                store.take([*packet]);
                sent += 40;
                // Nanoseconds; no rate is 2^64 a second, and then nothing is waited for.
                let due = begin + (u128::from(sent) * 1_000_000_000 / u128::from(rate)) as u64;
                if sent % 40_000 == 0 {
                    lag = lag.max(sent.saturating_sub(server.counters().followed));
                }
                while clock::monotonic() < due {
                    std::hint::spin_loop();
                }
            }
            is_over.store(true, Ordering::Relaxed);
            (clock::monotonic() - begin, lag)
        });
        while !is_over.load(Ordering::Relaxed) {
            let begin = clock::monotonic();
            take_snapshot(server.local_addr());
            longest_ms = longest_ms.max((clock::monotonic() - begin) as f64 / 1e6);
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        sender.join().expect("no panic")
    });
    let counters = server.counters();
    println!(
        "    live: {:.2} M/s, at most {lag} behind, {} snapshots, the longest {longest_ms:.1} ms with its transfer, unavailable: {}",
        packets.len() as f64 * 40.0 * 1e3 / elapsed as f64,
        counters.served,
        counters.unavailable
    );
}

fn take_snapshot(at: SocketAddrV4) {
    let mut stream = TcpStream::connect(at).expect("a server");
    let login = LoginRequest { username: [b' '; 6], password: [b' '; 10], session: CURRENT_SESSION, sequence: Seq(1) };
    stream.write_all(&login.encode()).expect("a server");
    let mut bytes = vec![0; 1 << 20];
    while stream.read(&mut bytes).is_ok_and(|len| len > 0) {}
}
