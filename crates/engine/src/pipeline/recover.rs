//! The other way of a packet: what is done when messages are missing, as [`Recovery`](barewire_line::Recovery) decides it.
//! Everything here is cold.

use barewire_line::{Arrival, LineChange, Room, SessionId, Step, Stored};
use barewire_types::{Flags, Seq, StatusCode, TsSource, UnixNanos};
use barewire_wire::binaryfile;

use super::{Content, Context, Counter, Framing, Input, Pipeline, REPLIES, Sink, Venue};
use crate::recovery::{NoServices, Services, Snapshot};

/// Under load, the holds after which a hole is given up although packets are still waiting to be read.
const PATIENCE: u64 = 8;
/// Messages of a snapshot that are applied before packets get their turn.
const PART: usize = 256;

/// A snapshot that includes more than the lines have shown is kept so long until they do; if they go on without, it is
/// somebody else's, or wrong.
const AHEAD_NS: u64 = 1_000_000_000;

/// A snapshot that came, and is ahead of the lines.
pub(super) struct Kept {
    snapshot: Snapshot,
    since: UnixNanos,
}

/// A snapshot that is being applied.
pub(super) struct Loading {
    snapshot: Snapshot,
    /// Bytes of it that were.
    done: usize,
    /// The first message that it does not include.
    next: Seq,
    at: UnixNanos,
}

impl Loading {
    fn context(&self) -> Context {
        Context { sequence: self.next.0, ts_recv: self.at, ts_source: TsSource::User, flags: Flags::SNAPSHOT }
    }
}

