//! What a sent message costs, as quickly as it can be: generated, packed 40 to a packet, and multicast on loopback.
//!
//! `cargo bench -p barewire-sim --bench send [-- MESSAGES INSTRUMENTS LIVE_ORDERS]`
//!
//! Nobody listens, so what is measured is the sender: the kernel drops the packets where it looks for receivers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicBool;

use barewire_io::clock;
use barewire_sim::{
    ExchangeConfig, Length, MulticastLine, MulticastSink, SessionConfig, SimPacket, Simulator, SimulatorConfig, Sink,
    SinkError, Time,
};
use barewire_types::UnixNanos;

/// Nanoseconds that this thread has had a core: what others take on a shared machine is not in it.
fn on_cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Takes everything and does nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        std::hint::black_box(packets.len());
        Ok(())
    }
}

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let &[messages, instruments, live_orders] = &numbers[..] else {
        return run(5_000_000, 1_000, 100_000);
    };
    run(messages, instruments, live_orders);
}

fn run(messages: u32, instruments: u32, live_orders: u32) {
    println!("{messages} messages, {instruments} instruments, {live_orders} live orders");
    println!("{:<34} {:>12} {:>14} {:>12} {:>12}", "what", "ns/message", "messages/s", "packets/s", "cpu ns/msg");
    for (name, to_network, b_line, prepare) in [
        ("generate and pack", false, false, false),
        ("generate and send, A", true, false, false),
        ("generate and send, A and B", true, true, false),
        ("send what was prepared, A", true, false, true),
        ("send what was prepared, A and B", true, true, true),
    ] {
        let exchange = ExchangeConfig {
            instruments,
            live_orders,
            length: Length::Messages(messages.into()),
            ..ExchangeConfig::default()
        };
        let session = SessionConfig { b_line, messages_per_packet: Some(40), max_payload: 1_472, ..Default::default() };
        let (time, midnight) = (Time::Real, UnixNanos(clock::now().0));
        let config = SimulatorConfig { exchange, session, time, midnight, prepare, ..Default::default() };
        let line = |host| MulticastLine {
            to: SocketAddrV4::new(Ipv4Addr::new(239, 255, 92, host), 26_477),
            interface: Some("lo".into()),
            source: None,
        };
        let best = (0..3)
            .map(|_| {
                let mut nowhere = Nowhere;
                let mut multicast = MulticastSink::open(&line(1), Some(&line(2)), 0).expect("sockets on lo");
                let sink: &mut dyn Sink = if to_network { &mut multicast } else { &mut nowhere };
                let simulator = Simulator::new(config).expect("a valid configuration");
                // Preparing is on the processor's account, but not in the elapsed time.
                let begin = on_cpu_ns();
                let report =
                    simulator.run(&mut [sink], &AtomicBool::new(false)).expect("a loopback that takes packets");
                (report, on_cpu_ns() - begin)
            })
            .min_by_key(|(report, _)| report.elapsed_ns)
            .unwrap_or_default();
        let (best, cpu_ns) = best;
        let each = best.elapsed_ns as f64 / best.messages as f64;
        let packets = (best.a.packets + best.b.packets) as f64 * 1e9 / best.elapsed_ns as f64;
        let cpu = if prepare { f64::NAN } else { cpu_ns as f64 / best.messages as f64 };
        println!("{name:<34} {each:>12.1} {:>14.0} {packets:>12.0} {cpu:>12.1}", 1e9 / each);
    }
}
