//! When packets arrived: by the card's clock, the kernel's stamps, or the receiving thread's own look at a clock.
//!
//! [`Stamps`] is what can be asked for, [`Hardware`] what a card gives. A card's time becomes a time of day by the
//! [correlation](crate::clock::correlation) of its clock with the system's, which is renewed about once a second, whenever
//! the path is [refreshed](crate::Receiver::refresh), and grows less certain in between. A packet's time is the card's
//! where it has a stamp and the correlation is good to [`MAX_BOUND_NS`]; else the path's next best, counted under the
//! reason.
//!
//! The card is the one of the line's interface. Stamps of another card's clock (a bond that changed its active card)
//! would be off by whatever the two are apart: a time further than [`SANE_NS`] from the system's own is not believed.
//!
//! What a thread stamps itself it stamps by the processor's counter, calibrated against the system's clock
//! ([`clock::tsc`](crate::clock::tsc)), where that can be trusted; else by the system's clock.

use std::fmt;
use std::time::Duration;

use barewire_types::{TsSource, UnixNanos};

use crate::clock::correlation::{Fit, Method, PhcNanos, Tracker, TrackerOptions, Update};
use crate::clock::discipline::{TaiOffset, Timescale, judge, system_clock};
use crate::clock::phc::Phc;
use crate::clock::tsc::{NoCounter, TscClock, TscOptions};
use crate::clock::{self, Bounded, monotonic};
use crate::hwstamp::{NoHardwareStamps, Stamping, stamp_all, stamping};
use crate::packet::ReceiverCounters;

/// A card's time that may be further off than this is no better than the kernel's.
pub const MAX_BOUND_NS: u64 = 100_000;
/// A card's time that is further than this from the system's is another clock's.
pub const SANE_NS: u64 = 1_000_000_000;
/// Between two correlations.
const EVERY_NS: u64 = 1_000_000_000;
/// A correlation that grows worse by less than this is settled, parts in a thousand million.
const KNOWN_PPB: u64 = 20_000;
/// Readings of the card's clock for a correlation; some microseconds each, on the thread that receives.
const READINGS: u32 = 5;
/// Correlations at the start, and how far apart: enough to know the drift to some ten parts in a million.
const FIRST: u32 = 4;
const FIRST_APART: Duration = Duration::from_millis(10);
/// Between two looks of the thread's own clock at the system's.
const LOOK_EVERY_NS: u64 = 100_000_000;

/// Which clock is to say when packets arrive. Each step down is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stamps {
    /// The card's where it stamps all packets already, else the kernel's, else the receiving thread's.
    #[default]
    Auto,
    /// The card's; it is set up for it where it is not (CAP_NET_ADMIN), and stays so. Costs some 30 ms at the start, and
    /// some microseconds a second in [`Receiver::refresh`](crate::Receiver::refresh).
    Hardware,
    /// The kernel's, as the packet reaches its network stack; the receiving thread's where that is passed by.
    Kernel,
    /// The receiving thread's, once a batch.
    User,
}

impl Stamps {
    /// Whether the kernel's own stamps are wanted, be it for want of better ones.
    pub(crate) const fn by_kernel(self) -> bool {
        !matches!(self, Stamps::User)
    }
}

/// Whether packets carry hardware times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Not asked for, or the card has none and they need not be.
    Off,
    /// They do.
    On {
        /// The number of the card's clock.
        phc: u32,
        /// How it is compared with the system's.
        method: Method,
        /// How far off its times were at the start, nanoseconds either way.
        bound_ns: u64,
        /// What the card's clock counts, and the 37-second trap. The times here are right with any: they follow the
        /// system's clock.
        timescale: Timescale,
    },
    /// They do not, and why: they carry the path's next best times.
    Unavailable(NoHardwareStamps),
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hardware::Off => f.write_str("no hardware stamps asked for"),
            Hardware::On { phc, method, bound_ns, timescale } => {
                let method = method.name();
                write!(f, "receive times by the card, /dev/ptp{phc} ({method} comparison, within {bound_ns} ns)")?;
                if timescale.is_trap() { write!(f, "; {timescale}") } else { Ok(()) }
            }
            Hardware::Unavailable(why) => why.fmt(f),
        }
    }
}

/// How far each clock may be from the system's, nanoseconds either way, until the next refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// By which packets are stamped as far as was got at the opening: of several lines, the least good.
    pub source: TsSource,
    /// Of the cards' times, the least good.
    pub nic_bound_ns: u64,
    /// Of those that the receiving thread takes.
    pub user_bound_ns: u64,
}

