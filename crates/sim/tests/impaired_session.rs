//! Sessions behind a network that is not perfect, in simulated and in real time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use barewire_io::clock;
use barewire_sim::{
    ExchangeConfig, ImpairCounters, ImpairedSink, Impairment, Length, Line, MAX_HOLD_NS, MAX_REORDER_BY, Network, Pace,
    PacketMemory, SessionConfig, SimPacket, Simulator, SimulatorConfig, Sink, SinkError, Time,
};
use barewire_types::UnixNanos;

/// Packets that several have a look at, with the system's clock when they were taken.
#[derive(Clone, Default)]
struct Shared {
    packets: Arc<Mutex<PacketMemory>>,
    taken: Arc<Mutex<Vec<UnixNanos>>>,
    has_finished: Arc<AtomicBool>,
}

impl Sink for Shared {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        assert!(!packets.is_empty() && !self.has_finished.load(Ordering::Relaxed));
        let now = clock::now();
        self.taken.lock().unwrap().extend(packets.iter().map(|_| now));
        self.packets.lock().unwrap().take(packets)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.has_finished.store(true, Ordering::Relaxed);
        Ok(())
    }
}

fn exchange(messages: u64) -> ExchangeConfig {
    ExchangeConfig { instruments: 20, live_orders: 500, length: Length::Messages(messages), ..Default::default() }
}

/// Runs a session into a sink behind a network, and into one before it, for so many messages at least.
fn run(config: SimulatorConfig, messages: u64, lines: &[Impairment]) -> (PacketMemory, Shared, [ImpairCounters; 2]) {
    let (mut plain, behind) = (PacketMemory::default(), Shared::default());
    let mut impaired = ImpairedSink::new(Network::new(lines, 11), vec![Box::new(behind.clone())]);
    let simulator = Simulator::new(config).unwrap();
    let (stop, progress) = (AtomicBool::new(false), simulator.progress());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while progress.messages() < messages {
                std::thread::sleep(Duration::from_millis(1));
            }
            stop.store(true, Ordering::Relaxed);
        });
        simulator.run(&mut [&mut plain, &mut impaired], &stop).unwrap()
    });
    assert!(behind.has_finished.load(Ordering::Relaxed));
    let counters = [0, 1].map(|line| impaired.network().counters(line));
    (plain, behind, counters)
}

fn assert_same(plain: &PacketMemory, behind: &Shared) {
    let behind = behind.packets.lock().unwrap();
    let all = |packets: &PacketMemory| -> Vec<(Line, UnixNanos, Vec<u8>)> {
        packets.iter().map(|packet| (packet.line, packet.time, packet.payload.to_vec())).collect()
    };
    assert!(all(plain) == all(&behind));
}

/// Without impairments a session is what it was, in simulated and in real time; impaired, it is the same every time.
#[test]
fn a_session_is_impaired_as_it_was_set() {
    let session = SessionConfig { different_cuts: true, b_delay_ns: 20_000, ..Default::default() };
    let simulated = SimulatorConfig { exchange: exchange(20_000), session, ..Default::default() };
    let real = SimulatorConfig { pace: Pace::per_second(1_000_000), time: Time::Real, ..simulated };
    for config in [simulated, real] {
        let (plain, behind, counters) = run(config, 20_000, &[]);
        assert_same(&plain, &behind);
        assert_eq!(counters.map(|line| line.sent), [Line::A, Line::B].map(|line| plain.line(line).count() as u64));
    }
    let impaired = Impairment {
        loss: 0.05,
        duplicate: 0.05,
        reorder: 0.1,
        reorder_by: 5,
        delay_ns: 1_000,
        jitter_ns: 1_000_000_000,
        ..Default::default()
    };
    let lines = [Impairment { loss: 0.5, ..Default::default() }, impaired];
    let (plain, behind, counters) = run(simulated, 20_000, &lines);
    let (_, again, _) = run(simulated, 20_000, &lines);
    assert_same(&again.packets.lock().unwrap(), &behind);
    let packets = behind.packets.lock().unwrap();
    assert!(packets.iter().map(|packet| packet.time).is_sorted());
    for (line, counters) in [Line::A, Line::B].into_iter().zip(counters) {
        println!("{line:?} {counters:?}");
        assert_eq!(counters.sent, plain.line(line).count() as u64);
        assert_eq!(counters.arrived, packets.line(line).count() as u64);
        assert_eq!(counters.sent + counters.duplicated, counters.lost + counters.arrived);
        assert!(counters.lost > 0);
    }
    assert!(counters[1].duplicated > 0 && counters[1].reordered > 0 && counters[1].delayed > 0);
}

/// In real time a delayed packet leaves before the next one is due, never before its own time, and the end of the
/// session waits for those that are still under way.
#[test]
fn delayed_packets_leave_while_nothing_else_is_sent() {
    let late = Impairment { delay_ns: 3_000_000, jitter_ns: 2_000_000, ..Default::default() };
    let held = Impairment { reorder: 1.0, reorder_by: MAX_REORDER_BY, ..Default::default() };
    let session = SessionConfig {
        messages_per_packet: Some(1),
        heartbeat_ns: 40_000_000,
        end_packets: 2,
        end_interval_ns: 50_000_000,
        ..Default::default()
    };
    let (pace, time) = (Pace::per_second(10), Time::Real);
    let config = SimulatorConfig { exchange: exchange(1_000_000), session, pace, time, ..Default::default() };
    let (plain, behind, counters) = run(config, 3, &[held, late]);
    let (packets, taken) = (behind.packets.lock().unwrap(), behind.taken.lock().unwrap());
    assert_eq!((counters.map(|line| line.lost), packets.len()), ([0, 0], plain.len()));
    let mut in_time = 0;
    for (packet, taken) in packets.iter().zip(&*taken) {
        assert!(*taken >= packet.time, "too early by {} ns", packet.time.0 - taken.0);
        let next = plain.iter().find(|next| next.time > packet.time);
        in_time += usize::from(next.is_none_or(|next| *taken < next.time));
    }
    // Nothing waited for what was sent next, tens of ms later, unless the machine was busy with something else.
    assert!(2 * in_time >= packets.len(), "{in_time} of {}", packets.len());
    for (line, least, most) in [(Line::A, MAX_HOLD_NS, MAX_HOLD_NS), (Line::B, 3_000_000, 5_000_000)] {
        let mut sent: Vec<_> = plain.line(line).map(|packet| (packet.payload, packet.time)).collect();
        for packet in packets.line(line) {
            let at = sent.iter().position(|(payload, _)| *payload == packet.payload).unwrap();
            let (_, time) = sent.remove(at);
            assert!((least..=most).contains(&(packet.time.0 - time.0)), "{line:?}: {}", packet.time.0 - time.0);
        }
    }
}
