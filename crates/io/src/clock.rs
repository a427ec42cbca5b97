//! The machine's clocks: read, compared with each other, never set.
//!
//! - [`now`], [`monotonic`]: the system's clocks, read without entering the kernel.
//! - [`tsc`]: the time of day by the processor's counter, in some ten nanoseconds, with a bound.
//! - [`phc`]: a network card's clock; [`correlation`]: its times as times of day, with a bound.
//! - [`discipline`]: what the kernel says of its clock; TAI, leap seconds, and the trap of 37 seconds.
//!
//! A bound is how far a time may be from the clock that it follows, either way. Bounds of clocks that follow each other
//! add up.

mod counter;
mod timeline;

pub mod correlation;
pub mod discipline;
pub mod phc;
pub mod tsc;

use barewire_types::UnixNanos;

/// A time, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// The time.
    pub time: UnixNanos,
    /// How far it may be from the clock that it follows, nanoseconds either way.
    pub bound_ns: u64,
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable. The two clocks used here exist on every Linux, so the call cannot fail; on x86-64 and
    // aarch64 it runs in the vDSO.
    unsafe { libc::clock_gettime(clock, &mut time) };
    nanos(time)
}

/// Nanoseconds of a time that the kernel gave; 0 for one before the epoch.
#[inline]
pub(crate) fn nanos(time: libc::timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time of day by the system's clock (CLOCK_REALTIME).
#[inline]
pub fn now() -> UnixNanos {
    UnixNanos(read(libc::CLOCK_REALTIME))
}

/// Nanoseconds since some moment before the process began, by a clock that is never set back (CLOCK_MONOTONIC).
#[inline]
pub fn monotonic() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn now_lies_between_two_readings_of_std() {
        let std_now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let (before, ours, after) = (std_now(), now().0, std_now());
        assert!(before <= ours && ours <= after, "{before} {ours} {after}");
    }

    #[test]
    fn monotonic_is() {
        let mut last = monotonic();
        for _ in 0..10_000 {
            let next = monotonic();
            assert!(next >= last);
            last = next;
        }
    }
}