impl Clocks {
    /// The system's clock, read by the receiving thread.
    pub const SYSTEM: Clocks = Clocks { source: TsSource::User, nic_bound_ns: u64::MAX, user_bound_ns: 0 };

    /// The bound of one clock; 2^64-1 where nothing is known. The kernel's stamps are the system's clock itself; of a capture
    /// switch's nothing is known.
    pub const fn bound_ns(&self, source: TsSource) -> u64 {
        match source {
            TsSource::Nic => self.nic_bound_ns,
            TsSource::Kernel => 0,
            TsSource::User => self.user_bound_ns,
            _ => u64::MAX,
        }
    }

    /// Compares clocks where that is due, and says what came of it.
    pub(crate) fn refresh(&mut self, nics: &mut Nics, clock: &mut UserClock, counters: &mut ReceiverCounters) {
        nics.refresh(counters);
        clock.refresh(counters);
        self.nic_bound_ns = nics.bound_ns();
        self.user_bound_ns = clock.bound_ns();
    }
}

/// What came of a packet's hardware time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its line has none.
    NotAsked,
    Taken,
    Missing,
    Implausible,
    Uncertain,
}

impl Verdict {
    /// Whether the packet has to do with a worse clock than its line's.
    #[inline]
    pub(crate) fn is_degraded(self) -> bool {
        !matches!(self, Verdict::NotAsked | Verdict::Taken)
    }

    /// Counts it for so many packets.
    #[inline]
    pub(crate) fn count(self, packets: u64, counters: &mut ReceiverCounters) {
        match self {
            Verdict::NotAsked => {}
            Verdict::Taken => counters.hardware_times += packets,
            Verdict::Missing => counters.hardware_times_missing += packets,
            Verdict::Implausible => counters.hardware_times_implausible += packets,
            Verdict::Uncertain => counters.hardware_times_uncertain += packets,
        }
    }
}

/// A packet's time by its card's clock: `stamp` is what the card said, `seen` the time by the system's clock.
#[inline]
pub(crate) fn hardware_time(fit: &Fit, stamp: Option<u64>, seen: UnixNanos) -> Result<UnixNanos, Verdict> {
    let Some(stamp) = stamp else { return Err(Verdict::Missing) };
    let Bounded { time, bound_ns } = fit.unix(PhcNanos(stamp));
    if seen.0.abs_diff(time.0) > SANE_NS {
        return Err(Verdict::Implausible);
    }
    if bound_ns > MAX_BOUND_NS {
        return Err(Verdict::Uncertain);
    }
    Ok(time)
}

/// The best of what there is for a packet: time, clock, and what came of its hardware time.
#[inline]
pub(crate) fn settle(
    fit: Option<&Fit>,
    stamp: Option<u64>,
    seen: UnixNanos,
    source: TsSource,
) -> (UnixNanos, TsSource, Verdict) {
    match fit.map(|fit| hardware_time(fit, stamp, seen)) {
        None => (seen, source, Verdict::NotAsked),
        Some(Ok(time)) => (time, TsSource::Nic, Verdict::Taken),
        Some(Err(verdict)) => (seen, source, verdict),
    }
}

/// A card's clock.
#[derive(Debug)]
struct Nic {
    phc: Phc,
    tracker: Tracker,
    /// When to compare again, and when it was last done, by [`monotonic`].
    due: u64,
    compared: u64,
}

impl Nic {
    fn open(index: u32) -> Result<(Nic, Method), NoHardwareStamps> {
        let unreadable = |_| NoHardwareStamps::PhcUnreadable;
        let phc = Phc::open(index).map_err(unreadable)?;
        let mut nic = Nic { phc, tracker: Tracker::new(TrackerOptions::default()), due: 0, compared: 0 };
        for _ in 1..FIRST {
            nic.tracker.update(nic.phc.sample(READINGS).map_err(unreadable)?);
            std::thread::sleep(FIRST_APART);
        }
        let sample = nic.phc.sample(READINGS).map_err(unreadable)?;
        nic.tracker.update(sample);
        nic.compared = monotonic();
        nic.due = nic.compared.saturating_add(nic.pause());
        Ok((nic, sample.method))
    }

