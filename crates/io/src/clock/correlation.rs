//! A card's clock beside the system's: samples, and a straight line through them with a bound.
//!
//! A [`Sample`] says that both clocks showed two times at one moment, give or take a bound that is known, not estimated
//! ([`phc`](super::phc) tells how it comes by it). A [`Tracker`] keeps the last eight and lays a [`Fit`] through them:
//! offset and drift by least squares, each sample weighted by its bound.
//!
//! **The bound** of a time that a fit gives is a proof, not a spread. At each sample the truth is within the sample's
//! bound of the sample, so the line is within its distance from the sample plus that bound of the truth. If the clocks
//! drift evenly, the line's error is greatest at an end of the window; beyond it, it grows by at most both ends' errors
//! divided by the window's length, and by [`TrackerOptions::wander_ppb`], the allowance for servos that change a clock's
//! rate meanwhile. With a single sample nothing is known of the drift but [`TrackerOptions::max_drift_ppb`].
//!
//! **Steps.** A sample that no drift explains means that a clock was stepped: the tracker begins anew and says so. Times
//! that the card took before its clock was stepped are then off by the step.
//!
//! **Timescales.** The fit leads to the system's clock as it is, so the 37 seconds between a card on TAI and a system on
//! UTC are part of the offset, and need not be known. A leap second does need to be: [`Tracker::announce`] it, and times
//! from that moment on are a second less (or more), as the kernel's own will be.

use barewire_types::UnixNanos;

use super::Bounded;
use super::discipline::Leap;

/// A card's time, in nanoseconds since its own beginning: TAI since 1970 under PTP, often anything without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhcNanos(pub u64);

/// How two clocks were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// By hardware, both at one moment: `PTP_SYS_OFFSET_PRECISE`.
    Precise,
    /// The system's clock right before and after the card's register: `PTP_SYS_OFFSET_EXTENDED`.
    Extended,
    /// The system's clock before and after the driver's whole reading: `PTP_SYS_OFFSET`.
    Plain,
}

impl Method {
    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Precise => "precise",
            Method::Extended => "extended",
            Method::Plain => "plain",
        }
    }
}

/// Two clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The card's.
    pub phc: PhcNanos,
    /// The system's.
    pub system: UnixNanos,
    /// How far `system` may be from what the system's clock showed at `phc`, nanoseconds either way.
    pub bound_ns: u64,
    /// How they were compared.
    pub method: Method,
}

impl Sample {
    /// System less card, nanoseconds.
    pub fn offset_ns(&self) -> i64 {
        self.system.0.wrapping_sub(self.phc.0) as i64
    }

    /// The sample that a reading of the card's clock between two of the system's makes. `None` where the system's went
    /// back meanwhile.
    pub fn between(before: UnixNanos, phc: PhcNanos, after: UnixNanos, method: Method) -> Option<Sample> {
        let width = after.0.checked_sub(before.0)?;
        let half = width.div_ceil(2);
        Some(Sample { phc, system: UnixNanos(before.0 + width / 2), bound_ns: half, method })
    }
}

/// The tightest of some samples; of equals the last.
pub fn best(samples: impl IntoIterator<Item = Sample>) -> Option<Sample> {
    samples.into_iter().reduce(|best, sample| if sample.bound_ns <= best.bound_ns { sample } else { best })
}

/// How to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerOptions {
    /// By how much the two clocks may drift apart as long as nothing was measured, parts in a thousand million.
    pub max_drift_ppb: u64,
    /// By how much the drift may change between the window and the time asked for, parts in a thousand million.
    pub wander_ppb: u64,
    /// A sample that is further from where it was expected than the bounds allow is a step from this on, nanoseconds;
    /// below, a servo that pulled harder than `wander_ppb`.
    pub step_ns: u64,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        TrackerOptions { max_drift_ppb: 500_000, wander_ppb: 1_000, step_ns: 10_000 }
    }
}

