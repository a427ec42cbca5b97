//! What the ring costs: one way across cores, and how many records a second.
//!
//! ```text
//! cargo run --release -p barewire-ring --example ring_bench [-- --json]
//! ```
//!
//! - *one way*: half of a round trip through two rings, beside half of a bare round trip: atomics on lines of their own,
//!   one each way or 4096 each way in turn, in this same binary. Runs of the three alternate; the ratio is what counts.
//! - *publish*, *publish and read*: records a second, on one core and on two.
//! - instructions a record: `crates/ring/examples/ring_instructions.sh` runs `--only publish COUNT` and
//!   `--only read COUNT` under callgrind.
//!
//! Any other process that is running makes the times noisy, and so does a host that takes cores away: the best run is
//! printed beside the median of all, and the share of time in which round trips took more than 10 us beside both.

use barewire_ring::{Producer, Reader, Record, RingConfig, RingRecord};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROUND_TRIPS: usize = 100_000;
const RUNS: usize = 15;

/// A cache line of its own, and the next one too, which some processors fetch with it.
#[repr(align(128))]
struct Line(AtomicU64);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, what, count] = &arguments[..]
        && flag == "--only"
    {
        return only(what, count.parse().expect("a count"));
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let cores = allowed_cores();
    let mut rows: Vec<(String, f64, f64, &str)> = Vec::new();

    if let [first, second, ..] = cores[..] {
        let mut p50: [Vec<f64>; 3] = Default::default();
        let mut stolen = Vec::new();
        for _ in 0..RUNS {
            let samples = [
                bare_round_trips(first, second, 1),
                bare_round_trips(first, second, 1 << 12),
                ring_round_trips(first, second),
            ];
            for (samples, p50) in samples.iter().zip(&mut p50) {
                p50.push(median(samples.iter().map(|sample| sample / 2.0).collect()));
            }
            let total: f64 = samples.iter().flatten().sum();
            let taken: f64 = samples.iter().flatten().filter(|sample| **sample > 10_000.0).sum();
            stolen.push(100.0 * taken / total);
        }
        let [one, many, ring] = &p50;
        let ratio = |bare: &Vec<f64>| bare.iter().zip(ring).map(|(bare, ring)| ring / bare).collect::<Vec<f64>>();
        rows.push(best_and_median("bare one way, one line, p50", one, f64::min, "ns"));
        rows.push(best_and_median("bare one way, 4096 lines, p50", many, f64::min, "ns"));
        rows.push(best_and_median("ring one way, p50", ring, f64::min, "ns"));
        rows.push(("ring / bare, one line".into(), rows[2].1 / rows[0].1, median(ratio(one)), ""));
        rows.push(("ring / bare, 4096 lines".into(), rows[2].1 / rows[1].1, median(ratio(many)), ""));
        rows.push(best_and_median("time in round trips over 10 us", &stolen, f64::min, "%"));
    } else {
        eprintln!("one way across cores: skipped, this process may run on one core only");
    }
    for capacity in [1 << 12, 1 << 16, 1 << 20] {
        let runs: Vec<f64> = (0..5).map(|_| publish_only(capacity)).collect();
        rows.push(best_and_median(&format!("publish, {capacity} slots"), &runs, f64::max, "M records/s"));
    }
    let runs: Vec<f64> = (0..5).map(|_| publish_and_read_in_turn()).collect();
    rows.push(best_and_median("publish and read, one core", &runs, f64::max, "M records/s"));
    if let [first, second, ..] = cores[..] {
        let runs: Vec<f64> = (0..9).map(|_| publish_and_read(first, second)).collect();
        rows.push(best_and_median("publish and read, two cores", &runs, f64::max, "M records/s"));
    }
    print(&rows, json);
}

fn print(rows: &[(String, f64, f64, &str)], json: bool) {
    if json {
        let rows = rows.iter().map(|(name, best, median, unit)| {
            format!("  {{\"name\": \"{name}\", \"best\": {best:.3}, \"median\": {median:.3}, \"unit\": \"{unit}\"}}")
        });
        println!("[\n{}\n]", rows.collect::<Vec<_>>().join(",\n"));
        return;
    }
    println!("{:<36} {:>10} {:>10}", "", "best", "median");
    for (name, best, median, unit) in rows {
        println!("{name:<36} {best:>10.2} {median:>10.2} {unit}");
    }
}

fn best_and_median<'a>(
    name: &str,
    runs: &[f64],
    better: fn(f64, f64) -> f64,
    unit: &'a str,
) -> (String, f64, f64, &'a str) {
    (name.to_owned(), runs.iter().copied().reduce(better).unwrap_or(f64::NAN), median(runs.to_vec()), unit)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ring(capacity: u32) -> Producer {
    Producer::create(&RingConfig { capacity, ..RingConfig::default() }).expect("a ring without a name")
}

fn record(n: u64) -> Record {
    Record([n; 7])
}

/// Times of a round trip, in nanoseconds, over `lines` lines each way in turn. One line is thrown back and forth
/// between two caches; of many, each is last touched a lap ago, as a ring's are.
fn bare_round_trips(first: usize, second: usize, lines: usize) -> Vec<f64> {
    let [there, back] = [(); 2].map(|()| (0..lines).map(|_| Line(AtomicU64::new(0))).collect::<Vec<_>>());
    let line = |n: u64| n as usize & (lines - 1);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(second);
            for n in 1..=ROUND_TRIPS as u64 {
                while there[line(n)].0.load(Ordering::Acquire) != n {
                    spin_loop();
                }
                back[line(n)].0.store(n, Ordering::Release);
            }
        });
        pin(first);
        let mut n = 0;
        round_trips(|| {
            n += 1;
            there[line(n)].0.store(n, Ordering::Release);
            while back[line(n)].0.load(Ordering::Acquire) != n {
                spin_loop();
            }
        })
    })
}

