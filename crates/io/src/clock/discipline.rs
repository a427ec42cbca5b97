//! What the kernel says of its clock, and how UTC and TAI lie to each other.
//!
//! `adjtimex(2)`, which is only ever asked here, never told anything: whether the clock is synchronised, by how much it
//! is being steered, its own estimate of its error, the leap second it was told of, and its TAI offset.
//!
//! **TAI.** PTP counts TAI, which has no leap seconds: since 2017, 37 seconds ahead of UTC. A card's clock under PTP
//! shows TAI, the system's UTC. The kernel keeps the difference, but only where somebody told it: it is 0 on most
//! machines, and CLOCK_TAI then shows UTC. [`TaiOffset::find`] therefore takes the kernel's where it is set, else the one
//! in the time-zone data's `leap-seconds.list`, else 37, and says which. [`judge`] looks at how far a card's clock is
//! from the system's and names the trap where there is one: times that are 37 seconds off and otherwise perfect.
//!
//! **Leap seconds.** UNIX time has no name for 23:59:60. The kernel, when it inserts that second, sets CLOCK_REALTIME
//! back by one at its beginning, so 23:59:59 comes twice, and grows its TAI offset. [`Leap::apply`] does the same to times
//! that come from a clock that knows nothing of it; TAI times are converted likewise ([`TaiOffset::unix`]).

use std::fmt;
use std::fs;
use std::io;

use barewire_types::UnixNanos;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;
/// TAI less UTC since 2017-01-01 (IERS Bulletin C 52), seconds. No leap second has been announced since.
pub const TAI_UTC_SINCE_2017_S: i32 = 37;

/// A leap second at the end of a UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leap {
    /// The midnight at which the next day begins, as if there were no leap second.
    pub at: UnixNanos,
    /// Whether a second is inserted before it (all 27 so far); else 23:59:59 is left out.
    pub inserted: bool,
}

impl Leap {
    /// The system's time after the leap second, for a time that was counted on without it; earlier times as they are.
    #[inline]
    pub fn apply(self, time: UnixNanos) -> UnixNanos {
        match self.inserted {
            true if time.0 >= self.at.0 => UnixNanos(time.0 - SECOND),
            false if time.0 >= self.at.0.saturating_sub(SECOND) => UnixNanos(time.0.saturating_add(SECOND)),
            _ => time,
        }
    }
}

/// The error from which on the kernel takes its clock for one that nobody steers, microseconds (`NTP_PHASE_LIMIT` of
/// linux/timex.h).
const NTP_PHASE_LIMIT_US: libc::c_long = 16_000_000;

/// What the kernel says of CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemClock {
    /// When it said so.
    pub now: UnixNanos,
    /// Whether somebody keeps it synchronised: `STA_UNSYNC` is clear, and [`max_error_us`](Self::max_error_us) below the
    /// limit at which the kernel sets it. (It looks once a second: until then a clock whose flag somebody cleared without
    /// steering it has an error that says nothing.)
    pub synchronised: bool,
    /// What is left of the kernel's own phase correction, nanoseconds.
    pub offset_ns: i64,
    /// By how much its rate is being changed, parts in a thousand million.
    pub frequency_ppb: i64,
    /// The most that it may be off, as whoever steers it says, microseconds. Grows by 500 a second when nobody does; 16
    /// seconds mean that nobody ever did.
    pub max_error_us: u64,
    /// What it is likely to be off, as whoever steers it says, microseconds.
    pub estimated_error_us: u64,
    /// TAI less UTC as somebody told the kernel, seconds; `None` where nobody did.
    pub tai_offset_s: Option<i32>,
    /// The leap second to come at the end of this day. Once it has begun, it is no longer told.
    pub leap: Option<Leap>,
    /// Whether an inserted leap second is just going on: 23:59:59 for the second time.
    pub in_leap_second: bool,
}

/// Asks the kernel about its clock. A system call; changes nothing and needs no privilege.
///
/// # Errors
///
/// The operating system's: a container's seccomp profile may forbid it.
pub fn system_clock() -> io::Result<SystemClock> {
    // SAFETY: a timex is integers, for which zero is a value. Zero in `modes` means that nothing is to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is writable.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(read(&timex, state)) }
}