/// What a sample did to a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Update {
    /// It is the first.
    First,
    /// It is where it was expected, within the bounds.
    Agreed {
        /// How far the expected system time was ahead of it, nanoseconds.
        error_ns: i64,
    },
    /// It is a little outside the bounds: a clock's rate changed by more than was allowed for. Followed.
    Strayed {
        /// How far the expected system time was ahead of it, nanoseconds.
        error_ns: i64,
        /// How far that had been promised to be at most.
        promised_ns: u64,
    },
    /// A clock was stepped, or the card's went back: begun anew from this sample.
    Stepped {
        /// System less card grew by so much, nanoseconds.
        by_ns: i64,
    },
    /// The announced leap second came: begun anew from this sample, on the clock after it.
    Leapt,
}

/// A straight line from a card's times to the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// The last sample's card time.
    origin: PhcNanos,
    /// The system's time there.
    system: UnixNanos,
    /// System nanoseconds a card's nanosecond, less one, in units of 2^-48.
    drift: i64,
    bound_ns: u64,
    growth_ppb: u64,
    leap: Option<Leap>,
}

const ONE: u32 = 48;

impl Fit {
    /// The system's time when the card's clock showed this.
    #[inline]
    pub fn unix(&self, phc: PhcNanos) -> Bounded {
        let elapsed = phc.0.wrapping_sub(self.origin.0) as i64;
        let drifted = ((i128::from(elapsed) * i128::from(self.drift)) >> ONE) as i64;
        let time = self.system.0.wrapping_add_signed(elapsed).wrapping_add_signed(drifted);
        let growth = (u128::from(elapsed.unsigned_abs()) * u128::from(self.growth_ppb)).div_ceil(1_000_000_000);
        let bound_ns = u64::try_from(u128::from(self.bound_ns) + growth).unwrap_or(u64::MAX);
        let time = UnixNanos(time);
        Bounded { time: self.leap.map_or(time, |leap| leap.apply(time)), bound_ns }
    }

    /// By how much the system's clock runs faster than the card's, parts in a thousand million.
    pub fn drift_ppb(&self) -> i64 {
        ((i128::from(self.drift) * 1_000_000_000) >> ONE) as i64
    }

    /// System less card at the last sample, nanoseconds.
    pub fn offset_ns(&self) -> i64 {
        self.system.0.wrapping_sub(self.origin.0) as i64
    }

    /// The bound at the last sample, nanoseconds.
    pub fn bound_ns(&self) -> u64 {
        self.bound_ns
    }

    /// By how much the bound grows, parts in a thousand million of the time since.
    pub fn growth_ppb(&self) -> u64 {
        self.growth_ppb
    }

    fn through(window: &[Sample], options: TrackerOptions, leap: Option<Leap>) -> Option<Fit> {
        let (first, last) = (window.first()?, window.last()?);
        let alone = Fit {
            origin: last.phc,
            system: last.system,
            drift: 0,
            bound_ns: last.bound_ns,
            growth_ppb: options.max_drift_ppb,
            leap: None,
        };
        let span = last.phc.0.saturating_sub(first.phc.0);
        if span == 0 {
            return Some(Fit { leap, ..alone });
        }
        // Least squares around the weighted means: distances of nanoseconds from the last sample, exact in a float for
        // as long as a window lasts.
        let points = window.iter().map(|sample| {
            let x = -((last.phc.0 - sample.phc.0) as f64);
            let y = sample.offset_ns().wrapping_sub(last.offset_ns()) as f64;
            let bound = sample.bound_ns as f64 + 1.0;
            (x, y, 1.0 / (bound * bound))
        });
        let (mut weight, mut mean_x, mut mean_y) = (0.0, 0.0, 0.0);
        for (x, y, w) in points.clone() {
            (weight, mean_x, mean_y) = (weight + w, mean_x + w * x, mean_y + w * y);
        }
        (mean_x, mean_y) = (mean_x / weight, mean_y / weight);
        let (mut sxx, mut sxy) = (0.0, 0.0);
        for (x, y, w) in points {
            (sxx, sxy) = (sxx + w * (x - mean_x) * (x - mean_x), sxy + w * (x - mean_x) * (y - mean_y));
        }
        let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
        let line = Fit {
            system: UnixNanos(last.system.0.wrapping_add_signed((mean_y - slope * mean_x).round() as i64)),
            // Casts of floats saturate.
            drift: (slope * (1u64 << ONE) as f64).round() as i64,
            bound_ns: 0,
            growth_ppb: 0,
            ..alone
        };
        let error = |sample: &Sample| {
            let distance = line.unix(sample.phc).time.0.abs_diff(sample.system.0);
            // One for the time's own rounding.
            distance.saturating_add(sample.bound_ns).saturating_add(1)
        };
        let ends = u128::from(error(first)) + u128::from(error(last));
        let growth = (ends * 1_000_000_000).div_ceil(u128::from(span));
        Some(Fit {
            // Rounded on the way: by half a nanosecond at the origin, one elsewhere.
            bound_ns: window.iter().map(error).max()?.saturating_add(1),
            growth_ppb: u64::try_from(growth).unwrap_or(u64::MAX).saturating_add(options.wander_ppb),
            leap,
            ..line
        })
    }
}

