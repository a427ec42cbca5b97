//! How far a feed's receive times may be off, as of now: what is told of it, and when.
//!
//! Two bounds make it up: the clock that stamps against the system's, which the receive path knows, and the system's
//! against UTC, which the kernel says (`adjtimex`). Packets say by which clock they were stamped; of several, the least
//! good counts. A worse clock is told at once; a better one when nothing else was seen for a while, so that one packet in
//! ten that a card did not stamp does not make a feed tell of two clocks ten times a second.

use std::sync::atomic::{AtomicU64, Ordering};

use barewire_io::Clocks;
use barewire_io::clock::discipline::system_clock;
use barewire_types::TsSource;

/// Looks at which only better clocks were seen before they are believed.
const PATIENCE: u32 = 10;
/// Between two questions to the kernel, ns.
const ASK_EVERY_NS: u64 = 1_000_000_000;

/// What somebody says of the system's clock who knows more of it than the kernel: who asks its PTP daemon, say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Nobody says anything.
    #[default]
    None = 0,
    /// It follows its site's grandmaster.
    Synchronised = 1,
    /// It follows nobody, and cannot have drifted far yet.
    Holdover = 2,
    /// It may be further off than is good.
    Degraded = 3,
    /// It may be anywhere.
    Lost = 4,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 5] =
        [Verdict::None, Verdict::Synchronised, Verdict::Holdover, Verdict::Degraded, Verdict::Lost];

    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::None => "unjudged",
            Verdict::Synchronised => "synchronised",
            Verdict::Holdover => "holdover",
            Verdict::Degraded => "degraded",
            Verdict::Lost => "lost",
        }
    }

    /// What a record has in `reason`.
    pub(crate) const fn letters(self) -> [u8; 4] {
        match self {
            Verdict::None => *b"    ",
            Verdict::Synchronised => *b"SYNC",
            Verdict::Holdover => *b"HOLD",
            Verdict::Degraded => *b"DEGR",
            Verdict::Lost => *b"LOST",
        }
    }

    /// Whether times by such a clock are flagged.
    pub(crate) const fn is_bad(self) -> bool {
        matches!(self, Verdict::Degraded | Verdict::Lost)
    }
}

/// A verdict, from another thread to the feed's.
#[derive(Debug, Default)]
pub struct Judgement(AtomicU64);

impl Judgement {
    const BOUND_BITS: u32 = 61;
    const UNKNOWN: u64 = (1 << Judgement::BOUND_BITS) - 1;

    /// Says how the system's clock is, and how far it may be off, ns either way; `None` where that is not known.
    pub fn say(&self, verdict: Verdict, bound_ns: Option<u64>) {
        let bound = bound_ns.map_or(Judgement::UNKNOWN, |bound| bound.min(Judgement::UNKNOWN - 1));
        self.0.store((verdict as u64) << Judgement::BOUND_BITS | bound, Ordering::Relaxed);
    }

    /// What was said last; 2^64-1 for a bound that is not known.
    pub(crate) fn get(&self) -> (Verdict, u64) {
        let word = self.0.load(Ordering::Relaxed);
        let verdict = Verdict::ALL.get((word >> Judgement::BOUND_BITS) as usize).copied().unwrap_or_default();
        let bound = word & Judgement::UNKNOWN;
        (verdict, if bound == Judgement::UNKNOWN { u64::MAX } else { bound })
    }
}

/// By which clock packets are stamped, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// The clock.
    pub source: TsSource,
    /// How far its times may be from the system's clock, ns either way; 2^64-1 where that is not known.
    pub bound_ns: u64,
    /// How far the system's clock may be from UTC, ns either way, as its judge says or else the kernel; 2^64-1 where they
    /// do not know.
    pub utc_bound_ns: u64,
    /// What its judge says of the system's clock.
    pub verdict: Verdict,
}

