//! The arithmetic of a counter that follows a clock: anchors, rates, corrections without a step back, bounds.
//!
//! A timeline is two straight lines. The second is the best that is known of the clock; the first leads to it from where
//! the timeline stood when it was corrected, so that what was read before is never read again: forward at once, backward
//! by running slower for a while. All of it is integers: a rate is nanoseconds a tick in units of 2^-48.

/// The unit of a rate.
const ONE: u32 = 48;
/// By how much slower than the clock a timeline runs that is ahead of it: one part in 2,048, 488 ppm.
const SLEW_SHIFT: u32 = 11;

/// One reading of the counter and the clock together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The counter.
    pub(crate) ticks: u64,
    /// The clock at that count, nanoseconds.
    pub(crate) ns: u64,
    /// How far `ns` may be off, nanoseconds either way.
    pub(crate) bound_ns: u64,
}

/// Nanoseconds a tick, in units of 2^-48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) u64);

impl Rate {
    /// The rate between two anchors, and by how many parts in a thousand million it may be off. `None` where the counter
    /// or the clock stood still or went back, or where the rate is none that a counter has: 1 MHz to 100 GHz.
    pub(crate) fn between(from: Anchor, to: Anchor) -> Option<(Rate, u64)> {
        let ticks = to.ticks.checked_sub(from.ticks).filter(|ticks| *ticks > 0)?;
        let ns = to.ns.checked_sub(from.ns).filter(|ns| *ns > 0)?;
        let rate = u64::try_from((u128::from(ns) << ONE) / u128::from(ticks)).ok()?;
        if !((1 << ONE) / 100..=1000 << ONE).contains(&rate) {
            return None;
        }
        let off = u128::from(from.bound_ns) + u128::from(to.bound_ns);
        Some((Rate(rate), u64::try_from(off * 1_000_000_000 / u128::from(ns)).unwrap_or(u64::MAX)))
    }

    /// How many parts in a thousand million another rate differs.
    pub(crate) fn differs_ppb(self, other: Rate) -> u64 {
        let difference = u128::from(self.0.abs_diff(other.0)) * 1_000_000_000 / u128::from(self.0.max(1));
        u64::try_from(difference).unwrap_or(u64::MAX)
    }

    /// Ticks a second.
    pub(crate) fn frequency_hz(self) -> u64 {
        u64::try_from((1_000_000_000u128 << ONE) / u128::from(self.0.max(1))).unwrap_or(u64::MAX)
    }

    /// So many ticks in nanoseconds, rounded up.
    pub(crate) fn ns(self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.0)).div_ceil(1 << ONE)).unwrap_or(u64::MAX)
    }
}

/// A straight line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    ticks: u64,
    ns: u64,
    rate: Rate,
}

impl Line {
    #[inline(always)]
    fn at(self, ticks: u64) -> u64 {
        let elapsed = i128::from(ticks.wrapping_sub(self.ticks) as i64);
        self.ns.wrapping_add_signed(((elapsed * i128::from(self.rate.0)) >> ONE) as i64)
    }
}

/// Turns counts into times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// Until the count `meeting`.
    before: Line,
    /// From there on.
    after: Line,
    meeting: u64,
    /// What `after` rests on.
    anchor: Anchor,
    /// By how much it may go wrong beyond the anchor's bound, parts in a thousand million.
    growth_ppb: u64,
}

impl Timeline {
    /// A timeline through an anchor. `growth_ppb`: how far rate and clock may go apart from now on.
    pub(crate) fn new(anchor: Anchor, rate: Rate, growth_ppb: u64) -> Timeline {
        let line = Line { ticks: anchor.ticks, ns: anchor.ns, rate };
        Timeline { before: line, after: line, meeting: anchor.ticks, anchor, growth_ppb }
    }

    /// The time at a count.
    #[inline(always)]
    pub(crate) fn at(&self, ticks: u64) -> u64 {
        if ticks.wrapping_sub(self.meeting) as i64 >= 0 { self.after.at(ticks) } else { self.before.at(ticks) }
    }