/// How many samples a tracker keeps.
const WINDOW: usize = 8;

/// Follows a card's clock.
#[derive(Clone, Debug)]
pub struct Tracker {
    options: TrackerOptions,
    window: Vec<Sample>,
    fit: Option<Fit>,
    leap: Option<Leap>,
}

impl Tracker {
    /// A tracker that has seen nothing.
    pub fn new(options: TrackerOptions) -> Tracker {
        Tracker { options, window: Vec::with_capacity(WINDOW), fit: None, leap: None }
    }

    /// Tells of a leap second to come, or that none will: what the system's clock
    /// [says](super::discipline::SystemClock::leap), and what it shows. From two seconds before it on, only a sample
    /// withdraws an announcement: the kernel no longer makes it once the second has begun.
    pub fn announce(&mut self, leap: Option<Leap>, now: UnixNanos) {
        if self.leap.is_some_and(|leap| now.0.saturating_add(2_000_000_000) >= leap.at.0) {
            return;
        }
        self.leap = leap;
        if let Some(fit) = &mut self.fit {
            fit.leap = leap;
        }
    }

    /// The line, once there was a sample.
    pub fn fit(&self) -> Option<&Fit> {
        self.fit.as_ref()
    }

    /// Takes in a sample. Allocates nothing.
    pub fn update(&mut self, sample: Sample) -> Update {
        let (Some(fit), Some(last)) = (self.fit, self.window.last().copied()) else {
            self.begin(sample);
            return Update::First;
        };
        let by_ns = sample.offset_ns().wrapping_sub(last.offset_ns());
        if sample.phc <= last.phc {
            self.begin(sample);
            return Update::Stepped { by_ns };
        }
        let expected = fit.unix(sample.phc);
        let error = |expected: Bounded| expected.time.0.wrapping_sub(sample.system.0) as i64;
        let promised_ns = expected.bound_ns.saturating_add(sample.bound_ns);
        let error_ns = error(expected);
        let within = |error: i64| error.unsigned_abs() <= promised_ns.saturating_add(self.options.step_ns);
        if let Some(leap) = self.leap {
            // The line was laid on the clock before; the sample is on the one after.
            let plain = Fit { leap: None, ..fit }.unix(sample.phc);
            if within(error_ns) && leap.apply(plain.time) != plain.time {
                self.leap = None;
                self.begin(sample);
                return Update::Leapt;
            }
        }
        if !within(error_ns) {
            // The second did not come: a server that smears it, or an announcement that was wrong.
            self.leap = self.leap.filter(|leap| sample.system < leap.at);
            self.begin(sample);
            return Update::Stepped { by_ns };
        }
        if self.window.len() == WINDOW {
            self.window.remove(0);
        }
        self.window.push(sample);
        self.fit = Fit::through(&self.window, self.options, self.leap);
        match error_ns.unsigned_abs() <= promised_ns {
            true => Update::Agreed { error_ns },
            false => Update::Strayed { error_ns, promised_ns },
        }
    }

    fn begin(&mut self, sample: Sample) {
        self.window.clear();
        self.window.push(sample);
        self.fit = Fit::through(&self.window, self.options, self.leap);
    }
}

#[cfg(test)]
#[path = "correlation/tests.rs"]
mod tests;