    /// How long a comparison is good for: not long as long as the drift is hardly known.
    fn pause(&self) -> u64 {
        match self.tracker.fit() {
            Some(fit) if fit.growth_ppb() < KNOWN_PPB => EVERY_NS,
            _ => EVERY_NS / 10,
        }
    }

    fn report(&self, method: Method) -> Hardware {
        let (offset_ns, bound_ns) = self.tracker.fit().map_or((0, u64::MAX), |fit| (fit.offset_ns(), fit.bound_ns()));
        let (kernel_s, known_s) = match system_clock() {
            Ok(clock) => (clock.tai_offset_s, TaiOffset::find(&clock).seconds),
            Err(_) => (None, crate::clock::discipline::TAI_UTC_SINCE_2017_S),
        };
        let timescale = judge(offset_ns, kernel_s, known_s, None);
        Hardware::On { phc: self.phc.index(), method, bound_ns, timescale }
    }

    /// How far its times may be off until they are next compared.
    fn bound_ns(&self) -> u64 {
        let Some(fit) = self.tracker.fit() else { return u64::MAX };
        let until = self.due.max(monotonic()).saturating_sub(self.compared);
        let growth = u128::from(until) * u128::from(fit.growth_ppb()) / 1_000_000_000;
        fit.bound_ns().saturating_add(u64::try_from(growth).unwrap_or(u64::MAX))
    }

    fn refresh(&mut self, counters: &mut ReceiverCounters) {
        let now = monotonic();
        if now < self.due {
            return;
        }
        self.due = now.saturating_add(self.pause());
        if let Ok(clock) = system_clock() {
            self.tracker.announce(clock.leap, clock.now);
        }
        counters.clock_comparisons += 1;
        match self.phc.sample(READINGS) {
            Ok(sample) => {
                let stepped = matches!(self.tracker.update(sample), Update::Stepped { .. });
                counters.clock_steps += u64::from(stepped);
                self.compared = now;
            }
            // The old line stands; its bound grows.
            Err(_) => counters.clock_comparison_errors += 1,
        }
    }
}

/// The clocks of the cards that a path's lines come by.
#[derive(Debug, Default)]
pub(crate) struct Nics {
    nics: Vec<Nic>,
}

impl Nics {
    /// Sees to an interface's hardware stamps, as far as they are asked for: the clock's number among these, and what is to
    /// be told.
    pub(crate) fn add(&mut self, interface: Option<&str>, asked: Stamps) -> (Option<usize>, Hardware) {
        if !matches!(asked, Stamps::Auto | Stamps::Hardware) {
            return (None, Hardware::Off);
        }
        match self.find(interface, asked) {
            Ok((index, hardware)) => (Some(index), hardware),
            // Nobody asked for what cannot be.
            Err(NoHardwareStamps::NoInterface | NoHardwareStamps::Unsupported | NoHardwareStamps::PtpOnly)
                if asked == Stamps::Auto =>
            {
                (None, Hardware::Off)
            }
            Err(why) => (None, Hardware::Unavailable(why)),
        }
    }

    fn find(&mut self, interface: Option<&str>, asked: Stamps) -> Result<(usize, Hardware), NoHardwareStamps> {
        let interface = interface.ok_or(NoHardwareStamps::NoInterface)?;
        let Stamping { phc, .. } = match asked {
            Stamps::Hardware => stamp_all(interface)?,
            _ => stamping(interface)?,
        };
        let (index, method) = match self.nics.iter().position(|nic| nic.phc.index() == phc) {
            Some(index) => {
                let sample = self.nics.get_mut(index).map(|nic| nic.phc.sample(READINGS));
                let method = sample.and_then(Result::ok).ok_or(NoHardwareStamps::PhcUnreadable)?.method;
                (index, method)
            }
            None => {
                let (nic, method) = Nic::open(phc)?;
                self.nics.push(nic);
                (self.nics.len() - 1, method)
            }
        };
        let report = self.nics.get(index).map(|nic| nic.report(method));
        report.map(|report| (index, report)).ok_or(NoHardwareStamps::PhcUnreadable)
    }

    /// A card's clock that is none: what is known of it is made up, and it can never be read again.
    #[cfg(test)]
    pub(crate) fn fake(&mut self, tracker: Tracker) -> usize {
        self.nics.push(Nic { phc: Phc::none(), tracker, due: u64::MAX, compared: monotonic() });
        self.nics.len() - 1
    }