    /// How far the time at a count may be from the clock's, nanoseconds either way, as long as nobody steps the clock.
    pub(crate) fn bound(&self, ticks: u64) -> u64 {
        let elapsed_ticks = (ticks.wrapping_sub(self.anchor.ticks) as i64).unsigned_abs();
        let elapsed = (u128::from(elapsed_ticks) * u128::from(self.after.rate.0)) >> ONE;
        let growth = (elapsed * u128::from(self.growth_ppb)).div_ceil(1_000_000_000);
        // Where it still runs slower, or was before it was corrected.
        let ahead = self.at(ticks).abs_diff(self.after.at(ticks));
        // Two for the divisions that round down.
        let bound = u128::from(self.anchor.bound_ns) + growth + u128::from(ahead) + 2;
        u64::try_from(bound).unwrap_or(u64::MAX)
    }

    /// The rate that it follows when it is not being corrected.
    pub(crate) fn rate(&self) -> Rate {
        self.after.rate
    }

    /// Follows a new anchor at a new rate from the count `now` on, which nothing was read after.
    pub(crate) fn correct(&mut self, anchor: Anchor, rate: Rate, growth_ppb: u64, now: u64) {
        let stood = self.at(now);
        let after = Line { ticks: anchor.ticks, ns: anchor.ns, rate };
        let slower = Rate(rate.0 - (rate.0 >> SLEW_SHIFT));
        let before = Line { ticks: now, ns: stood, rate: slower };
        let ahead = (stood.wrapping_sub(after.at(now)) as i64).max(0).unsigned_abs();
        // They draw nearer by so much a tick.
        let ticks = (u128::from(ahead) << ONE).div_ceil(u128::from((rate.0 - slower.0).max(1)));
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::MAX >> 2);
        let meeting = now.wrapping_add(ticks);
        // Where the lines meet, they differ by what was rounded: the second begins no earlier than the first ended.
        let lag = before.at(meeting).saturating_sub(after.at(meeting));
        let after = Line { ns: after.ns.wrapping_add(if ahead == 0 { 0 } else { lag }), ..after };
        *self = Timeline { before, after, meeting, anchor, growth_ppb };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A clock with a history: its time at any count, as exactly as integers allow.
    struct World {
        /// (first tick, its time in 2^-20 ns, rate in 2^-20 ns a tick)
        legs: Vec<(u64, u128, u128)>,
    }

    const START: u64 = 1_700_000_000_000_000_000;

    impl World {
        fn at(&self, ticks: u64) -> u64 {
            let leg = self.legs.iter().rev().find(|leg| leg.0 <= ticks).unwrap();
            ((leg.1 + u128::from(ticks - leg.0) * leg.2) >> 20) as u64
        }

        fn turn(&mut self, ticks: u64, rate: u128, step_ns: i64) {
            let ns = u128::from(self.at(ticks).wrapping_add_signed(step_ns)) << 20;
            self.legs.push((ticks, ns, rate));
        }
    }