// The fields' types differ between architectures.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "no conversion on some architectures")]
fn read(timex: &libc::timex, state: libc::c_int) -> SystemClock {
    let nano = timex.status & libc::STA_NANO != 0;
    let seconds = u64::try_from(timex.time.tv_sec).unwrap_or(0);
    let fraction = u64::try_from(timex.time.tv_usec).unwrap_or(0);
    let now = seconds.saturating_mul(SECOND).saturating_add(fraction.saturating_mul(if nano { 1 } else { 1_000 }));
    let midnight = UnixNanos((now / DAY).saturating_add(1).saturating_mul(DAY));
    let leap = |inserted| Some(Leap { at: midnight, inserted });
    let offset = i64::from(timex.offset);
    SystemClock {
        now: UnixNanos(now),
        synchronised: timex.status & libc::STA_UNSYNC == 0 && timex.maxerror < NTP_PHASE_LIMIT_US,
        offset_ns: if nano { offset } else { offset.saturating_mul(1_000) },
        // Parts in a million, with a fraction of 16 bits.
        frequency_ppb: (i128::from(timex.freq) * 1_000 / 65_536) as i64,
        max_error_us: u64::try_from(timex.maxerror).unwrap_or(0),
        estimated_error_us: u64::try_from(timex.esterror).unwrap_or(0),
        tai_offset_s: Some(timex.tai).filter(|tai| *tai != 0),
        leap: match state {
            libc::TIME_INS => leap(true),
            libc::TIME_DEL => leap(false),
            _ => None,
        },
        in_leap_second: state == libc::TIME_OOP,
    }
}

/// Where a TAI offset is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaiSource {
    /// The kernel was told it.
    Kernel,
    /// The time-zone data's list of leap seconds, which has not expired.
    LeapSecondsList,
    /// Nobody knows better: 37 seconds, as since 2017.
    Assumed,
}

impl TaiSource {
    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            TaiSource::Kernel => "kernel",
            TaiSource::LeapSecondsList => "leap_seconds_list",
            TaiSource::Assumed => "assumed",
        }
    }
}

/// TAI less UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaiOffset {
    /// Seconds.
    pub seconds: i32,
    /// Where it is from.
    pub source: TaiSource,
    /// The leap second to come, where there is one: afterwards the offset is another.
    pub leap: Option<Leap>,
}

impl TaiOffset {
    /// The best that is known: the kernel's, else the list's, else 37. Reads files: for start-up, and after a leap second.
    pub fn find(clock: &SystemClock) -> TaiOffset {
        let list = ["/usr/share/zoneinfo/leap-seconds.list", "/usr/share/zoneinfo/right/leap-seconds.list"];
        let list = list.iter().find_map(|path| fs::read_to_string(path).ok());
        TaiOffset::choose(clock, list.as_deref())
    }

    fn choose(clock: &SystemClock, list: Option<&str>) -> TaiOffset {
        let from = |seconds, source| TaiOffset { seconds, source, leap: clock.leap };
        if let Some(seconds) = clock.tai_offset_s {
            return from(seconds, TaiSource::Kernel);
        }
        match list.and_then(|list| listed(list, clock.now)) {
            Some(seconds) => from(seconds, TaiSource::LeapSecondsList),
            None => from(TAI_UTC_SINCE_2017_S, TaiSource::Assumed),
        }
    }

    /// The UNIX time of a TAI time, nanoseconds since 1970-01-01 00:00:00 TAI; 0, absent, for times before 1970 UTC.
    #[inline]
    pub fn unix(self, tai_ns: u64) -> UnixNanos {
        let time = i128::from(tai_ns) - i128::from(self.seconds) * i128::from(SECOND);
        let time = u64::try_from(time).map_or(UnixNanos::ABSENT, UnixNanos);
        self.leap.map_or(time, |leap| leap.apply(time))
    }
}

/// The offset that a leap-seconds.list (IERS, NIST) gives for a moment. `None` where it has expired, or holds none.
fn listed(list: &str, now: UnixNanos) -> Option<i32> {
    // Seconds since 1900.
    const NTP_TO_UNIX: u64 = 2_208_988_800;
    let now = now.0 / SECOND + NTP_TO_UNIX;
    let mut found = None;
    let mut expires = None;
    for line in list.lines() {
        if let Some(time) = line.strip_prefix("#@") {
            expires = time.trim().parse::<u64>().ok();
        } else if !line.starts_with('#') {
            let mut words = line.split_ascii_whitespace();
            let Some(from) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
            let Some(seconds) = words.next().and_then(|word| word.parse::<i32>().ok()) else { continue };
            if from <= now {
                found = Some(seconds);
            }
        }
    }
    found.filter(|_| expires.is_some_and(|expires| now < expires))
}

