//! A device's receive times as times of day.
//!
//! Drivers stamp in units of their own: nanoseconds of a PTP clock, or ticks of a counter whose rate nobody says. The rate
//! is measured when the port is opened, and taken for nanoseconds where it is that within a thousandth; what is left of
//! its error the [correlation](crate::clock::correlation) with the system's clock takes out, as a drift.

use std::io;
use std::thread;
use std::time::Duration;

use barewire_types::UnixNanos;

use crate::clock::correlation::{Fit, Method, PhcNanos, Sample, Tracker, TrackerOptions, Update};
use crate::clock::discipline::system_clock;
use crate::clock::{self, monotonic};
use crate::packet::ReceiverCounters;

/// Looks for one comparison, of which the tightest counts.
const READINGS: u32 = 5;
/// Between two comparisons.
const EVERY_NS: u64 = 1_000_000_000;
/// The same as long as the drift is hardly known.
const SOON_NS: u64 = 100_000_000;
const KNOWN_PPB: u64 = 20_000;
/// For which the rate is measured.
const MEASURED: Duration = Duration::from_millis(100);
/// Nanoseconds a tick are kept in units of 2^-32.
const ONE: u64 = 1 << 32;

/// A device's clock.
#[derive(Debug)]
pub(super) struct DeviceClock {
    tracker: Tracker,
    /// Nanoseconds a tick, times 2^32.
    rate: u64,
    due: u64,
    compared: u64,
    /// Where a clock was stepped: the rate is measured anew from here.
    stepped: Option<Reading>,
}

/// A reading of a device's clock between two of the system's: before, ticks, after.
type Reading = (UnixNanos, u64, UnixNanos);

