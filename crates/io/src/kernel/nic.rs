//! Hardware receive times at the kernel's sockets.
//!
//! With `SOF_TIMESTAMPING_RX_HARDWARE` and `_RAW_HARDWARE` the third time of `SCM_TIMESTAMPING` is the card's own, by the
//! card's clock. It becomes a time of day by the [correlation](crate::clock::correlation) of that clock with the system's,
//! which is renewed about once a second, whenever the path is [refreshed](crate::Receiver::refresh), and grows less
//! certain in between. A packet's time is the card's where it has a stamp and the correlation is good to
//! [`MAX_BOUND_NS`]; else the kernel's, counted under the reason.
//!
//! The card is the one of the line's interface. Stamps of another card's clock (a bond that changed its active card)
//! would be off by whatever the two are apart: a time further than [`SANE_NS`] from the kernel's own is not believed.

use std::io;
use std::time::Duration;

use barewire_types::UnixNanos;

use super::batch::Message;
use super::{Line, LineReport};
use crate::LineConfig;
use crate::clock::correlation::{Fit, Method, PhcNanos, Tracker, TrackerOptions, Update};
use crate::clock::discipline::{TaiOffset, Timescale, judge, system_clock};
use crate::clock::phc::Phc;
use crate::clock::{Bounded, monotonic};
use crate::hwstamp::{NoHardwareStamps, Stamping, stamp_all};
use crate::packet::counters;

/// A card's time that may be further off than this is no better than the kernel's.
pub const MAX_BOUND_NS: u64 = 100_000;
/// A card's time that is further than this from the kernel's is another clock's.
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

/// Whether a line's packets carry hardware times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Not asked for.
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
    /// They do not, and why: they carry the kernel's times.
    Unavailable(NoHardwareStamps),
}

counters! {
    /// What has been counted of hardware times.
    ///
    /// Every packet handed over from a line with hardware times ends in exactly one of the first four.
    HardwareCounters {
        /// Packets with the card's time.
        stamped,
        /// Packets that the card had not stamped.
        unstamped,
        /// Packets whose stamp could not be told as a time of day to within [`MAX_BOUND_NS`]: the card's clock was not
        /// compared with the system's for too long.
        uncertain,
        /// Packets whose stamp was further than [`SANE_NS`] from the kernel's: another clock's.
        implausible,
        /// Comparisons of a card's clock with the system's.
        correlations,
        /// Comparisons that failed.
        correlation_errors,
        /// Comparisons that found one of the clocks stepped. Times between the step and the comparison are off by it.
        clock_steps,
    }
}

/// A card's clock.
#[derive(Debug)]
struct Nic {
    phc: Phc,
    tracker: Tracker,
    /// When to compare again, by [`monotonic`].
    due: u64,
}

impl Nic {
    fn open(index: u32) -> Result<(Nic, Method), NoHardwareStamps> {
        let unreadable = |_| NoHardwareStamps::PhcUnreadable;
        let phc = Phc::open(index).map_err(unreadable)?;
        let mut nic = Nic { phc, tracker: Tracker::new(TrackerOptions::default()), due: 0 };
        for _ in 1..FIRST {
            nic.tracker.update(nic.phc.sample(READINGS).map_err(unreadable)?);
            std::thread::sleep(FIRST_APART);
        }
        let sample = nic.phc.sample(READINGS).map_err(unreadable)?;
        nic.tracker.update(sample);
        nic.due = monotonic().saturating_add(nic.pause());
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

    fn refresh(&mut self, counters: &mut HardwareCounters) {
        let now = monotonic();
        if now < self.due {
            return;
        }
        self.due = now.saturating_add(self.pause());
        if let Ok(clock) = system_clock() {
            self.tracker.announce(clock.leap, clock.now);
        }
        counters.correlations += 1;
        match self.phc.sample(READINGS) {
            Ok(sample) => {
                let stepped = matches!(self.tracker.update(sample), Update::Stepped { .. });
                counters.clock_steps += u64::from(stepped);
            }
            // The old line stands; its bound grows.
            Err(_) => counters.correlation_errors += 1,
        }
    }
}

/// The lines' cards' clocks.
#[derive(Debug, Default)]
pub(super) struct Nics {
    nics: Vec<Nic>,
    /// Each line's, where it has one; empty where nobody asked.
    of_line: Vec<Option<usize>>,
    counters: HardwareCounters,
}

impl Nics {
    /// Sets cards and sockets up; what each line got is written into its report.
    pub(super) fn open(configs: &[LineConfig], lines: &[Line], reports: &mut [LineReport], software: bool) -> Nics {
        let mut all = Nics::default();
        for ((config, line), report) in configs.iter().zip(lines).zip(reports) {
            let found = all.add(config, line, software);
            all.of_line.push(found.as_ref().ok().map(|(index, _)| *index));
            report.hardware = match found {
                Ok((_, hardware)) => hardware,
                Err(why) => Hardware::Unavailable(why),
            };
        }
        all
    }

    fn add(&mut self, config: &LineConfig, line: &Line, software: bool) -> Result<(usize, Hardware), NoHardwareStamps> {
        let interface = config.interface.as_deref().ok_or(NoHardwareStamps::NoInterface)?;
        let Stamping { phc, .. } = stamp_all(interface)?;
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
        ask(line, software).map_err(|_| NoHardwareStamps::SocketRefused)?;
        let report = self.nics.get(index).map(|nic| nic.report(method));
        report.map(|report| (index, report)).ok_or(NoHardwareStamps::PhcUnreadable)
    }

