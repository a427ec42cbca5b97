//! The time of day by the processor's counter: read in some ten nanoseconds, without a system call, with a known error.
//!
//! The counter follows the system's clock (CLOCK_REALTIME): its rate is measured against it at the start, and again
//! whenever the owner [recalibrates](TscClock::recalibrate), which it should do about once a second, since the system's
//! clock is itself steered by NTP or PTP. CLOCK_MONOTONIC_RAW, which nobody steers, tells a counter that loses its rate
//! from a clock that was stepped.
//!
//! What one thread reads never goes back (of readings that are not [ordered](TscClock::now_ordered) no processor promises
//! it, and all keep it). A clock found ahead runs slower (488 ppm) until it is right again; one found behind is
//! set forward at once. Where the system's clock was itself set back, that takes long; the bound says how far it is off,
//! [`Recalibration::stepped_ns`] that it happened, and a new [`TscClock`] begins at the new time.
//!
//! **The bound** is to the system's clock, not to UTC: add [`discipline`](super::discipline)'s own. It holds while nobody
//! steps the system's clock, nor steers its rate by more than [`TscOptions::steering_ppb`] between two calibrations;
//! each calibration checks the one before ([`Recalibration::kept`]). Nothing here sets a clock.

use std::time::Duration;

use barewire_types::UnixNanos;

use super::counter;
pub use super::counter::NoCounter;
use super::timeline::{Anchor, Rate, Timeline};
use super::{Bounded, now, read as read_clock};

/// Shorter baselines say less of the rate than is known already.
const BASELINE_NS: u64 = 100_000_000;
/// More than CLOCK_REALTIME can be steered beside CLOCK_MONOTONIC_RAW without a step: 500 ppm by frequency, 500 by slewing.
const STEERED_PPB: u64 = 1_000_000;
/// Beyond this, a counter has lost its rate: it and CLOCK_MONOTONIC_RAW rest on the same crystal, or on two good ones.
const UNSTEADY_PPB: u64 = 200_000;
/// How far a clock without its counter stands still rather than go back.
const HOLD_NS: u64 = 1_000_000;

/// How to calibrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TscOptions {
    /// How long the first measurement of the rate takes: at least 1 ms. 20 ms know it to some 2 ppm.
    pub settle: Duration,
    /// Of how many readings the tightest is taken: 1 to 1,000.
    pub samples: u32,
    /// By how much the system clock's rate may be steered between two calibrations, parts in a thousand million. A servo
    /// that has settled stays well below 100.
    pub steering_ppb: u64,
}

impl Default for TscOptions {
    fn default() -> Self {
        TscOptions { settle: Duration::from_millis(20), samples: 32, steering_ppb: 1_000 }
    }
}

/// What a calibration found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalibration {
    /// How far ahead of the system's clock this one was, nanoseconds.
    pub error_ns: i64,
    /// How far off it had said that it may be, the new reading's own uncertainty included, nanoseconds.
    pub promised_ns: u64,
    /// By how much the system's clock was stepped since the last calibration, nanoseconds, where it was.
    pub stepped_ns: Option<i64>,
}

impl Recalibration {
    /// Whether the clock had kept its promise.
    pub fn kept(&self) -> bool {
        self.error_ns.unsigned_abs() <= self.promised_ns
    }
}

/// One look at the counter and both clocks.
#[derive(Clone, Copy, Debug)]
struct Sample {
    real: Anchor,
    /// At the same count as `real`, nearly.
    raw: Anchor,
}

/// Takes the tightest of some looks.
///
/// The clocks are read between two readings of the counter; where in between is not known, so half the distance is the
/// bound. A host that takes the core away in one of them spoils that one only.
fn look(samples: u32, rate: Option<Rate>) -> Sample {
    let mut best: Option<[u64; 5]> = None;
    for _ in 0..samples.clamp(1, 1_000) {
        let first = counter::read();
        let real = now().0;
        let second = counter::read();
        let raw = read_clock(libc::CLOCK_MONOTONIC_RAW);
        let third = counter::read();
        // Where one core's counter is behind another's, the look is worthless.
        if second < first || third < second {
            continue;
        }
        if best.is_none_or(|best| third - first < best[4] - best[0]) {
            best = Some([first, real, second, raw, third]);
        }
    }
    let [first, real, second, raw, third] = best.unwrap_or_else(|| {
        let ticks = counter::read();
        [ticks, now().0, ticks, read_clock(libc::CLOCK_MONOTONIC_RAW), ticks]
    });
    let anchor = |from: u64, ns, to: u64| {
        let half = (to - from).div_ceil(2);
        // In ticks, until the rate is known.
        let bound_ns = rate.map_or(half, |rate| rate.ns(half)) + 1;
        Anchor { ticks: from + (to - from) / 2, ns, bound_ns }
    };
    Sample { real: anchor(first, real, second), raw: anchor(second, raw, third) }
}

