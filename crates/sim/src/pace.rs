//! When messages are due.
//!
//! The schedule is open-loop: message n is due at a fixed time after the start, whatever became of those before it. Who
//! falls behind finds more messages due at once, and neither skips nor shifts any of them.

const SECOND: u64 = 1_000_000_000;

/// The greatest rate that can be asked for, in messages a second.
pub const MAX_RATE: u64 = 1_000_000_000;

/// How quickly a session is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As quickly as it can be.
    Max,
    /// By a schedule.
    Rate {
        /// Messages a second, 1 to [`MAX_RATE`].
        per_second: u64,
        /// Periods of a higher rate.
        burst: Option<Burst>,
    },
}

impl Pace {
    /// So many messages a second, evenly.
    pub const fn per_second(per_second: u64) -> Pace {
        Pace::Rate { per_second, burst: None }
    }

    /// Whether every value is within its range.
    pub(crate) fn is_valid(&self) -> bool {
        match *self {
            Pace::Max => true,
            Pace::Rate { per_second, burst } => {
                let peak = burst.map_or(1, |burst| u64::from(burst.factor)).saturating_mul(per_second);
                per_second > 0 && peak <= MAX_RATE && burst.is_none_or(|burst| burst.is_valid())
            }
        }
    }
}

/// A higher rate for the first part of every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How many times the usual rate, at least 1. The peak may not exceed [`MAX_RATE`].
    pub factor: u32,
    /// How long it lasts, ns.
    pub length_ns: u64,
    /// From the beginning of one to the beginning of the next, ns; at least `length_ns`.
    pub every_ns: u64,
}

impl Burst {
    fn is_valid(&self) -> bool {
        self.factor >= 1 && self.length_ns >= 1 && self.length_ns <= self.every_ns
    }

    /// How much of the first `ns` lies in bursts.
    fn within(&self, ns: u64) -> u64 {
        (ns / self.every_ns) * self.length_ns + (ns % self.every_ns).min(self.length_ns)
    }
}

/// A pace that has been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule(pub(crate) Pace);

impl Schedule {
    /// How many messages are due `ns` after the start.
    #[inline]
    pub(crate) fn due(&self, ns: u64) -> u64 {
        match self.0 {
            Pace::Max => u64::MAX,
            Pace::Rate { per_second, burst } => {
                let more = burst.map_or(0, |burst| at(burst.within(ns), per_second * u64::from(burst.factor - 1)));
                at(ns, per_second) + more
            }
        }
    }

    /// When so many messages are due: the earliest ns after the start.
    pub(crate) fn when(&self, messages: u64) -> u64 {
        match self.0 {
            Pace::Max => 0,
            Pace::Rate { per_second, .. } => {
                // Without bursts it would be then; with them, not later.
                let (whole, rest) = (messages / per_second, messages % per_second);
                let mut high = whole * SECOND + (rest * SECOND).div_ceil(per_second);
                let mut low = 0;
                if self.due(high.saturating_sub(1)) < messages {
                    return high;
                }
                while low < high {
                    let middle = low + (high - low) / 2;
                    if self.due(middle) < messages { low = middle + 1 } else { high = middle }
                }
                low
            }
        }
    }
}

/// Messages in so many ns at a rate. Exact, and without overflow up to [`MAX_RATE`].
fn at(ns: u64, per_second: u64) -> u64 {
    (ns / SECOND) * per_second + (ns % SECOND) * per_second / SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_and_when_are_inverse() {
        let burst = Burst { factor: 10, length_ns: 10_000_000, every_ns: SECOND };
        let paces = [
            Pace::per_second(1),
            Pace::per_second(999_983),
            Pace::per_second(MAX_RATE),
            Pace::Rate { per_second: 1_000_000, burst: Some(burst) },
            Pace::Rate { per_second: 3, burst: Some(Burst { factor: 7, length_ns: SECOND, every_ns: SECOND }) },
        ];
        for pace in paces {
            assert!(pace.is_valid());
            let schedule = Schedule(pace);
            for messages in [1, 2, 3, 1_000, 77_777, 1_090_001, 5_000_000, 1_000_000_007] {
                let when = schedule.when(messages);
                assert!(schedule.due(when) >= messages, "{pace:?} {messages}");
                assert!(when == 0 || schedule.due(when - 1) < messages, "{pace:?} {messages}");
            }
        }
        // A second with a burst of 10 ms at ten times the rate.
        assert_eq!(Schedule(paces[3]).due(SECOND), 1_090_000);
        assert_eq!(Schedule(paces[3]).due(5_000_000), 50_000);
        assert_eq!(Schedule(Pace::Max).due(0), u64::MAX);
    }

    #[test]
    fn impossible_paces_are_not_valid() {
        let burst = |factor, length_ns, every_ns| Pace::Rate {
            per_second: 1_000_000,
            burst: Some(Burst { factor, length_ns, every_ns }),
        };
        for pace in [
            Pace::per_second(0),
            Pace::per_second(MAX_RATE + 1),
            burst(0, 1, 1),
            burst(1_001, 1, 1),
            burst(2, 0, 1),
            burst(2, 2, 1),
        ] {
            assert!(!pace.is_valid(), "{pace:?}");
        }
    }
}
