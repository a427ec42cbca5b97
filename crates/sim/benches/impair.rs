//! What impairments cost the sender of two lines: ns for each packet, beside a sink that takes everything and does nothing.
//!
//! `cargo bench -p barewire-sim --bench impair [-- PACKETS]`
//!
//! As a million messages a second are sent, ten to a packet: both lines' packets of 400 bytes every 10 us, by twos as
//! where the sender keeps up, and by 128 as where it has fallen behind. The sink is polled once between batches. No
//! clock is read: times are made up, and the best of five runs is shown.

use std::hint::black_box;
use std::time::Instant;

use barewire_sim::{ImpairedSink, Impairment, Line, LossBurst, Network, SimPacket, Sink, SinkError};
use barewire_types::UnixNanos;

const PAYLOAD: [u8; 400] = [7; 400];

struct Nowhere;

impl Sink for Nowhere {
    fn take(&mut self, packets: &[SimPacket<'_>]) -> Result<(), SinkError> {
        for packet in packets {
            black_box((packet.line, packet.time, packet.payload.as_ptr()));
        }
        Ok(())
    }
}

/// ns a packet.
fn cost(packets: usize, batch: usize, sink: &mut dyn Sink) -> f64 {
    let mut time = 1_700_000_000_000_000_000;
    let begin = Instant::now();
    for _ in 0..packets / batch {
        let packet = |at: usize| {
            let line = if at.is_multiple_of(2) { Line::A } else { Line::B };
            SimPacket { line, time: UnixNanos(time), payload: &PAYLOAD }
        };
        if batch == 2 {
            sink.take(black_box(&[packet(0), packet(1)])).expect("takes everything");
        } else {
            sink.take(black_box(&std::array::from_fn::<_, 128, _>(packet))).expect("takes everything");
        }
        time += batch as u64 * 5_000;
        black_box(sink.poll(UnixNanos(time - 1)).expect("takes everything"));
    }
    begin.elapsed().as_nanos() as f64 / packets as f64
}

fn main() {
    let packets = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(2_000_000);
    let none = Impairment::default();
    let loss = Impairment { loss: 0.01, ..none.clone() };
    let burst = Some(LossBurst { enter: 0.002, leave: 0.2, loss: 1.0 });
    let usual = [
        ("none", [none.clone(), none.clone()]),
        ("1% loss on both", [loss.clone(), loss.clone()]),
        ("and bursts, 1% twice, 1% reordered", {
            let both = Impairment { burst, duplicate: 0.01, reorder: 0.01, reorder_by: 5, ..loss.clone() };
            [both.clone(), both]
        }),
        ("1% loss, and 50 us more on B", [loss.clone(), Impairment { delay_ns: 50_000, ..loss.clone() }]),
        ("1% loss, and up to 200 us more on B", [loss.clone(), Impairment { jitter_ns: 200_000, ..loss.clone() }]),
        ("1% loss, and up to 10 ms more on B", [loss.clone(), Impairment { jitter_ns: 10_000_000, ..loss.clone() }]),
    ];
    println!("{packets} packets of {} bytes", PAYLOAD.len());
    println!("{:<38} {:>12} {:>12}", "ns/packet", "by 2", "by 128");
    let row = |name: &str, sink: &mut dyn FnMut() -> Box<dyn Sink>| {
        let mut best =
            |batch| (0..5).map(|_| cost(packets, batch, &mut *sink())).fold(f64::INFINITY, |best, ns| best.min(ns));
        println!("{name:<38} {:>12.1} {:>12.1}", best(2), best(128));
    };
    row("no network", &mut || Box::new(Nowhere));
    for (name, lines) in usual {
        row(name, &mut || Box::new(ImpairedSink::new(Network::new(&lines, 1), vec![Box::new(Nowhere)])));
    }
}
