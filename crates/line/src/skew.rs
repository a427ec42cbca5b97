//! By how much the lines differ: of each packet whose messages came on several lines, how much later than the first copy
//! each other line brought its own.
//!
//! Times are those of arrival, not the order in which packets were read: where a copy that was read second had arrived
//! first, it is the other line that lags.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;

use barewire_types::UnixNanos;

use crate::MAX_LINES;

/// Packets that are remembered: a line that lags further behind is not measured.
const REMEMBERED: usize = 1024;
/// Buckets for each doubling, as a power of two: a bucket is at most a quarter as wide as its lower end.
const SUB_BITS: u32 = 2;
const SUBS: usize = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize) * SUBS + SUBS;

/// How often which lag was seen.
#[derive(Clone, Debug)]
pub struct Lags {
    buckets: [u64; BUCKETS],
    count: u64,
    max_ns: u64,
}

impl Default for Lags {
    fn default() -> Self {
        Lags { buckets: [0; BUCKETS], count: 0, max_ns: 0 }
    }
}

impl Lags {
    #[inline]
    fn bucket(ns: u64) -> usize {
        let octave = (64 - SUB_BITS).saturating_sub((ns | (SUBS as u64 - 1)).leading_zeros()) as usize;
        match octave {
            0 => ns as usize,
            _ => octave * SUBS + (ns >> (octave - 1)) as usize % SUBS,
        }
    }

    /// The least lag of a bucket, ns.
    fn lower(bucket: usize) -> u64 {
        match bucket / SUBS {
            0 => bucket as u64,
            octave => ((SUBS + bucket % SUBS) as u64) << (octave - 1),
        }
    }

    #[inline]
    pub(crate) fn record(&mut self, ns: u64) {
        if let Some(bucket) = self.buckets.get_mut(Self::bucket(ns)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// How many packets were measured.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The greatest lag, ns; 0 where there is none.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The lag that so many of a thousand do not exceed, ns, at most a quarter too great; 0 where there is none.
    pub fn per_mille(&self, per_mille: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(per_mille.min(1000))).div_ceil(1000) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let last = if bucket + 1 < BUCKETS { Self::lower(bucket + 1) - 1 } else { u64::MAX };
                return last.min(self.max_ns);
            }
        }
        0
    }

    /// The buckets that are not empty: the least lag that falls into each, ns, and how many did.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        self.buckets.iter().enumerate().filter(|(_, count)| **count > 0).map(|(n, count)| (Self::lower(n), *count))
    }
}

/// A packet that brought something new.
#[derive(Clone, Copy)]
struct First {
    /// One past its last number.
    end: u64,
    at: UnixNanos,
    line: u8,
}

/// The newest packets that brought something new, and how far behind them each line is.
pub(crate) struct Skew {
    /// As many as a power of two, so that a place is found by a mask.
    firsts: Box<[First]>,
    /// How many there have been.
    count: u64,
    /// Where each line has come to.
    cursors: [u64; MAX_LINES],
    lags: Box<[Lags]>,
}

impl Skew {
    pub(crate) fn new() -> Skew {
        let never = First { end: 0, at: UnixNanos::ABSENT, line: 0 };
        Skew {
            firsts: vec![never; REMEMBERED].into_boxed_slice(),
            count: 0,
            cursors: [0; MAX_LINES],
            lags: vec![Lags::default(); MAX_LINES].into_boxed_slice(),
        }
    }

    pub(crate) fn lags(&self) -> &[Lags] {
        &self.lags
    }

    /// Another session: its numbers begin anew.
    pub(crate) fn restart(&mut self) {
        self.cursors = [self.count; MAX_LINES];
    }

    /// Messages up to `end` came for the first time.
    #[inline]
    pub(crate) fn first(&mut self, end: u64, at: UnixNanos, line: u8) {
        if let Some(first) = self.firsts.get_mut(self.count as usize % REMEMBERED) {
            *first = First { end, at, line };
        }
        self.count += 1;
    }

    /// Messages up to `end` came again.
    #[inline]
    pub(crate) fn again(&mut self, end: u64, at: UnixNanos, line: u8) {
        let Some(cursor) = self.cursors.get_mut(usize::from(line)) else { return };
        *cursor = (*cursor).max(self.count.saturating_sub(REMEMBERED as u64));
        while *cursor < self.count {
            let Some(first) = self.firsts.get(*cursor as usize % REMEMBERED) else { return };
            if first.end >= end {
                let first = (first.at, first.line);
                self.differ(first, (at, line));
                return;
            }
            *cursor += 1;
        }
    }

    /// The same came twice: when and on which line. The one that arrived later lags.
    #[inline]
    pub(crate) fn differ(&mut self, one: (UnixNanos, u8), other: (UnixNanos, u8)) {
        if one.1 == other.1 || one.0 == UnixNanos::ABSENT || other.0 == UnixNanos::ABSENT {
            return;
        }
        let late = if other.0 >= one.0 { other.1 } else { one.1 };
        if let Some(lags) = self.lags.get_mut(usize::from(late)) {
            lags.record(one.0.0.abs_diff(other.0.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A bucket holds what lies between its lower end and the next one's, and is at most a quarter wide.
        #[test]
        fn a_lag_is_in_its_bucket(ns in prop_oneof![any::<u64>(), 0u64..1000, Just(u64::MAX)]) {
            let bucket = Lags::bucket(ns);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(Lags::lower(bucket) <= ns);
            if bucket + 1 < BUCKETS {
                let next = Lags::lower(bucket + 1);
                prop_assert!(ns < next);
                prop_assert!(next - Lags::lower(bucket) <= (Lags::lower(bucket) / 4).max(1));
            }
        }

        #[test]
        fn percentiles_bound_what_was_seen(mut seen in prop::collection::vec(0u64..1 << 40, 1..200), per_mille in 1u64..=1000) {
            let mut lags = Lags::default();
            seen.iter().for_each(|ns| lags.record(*ns));
            seen.sort_unstable();
            let exact = seen[(seen.len() as u64 * per_mille).div_ceil(1000) as usize - 1];
            let found = lags.per_mille(per_mille);
            prop_assert!(found >= exact && found <= exact + exact / 4 + 1, "{found} for {exact}");
            prop_assert_eq!(lags.buckets().map(|(_, count)| count).sum::<u64>(), seen.len() as u64);
        }
    }

    #[test]
    fn the_line_that_arrived_later_lags() {
        let mut skew = Skew::new();
        skew.first(10, UnixNanos(1_000), 0);
        skew.first(20, UnixNanos(2_000), 0);
        skew.again(10, UnixNanos(1_300), 1);
        // Read later, but it had arrived before A's.
        skew.again(15, UnixNanos(1_900), 1);
        skew.again(20, UnixNanos(2_000), 0);
        let lags = skew.lags();
        assert_eq!((lags[0].count(), lags[0].max_ns()), (1, 100));
        assert_eq!((lags[1].count(), lags[1].max_ns()), (1, 300));
    }
}
