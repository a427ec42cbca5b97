//! One run: what is due is gathered, stamped, and handed to the sinks; where nothing is due, time is waited for.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use barewire_io::clock;
use barewire_types::{Seq, UnixNanos};
use barewire_wire::moldudp64::{end_of_session, heartbeat};

use super::{Progress, Report, Simulator, SimulatorConfig, Time};
use crate::pace::{Pace, Schedule};
use crate::packing::{OtherCuts, Packer, Store, stamp};
use crate::sink::{Line, SimPacket, Sink, SinkError};

/// Packets that are handed over together at most, on each line.
const BATCH: usize = 64;

/// A packet counts as late when it is handed over so long after it was due, ns.
const LATE_NS: u64 = 100_000;

/// How long the B line's other cuts may hold messages back, ns.
const HOLD_NS: u64 = 1_000_000;

/// A wait is slept but for its last part, which is spun, ns; no sleep is longer than the other, so that a stop is noticed.
const SPIN_NS: u64 = 150_000;
const SLEEP_NS: u64 = 10_000_000;

/// Heartbeats that stand for a gap of any length in simulated time.
const GAP_HEARTBEATS: u32 = 3;

/// Where the bytes of a planned packet are.
#[derive(Clone, Copy, Debug)]
enum Bytes {
    /// In the A line's store: its own packets, and the B line's where they are the same.
    A,
    /// In the B line's.
    B,
}

/// A packet that is about to be handed over.
#[derive(Clone, Copy, Debug)]
struct Planned {
    line: Line,
    time: UnixNanos,
    at: Bytes,
    begin: usize,
    end: usize,
}

/// The B line's packets whose time has not come: their times and lengths, and their bytes.
#[derive(Debug, Default)]
struct Delayed {
    packets: VecDeque<(UnixNanos, usize)>,
    bytes: VecDeque<u8>,
}

pub(super) struct Run<'s, 'k> {
    config: SimulatorConfig,
    sinks: &'s mut [&'k mut dyn Sink],
    progress: Arc<Progress>,
    schedule: Schedule,
    source: Packer,
    /// Whether packets' times are the system's.
    wall: bool,
    a: Store,
    b: Store,
    other: Option<OtherCuts>,
    delayed: Delayed,
    plan: Vec<Planned>,
    /// The next of `a`'s packets.
    cursor: usize,
    start_ns: u64,
    /// When anything was last sent, by the run's clock and by the packets'.
    last_sent_ns: u64,
    last_time: UnixNanos,
    report: Report,
}