/// A clock that reads the processor's counter, or the system's clock where that cannot serve.
#[derive(Clone, Debug)]
pub struct TscClock {
    options: TscOptions,
    /// `Err` where the system's clock is read instead.
    timeline: Result<Timeline, NoCounter>,
    /// Where the next measurement of the rate begins.
    baseline: Option<Sample>,
    /// The last calibration.
    last: Option<Sample>,
    /// The rate beside CLOCK_MONOTONIC_RAW as first measured.
    raw_rate: Option<Rate>,
    /// What the rate may be off, parts in a thousand million.
    rate_ppb: u64,
    /// Whether the last calibration found more than was promised, and the rate was not measured anew for it.
    doubted: bool,
    /// Readings of the system's clock stay above this.
    floor: u64,
}

impl TscClock {
    /// Calibrates the counter against the system's clock. Takes [`TscOptions::settle`] and spins for as long.
    ///
    /// Where the counter cannot serve, the clock reads the system's instead, and [`fallback`](Self::fallback) says why.
    pub fn calibrate(options: TscOptions) -> TscClock {
        let fallen = |why| TscClock {
            options,
            timeline: Err(why),
            baseline: None,
            last: None,
            raw_rate: None,
            rate_ppb: 0,
            doubted: false,
            floor: 0,
        };
        if let Err(why) = counter::check() {
            return fallen(why);
        }
        // Three looks: the rates of the two halves must agree.
        let settle = options.settle.max(Duration::from_millis(1));
        let half = u64::try_from(settle.as_nanos() / 2).unwrap_or(u64::MAX);
        let first = look(options.samples, None);
        wait(half);
        let middle = look(options.samples, None);
        wait(half);
        let Some((rough, _)) = Rate::between(first.raw, middle.raw) else { return fallen(NoCounter::Unsteady) };
        let first = in_nanos(first, rough);
        let middle = in_nanos(middle, rough);
        let last = look(options.samples, Some(rough));
        let halves = Rate::between(first.raw, middle.raw).zip(Rate::between(middle.raw, last.raw));
        let Some(((early, early_ppb), (late, late_ppb))) = halves else { return fallen(NoCounter::Unsteady) };
        if early.differs_ppb(late) > UNSTEADY_PPB.saturating_add(early_ppb).saturating_add(late_ppb) {
            return fallen(NoCounter::Unsteady);
        }
        let Some((raw_rate, raw_ppb)) = Rate::between(first.raw, last.raw) else {
            return fallen(NoCounter::Unsteady);
        };
        // Where the clock was stepped just now, the unsteered rate is within what steering can do.
        let (rate, rate_ppb) = match Rate::between(first.real, last.real) {
            Some((rate, ppb)) if rate.differs_ppb(raw_rate) <= STEERED_PPB + ppb + raw_ppb => (rate, ppb),
            _ => (raw_rate, STEERED_PPB),
        };
        TscClock {
            options,
            timeline: Ok(Timeline::new(last.real, rate, rate_ppb.saturating_add(options.steering_ppb))),
            baseline: Some(last),
            last: Some(last),
            raw_rate: Some(raw_rate),
            rate_ppb,
            doubted: false,
            floor: 0,
        }
    }

    /// The time. The cheapest reading, some ten nanoseconds: the processor may take it a little before what stands before
    /// it in the program is done, by the time of a load that misses the caches. Where that matters,
    /// [`now_ordered`](Self::now_ordered).
    #[inline]
    pub fn now(&self) -> UnixNanos {
        match &self.timeline {
            Ok(timeline) => UnixNanos(timeline.at(counter::glance())),
            Err(_) => UnixNanos(now().0.max(self.floor)),
        }
    }

    /// The time after all that stands before it in the program is done. Some twenty nanoseconds, as much as the system's
    /// own reading, which is ordered, too.
    #[inline]
    pub fn now_ordered(&self) -> UnixNanos {
        match &self.timeline {
            Ok(timeline) => UnixNanos(timeline.at(counter::read())),
            Err(_) => UnixNanos(now().0.max(self.floor)),
        }
    }

    /// The time, as [`now_ordered`](Self::now_ordered), and how far it may be from the system's. Of the system's own clock, the bound is 0.
    #[inline]
    pub fn now_bounded(&self) -> Bounded {
        match &self.timeline {
            Ok(timeline) => {
                let ticks = counter::read();
                Bounded { time: UnixNanos(timeline.at(ticks)), bound_ns: timeline.bound(ticks) }
            }
            Err(_) => {
                let real = now().0;
                Bounded { time: UnixNanos(real.max(self.floor)), bound_ns: self.floor.saturating_sub(real) }
            }
        }
    }

