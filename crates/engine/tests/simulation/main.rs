//! Thousands of sessions over networks and with servers of every kind, good and bad, in simulated time and from seeds:
//! whatever happens, what the strategy saw is what was sent, or the gaps that it was told of are exactly the difference.
//!
//! `BAREWIRE_SEEDS=N` runs so many seeds (3,000 by default), `BAREWIRE_SEED=N` one, and says what happened in it.

mod check;
mod schedule;
mod witness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use barewire_engine::pipeline::{Input, Pipeline, REPLIES};
use barewire_engine::replay::Network;
use barewire_engine::sink::Memory;
use barewire_sim::Site;
use barewire_types::{TsSource, UnixNanos};

use schedule::Schedule;
use witness::Witness;

/// How often the feed looks at its timers, ns.
const TICK_NS: u64 = 100_000;
/// How long it is listened to after the last packet was sent, ns.
const LINGER_NS: u64 = 2_000_000_000;

/// Runs one seed; what the feed saw.
fn run(schedule: &Schedule) -> Pipeline<Witness, Memory> {
    let mut site = Site::new(schedule.site.clone());
    let mut feed = Pipeline::new(Witness::new(), Memory::default(), 7, schedule.sequencing);
    let mut now = UnixNanos(1);
    for packet in &schedule.packets {
        pass(&mut feed, &mut site, &mut now, packet.at);
        site.send(packet.line, packet.at, &packet.payload);
    }
    let last = UnixNanos(now.0 + LINGER_NS);
    while now < last && (site.next_arrival().is_some() || feed.is_waiting()) {
        let to = UnixNanos(now.0 + TICK_NS);
        pass(&mut feed, &mut site, &mut now, to);
    }
    feed.flush(now);
    feed
}

/// Time passes until `to`.
fn pass(feed: &mut Pipeline<Witness, Memory>, site: &mut Site, now: &mut UnixNanos, to: UnixNanos) {
    loop {
        let timer = if feed.is_waiting() { now.0 + TICK_NS } else { u64::MAX };
        let arrival = site.next_arrival().map_or(u64::MAX, |at| at.0);
        let next = timer.min(arrival).max(now.0);
        if next > to.0 {
            break;
        }
        *now = UnixNanos(next);
        site.tick(*now);
        while let Some((line, at, payload)) = site.arrive(*now) {
            let input = Input { line, payload, ts_recv: at, ts_source: TsSource::User, seen: at, degraded: false };
            match line {
                REPLIES => feed.reply(&input),
                _ => feed.packet(&input),
            }
        }
        feed.look_at_lines(*now);
        if feed.is_waiting() {
            feed.recover(*now, true, site);
        }
    }
    *now = to.max(*now);
}

fn one(seed: u64, tell: bool) -> Result<check::Outcome, String> {
    let schedule = Schedule::of(seed);
    if tell {
        println!("{schedule:#?}");
    }
    let mut feed = run(&schedule);
    if tell {
        for (name, value) in feed.counters().iter().filter(|(_, value)| *value > 0) {
            println!("{name:>24} {value}");
        }
        println!("{:#?}", feed.venue().log.iter().filter(|seen| !seen.is_message()).collect::<Vec<_>>());
    }
    check::check(&schedule, &mut feed)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

#[test]
fn what_the_strategy_saw_is_what_was_sent_or_was_told_to_be_missing() {
    if let Some(seed) = number("BAREWIRE_SEED") {
        match one(seed, true) {
            Ok(outcome) => println!("seed {seed}: {outcome:?}"),
            Err(problem) => panic!("seed {seed}: {problem}"),
        }
        return;
    }
    let seeds = number("BAREWIRE_SEEDS").unwrap_or(3_000);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<check::Outcome> = std::thread::scope(|scope| {
        let work = || {
            let mut sum = check::Outcome::default();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return sum;
                }
                let outcome = catch_unwind(AssertUnwindSafe(|| one(seed, false)));
                match outcome {
                    Ok(Ok(outcome)) => sum = sum.and(outcome),
                    Ok(Err(problem)) => {
                        panic!("seed {seed}: {problem}\nto see it: make simulate SEED={seed}")
                    }
                    Err(_) => panic!("seed {seed} panicked\nto see it: make simulate SEED={seed}"),
                }
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
            .collect()
    });
    let all = outcomes.into_iter().fold(check::Outcome::default(), check::Outcome::and);
    println!("{seeds} seeds: {all:?}");
    // Seeds that never get there would test nothing.
    if seeds >= 200 {
        assert!(all.is_telling(), "these seeds do not reach every stage: {all:?}");
    }
}