impl ClockState {
    /// Nothing is known.
    pub const UNKNOWN: ClockState =
        ClockState { source: TsSource::None, bound_ns: u64::MAX, utc_bound_ns: u64::MAX, verdict: Verdict::None };

    /// How far receive times may be from UTC, ns either way; 2^64-1 where that is not known.
    pub fn total_ns(&self) -> u64 {
        self.bound_ns.saturating_add(self.utc_bound_ns)
    }

    /// Whether it is worth a record, where `self` was told last.
    fn differs(&self, now: &ClockState) -> bool {
        let (before, after) = (self.total_ns(), now.total_ns());
        let other = self.source != now.source || self.verdict != now.verdict;
        other || after > before.saturating_mul(2) || before > after.saturating_mul(2)
    }
}

/// Watches a feed's clocks.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    /// Bits: `1 << ts_source` of what came since the last look.
    seen: u8,
    source: TsSource,
    /// Looks in a row at which only better clocks were seen, and the least good of them.
    better: u32,
    candidate: TsSource,
    utc_bound_ns: u64,
    ask_at: u64,
    told: Option<ClockState>,
}

impl ClockWatch {
    /// A watch that has seen nothing; `expected` is the clock that the receive path was opened with.
    pub(crate) fn new(expected: TsSource) -> ClockWatch {
        ClockWatch {
            seen: 0,
            source: expected,
            better: 0,
            candidate: TsSource::None,
            utc_bound_ns: u64::MAX,
            ask_at: 0,
            told: None,
        }
    }

    /// A packet came. Three instructions.
    #[inline(always)]
    pub(crate) fn saw(&mut self, source: TsSource) {
        self.seen |= 1 << source as u8;
    }

    /// Asks the kernel about its clock where that is due: a system call a second. `now` is a monotonic clock's.
    pub(crate) fn ask(&mut self, now: u64) {
        if now < self.ask_at {
            return;
        }
        self.ask_at = now.saturating_add(ASK_EVERY_NS);
        self.utc_bound_ns = match system_clock() {
            Ok(clock) if clock.synchronised => clock.max_error_us.saturating_mul(1_000),
            _ => u64::MAX,
        };
    }

    /// Looks at what came since the last look: how it is now, and whether that is worth a record.
    pub(crate) fn look(&mut self, clocks: Clocks, judgement: &Judgement) -> (ClockState, bool) {
        let seen = std::mem::take(&mut self.seen);
        if let Some(worst) = worst(seen) {
            if rank(worst) > rank(self.source) {
                (self.source, self.better) = (worst, 0);
            } else if worst == self.source {
                self.better = 0;
            } else {
                let is_worse = self.better == 0 || rank(worst) > rank(self.candidate);
                self.candidate = if is_worse { worst } else { self.candidate };
                self.better += 1;
                if self.better >= PATIENCE {
                    (self.source, self.better) = (self.candidate, 0);
                }
            }
        }
        let bound_ns = clocks.bound_ns(self.source);
        let (verdict, judged_ns) = judgement.get();
        let utc_bound_ns = if verdict == Verdict::None { self.utc_bound_ns } else { judged_ns };
        let state = ClockState { source: self.source, bound_ns, utc_bound_ns, verdict };
        let tell = self.told.is_none_or(|told| told.differs(&state));
        if tell {
            self.told = Some(state);
        }
        (state, tell)
    }
}

/// The less good a clock, the higher. A capture switch's stamp is the best there is of the moment, and nothing is known of
/// its error.
const fn rank(source: TsSource) -> u8 {
    match source {
        TsSource::Nic => 0,
        TsSource::Kernel => 1,
        TsSource::User => 2,
        TsSource::Capture => 3,
        TsSource::None => 4,
    }
}