impl<'s, 'k> Run<'s, 'k> {
    pub(super) fn new(simulator: Simulator, sinks: &'s mut [&'k mut dyn Sink]) -> Run<'s, 'k> {
        let Simulator { config, exchange, progress } = simulator;
        let session = config.session;
        let other = (session.b_line && session.different_cuts)
            .then(|| OtherCuts::new(config.exchange.seed, session.session, session.max_payload));
        Run {
            schedule: Schedule(config.pace),
            source: Packer::new(exchange, session.session, session.max_payload),
            wall: config.time == Time::Real || config.pace != Pace::Max,
            a: Store::with_capacity(BATCH, session.max_payload),
            // Other cuts make up to two packets of one, and one more.
            b: Store::with_capacity(2 * BATCH + 2, session.max_payload),
            other,
            delayed: Delayed::default(),
            plan: Vec::with_capacity(4 * BATCH),
            cursor: 0,
            start_ns: 0,
            last_sent_ns: 0,
            last_time: UnixNanos::ABSENT,
            report: Report::default(),
            config,
            sinks,
            progress,
        }
    }

    pub(super) fn run(mut self, stop: &AtomicBool) -> Result<Report, SinkError> {
        let stopped = || stop.load(Ordering::Relaxed);
        if self.config.prepare {
            let limit = self.per_packet().unwrap_or(u64::MAX);
            while !stopped() && self.source.pack(&mut self.a, limit) {}
        }
        self.start_ns = clock::monotonic();
        loop {
            if stopped() {
                self.report.stopped = true;
                break;
            }
            let now = self.now();
            let mut due = self.schedule.due(now);
            if let Some(limit) = self.config.run_for_ns.filter(|limit| now >= *limit) {
                // What was due by then is sent, however late, and only then it ends.
                let last = if self.config.pace == Pace::Max { 0 } else { self.schedule.due(limit) };
                if self.next_due() <= last {
                    due = due.min(last);
                } else if self.config.prepare {
                    self.report.stopped = true;
                    break;
                } else {
                    self.source.end();
                }
            }
            let end = self.gather(due);
            if end > self.cursor {
                self.dispatch(end)?;
            } else if self.is_over() {
                break;
            } else {
                self.idle(now)?;
            }
        }
        self.finish()
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        clock::monotonic().saturating_sub(self.start_ns)
    }

    fn per_packet(&self) -> Option<u64> {
        self.config.session.messages_per_packet.map(u64::from)
    }

    fn is_over(&self) -> bool {
        if self.config.prepare { self.cursor == self.a.cuts.len() } else { self.source.is_over() }
    }

    /// Number of the message whose turn completes the next packet.
    fn next_due(&self) -> u64 {
        match self.a.cuts.get(self.cursor).filter(|_| self.config.prepare) {
            Some(cut) => self.report.messages + u64::from(cut.messages),
            None => self.report.messages + self.per_packet().unwrap_or(1),
        }
    }

    /// Makes the packets that are due, a batch of them at most, and returns where those end in the store.
    fn gather(&mut self, due: u64) -> usize {
        if self.config.prepare {
            let mut sent = self.report.messages;
            let batch = self.a.cuts.iter().skip(self.cursor).take(BATCH);
            let ready = batch.take_while(|cut| {
                sent += u64::from(cut.messages);
                sent <= due
            });
            return self.cursor + ready.count();
        }
        self.a.clear();
        self.cursor = 0;
        if self.config.exchange.venue.is_some() && self.config.time == Time::Real {
            self.source.set_market_time(clock::now().0);
        }
        let per_packet = self.per_packet();
        let mut left = due.saturating_sub(self.report.messages);
        while self.a.cuts.len() < BATCH && left >= per_packet.unwrap_or(1) {
            if !self.source.pack(&mut self.a, per_packet.unwrap_or(left)) {
                break;
            }
            left -= self.a.cuts.last().map_or(0, |cut| u64::from(cut.messages));
        }
        self.a.cuts.len()
    }

    /// Hands the A line's packets up to `end` to the sinks, and the B line's with them.
    fn dispatch(&mut self, end: usize) -> Result<(), SinkError> {
        let begin = self.cursor;
        self.cursor = end;
        self.b.clear();
        let real = clock::now().max(self.last_time);
        if self.config.time == Time::Real {
            let since_midnight = real.0.saturating_sub(self.config.midnight.0);
            for cut in self.a.cuts.get(begin..end).unwrap_or_default() {
                stamp(self.a.bytes.get_mut(cut.begin..cut.end).unwrap_or_default(), since_midnight);
            }
        }
        let mut messages = 0;
        for index in begin..end {
            let Some(&cut) = self.a.cuts.get(index) else { break };
            let time = if self.wall { real } else { UnixNanos(self.config.midnight.0.saturating_add(cut.time_ns)) };
            if !self.wall {
                self.tell_gap(time, cut.sequence);
            }
            self.release(time);
            self.plan.push(Planned { line: Line::A, time, at: Bytes::A, begin: cut.begin, end: cut.end });
            messages += u64::from(cut.messages);
            self.report.a.packets += 1;
            self.report.a.bytes += (cut.end - cut.begin) as u64;
            self.last_time = time;
            match &mut self.other {
                Some(other) => {
                    let from = self.b.cuts.len();
                    other.take(&cut, self.a.payload(&cut), &mut self.b);
                    self.plan_other_cuts(from, time);
                }
                None if self.config.session.b_line => self.plan_b(time, Bytes::A, cut.begin, cut.end, true),
                None => {}
            }
        }
        let now = self.now();
        self.count_late(begin, end, now);
        self.report.messages += messages;
        self.hand_over()?;
        self.report.elapsed_ns = self.now();
        self.progress.messages.store(self.report.messages, Ordering::Relaxed);
        self.progress.packets.store(self.report.a.packets, Ordering::Relaxed);
        Ok(())
    }

    /// Counts those packets that should have gone before.
    fn count_late(&mut self, begin: usize, end: usize, now: u64) {
        let Some(then) = now.checked_sub(LATE_NS).filter(|_| self.config.pace != Pace::Max) else { return };
        let due = self.schedule.due(then);
        let mut sent = self.report.messages;
        for (number, cut) in self.a.cuts.get(begin..end).unwrap_or_default().iter().enumerate() {
            sent += u64::from(cut.messages);
            if sent > due {
                break;
            }
            if number == 0 {
                // No other of the batch is later.
                self.report.max_late_ns = self.report.max_late_ns.max(now.saturating_sub(self.schedule.when(sent)));
            }
            self.report.late_packets += 1;
        }
    }

    /// Plans the B line's packets that other cuts have made, from this one on.
    fn plan_other_cuts(&mut self, from: usize, time: UnixNanos) {
        for index in from..self.b.cuts.len() {
            if let Some(&cut) = self.b.cuts.get(index) {
                self.plan_b(time, Bytes::B, cut.begin, cut.end, true);
            }
        }
    }

    /// Plans a packet on the B line, now or for later.
    fn plan_b(&mut self, time: UnixNanos, at: Bytes, begin: usize, end: usize, has_messages: bool) {
        if has_messages {
            self.report.b.packets += 1;
            self.report.b.bytes += (end - begin) as u64;
        }
        let delay = self.config.session.b_delay_ns;
        if delay == 0 {
            self.plan.push(Planned { line: Line::B, time, at, begin, end });
            return;
        }
        let store = match at {
            Bytes::A => &self.a,
            Bytes::B => &self.b,
        };
        self.delayed.packets.push_back((UnixNanos(time.0.saturating_add(delay)), end - begin));
        self.delayed.bytes.extend(store.bytes.get(begin..end).unwrap_or_default());
    }

    /// Plans the delayed packets whose time has come by `time`.
    fn release(&mut self, time: UnixNanos) {
        while let Some(&(then, len)) = self.delayed.packets.front() {
            if then > time {
                break;
            }
            self.delayed.packets.pop_front();
            let begin = self.b.bytes.len();
            self.b.bytes.resize(begin + len, 0);
            if let Some(to) = self.b.bytes.get_mut(begin..) {
                // The queue holds as many bytes as its packets have together.
                let _ = self.delayed.bytes.read_exact(to);
            }
            // By the system's clock it goes now; simulated time has it go when it should have gone.
            let time = if self.wall { time } else { then };
            self.plan.push(Planned { line: Line::B, time, at: Bytes::B, begin, end: begin + len });
        }
    }

    /// Plans a packet without messages on both lines.
    fn plan_bare(&mut self, time: UnixNanos, packet: &[u8]) {
        let begin = self.b.bytes.len();
        self.b.bytes.extend_from_slice(packet);
        let end = self.b.bytes.len();
        self.plan.push(Planned { line: Line::A, time, at: Bytes::B, begin, end });
        if self.config.session.b_line {
            self.plan_b(time, Bytes::B, begin, end, false);
        }
    }

    fn plan_heartbeat(&mut self, time: UnixNanos, next: u64) {
        if let Some(other) = &mut self.other {
            // What is numbered below `next` has to be there before.
            let from = self.b.cuts.len();
            other.flush(&mut self.b);
            self.plan_other_cuts(from, time);
        }
        self.plan_bare(time, &heartbeat(self.config.session.session, Seq(next)));
        self.report.heartbeats += 1 + u64::from(self.config.session.b_line);
    }

    /// Heartbeats in a gap of simulated time.
    fn tell_gap(&mut self, time: UnixNanos, next: u64) {
        let every = self.config.session.heartbeat_ns;
        if self.last_time == UnixNanos::ABSENT {
            return;
        }
        for number in 1..=u64::from(GAP_HEARTBEATS) {
            let at = UnixNanos(self.last_time.0.saturating_add(every.saturating_mul(number)));
            if at >= time {
                break;
            }
            self.release(at);
            self.plan_heartbeat(at, next);
        }
    }

    /// Hands what is planned to every sink.
    fn hand_over(&mut self) -> Result<(), SinkError> {
        let none = SimPacket { line: Line::A, time: UnixNanos::ABSENT, payload: &[] };
        for part in self.plan.chunks(2 * BATCH) {
            let mut packets = [none; 2 * BATCH];
            for (packet, planned) in packets.iter_mut().zip(part) {
                let store = match planned.at {
                    Bytes::A => &self.a,
                    Bytes::B => &self.b,
                };
                let payload = store.bytes.get(planned.begin..planned.end).unwrap_or_default();
                *packet = SimPacket { line: planned.line, time: planned.time, payload };
            }
            for sink in self.sinks.iter_mut() {
                sink.take(packets.get(..part.len()).unwrap_or_default())?;
            }
        }
        self.plan.clear();
        self.last_sent_ns = self.now();
        Ok(())
    }

    /// Nothing is due: sends what has been waiting for that, and waits.
    fn idle(&mut self, now: u64) -> Result<(), SinkError> {
        let next = self.schedule.when(self.next_due());
        let real = clock::now().max(self.last_time);
        self.b.clear();
        self.release(real);
        if let Some(other) = self.other.as_mut().filter(|_| next > now + HOLD_NS) {
            other.flush(&mut self.b);
            self.plan_other_cuts(0, real);
        }
        let beat = self.last_sent_ns.saturating_add(self.config.session.heartbeat_ns);
        if now >= beat {
            self.plan_heartbeat(real, self.report.messages + 1);
        }
        if !self.plan.is_empty() {
            self.last_time = real;
            return self.hand_over();
        }
        let delayed = self.delayed.packets.front().map(|(then, _)| *then);
        let delayed = delayed.into_iter().chain(self.poll(real)?).min();
        let delayed = delayed.map_or(u64::MAX, |then| then.0.saturating_sub(real.0));
        wait(next.min(beat).saturating_sub(now).min(delayed));
        Ok(())
    }

    /// Lets the sinks do what is due by the system's clock, and returns when the next is.
    fn poll(&mut self, real: UnixNanos) -> Result<Option<UnixNanos>, SinkError> {
        let mut next = None;
        for sink in self.sinks.iter_mut() {
            let of_sink = sink.poll(real)?;
            next = next.into_iter().chain(of_sink).min();
        }
        Ok(next)
    }

    /// Waits for so long, or else until the sinks hold nothing back any more; these go on meanwhile.
    fn pass(&mut self, ns: Option<u64>) -> Result<(), SinkError> {
        let (begin, real) = (self.now(), clock::now().max(self.last_time));
        loop {
            let passed = self.now().saturating_sub(begin);
            let real = UnixNanos(real.0.saturating_add(passed));
            let until_sinks = self.poll(real)?.map(|next| next.0.saturating_sub(real.0));
            let rest = ns.map(|ns| ns.saturating_sub(passed));
            match rest.into_iter().chain(until_sinks).min() {
                Some(least) if rest != Some(0) => wait(least),
                _ => return Ok(()),
            }
        }
    }

    /// Sends what is left, then the end of the session, and completes the sinks.
    fn finish(mut self) -> Result<Report, SinkError> {
        let mut time = if self.wall { clock::now().max(self.last_time) } else { self.last_time };
        self.b.clear();
        if let Some(other) = &mut self.other {
            other.flush(&mut self.b);
            self.plan_other_cuts(0, time);
            self.hand_over()?;
        }
        while let Some(&(then, _)) = self.delayed.packets.front() {
            if self.wall {
                self.pass(Some(then.0.saturating_sub(time.0)))?;
                time = clock::now().max(self.last_time);
            } else {
                time = then;
            }
            self.b.clear();
            self.release(time);
            self.hand_over()?;
        }
        let end = end_of_session(self.config.session.session, Seq(self.report.messages + 1));
        // The delay is over and done with: the ends of both lines go together.
        self.config.session.b_delay_ns = 0;
        for number in 0..self.config.session.end_packets {
            if number > 0 {
                time = UnixNanos(time.0.saturating_add(self.config.session.end_interval_ns));
                if self.wall {
                    self.pass(Some(self.config.session.end_interval_ns))?;
                    time = clock::now().max(self.last_time);
                }
            }
            self.b.clear();
            self.plan_bare(time, &end);
            self.hand_over()?;
        }
        if self.wall {
            self.pass(None)?;
        }
        for sink in self.sinks.iter_mut() {
            sink.finish()?;
            let losses = sink.losses();
            self.report.send_errors += losses.errors;
            self.report.unsent += losses.unsent;
        }
        self.report.live_orders = self.source.live_orders();
        Ok(self.report)
    }
}

/// Waits for so long, or a part of it.
fn wait(ns: u64) {
    if ns > SPIN_NS {
        std::thread::sleep(Duration::from_nanos((ns - SPIN_NS).min(SLEEP_NS)));
    } else {
        std::hint::spin_loop();
    }
}