    /// Compares clocks again where that is due.
    pub(crate) fn refresh(&mut self, counters: &mut ReceiverCounters) {
        for nic in &mut self.nics {
            nic.refresh(counters);
        }
    }

    /// How far the least good of the clocks may be off; 2^64-1 where there is none.
    pub(crate) fn bound_ns(&self) -> u64 {
        self.nics.iter().map(Nic::bound_ns).max().unwrap_or(u64::MAX)
    }

    /// How a clock's times become times of day.
    #[inline]
    pub(crate) fn fit(&self, index: Option<usize>) -> Option<Fit> {
        self.nics.get(index?)?.tracker.fit().copied()
    }
}

/// By what a receiving thread takes times itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserTimes {
    /// The processor's counter.
    Counter {
        /// How far off its times may be, nanoseconds either way.
        bound_ns: u64,
    },
    /// The system's clock, and why it is not the counter, where that was tried.
    System(Option<NoCounter>),
}

impl fmt::Display for UserTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserTimes::Counter { bound_ns } => {
                write!(f, "receive times by the feed thread, of the time-stamp counter (within {bound_ns} ns)")
            }
            UserTimes::System(None) => f.write_str("receive times by the feed thread, of the system's clock"),
            UserTimes::System(Some(why)) => write!(f, "receive times by the feed thread: {why}"),
        }
    }
}

/// The receiving thread's own clock.
#[derive(Debug)]
pub(crate) struct UserClock {
    tsc: Option<TscClock>,
    why: Option<NoCounter>,
    /// When to look at the system's clock again, by [`monotonic`].
    due: u64,
    bound_ns: u64,
}

impl UserClock {
    /// The system's clock.
    pub(crate) fn system() -> UserClock {
        UserClock { tsc: None, why: None, due: 0, bound_ns: 0 }
    }

    /// The processor's counter where it can be trusted; takes 20 ms.
    pub(crate) fn calibrated() -> UserClock {
        let tsc = TscClock::calibrate(TscOptions { samples: 16, ..TscOptions::default() });
        match tsc.fallback() {
            Some(why) => UserClock { why: Some(why), ..UserClock::system() },
            None => {
                let bound_ns = tsc.bound_within(LOOK_EVERY_NS);
                UserClock { tsc: Some(tsc), why: None, due: monotonic().saturating_add(LOOK_EVERY_NS), bound_ns }
            }
        }
    }

    /// The time.
    #[inline]
    pub(crate) fn now(&self) -> UnixNanos {
        match &self.tsc {
            Some(tsc) => tsc.now(),
            None => clock::now(),
        }
    }

    /// Follows the system's clock, where that is due.
    pub(crate) fn refresh(&mut self, counters: &mut ReceiverCounters) {
        let now = monotonic();
        let Some(tsc) = self.tsc.as_mut().filter(|_| now >= self.due) else { return };
        self.due = now.saturating_add(LOOK_EVERY_NS);
        match tsc.recalibrate() {
            Some(found) if found.stepped_ns.is_none() => self.bound_ns = tsc.bound_within(2 * LOOK_EVERY_NS),
            found => {
                // Who follows a stepped clock slowly is wrong for long, and the thread has no time to begin anew.
                counters.clock_steps += u64::from(found.is_some());
                *self = UserClock { why: tsc.fallback(), ..UserClock::system() };
            }
        }
    }

    pub(crate) fn bound_ns(&self) -> u64 {
        self.bound_ns
    }