    /// Compares clocks again where that is due.
    pub(super) fn refresh(&mut self) {
        for nic in &mut self.nics {
            nic.refresh(&mut self.counters);
        }
    }

    pub(super) fn counters(&self) -> HardwareCounters {
        self.counters
    }

    /// The correlation of a line's card, where it has one.
    #[inline]
    pub(super) fn fit(&self, line: usize) -> Option<Fit> {
        let nic = self.nics.get((*self.of_line.get(line)?)?)?;
        nic.tracker.fit().copied()
    }

    /// A message's time by the card, where it has one that is good.
    #[inline]
    pub(super) fn time(&mut self, fit: Option<&Fit>, message: &Message<'_>) -> Option<UnixNanos> {
        time(fit?, message, &mut self.counters)
    }
}

/// Asks the kernel to hand the card's times on, beside its own where those are wanted.
fn ask(line: &Line, software: bool) -> io::Result<()> {
    let mut flags = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    if software {
        flags |= libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    }
    line.socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags)
}

fn time(fit: &Fit, message: &Message<'_>, counters: &mut HardwareCounters) -> Option<UnixNanos> {
    let Some(stamp) = message.hardware else {
        counters.unstamped += 1;
        return None;
    };
    let Bounded { time, bound_ns } = fit.unix(PhcNanos(stamp));
    if message.time.is_some_and(|kernel| kernel.0.abs_diff(time.0) > SANE_NS) {
        counters.implausible += 1;
        return None;
    }
    if bound_ns > MAX_BOUND_NS {
        counters.uncertain += 1;
        return None;
    }
    counters.stamped += 1;
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::correlation::Sample;
    use std::net::{Ipv4Addr, SocketAddrV4};

    const START: u64 = 1_700_000_000_000_000_000;
    const SECOND: u64 = 1_000_000_000;

    /// A faked card, 37 seconds ahead and 10 ppm slow: which time a packet gets, and what is counted.
    #[test]
    fn the_cards_time_is_taken_where_it_is_good() {
        let mut tracker = Tracker::new(TrackerOptions::default());
        for index in 0..8 {
            let phc = PhcNanos(START + 37 * SECOND + index * SECOND);
            let system = UnixNanos(START + index * (SECOND + 10_000));
            tracker.update(Sample { phc, system, bound_ns: 300, method: Method::Extended });
        }
        let fit = tracker.fit().unwrap();
        let last = START + 7 * (SECOND + 10_000);
        let mut counters = HardwareCounters::default();
        let mut take = |hardware: Option<u64>, kernel: Option<u64>| {
            let src = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
            let time_of = kernel.map(UnixNanos);
            let message = Message { payload: Some(b""), src, time: time_of, hardware, drops: None };
            time(fit, &message, &mut counters).map(|time| time.0)
        };
        // 100 us after the last comparison.
        let stamp = START + 44 * SECOND + 100_000;
        let kernel = last + 130_000;
        let found = take(Some(stamp), Some(kernel)).unwrap();
        assert!(found.abs_diff(last + 100_001) <= 320, "{found}");
        assert_eq!(take(Some(stamp), None), Some(found));
        assert_eq!(take(None, Some(kernel)), None);
        assert_eq!(take(Some(stamp + 37 * SECOND), Some(kernel)), None);
        // Nobody compared the clocks for five minutes.
        assert_eq!(take(Some(stamp + 300 * SECOND), Some(kernel + 300 * SECOND)), None);
        let expected =
            HardwareCounters { stamped: 2, unstamped: 1, implausible: 1, uncertain: 1, ..HardwareCounters::default() };
        assert_eq!(counters, expected);
    }

    /// Asked for both, where the card has none: the kernel's come, or none.
    #[test]
    fn a_socket_that_asks_for_the_cards_times_still_gets_the_kernels() {
        use super::super::{Batch, KernelOptions, open_line};
        use std::net::UdpSocket;
        use std::time::Instant;
        for software in [true, false] {
            let port = 15_000 + (std::process::id() % 4_000) as u16 * 2 + u16::from(software);
            let config = LineConfig {
                group: Ipv4Addr::LOCALHOST,
                port,
                interface: None,
                source: None,
                allow: Vec::new(),
                line: 0,
            };
            let (line, _) = open_line(&config, &KernelOptions::default()).unwrap();
            ask(&line, software).unwrap();
            let mut batch = Batch::new(4, 100).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let begun = Instant::now();
            let mut seen = 0;
            // The kernel begins to stamp a moment after it is first asked to.
            while seen < 100 {
                assert!(begun.elapsed() < Duration::from_secs(10), "the kernel never stamps");
                sender.send_to(b"x", (Ipv4Addr::LOCALHOST, port)).unwrap();
                let Ok(received) = batch.receive(line.socket.fd()) else { continue };
                for message in batch.messages(received) {
                    assert_eq!(message.hardware, None);
                    assert!(software || message.time.is_none());
                    seen += u32::from(message.time.is_some() == software);
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_none_is_told() {
        assert_eq!(Nic::open(987_654).unwrap_err(), NoHardwareStamps::PhcUnreadable);
        assert!(Nics::default().fit(0).is_none());
    }
}