fn ring_round_trips(first: usize, second: usize) -> Vec<f64> {
    let (mut there, mut back) = (ring(1 << 12), ring(1 << 12));
    let (mut arrivals, mut returns) = (there.reader(), back.reader());
    let one = |reader: &mut Reader| {
        let mut record = [RingRecord::ZERO];
        while reader.read(&mut record).count == 0 {
            spin_loop();
        }
        record[0].record
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(second);
            for _ in 0..ROUND_TRIPS {
                back.publish(one(&mut arrivals));
            }
        });
        pin(first);
        let mut n = 0;
        round_trips(|| {
            n += 1;
            there.publish(record(n));
            assert_eq!(one(&mut returns), record(n));
        })
    })
}

/// Times in groups of ten: some time-stamp counters move in steps of ten nanoseconds.
fn round_trips(mut one: impl FnMut()) -> Vec<f64> {
    const GROUP: usize = 10;
    let ns_per_tick = ns_per_tick();
    let mut samples = Vec::with_capacity(ROUND_TRIPS / GROUP);
    for _ in 0..ROUND_TRIPS / GROUP {
        let begin = ticks();
        (0..GROUP).for_each(|_| one());
        samples.push(ticks().wrapping_sub(begin));
    }
    // The first find every line elsewhere.
    samples.drain(..ROUND_TRIPS / GROUP / 10);
    samples.into_iter().map(|ticks| ticks as f64 * ns_per_tick / GROUP as f64).collect()
}

/// Million records a second into a ring that nobody reads.
fn publish_only(capacity: u32) -> f64 {
    const COUNT: u64 = 20_000_000;
    let mut producer = ring(capacity);
    let begin = Instant::now();
    for n in 0..COUNT {
        producer.publish(black_box(record(n)));
    }
    COUNT as f64 / begin.elapsed().as_secs_f64() / 1e6
}

/// Million records a second, published and read in batches of 64 by one thread: the work of both sides.
fn publish_and_read_in_turn() -> f64 {
    const COUNT: u64 = 10_000_000;
    let mut producer = ring(1 << 12);
    let mut reader = producer.reader();
    let mut batch = [RingRecord::ZERO; 64];
    let begin = Instant::now();
    for n in 0..COUNT / 64 {
        for _ in 0..64 {
            producer.publish(black_box(record(n)));
        }
        assert_eq!(reader.read(black_box(&mut batch)).count, 64);
    }
    COUNT as f64 / begin.elapsed().as_secs_f64() / 1e6
}

/// A producer and a reader, each on a core, in million records a second. A producer never waits for a reader; so that
/// nothing is lost here, this one publishes no more than half a ring beyond where the reader says that it is.
fn publish_and_read(first: usize, second: usize) -> f64 {
    const COUNT: u64 = 10_000_000;
    let mut producer = ring(1 << 16);
    let mut reader = producer.reader();
    let position = Line(AtomicU64::new(0));
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            pin(second);
            let mut batch = [RingRecord::ZERO; 256];
            let begin = Instant::now();
            while reader.position() < COUNT {
                assert_eq!(reader.read(black_box(&mut batch)).lost, 0);
                position.0.store(reader.position(), Ordering::Relaxed);
            }
            COUNT as f64 / begin.elapsed().as_secs_f64() / 1e6
        });
        pin(first);
        for n in 0..COUNT {
            while n % 256 == 0 && n > position.0.load(Ordering::Relaxed) + (1 << 15) {
                spin_loop();
            }
            producer.publish(black_box(record(n)));
        }
        reading.join().expect("the reader")
    })
}

/// One thing only, so that the difference of two counts is the cost of the records between them.
fn only(what: &str, count: u64) {
    let mut producer = ring(1 << 12);
    let mut reader = producer.reader();
    let mut batch = [RingRecord::ZERO; 256];
    for n in 0..1 << 12 {
        producer.publish(black_box(record(n)));
    }
    match what {
        "publish" => (0..count).for_each(|n| producer.publish(black_box(record(n)))),
        "read" => {
            let mut read = 0;
            while read < count {
                reader.seek_oldest();
                for _ in 0..(1 << 12) / 256 {
                    read += reader.read(black_box(&mut batch)).count as u64;
                }
            }
        }
        other => panic!("neither publish nor read: {other}"),
    }
}

/// The time-stamp counter where there is one: reading it costs less than what is measured.
#[cfg(target_arch = "x86_64")]
fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> u64 {
    static ORIGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    ORIGIN.elapsed().as_nanos() as u64
}

fn ns_per_tick() -> f64 {
    let (first, begin) = (ticks(), Instant::now());
    while begin.elapsed() < Duration::from_millis(20) {}
    begin.elapsed().as_nanos() as f64 / (ticks() - first) as f64
}

fn allowed_cores() -> Vec<usize> {
    // SAFETY: all zero is an empty set, and the call fills it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&set), &mut set);
        (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &set)).collect()
    }
}

fn pin(core: usize) {
    // SAFETY: all zero is an empty set; the core is one that this process may use.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}
