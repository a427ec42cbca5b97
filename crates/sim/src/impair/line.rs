//! What becomes of one line's packets.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::queue::Ticket;
use super::{ImpairCounters, Impairment, LossBurst, MAX_REORDER_BY};

/// A packet's way, if it is not lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    /// When it arrives, unless it is held back.
    pub(super) due: u64,
    /// When its copy does.
    pub(super) copy_due: Option<u64>,
    /// By which packet it is overtaken last, of those that are not lost, where it is held back.
    pub(super) held_until: Option<u64>,
}

/// An impairment at work.
#[derive(Debug)]
pub(super) struct LineState {
    loss: Chance,
    burst: Option<BurstState>,
    duplicate: Chance,
    reorder: Chance,
    reorder_by: u32,
    delay_ns: u64,
    jitter: Jitter,
    copy_jitter: Jitter,
    drop: Ranges,
    dead: Ranges,
    /// Packets so far that were not lost.
    passed: u64,
    /// Those that are held back: until which of these, counted from 0. Some are gone already.
    held: BinaryHeap<Reverse<(u64, Ticket)>>,
    /// Number of the latest packet that arrived.
    latest: u64,
    pub(super) counters: ImpairCounters,
}

impl LineState {
    /// Values out of their range count as the nearest one within.
    pub(super) fn new(impairment: &Impairment, seed: u64, line: u8) -> LineState {
        // 2^192 draws for every line, and 2^128 for everything on it, so that no two streams have a draw in common. The
        // ones that begin at the seed itself are the exchange's.
        let mut stream = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..=line).for_each(|_| stream.long_jump());
        let mut next = || {
            stream.jump();
            stream.clone()
        };
        LineState {
            loss: Chance::new(impairment.loss, next()),
            burst: {
                let stream = next();
                impairment.burst.map(|burst| BurstState::new(burst, stream))
            },
            duplicate: Chance::new(impairment.duplicate, next()),
            reorder: Chance::new(if impairment.reorder_by == 0 { 0.0 } else { impairment.reorder }, next()),
            reorder_by: impairment.reorder_by.min(MAX_REORDER_BY),
            delay_ns: impairment.delay_ns,
            jitter: Jitter { most_ns: impairment.jitter_ns, stream: next() },
            copy_jitter: Jitter { most_ns: impairment.jitter_ns, stream: next() },
            drop: Ranges::new(&impairment.drop),
            dead: Ranges::new(&impairment.dead),
            passed: 0,
            held: BinaryHeap::new(),
            latest: 0,
            counters: ImpairCounters::default(),
        }
    }

    /// Decides on the next packet, which is sent at `at`, so long after the network began; `None` loses it.
    #[inline]
    pub(super) fn fate(&mut self, at: u64, since_ns: u64) -> Option<Fate> {
        // Every stream is drawn from before anything is decided.
        let loss = self.loss.hits();
        let burst = self.burst.as_mut().is_some_and(BurstState::loses);
        let is_copied = self.duplicate.hits();
        let held_for = if self.reorder.hits() { 1 + self.reorder.below(self.reorder_by.into()) } else { 0 };
        let (jitter, copy_jitter) = (self.jitter.draw(), self.copy_jitter.draw());

        let number = self.counters.sent;
        self.counters.sent += 1;
        if loss || burst || self.drop.contains(number) || self.dead.contains(since_ns) {
            self.counters.lost += 1;
            return None;
        }
        self.counters.duplicated += u64::from(is_copied);
        let due = |jitter: u64| at.saturating_add(self.delay_ns).saturating_add(jitter);
        let (due, copy_due) = (due(jitter), is_copied.then(|| due(copy_jitter)));
        self.counters.delayed += u64::from(due > at) + u64::from(copy_due.is_some_and(|due| due > at));
        let held_until = (held_for != 0).then(|| self.passed.saturating_add(held_for));
        self.passed += 1;
        Some(Fate { due, copy_due, held_until })
    }

    /// Remembers a packet that is held back.
    pub(super) fn hold(&mut self, until: u64, ticket: Ticket) {
        self.held.push(Reverse((until, ticket)));
    }

    /// A packet that has been overtaken by all that it waited for.
    #[inline]
    pub(super) fn next_overtaken(&mut self) -> Option<Ticket> {
        let first = self.held.peek_mut()?;
        let Reverse((until, _)) = *first;
        (until < self.passed).then(|| PeekMut::pop(first).0.1)
    }

    /// Counts the arrival of a packet, by its number, or of a copy.
    #[inline]
    pub(super) fn arrived(&mut self, number: u64, is_copy: bool) {
        self.counters.arrived += 1;
        if !is_copy {
            self.counters.reordered += u64::from(number < self.latest);
            self.latest = self.latest.max(number);
        }
    }
}