fn tightest(read: &mut impl FnMut() -> io::Result<u64>) -> io::Result<Reading> {
    let mut best: Option<Reading> = None;
    for _ in 0..READINGS {
        let before = clock::now();
        let ticks = read()?;
        let after = clock::now();
        let width = |(before, _, after): &Reading| after.0.wrapping_sub(before.0);
        let reading = (before, ticks, after);
        if best.as_ref().is_none_or(|best| width(&reading) < width(best)) {
            best = Some(reading);
        }
    }
    best.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Nanoseconds a tick, times 2^32, by two readings; `None` of a clock that stands still or goes back.
fn rate(first: Reading, second: Reading) -> Option<u64> {
    let middle = |(before, _, after): Reading| before.0 / 2 + after.0 / 2;
    let ticks = second.1.checked_sub(first.1).filter(|ticks| *ticks > 0)?;
    let ns = middle(second).checked_sub(middle(first))?;
    let rate = u64::try_from((u128::from(ns) << 32) / u128::from(ticks)).ok().filter(|rate| *rate > 0)?;
    Some(if rate.abs_diff(ONE) < ONE / 1000 { ONE } else { rate })
}

impl DeviceClock {
    /// Measures the rate, which takes a tenth of a second.
    pub(super) fn measure(mut read: impl FnMut() -> io::Result<u64>) -> io::Result<DeviceClock> {
        let first = tightest(&mut read)?;
        thread::sleep(MEASURED);
        let second = tightest(&mut read)?;
        let stands_still = || io::Error::new(io::ErrorKind::InvalidData, "the device's clock stands still");
        let rate = rate(first, second).ok_or_else(stands_still)?;
        let mut clock =
            DeviceClock { tracker: Tracker::new(TrackerOptions::default()), rate, due: 0, compared: 0, stepped: None };
        for reading in [first, second] {
            clock.compare(reading);
        }
        Ok(clock)
    }

    /// Device time in nanoseconds.
    #[inline]
    fn scale(&self, ticks: u64) -> u64 {
        if self.rate == ONE { ticks } else { ((u128::from(ticks) * u128::from(self.rate)) >> 32) as u64 }
    }

    fn compare(&mut self, (before, ticks, after): Reading) -> Option<Update> {
        let sample = Sample::between(before, PhcNanos(self.scale(ticks)), after, Method::Plain)?;
        let update = self.tracker.update(sample);
        self.compared = monotonic();
        let known = self.tracker.fit().is_some_and(|fit| fit.growth_ppb() < KNOWN_PPB);
        self.due = self.compared.saturating_add(if known { EVERY_NS } else { SOON_NS });
        self.stepped = matches!(update, Update::Stepped { .. }).then_some((before, ticks, after));
        Some(update)
    }

    /// Compares. After a step the rate may be wrong, too: the clock may have been stepped while it was measured.
    fn follow(&mut self, reading: Reading) -> Option<Update> {
        if let Some(first) = self.stepped.take()
            && let Some(rate) = rate(first, reading)
            && rate != self.rate
        {
            self.rate = rate;
            self.tracker = Tracker::new(TrackerOptions::default());
            self.compare(first);
        }
        self.compare(reading)
    }

    /// Compares again where that is due.
    pub(super) fn refresh(&mut self, mut read: impl FnMut() -> io::Result<u64>, counters: &mut ReceiverCounters) {
        if monotonic() < self.due {
            return;
        }
        if let Ok(clock) = system_clock() {
            self.tracker.announce(clock.leap, clock.now);
        }
        counters.clock_comparisons += 1;
        match tightest(&mut read).ok().and_then(|reading| self.follow(reading)) {
            Some(Update::Stepped { .. }) => counters.clock_steps += 1,
            Some(_) => {}
            // The old line stands; its bound grows.
            None => {
                counters.clock_comparison_errors += 1;
                self.due = monotonic().saturating_add(SOON_NS);
            }
        }
    }

    /// How its times become times of day, and a stamp as the line takes it.
    #[inline]
    pub(super) fn line(&self) -> Option<&Fit> {
        self.tracker.fit()
    }

    /// A stamp in nanoseconds, as [`line`](Self::line) takes it.
    #[inline]
    pub(super) fn stamp(&self, ticks: u64) -> u64 {
        self.scale(ticks)
    }

    /// How far its times may be off until they are next compared.
    pub(super) fn bound_ns(&self) -> u64 {
        let Some(fit) = self.tracker.fit() else { return u64::MAX };
        let until = self.due.max(monotonic()).saturating_sub(self.compared);
        let growth = u128::from(until) * u128::from(fit.growth_ppb()) / 1_000_000_000;
        fit.bound_ns().saturating_add(u64::try_from(growth).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Faked devices that count at some rate from some number: nanoseconds, an ASIC's 156.25 MHz, 3 ticks a nanosecond.
    #[test]
    fn a_device_of_any_rate_is_followed() {
        for (per_us, ahead) in [(1_000u128, 37_000_000_000), (1_000, 0), (156, 5), (3_000, 1 << 60)] {
            let ticks = |at: u64| (u128::from(at) * per_us / 1_000 % (1 << 62)) as u64 + ahead;
            let mut read = || Ok(ticks(clock::now().0));
            let mut device = DeviceClock::measure(&mut read).unwrap();
            let mut counters = ReceiverCounters::default();
            for round in 0..4 {
                let before = clock::now();
                let stamp = device.stamp(ticks(before.0));
                let found = device.line().unwrap().unix(PhcNanos(stamp));
                assert!(
                    found.time.0.abs_diff(before.0) <= found.bound_ns + 10,
                    "{per_us} {round} {found:?} {before:?}"
                );
                assert!(device.bound_ns() < 10_000_000, "{}", device.bound_ns());
                thread::sleep(Duration::from_millis(5));
                device.due = 0;
                device.refresh(&mut read, &mut counters);
            }
            assert_eq!((counters.clock_comparisons, counters.clock_comparison_errors), (4, 0));
        }
    }

    /// A device whose clock is set while its rate is measured, which is half as much again for it.
    #[test]
    fn a_rate_that_was_measured_over_a_step_is_measured_anew() {
        let mut reads = 0;
        let mut read = || {
            reads += 1;
            Ok(clock::now().0 + if reads > READINGS { 50_000_000 } else { 0 })
        };
        let mut device = DeviceClock::measure(&mut read).unwrap();
        assert_ne!(device.rate, ONE);
        let mut counters = ReceiverCounters::default();
        for _ in 0..3 {
            thread::sleep(MEASURED);
            device.due = 0;
            device.refresh(&mut read, &mut counters);
        }
        assert_eq!((device.rate, counters.clock_steps), (ONE, 1));
        let before = clock::now();
        let found = device.line().unwrap().unix(PhcNanos(device.stamp(before.0 + 50_000_000)));
        assert!(found.time.0.abs_diff(before.0) <= found.bound_ns + 10, "{found:?} {before:?}");
    }

    #[test]
    fn a_clock_that_is_none_is_refused() {
        assert!(DeviceClock::measure(|| Ok(7)).is_err());
        let mut down = u64::MAX;
        assert!(
            DeviceClock::measure(|| {
                down -= 1;
                Ok(down)
            })
            .is_err()
        );
        assert!(DeviceClock::measure(|| Err(io::Error::from_raw_os_error(libc::EIO))).is_err());
    }

    #[test]
    fn a_device_that_fails_later_is_counted() {
        let mut device = DeviceClock::measure(|| Ok(clock::now().0)).unwrap();
        let mut counters = ReceiverCounters::default();
        device.due = 0;
        device.refresh(|| Err(io::Error::from_raw_os_error(libc::EIO)), &mut counters);
        device.due = 0;
        // The device's clock was set an hour back.
        device.refresh(|| Ok(clock::now().0 - 3_600_000_000_000), &mut counters);
        assert_eq!((counters.clock_comparisons, counters.clock_comparison_errors, counters.clock_steps), (2, 1, 1));
    }
}
