//! The strategy whose only work is to look at the clock.

use barewire_io::clock;
use barewire_ring::Producer;
use barewire_types::{Mbo, Record, RecordKind};
use hdrhistogram::Histogram;

use crate::sink::Sink;

/// Latencies are told apart up to this, ns; longer ones count as this.
const LONGEST_NS: u64 = 60_000_000_000;
/// Three significant digits: a latency is off by at most one part in a thousand.
const DIGITS: u8 = 3;

/// A distribution of latencies in ns, to three digits.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// `None` where there is no memory for it.
    fn new() -> Option<Latency> {
        Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).ok().map(Latency)
    }

    #[inline]
    fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// How many there are.
    pub fn samples(&self) -> u64 {
        self.0.len()
    }

    /// Mean and standard deviation, ns.
    pub fn mean_and_deviation(&self) -> (f64, f64) {
        (self.0.mean(), self.0.stdev())
    }

    /// The same without the worst hundredth.
    pub fn trimmed(&self) -> (f64, f64) {
        let keep = self.0.len() - self.0.len() / 100;
        let kept = || {
            let mut left = keep;
            self.0.iter_recorded().map_while(move |step| {
                let count = step.count_at_value().min(left);
                left -= count;
                let middle = self.0.median_equivalent(step.value_iterated_to()) as f64;
                (count > 0).then_some((middle, count as f64))
            })
        };
        let total = keep.max(1) as f64;
        let mean = kept().map(|(ns, count)| ns * count).sum::<f64>() / total;
        let variance = kept().map(|(ns, count)| (ns - mean).powi(2) * count).sum::<f64>() / total;
        (mean, variance.sqrt())
    }

    /// The latency that this share of all does not exceed, ns.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }

    /// The longest, ns.
    pub fn max(&self) -> u64 {
        self.0.max()
    }
}

/// When messages should have been handed over.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Schedule {
    pub(super) ns_per_message: f64,
    pub(super) samples: Samples,
}

/// Which messages are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Samples {
    /// Every one.
    #[default]
    Messages,
    /// The first of each packet: where it is a rate that is looked for, looking at the clock is not to be what limits it.
    Packets,
}

#[derive(Debug)]
struct Armed {
    start: u64,
    schedule: Schedule,
}

/// Publishes records into a ring and then takes them as a strategy would that is compiled into the loop.
pub(in super::super) struct Probe {
    ring: Producer,
    armed: Option<Armed>,
    /// The message whose records came last, and when it was handed over.
    sequence: u64,
    sent: u64,
    /// How late that was.
    late: u64,
    latency: Latency,
    from_due: Latency,
}

impl Probe {
    pub(super) fn new(ring: Producer) -> Option<Probe> {
        let (latency, from_due) = (Latency::new()?, Latency::new()?);
        Some(Probe { ring, armed: None, sequence: 0, sent: 0, late: 0, latency, from_due })
    }

    /// From here on it measures; the first message is due at `start`.
    pub(in super::super) fn arm(&mut self, start: u64, schedule: Schedule) {
        (self.sequence, self.sent) = (0, 0);
        self.armed = Some(Armed { start, schedule });
    }

    /// What was measured.
    pub(super) fn take(&mut self) -> (Latency, Latency) {
        (self.latency.clone(), self.from_due.clone())
    }
}

impl Sink for Probe {
    #[inline]
    fn publish(&mut self, record: Record) {
        self.ring.publish(record);
        // Here a strategy begins.
        let Some(armed) = &self.armed else { return };
        let order = Mbo::from(record);
        if order.kind != RecordKind::Mbo as u8 || order.sequence == self.sequence {
            return;
        }
        // A packet's messages carry one time.
        let is_first = order.ts_event != self.sent;
        if !is_first && armed.schedule.samples == Samples::Packets {
            return;
        }
        let now = clock::monotonic();
        if is_first {
            let due = armed.start + ((order.sequence - 1) as f64 * armed.schedule.ns_per_message) as u64;
            self.sent = order.ts_event;
            self.late = self.sent.saturating_sub(due);
        }
        self.sequence = order.sequence;
        let latency = now.saturating_sub(self.sent);
        self.latency.record(latency);
        self.from_due.record(latency + self.late);
    }

    fn name_instrument(&mut self, instrument_id: u32, symbol: &[u8]) -> bool {
        self.ring.name_instrument(instrument_id, symbol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the plain way, over a long-tailed sample.
    #[test]
    fn trimmed_figures_are_those_of_the_best_ninety_nine_hundredths() {
        let mut latency = Latency::new().unwrap();
        let mut all: Vec<u64> =
            (1..=20_000u64).map(|n| 3_000 + n * n % 977 + if n % 150 == 0 { n * 1_000 } else { 0 }).collect();
        all.iter().for_each(|ns| latency.record(*ns));
        all.sort_unstable();
        all.truncate(19_800);
        let mean = all.iter().sum::<u64>() as f64 / all.len() as f64;
        let deviation = (all.iter().map(|ns| (*ns as f64 - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
        let (trimmed_mean, trimmed_deviation) = latency.trimmed();
        assert!((trimmed_mean / mean - 1.0).abs() < 2e-3, "{trimmed_mean} {mean}");
        assert!((trimmed_deviation / deviation - 1.0).abs() < 2e-2, "{trimmed_deviation} {deviation}");
        assert_eq!(latency.samples(), 20_000);
    }

    #[test]
    fn nothing_measured_is_nothing() {
        let latency = Latency::new().unwrap();
        assert_eq!((latency.samples(), latency.max(), latency.trimmed()), (0, 0, (0.0, 0.0)));
    }
}