    /// How far a time may be from the system's clock at most, nanoseconds either way, that is read within so many
    /// nanoseconds from now and before the next calibration. Of the system's own clock, 0.
    pub fn bound_within(&self, ns: u64) -> u64 {
        let Ok(timeline) = &self.timeline else { return 0 };
        let now = counter::read();
        let ticks = u128::from(ns) * u128::from(timeline.rate().frequency_hz()) / 1_000_000_000;
        let then = now.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX));
        timeline.bound(now).max(timeline.bound(then))
    }

    /// Why the system's clock is read instead of the counter, where it is.
    pub fn fallback(&self) -> Option<NoCounter> {
        self.timeline.err()
    }

    /// How fast the counter counts beside the system's clock, ticks a second; `None` where it is not used.
    pub fn frequency_hz(&self) -> Option<u64> {
        self.timeline.ok().map(|timeline| timeline.rate().frequency_hz())
    }

    /// Measures again, and follows what was found without a step back. Takes a few microseconds; about once a second is
    /// often enough. `None` where the counter is not used, or from now on cannot be ([`fallback`](Self::fallback)).
    pub fn recalibrate(&mut self) -> Option<Recalibration> {
        let timeline = self.timeline.ok()?;
        let found = look(self.options.samples, Some(timeline.rate()));
        self.follow(found, counter::read())
    }

    /// As [`recalibrate`](Self::recalibrate), with what was seen, at the count `ticks`.
    fn follow(&mut self, found: Sample, ticks: u64) -> Option<Recalibration> {
        let (mut timeline, last, baseline) = (self.timeline.ok()?, self.last?, self.baseline?);
        // Two looks too close to each other say nothing of the rate.
        let near = found.raw.ns.saturating_sub(last.raw.ns) < BASELINE_NS / 100;
        let steady = near && found.raw.ticks >= last.raw.ticks
            || Rate::between(last.raw, found.raw)
                .zip(self.raw_rate)
                .is_some_and(|((rate, ppb), first)| rate.differs_ppb(first) <= UNSTEADY_PPB.saturating_add(ppb));
        if !steady {
            self.floor = match timeline.at(ticks) {
                stood if stood.saturating_sub(found.real.ns) <= HOLD_NS => stood,
                _ => 0,
            };
            self.timeline = Err(NoCounter::Unsteady);
            return None;
        }
        let error_ns = timeline.at(found.real.ticks).wrapping_sub(found.real.ns) as i64;
        let promised_ns = timeline.bound(found.real.ticks).saturating_add(found.real.bound_ns);
        let stepped_ns = stepped(last, found);
        let outcome = Recalibration { error_ns, promised_ns, stepped_ns };
        let mut rate = timeline.rate();
        let mut doubt_ppb = 0;
        if stepped_ns.is_some() {
            self.baseline = Some(found);
        } else if !outcome.kept() && !self.doubted {
            // A small step, or a servo's pull? The next look tells. Until then the rate stays, and its bound says so.
            (self.baseline, self.doubted) = (Some(found), true);
            let elapsed = u128::from(found.raw.ns.saturating_sub(last.raw.ns).max(1));
            let doubt = u128::from(error_ns.unsigned_abs()) * 1_000_000_000 / elapsed;
            doubt_ppb = u64::try_from(doubt).unwrap_or(u64::MAX);
        } else if let Some((measured, ppb)) = Rate::between(baseline.real, found.real)
            && found.real.ns - baseline.real.ns >= BASELINE_NS
        {
            (self.baseline, self.rate_ppb, self.doubted) = (Some(found), ppb, false);
            rate = measured;
        }
        let growth_ppb = self.rate_ppb.saturating_add(self.options.steering_ppb).saturating_add(doubt_ppb);
        timeline.correct(found.real, rate, growth_ppb, ticks);
        (self.timeline, self.last) = (Ok(timeline), Some(found));
        Some(outcome)
    }
}

/// By how much the clock was stepped between two looks: more than anybody can steer it beside the one that nobody does.
fn stepped(last: Sample, found: Sample) -> Option<i64> {
    // The raw reading is some nanoseconds after the other, in both.
    let lag = |sample: &Sample| i128::from(sample.raw.ns) - i128::from(sample.real.ns);
    let step = lag(&last) - lag(&found);
    let elapsed = u128::from(found.raw.ns.saturating_sub(last.raw.ns));
    let bounds = [last.real, last.raw, found.real, found.raw].map(|anchor| u128::from(anchor.bound_ns));
    let steered = elapsed * u128::from(STEERED_PPB) / 1_000_000_000 + 2 * bounds.iter().sum::<u128>() + 1_000;
    (step.unsigned_abs() > steered).then(|| i64::try_from(step).unwrap_or(if step > 0 { i64::MAX } else { i64::MIN }))
}

/// The looks of a time when the rate was not known have bounds in ticks.
fn in_nanos(sample: Sample, rate: Rate) -> Sample {
    let convert = |anchor: Anchor| Anchor { bound_ns: rate.ns(anchor.bound_ns) + 1, ..anchor };
    Sample { real: convert(sample.real), raw: convert(sample.raw) }
}

/// Spins: a sleeping core may come back at another frequency, and a few milliseconds later than asked.
fn wait(ns: u64) {
    let begun = read_clock(libc::CLOCK_MONOTONIC_RAW);
    while read_clock(libc::CLOCK_MONOTONIC_RAW).saturating_sub(begun) < ns {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
#[path = "tsc/tests.rs"]
mod tests;
