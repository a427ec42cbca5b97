//! What a reading of each clock costs, in nanoseconds, and how far the processor's counter says that it may be off.
//!
//! `cargo bench -p barewire-io --bench clock`. The best of many short rounds: others share the machine.

use std::hint::black_box;
use std::time::{Duration, Instant};

use barewire_io::clock;
use barewire_io::clock::tsc::{TscClock, TscOptions};

const READS: u32 = 2_000;
const ROUNDS: u32 = 5_000;

fn cost<T>(mut read: impl FnMut() -> T) -> f64 {
    let round = || {
        let begun = Instant::now();
        (0..READS).for_each(|_| {
            black_box(read());
        });
        begun.elapsed().as_nanos() as f64 / f64::from(READS)
    };
    std::iter::repeat_with(round).take(ROUNDS as usize).fold(f64::MAX, f64::min)
}

fn main() {
    let mut tsc = TscClock::calibrate(TscOptions::default());
    match (tsc.fallback(), tsc.frequency_hz()) {
        (Some(why), _) => println!("counter: {why}"),
        (None, hz) => println!("counter: {} Hz", hz.unwrap_or(0)),
    }
    println!("clock_gettime      {:6.1} ns", cost(clock::now));
    println!("counter            {:6.1} ns", cost(|| tsc.now()));
    println!("counter, ordered   {:6.1} ns", cost(|| tsc.now_ordered()));
    println!("counter with bound {:6.1} ns", cost(|| tsc.now_bounded()));
    println!("calibrated a second apart: found off / promised / bound right after / bound a second after, ns");
    for _ in 0..5 {
        let begun = Instant::now();
        std::thread::sleep(Duration::from_secs(1));
        let late = tsc.now_bounded().bound_ns;
        let Some(found) = tsc.recalibrate() else { break };
        let took = begun.elapsed().as_secs_f64() - 1.0;
        let fresh = tsc.now_bounded().bound_ns;
        println!("  {:6} / {:6} / {fresh:6} / {late:6}   ({:.0} us)", found.error_ns, found.promised_ns, took * 1e6);
    }
}