/// Something that happens at some packets.
#[derive(Debug)]
struct Chance {
    /// Of 2^53.
    threshold: u64,
    stream: Xoshiro256PlusPlus,
}

impl Chance {
    fn new(chance: f64, stream: Xoshiro256PlusPlus) -> Chance {
        Chance { threshold: threshold(chance), stream }
    }

    #[inline(always)]
    fn hits(&mut self) -> bool {
        self.threshold != 0 && hits(&mut self.stream, self.threshold)
    }

    /// A number below `n`.
    fn below(&mut self, n: u64) -> u64 {
        below(&mut self.stream, n.into())
    }
}

/// A chance in parts of 2^53, of which an f64 has every one; one that is no number is none.
fn threshold(chance: f64) -> u64 {
    (chance.clamp(0.0, 1.0) * (1_u64 << 53) as f64) as u64
}

#[inline(always)]
fn hits(stream: &mut Xoshiro256PlusPlus, threshold: u64) -> bool {
    stream.next_u64() >> 11 < threshold
}

/// A number below `n`, evenly but for `n` parts in 2^64.
#[inline(always)]
fn below(stream: &mut Xoshiro256PlusPlus, n: u128) -> u64 {
    ((u128::from(stream.next_u64()) * n) >> 64) as u64
}

/// Gilbert and Elliott's two states.
#[derive(Debug)]
struct BurstState {
    enter: u64,
    leave: u64,
    loss: u64,
    is_bad: bool,
    stream: Xoshiro256PlusPlus,
}

impl BurstState {
    fn new(burst: LossBurst, stream: Xoshiro256PlusPlus) -> BurstState {
        let [enter, leave, loss] = [burst.enter, burst.leave, burst.loss].map(threshold);
        BurstState { enter, leave, loss, is_bad: false, stream }
    }

    #[inline(always)]
    fn loses(&mut self) -> bool {
        self.is_bad ^= hits(&mut self.stream, if self.is_bad { self.leave } else { self.enter });
        self.is_bad && hits(&mut self.stream, self.loss)
    }
}

#[derive(Debug)]
struct Jitter {
    most_ns: u64,
    stream: Xoshiro256PlusPlus,
}

impl Jitter {
    #[inline(always)]
    fn draw(&mut self) -> u64 {
        if self.most_ns == 0 { 0 } else { below(&mut self.stream, u128::from(self.most_ns) + 1) }
    }
}

/// Ranges in order, none of which touches another.
#[derive(Debug)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    fn new(ranges: &[Range<u64>]) -> Ranges {
        let mut ranges: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, range| {
            let touches = next.start <= range.end;
            if touches {
                range.end = range.end.max(next.end);
            }
            touches
        });
        Ranges(ranges)
    }

    #[inline]
    fn contains(&self, value: u64) -> bool {
        // Most lines have none.
        !self.0.is_empty() && {
            let first = self.0.partition_point(|range| range.end <= value);
            self.0.get(first).is_some_and(|range| range.start <= value)
        }
    }
}