fn worst(seen: u8) -> Option<TsSource> {
    [TsSource::None, TsSource::Capture, TsSource::User, TsSource::Kernel, TsSource::Nic]
        .into_iter()
        .find(|source| seen & 1 << *source as u8 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCKS: Clocks = Clocks { source: TsSource::Nic, nic_bound_ns: 300, user_bound_ns: 90 };

    #[test]
    fn a_worse_clock_is_told_at_once_and_a_better_one_when_it_stays() {
        let mut watch = ClockWatch::new(TsSource::Nic);
        let mut look = |sources: &[TsSource]| {
            sources.iter().for_each(|source| watch.saw(*source));
            let (state, told) = watch.look(CLOCKS, &Judgement::default());
            (state.source, state.bound_ns, told)
        };
        assert_eq!(look(&[]), (TsSource::Nic, 300, true));
        assert_eq!(look(&[TsSource::Nic]), (TsSource::Nic, 300, false));
        assert_eq!(look(&[TsSource::Nic, TsSource::Kernel, TsSource::Nic]), (TsSource::Kernel, 0, true));
        for _ in 1..PATIENCE {
            assert_eq!(look(&[TsSource::Nic]), (TsSource::Kernel, 0, false));
            assert_eq!(look(&[]), (TsSource::Kernel, 0, false));
        }
        assert_eq!(look(&[TsSource::Nic]), (TsSource::Nic, 300, true));
        for _ in 0..3 * PATIENCE {
            look(&[TsSource::User]);
            assert_eq!(look(&[TsSource::Nic]), (TsSource::User, 90, false));
        }
        assert_eq!(look(&[TsSource::Capture]), (TsSource::Capture, u64::MAX, true));
    }

    #[test]
    fn a_bound_is_told_when_it_doubles_or_halves() {
        let mut watch = ClockWatch::new(TsSource::Nic);
        watch.utc_bound_ns = 700;
        let unjudged = Judgement::default();
        let mut told = |nic_bound_ns| watch.look(Clocks { nic_bound_ns, ..CLOCKS }, &unjudged).1;
        assert_eq!([300, 1_300, 1_301, 1_000, 300, 299].map(&mut told), [true, false, true, false, true, false]);
        // Once unknown, it is told once.
        assert_eq!([u64::MAX, u64::MAX, 300].map(told), [true, false, true]);
    }

    #[test]
    fn a_judge_is_believed_before_the_kernel() {
        let (mut watch, judgement) = (ClockWatch::new(TsSource::Nic), Judgement::default());
        watch.utc_bound_ns = 9_000;
        let mut look = || {
            let (state, told) = watch.look(CLOCKS, &judgement);
            (state.verdict, state.utc_bound_ns, told)
        };
        assert_eq!(look(), (Verdict::None, 9_000, true));
        for (verdict, bound_ns, expected) in [
            (Verdict::Synchronised, Some(400), (Verdict::Synchronised, 400, true)),
            (Verdict::Synchronised, Some(500), (Verdict::Synchronised, 500, false)),
            (Verdict::Degraded, Some(500), (Verdict::Degraded, 500, true)),
            (Verdict::Lost, None, (Verdict::Lost, u64::MAX, true)),
            (Verdict::Lost, Some(u64::MAX), (Verdict::Lost, (1 << 61) - 2, true)),
            (Verdict::None, None, (Verdict::None, 9_000, true)),
        ] {
            judgement.say(verdict, bound_ns);
            assert_eq!(look(), expected);
        }
    }

    #[test]
    fn what_the_kernel_says_of_its_clock_is_asked_once_a_second() {
        let mut watch = ClockWatch::new(TsSource::User);
        watch.ask(5);
        let asked = watch.utc_bound_ns;
        let expected = system_clock().ok().filter(|clock| clock.synchronised);
        assert_eq!(asked == u64::MAX, expected.is_none());
        watch.utc_bound_ns = 1;
        watch.ask(ASK_EVERY_NS + 4);
        assert_eq!(watch.utc_bound_ns, 1);
        watch.ask(ASK_EVERY_NS + 5);
        assert_eq!(watch.utc_bound_ns == u64::MAX, expected.is_none());
    }
}