    pub(crate) fn times(&self) -> UserTimes {
        match self.tsc {
            Some(_) => UserTimes::Counter { bound_ns: self.bound_ns },
            None => UserTimes::System(self.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::correlation::Sample;
    use proptest::prelude::*;

    const START: u64 = 1_700_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    /// A faked card, so many seconds ahead, and slow by so many parts in a thousand million.
    fn tracked(ahead_s: u64, slow_ppb: u64) -> Tracker {
        let mut tracker = Tracker::new(TrackerOptions::default());
        for index in 0..8 {
            let phc = PhcNanos(START + ahead_s * SECOND + index * SECOND);
            let system = UnixNanos(START + index * (SECOND + slow_ppb));
            tracker.update(Sample { phc, system, bound_ns: 300, method: Method::Extended });
        }
        tracker
    }

    /// A faked card, 37 seconds ahead and 10 ppm slow: which time a packet gets, and what is counted.
    #[test]
    fn the_cards_time_is_taken_where_it_is_good() {
        let tracker = tracked(37, 10_000);
        let fit = tracker.fit().unwrap();
        let last = START + 7 * (SECOND + 10_000);
        let mut counters = ReceiverCounters::default();
        let mut take = |stamp: Option<u64>, seen: u64| {
            let (time, source, verdict) = settle(Some(fit), stamp, UnixNanos(seen), TsSource::Kernel);
            verdict.count(1, &mut counters);
            assert_eq!(verdict.is_degraded(), source != TsSource::Nic);
            assert!(source == TsSource::Nic || time.0 == seen);
            (source == TsSource::Nic).then_some(time.0)
        };
        // 100 us after the last comparison.
        let stamp = START + 44 * SECOND + 100_000;
        let seen = last + 130_000;
        let found = take(Some(stamp), seen).unwrap();
        assert!(found.abs_diff(last + 100_001) <= 320, "{found}");
        assert_eq!(take(None, seen), None);
        assert_eq!(take(Some(stamp + 37 * SECOND), seen), None);
        assert_eq!(take(Some(0), seen), None);
        // Nobody compared the clocks for five minutes.
        assert_eq!(take(Some(stamp + 300 * SECOND), seen + 300 * SECOND), None);
        let expected = ReceiverCounters {
            hardware_times: 1,
            hardware_times_missing: 1,
            hardware_times_implausible: 2,
            hardware_times_uncertain: 1,
            ..ReceiverCounters::default()
        };
        assert_eq!(counters, expected);
        assert_eq!(
            settle(None, Some(stamp), UnixNanos(seen), TsSource::User),
            (UnixNanos(seen), TsSource::User, Verdict::NotAsked)
        );
    }

    proptest! {
        /// Whatever a card says: a time that is believed is near the system's, and the packet ends in one counter.
        #[test]
        fn no_stamp_leads_far_astray(stamp in any::<Option<u64>>(), near in 0u64..4 * SECOND, is_near: bool, ahead_s in 0u64..40) {
            let tracker = tracked(ahead_s, 10_000);
            let stamp = if is_near { Some(START + (7 + ahead_s) * SECOND + near) } else { stamp };
            let seen = UnixNanos(START + 8 * SECOND);
            let (time, source, verdict) = settle(tracker.fit(), stamp, seen, TsSource::User);
            let mut counters = ReceiverCounters::default();
            verdict.count(3, &mut counters);
            prop_assert_eq!(counters.values().iter().sum::<u64>(), 3);
            prop_assert_eq!(source == TsSource::Nic, verdict == Verdict::Taken);
            prop_assert!(time.0.abs_diff(seen.0) <= SANE_NS);
            if source == TsSource::Nic {
                // What the clocks that were faked show at that moment.
                let truth = START + 7 * (SECOND + 10_000) + near + near / 100_000;
                prop_assert!(!is_near || time.0.abs_diff(truth) <= MAX_BOUND_NS);
            }
        }
    }

    #[test]
    fn a_clock_that_is_none_is_told() {
        assert_eq!(Nic::open(987_654).unwrap_err(), NoHardwareStamps::PhcUnreadable);
        let mut nics = Nics::default();
        assert_eq!(nics.add(None, Stamps::Hardware).1, Hardware::Unavailable(NoHardwareStamps::NoInterface));
        assert_eq!(nics.add(Some("lo"), Stamps::Hardware).1, Hardware::Unavailable(NoHardwareStamps::Unsupported));
        for asked in [Stamps::Auto, Stamps::Kernel, Stamps::User] {
            assert_eq!(nics.add(Some("lo"), asked), (None, Hardware::Off));
        }
        assert_eq!((nics.fit(None), nics.bound_ns()), (None, u64::MAX));
    }

    #[test]
    fn the_threads_own_clock_keeps_to_the_systems() {
        let mut counters = ReceiverCounters::default();
        for mut clock in [UserClock::system(), UserClock::calibrated()] {
            clock.due = 0;
            clock.refresh(&mut counters);
            // A busy machine may take the core away between two looks, so the tightest of many counts.
            let error = || {
                let (before, ours, after) = (clock::now().0, clock.now().0, clock::now().0);
                before.saturating_sub(ours).max(ours.saturating_sub(after))
            };
            let error = (0..100).map(|_| error()).min().unwrap();
            assert!(error <= clock.bound_ns(), "{error} {:?}", clock.times());
        }
    }
}