    proptest! {
        /// Whatever the counter's rate, the clock's drift up to 500 ppm, its steps and the readings' jitter: no reading is
        /// ever below an earlier one, and as long as nobody steps the clock or steers it by more than was allowed for,
        /// every reading is within its bound.
        #[test]
        fn never_back_and_within_its_bound(
            khz in 1_100u64..5_000_000,
            first_ticks in prop_oneof![Just(0), any::<u32>().prop_map(u64::from), (1u64 << 62)..(1u64 << 63)],
            base_ppm in -500i64..=500,
            legs in prop::collection::vec(
                (1u64..3_000, -1_000i64..=1_000, 0u64..200, -1.0f64..1.0, prop_oneof![4 => Just(0i64), 1 => -5_000_000i64..5_000_000]),
                2..12,
            ),
        ) {
            const WANDER_PPB: i64 = 1_000;
            let nominal = (1_000_000u128 << 20) / u128::from(khz);
            // A rate of so many parts in a thousand million beside the nominal one, rounded to 2^-20 ns a tick.
            let rate = |ppb: i64| (nominal as i128 * (1_000_000_000 + i128::from(ppb)) / 1_000_000_000) as u128;
            // What rounding a rate to 2^-20 does to it counts as steering, too.
            let rounding = 2_000_000_000 / nominal as u64 + 1;
            let mut world = World { legs: vec![(first_ticks, u128::from(START) << 20, rate(base_ppm * 1_000))] };
            let second = khz * 1_000;
            let anchor = |world: &World, ticks: u64, bound: u64, off: f64| Anchor {
                ticks,
                ns: world.at(ticks).wrapping_add_signed((bound as f64 * off) as i64),
                bound_ns: bound + 1,
            };
            let (a, b) = (anchor(&world, first_ticks, 50, 0.3), anchor(&world, first_ticks + second / 50, 50, -0.9));
            let (first, off) = Rate::between(a, b).unwrap();
            let allowed = 2 * WANDER_PPB as u64 + rounding;
            let mut line = Timeline::new(b, first, off + allowed);
            let (mut ticks, mut last, mut previous, mut stepped) = (b.ticks, line.at(b.ticks), b, false);
            for (ms, wander_ppb, bound, off, step) in legs {
                world.turn(ticks, rate(base_ppm * 1_000 + wander_ppb.clamp(-WANDER_PPB, WANDER_PPB)), step);
                stepped |= step != 0;
                let leg = second * ms / 1_000;
                for part in 0..=20 {
                    let now = ticks + leg / 20 * part;
                    let read = line.at(now);
                    prop_assert!(read >= last, "{read} after {last}");
                    last = read;
                    if !stepped {
                        let (error, bound) = (read.abs_diff(world.at(now)), line.bound(now));
                        prop_assert!(error <= bound, "{error} ns off, {bound} promised");
                    }
                }
                ticks += leg / 20 * 20;
                let next = anchor(&world, ticks, bound, off);
                let measured = if stepped { None } else { Rate::between(previous, next) };
                let (rate, off) = match measured.filter(|_| ms >= 100) {
                    Some(measured) => measured,
                    None => (line.rate(), 3_000_000),
                };
                let read = line.at(ticks);
                line.correct(next, rate, off + allowed, ticks);
                prop_assert!(line.at(ticks) >= read);
                last = read;
                // From the reading on, the bound tells what is left of a step backwards, too.
                stepped = false;
                previous = next;
                prop_assert!(line.at(ticks).abs_diff(world.at(ticks)) <= line.bound(ticks));
            }
        }

        /// Any two anchors: an answer or none, never a panic.
        #[test]
        fn nonsense_has_no_rate(ticks in any::<[u64; 2]>(), ns in any::<[u64; 2]>(), bound_ns in any::<u64>()) {
            let from = Anchor { ticks: ticks[0], ns: ns[0], bound_ns };
            let to = Anchor { ticks: ticks[1], ns: ns[1], bound_ns };
            if let Some((rate, _)) = Rate::between(from, to) {
                prop_assert!(ticks[1] > ticks[0] && ns[1] > ns[0]);
                prop_assert!((1_000_000..=100_000_000_000).contains(&rate.frequency_hz()));
                let mut line = Timeline::new(to, rate, bound_ns);
                line.correct(from, rate, bound_ns, ticks[1]);
                line.bound(ticks[0]);
            }
        }
    }

    /// Ahead by a microsecond: slower by 488 ppm for two milliseconds, and then on the clock.
    #[test]
    fn what_is_ahead_waits() {
        let rate = Rate(1 << ONE);
        let mut line = Timeline::new(Anchor { ticks: 0, ns: START, bound_ns: 0 }, rate, 0);
        line.correct(Anchor { ticks: 1_000, ns: START, bound_ns: 0 }, rate, 0, 1_000);
        let (at, bound) = (line.at(1_000), line.bound(1_000));
        assert_eq!((at, bound), (START + 1_000, 1_002));
        let half = line.bound(1_000 + 1_024_000);
        assert!((500..=504).contains(&half), "{half}");
        assert!(line.bound(1_000 + 2_048_000) <= 3);
        assert!(line.at(3_000_000) - (START + 2_999_000) <= 1);
        // Behind: at once.
        line.correct(Anchor { ticks: 3_000_000, ns: START + 4_000_000, bound_ns: 5 }, rate, 0, 3_000_000);
        assert_eq!((line.at(3_000_000), line.bound(3_000_000)), (START + 4_000_000, 7));
    }
}