/// What a card's clock counts, seen from the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timescale {
    /// The card is on TAI, the system on UTC, and the kernel knows the difference. As it should be under PTP.
    Tai,
    /// The card agrees with the system: it is kept on UTC.
    Utc,
    /// The trap, first kind: the card is on TAI and the system on UTC, but the kernel's TAI offset is not set. Whoever
    /// converts by the kernel's offset is off by `seconds`.
    TaiUnset {
        /// TAI less UTC as the clocks show it, seconds.
        seconds: i32,
    },
    /// The card is so far ahead that it must be on TAI, but the kernel was told another offset.
    TaiWrong {
        /// What the kernel was told, seconds.
        kernel_s: i32,
        /// What the clocks show, seconds.
        seconds: i32,
    },
    /// The trap, second kind: PTP counts TAI and the card agrees with the system, so the system is on TAI, too, and all
    /// its times are `seconds` ahead of UTC.
    SystemOnTai {
        /// TAI less UTC, seconds.
        seconds: i32,
    },
    /// The trap, third kind: the offset was applied twice, or in the wrong direction: the card is `seconds` ahead (behind
    /// where negative) of the system, one offset too many.
    Doubled {
        /// Card less system, seconds.
        seconds: i32,
    },
    /// The card's clock has nothing to do with the time of day: nobody synchronises it.
    Unrelated {
        /// Card less system, nanoseconds.
        ahead_ns: i64,
    },
}

impl Timescale {
    /// The name that output uses.
    pub const fn name(self) -> &'static str {
        match self {
            Timescale::Tai => "tai",
            Timescale::Utc => "utc",
            Timescale::TaiUnset { .. } => "tai_unset",
            Timescale::TaiWrong { .. } => "tai_wrong",
            Timescale::SystemOnTai { .. } => "system_on_tai",
            Timescale::Doubled { .. } => "doubled",
            Timescale::Unrelated { .. } => "unrelated",
        }
    }

    /// Whether times would be whole seconds off: something for an operator.
    pub const fn is_trap(self) -> bool {
        !matches!(self, Timescale::Tai | Timescale::Utc | Timescale::Unrelated { .. })
    }
}

impl fmt::Display for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Timescale::Tai => f.write_str("the card is on TAI, the system on UTC"),
            Timescale::Utc => f.write_str("card and system are on UTC"),
            Timescale::TaiUnset { seconds } => write!(
                f,
                "the card is on TAI and the kernel was not told the offset of {seconds} s: who converts by the kernel's is off \
                 by as much"
            ),
            Timescale::TaiWrong { kernel_s, seconds } => {
                write!(f, "the card is {seconds} s ahead, as TAI is, and the kernel was told {kernel_s} s")
            }
            Timescale::SystemOnTai { seconds } => {
                write!(f, "the system's clock is on TAI, so that all its times are {seconds} s ahead of UTC")
            }
            Timescale::Doubled { seconds } => {
                write!(
                    f,
                    "the card is {seconds} s ahead of the system: the offset of TAI was applied twice or backwards"
                )
            }
            Timescale::Unrelated { .. } => f.write_str("the card's clock does not follow the time of day"),
        }
    }
}

/// Nearer than this to a whole offset, two clocks were meant to be just that far apart.
const NEAR_NS: u64 = 100_000_000;

/// Finds out what a card's clock counts, and the 37-second trap.
///
/// - `offset_ns`: system less card, nanoseconds: [`Sample::offset_ns`](super::correlation::Sample::offset_ns).
/// - `kernel_s`: the kernel's TAI offset: [`SystemClock::tai_offset_s`].
/// - `known_s`: TAI less UTC as far as is known: [`TaiOffset::find`].
/// - `ptp_timescale`: whether the grandmaster says that it counts TAI, where somebody asked PTP; without it, a system
///   that is itself on TAI cannot be told from a card on UTC.
pub fn judge(offset_ns: i64, kernel_s: Option<i32>, known_s: i32, ptp_timescale: Option<bool>) -> Timescale {
    let ahead_ns = offset_ns.wrapping_neg();
    let near = |seconds: i64| {
        let whole = i128::from(seconds) * i128::from(SECOND);
        (i128::from(ahead_ns) - whole).unsigned_abs() <= u128::from(NEAR_NS)
    };
    if near(0) {
        return match ptp_timescale {
            Some(true) => Timescale::SystemOnTai { seconds: known_s },
            _ => Timescale::Utc,
        };
    }
    // What the kernel was told is believed before what the list says, where the clocks agree with it.
    for seconds in kernel_s.into_iter().chain([known_s]) {
        if near(i64::from(seconds)) {
            return match kernel_s {
                Some(kernel_s) if kernel_s == seconds => Timescale::Tai,
                Some(kernel_s) => Timescale::TaiWrong { kernel_s, seconds },
                None => Timescale::TaiUnset { seconds },
            };
        }
    }
    for seconds in [known_s.saturating_mul(2), known_s.saturating_neg()] {
        if near(i64::from(seconds)) {
            return Timescale::Doubled { seconds };
        }
    }
    Timescale::Unrelated { ahead_ns }
}

#[cfg(test)]
#[path = "discipline/tests.rs"]
mod tests;