impl<V: Venue, S: Sink> Pipeline<V, S> {
    /// Whether something is missing or was asked for, so that [`recover`](Self::recover) is to be called from time to time.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        self.sequencer.is_waiting() || self.recovery.has_plans() || self.fetching
    }

    /// Whether a snapshot is being loaded, a part of it with each [`recover`](Self::recover).
    pub fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    /// Whether a server may be about to answer.
    #[inline(always)]
    pub fn is_asking(&self) -> bool {
        self.recovery.is_asking()
    }

    /// Does what is to be done now about missing messages: waits, asks, takes a snapshot that came, declares lost; and goes
    /// on with what is held behind them. Of a snapshot that is being loaded it applies a part, so that packets get their turn.
    ///
    /// `now` is the time, and `drained` says whether everything that had arrived by then was read. While packets wait to be
    /// read, what is missing may be among them, however late it is: then it is waited for eight times as long.
    #[cold]
    pub fn recover(&mut self, now: UnixNanos, drained: bool, services: &mut (impl Services + ?Sized)) {
        let patience = if drained { 0 } else { (PATIENCE - 1) * self.sequencer.hold_ns() };
        // Not to 0, which stands for no time at all.
        let by = UnixNanos(now.0.saturating_sub(patience).max(u64::from(now != UnixNanos::ABSENT)));
        if self.loading.is_some() {
            if let Some(snapshot) = self.load() {
                services.give_back(snapshot);
            }
        } else {
            loop {
                let step = self.recovery.step(now, by, &mut self.sequencer);
                if step != Step::Wait {
                    self.act(step, now, services);
                } else if !self.take_snapshot(now, services) {
                    break;
                }
            }
        }
        self.end_of_turn(now);
    }

    /// As [`recover`](Self::recover), by the times of a capture: everything before the time of the line that is furthest
    /// behind has been read.
    #[cold]
    pub fn recover_by_lines(&mut self, now: UnixNanos, services: &mut (impl Services + ?Sized)) {
        let heard = self.sequencer.lines().iter().filter(|line| line.packets > 0).map(|line| line.last_heard);
        let drained = heard.min().unwrap_or(now);
        self.recover(drained, true, services);
        if self.is_waiting() {
            self.recover(now, false, services);
        }
    }

    /// Declares lost whatever is missing: nothing more will come.
    pub fn flush(&mut self, now: UnixNanos) {
        while self.loading.is_some() {
            self.load();
        }
        self.kept = None;
        if self.sequencer.is_suspended() {
            let step = self.recovery.no_room(now, &mut self.sequencer);
            self.act(step, now, &mut NoServices);
        }
        while let Some(missing) = self.sequencer.flush() {
            self.lost(&missing, now);
        }
        self.end_of_turn(now);
    }

    fn end_of_turn(&mut self, now: UnixNanos) {
        if self.sequencer.has_ended() != self.has_ended {
            self.session_end(now, self.own_source());
        }
        self.out.end_of_packet();
        self.venue.maintain(&mut self.counters);
    }

    /// Does one step of recovery.
    fn act(&mut self, step: Step, now: UnixNanos, services: &mut (impl Services + ?Sized)) {
        match step {
            Step::Wait => {}
            Step::Request { server, first, count } => {
                if let Some(session) = self.sequencer.session() {
                    services.request(server, V::Framing::request(session, first, count).as_ref());
                }
            }
            Step::Fetch { ticket, server } => {
                self.fetching = true;
                services.fetch(ticket, server);
            }
            Step::Lost(missing) => {
                self.kept = None;
                self.lost(&missing, now);
            }
            Step::Filled => {
                self.kept = None;
                self.row();
            }
        }
    }

    /// Looks whether a snapshot came; whether there was anything to see.
    fn take_snapshot(&mut self, now: UnixNanos, services: &mut (impl Services + ?Sized)) -> bool {
        if let Some(kept) = self.kept.take() {
            return self.join_on(kept, now, services);
        }
        if !self.fetching {
            return false;
        }
        let Some((ticket, fetched)) = services.fetched() else { return false };
        let is_current = self.recovery.is_current(ticket);
        self.fetching = self.recovery.is_fetching() && !is_current;
        match fetched {
            Ok(snapshot) if is_current => self.join_on(Kept { snapshot, since: now }, now, services),
            Err(_) if is_current => {
                self.fetch_failed(now, services);
                true
            }
            Ok(late) => {
                services.give_back(late);
                true
            }
            Err(_) => true,
        }
    }

    /// Joins a snapshot on to the stream, or keeps it until the stream has come so far. As
    /// [`take_snapshot`](Self::take_snapshot).
    fn join_on(&mut self, kept: Kept, now: UnixNanos, services: &mut (impl Services + ?Sized)) -> bool {
        let Kept { snapshot, since } = kept;
        let is_ahead = snapshot.next > self.sequencer.horizon();
        let waited = now.0.abs_diff(since.0) >= AHEAD_NS;
        if is_ahead && !waited {
            self.kept = Some(Kept { snapshot, since });
            return false;
        }
        // Where the lines are silent, a snapshot is all there is.
        let is_believed = !is_ahead || self.sequencer.last_heard() < since;
        let spliced = if is_believed { self.sequencer.splice(snapshot.next).ok() } else { None };
        let Some((superseded, missing)) = spliced else {
            services.give_back(snapshot);
            self.fetch_failed(now, services);
            return true;
        };
        self.counters.add(Counter::Messages, superseded);
        self.counters.add(Counter::MessagesSuperseded, superseded);
        if let Some(missing) = missing {
            self.gap(&missing, now);
        }
        self.recovery.loading();
        let loading = Loading { next: snapshot.next, snapshot, done: 0, at: now };
        self.venue.begin_snapshot(&loading.context(), &mut self.out);
        self.loading = Some(loading);
        // What is left to do, later turns do.
        false
    }

    fn fetch_failed(&mut self, now: UnixNanos, services: &mut (impl Services + ?Sized)) {
        let step = self.recovery.failed(now, &mut self.sequencer);
        self.act(step, now, services);
    }

    /// Applies a part of the snapshot that is being loaded; when that was the last, the snapshot is done with, and messages
    /// are delivered again.
    fn load(&mut self) -> Option<Snapshot> {
        let mut loading = self.loading.take()?;
        let context = loading.context();
        let rest = loading.snapshot.messages.get(loading.done..).unwrap_or_default();
        let mut records = binaryfile::records(rest);
        let mut part = [&[][..]; PART];
        let mut count = 0;
        for (slot, message) in part.iter_mut().zip(records.by_ref()) {
            *slot = message;
            count += 1;
        }
        loading.done += rest.len() - records.rest().len();
        if count > 0 {
            self.messages::<false>(part[..count].iter().copied(), context, 0);
            self.counters.add(Counter::MessagesSnapshot, count as u64);
            self.venue.maintain(&mut self.counters);
            self.loading = Some(loading);
            return None;
        }
        self.venue.end_snapshot(&context, &mut self.out);
        self.counters.bump(Counter::SnapshotsLoaded);
        self.recovery.loaded();
        if let Some(missing) = self.sequencer.resume() {
            self.gap(&missing, loading.at);
        }
        self.row();
        Some(loading.snapshot)
    }

    /// Makes room for a packet that is ahead of more than can be held; whether it could.
    pub(super) fn make_room(&mut self, arrival: &Arrival) -> bool {
        if self.loading.is_some() {
            while self.load().is_none() {}
        } else if self.sequencer.is_suspended() {
            self.kept = None;
            let step = self.recovery.no_room(arrival.at, &mut self.sequencer);
            self.act(step, arrival.at, &mut NoServices);
        } else {
            match self.sequencer.make_room(arrival, self.recovery.may_fetch()) {
                Room::Lost(missing) => {
                    self.lost(&missing, arrival.at);
                    self.recovery.lost();
                }
                Room::Suspended => {}
                Room::None => return false,
            }
        }
        true
    }

    /// Works off a server's reply: what of it is missing is held, and delivered when its turn has come.
    #[cold]
    pub fn reply(&mut self, input: &Input<'_>) {
        self.counters.bump(Counter::Packets);
        self.counters.add(Counter::Bytes, input.payload.len() as u64);
        let counter = match V::Framing::parse(input.payload) {
            None => Counter::PacketsMalformed,
            Some(framed) if self.sequencer.session() != Some(framed.session) => Counter::PacketsForeignSession,
            Some(framed) => {
                if framed.damaged {
                    self.counters.bump(Counter::PacketsDamaged);
                }
                match framed.content {
                    Content::Heartbeat | Content::Messages(0) => Counter::PacketsHeartbeat,
                    Content::EndOfSession => Counter::PacketsEndOfSession,
                    // As of a line: numbers past 2^64.
                    Content::Messages(count) if framed.sequence.0.checked_add(count.into()).is_none() => {
                        Counter::PacketsMalformed
                    }
                    Content::Messages(_) => {
                        let Input { ts_recv, ts_source, seen: at, degraded, .. } = *input;
                        let came = barewire_line::Came { at, ts_recv, ts_source, degraded, line: REPLIES };
                        match self.fill(framed.messages, framed.session, framed.sequence, came) {
                            false => Counter::PacketsDuplicate,
                            true => Counter::PacketsRecovered,
                        }
                    }
                }
            }
        };
        self.counters.bump(counter);
        if counter == Counter::PacketsRecovered && !self.sequencer.is_suspended() {
            self.row();
        }
        self.end_of_turn(input.seen);
    }

    /// Holds those of a reply's messages that are missing; whether there was any.
    fn fill<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a [u8]>,
        session: SessionId,
        mut sequence: Seq,
        came: barewire_line::Came,
    ) -> bool {
        let mut filled = false;
        for message in messages {
            let stored = match self.sequencer.misses(session, sequence) {
                true => self.sequencer.hold(sequence, message, came),
                false => Stored::Duplicate,
            };
            match stored {
                Stored::New => filled = true,
                Stored::Duplicate => self.duplicates(1),
                Stored::TooLong => {
                    self.counters.bump(Counter::Messages);
                    self.counters.bump(Counter::MessagesTooLong);
                }
            }
            sequence.0 += 1;
        }
        filled
    }

    /// Looks which lines are silent, and tells of those that went silent or are heard again. A few instructions a line:
    /// for every millisecond, not for every packet.
    pub fn look_at_lines(&mut self, now: UnixNanos) {
        let idle = self.sequencer.is_ending();
        while let Some(LineChange { line, down }) = self.watch.look(now, self.sequencer.lines(), idle) {
            self.counters.add(Counter::LineFailures, u64::from(down));
            let code = if down { StatusCode::LineDown } else { StatusCode::LineUp };
            self.status(code, line.into(), now, self.own_source());
            self.out.end_of_packet();
        }
    }

    /// The same by the time of the line that was last heard: in a file, a time in which nothing came on any line is nobody's
    /// silence.
    pub fn compare_lines(&mut self) {
        let heard = self.sequencer.lines().iter().map(|line| line.last_heard).max();
        self.look_at_lines(heard.unwrap_or(UnixNanos::ABSENT));
    }

    /// Sums up the lines' lags into the counters. A microsecond: for every tenth of a second.
    pub fn sum_up_lags(&mut self) {
        for (lags, median, p99) in [
            (&self.sequencer.lags()[0], Counter::LineALagMedian, Counter::LineALagP99),
            (&self.sequencer.lags()[1], Counter::LineBLagMedian, Counter::LineBLagP99),
        ] {
            self.counters.set(median, lags.per_mille(500));
            self.counters.set(p99, lags.per_mille(990));
        }
    }
}
