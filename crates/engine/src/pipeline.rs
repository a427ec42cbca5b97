//! The way of a packet: framing, sequencing, venue, records. One thread, no wait, no copy.

mod recover;

use barewire_line::{
    Arrival, Came, Content, Join, LineWatch, Missing, Outcome, Recovery, RecoveryConfig, Sequencer, Stored,
};
pub use barewire_line::{Lags, LineStats, MAX_LINES};
use barewire_types::{Flags, Gap, GapReason, RecordKind, Seq, Status, StatusCode, TsSource, UnixNanos};

use crate::clock::ClockState;
use crate::counters::{Counter, Counters};
use crate::native::Native;
use crate::sink::{Publisher, Sink};
use crate::venue::{Context, Framed, Framing, Venue};

/// Messages between asking for a message's order and using it. A miss costs about 100 ns, a message about 40.
const LOOK_AHEAD: usize = 12;
/// Messages between asking for a message's levels and using them.
const TOUCH_AHEAD: usize = 6;
/// Held messages that are delivered before the books get a chance to grow.
const ROW_PART: u64 = 256;
/// The line of what servers sent again.
pub const REPLIES: u8 = MAX_LINES as u8;

/// One packet as it came from a receive path or a file.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Which line.
    pub line: u8,
    /// The UDP payload.
    pub payload: &'a [u8],
    /// When it arrived.
    pub ts_recv: UnixNanos,
    /// By which clock.
    pub ts_source: TsSource,
    /// When it arrived by the clock that [`recover`](Pipeline::recover) and [`look_at_lines`](Pipeline::look_at_lines) are
    /// given: the system's, in a live feed. `ts_recv` where that is the only one.
    pub seen: UnixNanos,
    /// Whether the clock of `ts_recv` is not as good as it should be.
    pub degraded: bool,
}

/// What came on one line.
#[derive(Clone, Debug)]
pub struct LineSummary {
    /// Which line, from 0.
    pub number: usize,
    /// How much came on it.
    pub stats: LineStats,
    /// Whether it is silent for longer than its heartbeats allow.
    pub is_down: bool,
    /// How often it went silent.
    pub times_down: u64,
    /// By how much it lagged behind the first copies.
    pub lags: Lags,
}

/// A feed without its surroundings: hand it packets, and records come out of its sink.
pub struct Pipeline<V, S> {
    venue: V,
    sequencer: Sequencer,
    out: Publisher<S>,
    counters: Counters,
    publisher_id: u8,
    from_file: bool,
    recovery: Recovery,
    /// The snapshot that is being loaded, and how much of it was.
    loading: Option<recover::Loading>,
    /// The one that is ahead of the lines.
    kept: Option<recover::Kept>,
    /// Whether a snapshot was asked for that has neither come nor failed.
    fetching: bool,
    watch: LineWatch,
    /// Whether the session's end was told.
    has_ended: bool,
    /// By which clock the last packet's time was taken.
    ts_source: TsSource,
    /// Of [`Sequencer::superseded`], those that are in the counters.
    superseded: u64,
}

/// How a feed waits for what is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequencing {
    /// How long a missing message is waited for, ns.
    pub hold_ns: u64,
    /// Messages that can be held meanwhile.
    pub capacity: u32,
    /// Whether packets come from a file. Nobody forges those: one packet is believed, and one numbered 0, as captures that were
    /// cut out of their session have them, is taken as it comes.
    pub from_file: bool,
    /// How many lines are expected to be heard; any other is watched once it was heard.
    pub lines: usize,
    /// After so long without a packet a line is down, ns; 0 for never.
    pub line_timeout_ns: u64,
    /// What is done about messages that do not come.
    pub recovery: RecoveryConfig,
}

impl Default for Sequencing {
    /// Two milliseconds, 65,536 messages, three seconds of silence; nobody to ask.
    fn default() -> Self {
        Sequencing {
            hold_ns: 2_000_000,
            capacity: 1 << 16,
            from_file: false,
            lines: 0,
            line_timeout_ns: 3_000_000_000,
            recovery: RecoveryConfig::default(),
        }
    }
}

/// What a record says of the clock behind its receive time.
#[inline(always)]
fn clock_flags(degraded: bool) -> Flags {
    if degraded { Flags::BAD_TS_RECV } else { Flags::NONE }
}

/// What a session's first message is known by: FNV-1a of its bytes. Once a session and line.
#[cold]
fn opening<'a>(mut messages: impl Iterator<Item = &'a [u8]>) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    // Never 0, which stands for none.
    messages.next().map_or(0, |message| message.iter().fold(0xcbf2_9ce4_8422_2325, step) | 1)
}

impl<V: Venue, S: Sink> Pipeline<V, S> {
    /// A pipeline that has heard nothing.
    pub fn new(venue: V, sink: S, publisher_id: u8, sequencing: Sequencing) -> Self {
        let Sequencing { hold_ns, capacity, from_file, lines, line_timeout_ns, recovery } = sequencing;
        let believe_after = if from_file { 1 } else { 3 };
        let longest_message = V::LONGEST_MESSAGE;
        let mut pipeline = Pipeline {
            venue,
            sequencer: Sequencer::new(barewire_line::Config { hold_ns, capacity, longest_message, believe_after }),
            out: Publisher::new(sink),
            counters: Counters::default(),
            publisher_id,
            from_file,
            recovery: Recovery::new(recovery),
            loading: None,
            kept: None,
            fetching: false,
            watch: LineWatch::new(line_timeout_ns, lines),
            has_ended: false,
            ts_source: TsSource::None,
            superseded: 0,
        };
        pipeline.clock(&ClockState::UNKNOWN, false, UnixNanos::ABSENT);
        pipeline
    }

    /// Works off one packet: it ends in exactly one packet counter, each of its messages in exactly one message counter.
    #[inline]
    pub fn packet(&mut self, input: &Input<'_>) {
        self.counters.bump(Counter::Packets);
        self.counters.add(Counter::Bytes, input.payload.len() as u64);
        self.counters.set(Counter::LastPacketTime, input.ts_recv.0);
        let Some(framed) = V::Framing::parse(input.payload) else {
            self.counters.bump(Counter::PacketsMalformed);
            return;
        };
        if framed.damaged {
            self.counters.bump(Counter::PacketsDamaged);
        }
        let arrival = Arrival {
            line: input.line,
            session: framed.session,
            sequence: framed.sequence,
            content: framed.content,
            at: input.seen,
            ts_recv: input.ts_recv,
            opening: if framed.sequence == Seq(1) { opening(framed.messages.clone()) } else { 0 },
        };
        self.ts_source = input.ts_source;
        let mut context = Context {
            sequence: framed.sequence.0,
            ts_recv: input.ts_recv,
            ts_source: input.ts_source,
            flags: clock_flags(input.degraded),
        };
        if self.from_file && framed.sequence.0 == 0 && matches!(framed.content, Content::Messages(_)) {
            self.counters.bump(Counter::PacketsDelivered);
            self.messages::<false>(framed.messages, context, 1);
            self.out.end_of_packet();
            self.venue.maintain(&mut self.counters);
            return;
        }
        let mut outcome = self.sequencer.accept(&arrival);
        if outcome == Outcome::NewSession {
            self.begin(&arrival, &context);
            outcome = self.sequencer.accept(&arrival);
        }
        while outcome == Outcome::NoRoom {
            // Each turn moves on; where none can, the packet is dropped, and counted as what it is.
            if !self.make_room(&arrival) {
                break;
            }
            outcome = self.sequencer.accept(&arrival);
        }
        let counter = match outcome {
            Outcome::Deliver { skip } => {
                context.sequence += u64::from(skip);
                let mut messages = framed.messages;
                for _ in 0..skip {
                    messages.next();
                }
                self.duplicates(skip.into());
                self.messages::<false>(messages, context, 1);
                if self.sequencer.held() > 0 {
                    self.row();
                }
                Counter::PacketsDelivered
            }
            Outcome::Ahead => {
                self.hold(framed.messages, input, framed.sequence);
                Counter::PacketsAhead
            }
            Outcome::Duplicate => {
                self.duplicates(framed.messages.count() as u64);
                Counter::PacketsDuplicate
            }
            Outcome::Heartbeat => Counter::PacketsHeartbeat,
            Outcome::EndOfSession => Counter::PacketsEndOfSession,
            Outcome::TooFar | Outcome::NoRoom => Counter::PacketsTooFar,
            Outcome::ForeignSession => Counter::PacketsForeignSession,
            // A second new session after the first was begun cannot be.
            Outcome::Invalid | Outcome::NewSession => Counter::PacketsMalformed,
        };
        self.counters.bump(counter);
        if self.sequencer.has_ended() != self.has_ended {
            self.session_end(input.ts_recv, input.ts_source);
        }
        self.out.end_of_packet();
        self.venue.maintain(&mut self.counters);
    }

    #[inline(always)]
    fn duplicates(&mut self, count: u64) {
        self.counters.add(Counter::Messages, count);
        self.counters.add(Counter::MessagesDuplicate, count);
    }

    /// Holds a packet's messages until their turn comes.
    #[cold]
    fn hold<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>, input: &Input<'_>, mut sequence: Seq) {
        let Input { line, ts_recv, ts_source, seen: at, degraded, .. } = *input;
        let came = Came { at, ts_recv, ts_source, degraded, line };
        let mut last = None;
        for message in messages {
            let stored = self.sequencer.hold(sequence, message, came);
            match stored {
                // Counted when it is delivered.
                Stored::New => {}
                Stored::Duplicate => self.duplicates(1),
                Stored::TooLong => {
                    self.counters.bump(Counter::Messages);
                    self.counters.bump(Counter::MessagesTooLong);
                }
            }
            last = Some((sequence, stored));
            sequence.0 += 1;
        }
        if let Some((sequence, Stored::Duplicate)) = last {
            self.sequencer.came_again(sequence, came);
        }
    }

    /// Delivers the held messages whose turn has come, with time for the books to grow in between.
    #[cold]
    fn row(&mut self) {
        while self.part_of_row() == ROW_PART {
            self.venue.maintain(&mut self.counters);
        }
    }

    fn part_of_row(&mut self) -> u64 {
        let Pipeline { venue, sequencer, out, counters, .. } = self;
        let mut row = sequencer.row();
        let mut ahead = row.clone();
        for message in ahead.by_ref().take(LOOK_AHEAD) {
            venue.look_ahead(message);
        }
        let (mut count, mut recovered) = (0, 0);
        while count < ROW_PART {
            let Some(Came { ts_recv, ts_source, degraded, line, .. }) = row.came() else { break };
            let recovery = if line == REPLIES { Flags::RECOVERED } else { Flags::NONE };
            let flags = recovery.with(clock_flags(degraded));
            recovered += u64::from(line == REPLIES);
            let context = Context { sequence: row.sequence().0, ts_recv, ts_source, flags };
            let Some(message) = row.next() else { break };
            if let Some(next) = ahead.next() {
                venue.look_ahead(next);
            }
            venue.apply(message, &context, out, counters);
            count += 1;
        }
        sequencer.delivered(count);
        counters.add(Counter::Messages, count);
        counters.add(Counter::MessagesReordered, count);
        counters.add(Counter::MessagesRecovered, recovered);
        count
    }

    /// Begins the session that a packet belongs to: the first one, or the venue's next.
    #[cold]
    fn begin(&mut self, arrival: &Arrival, context: &Context) {
        self.flush(arrival.at);
        self.recovery.restart();
        if self.sequencer.session().is_some() {
            self.counters.bump(Counter::SessionRestarts);
            self.counters.set(Counter::SessionEnded, 0);
            self.has_ended = false;
            self.venue.restart(context, &mut self.out);
        }
        if let Some(missing) = self.sequencer.begin(arrival, |count| self.recovery.join(count)) {
            self.lost(&missing, arrival.at);
        }
    }

    /// Joins the session of a packet that is not here yet, where none was joined: for replays, in which the network begins
    /// with the capture.
    pub(crate) fn join(&mut self, payload: &[u8], at: UnixNanos) {
        if self.sequencer.session().is_some() {
            return;
        }
        let Some(framed) = V::Framing::parse(payload) else { return };
        let Framed { session, sequence, content, .. } = framed;
        if let Some(missing) = self
            .sequencer
            .begin(&Arrival { line: 0, session, sequence, content, at, ts_recv: at, opening: 0 }, |_| Join::Declare)
        {
            self.lost(&missing, at);
        }
    }

    /// Applies messages in order, looking ahead: three walks over the same bytes, two of them only asking for memory.
    /// With `SOLO`, each message is a packet of its own. `step` is what their numbers differ by: 0 in a snapshot.
    #[inline]
    fn messages<'a, const SOLO: bool>(
        &mut self,
        messages: impl Iterator<Item = &'a [u8]> + Clone,
        mut context: Context,
        step: u64,
    ) {
        let (mut ahead, mut touch) = (messages.clone(), messages.clone());
        for message in ahead.by_ref().take(LOOK_AHEAD) {
            self.venue.look_ahead(message);
        }
        for message in touch.by_ref().take(TOUCH_AHEAD) {
            self.venue.touch(message);
        }
        let mut count = 0;
        for message in messages {
            if let Some(next) = ahead.next() {
                self.venue.look_ahead(next);
            }
            if let Some(next) = touch.next() {
                self.venue.touch(next);
            }
            self.venue.apply(message, &context, &mut self.out, &mut self.counters);
            if SOLO {
                self.out.end_of_packet();
            }
            context.sequence = context.sequence.wrapping_add(step);
            count += 1;
        }
        self.counters.add(Counter::Messages, count);
    }

    /// Applies messages of a file that has neither packets nor numbers; `sequence` is the first one's place.
    pub fn unframed<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]> + Clone, sequence: u64) {
        let context = Context { sequence, ts_recv: UnixNanos::ABSENT, ts_source: TsSource::None, flags: Flags::NONE };
        self.messages::<true>(messages, context, 1);
        self.venue.maintain(&mut self.counters);
    }

    /// Applies messages of a stream, which come in order and complete; `sequence` is the first one's number.
    pub fn streamed<'a>(
        &mut self,
        messages: impl Iterator<Item = &'a [u8]> + Clone,
        sequence: u64,
        ts_recv: UnixNanos,
        ts_source: TsSource,
    ) {
        self.messages::<false>(messages, Context { sequence, ts_recv, ts_source, flags: Flags::NONE }, 1);
        self.out.end_of_packet();
        self.venue.maintain(&mut self.counters);
    }

    /// A frame that is none of this feed's.
    pub fn refuse(&mut self) {
        self.counters.bump(Counter::Packets);
        self.counters.bump(Counter::PacketsRefused);
    }

    /// Declares messages lost, and delivers what is held behind them.
    fn lost(&mut self, missing: &Missing, now: UnixNanos) {
        self.gap(missing, now);
        if self.sequencer.held() > 0 {
            self.row();
        }
    }

    /// By which clock times are that no packet brought.
    fn own_source(&self) -> TsSource {
        if self.from_file { self.ts_source } else { TsSource::User }
    }

    /// Tells of messages that will not be delivered.
    fn gap(&mut self, missing: &Missing, now: UnixNanos) {
        self.counters.bump(Counter::Gaps);
        let mut flags = Flags::NONE;
        if missing.reason == GapReason::Snapshot {
            self.counters.add(Counter::MessagesReplaced, missing.count);
        } else {
            self.counters.add(Counter::MessagesMissing, missing.count);
            flags = Flags::MAYBE_STALE;
            self.venue.doubt();
        }
        self.out.push(Gap {
            ts_event: 0,
            ts_recv: now.0,
            sequence: missing.first.0,
            instrument_id: 0,
            publisher_id: self.publisher_id,
            kind: RecordKind::Gap as u8,
            flags: flags.0,
            ts_source: self.own_source() as u8,
            count: missing.count,
            reason: missing.reason as u8,
            reserved: [0; 15],
        });
    }

    /// The session's end was reached; or it turned out that the session goes on.
    #[cold]
    fn session_end(&mut self, at: UnixNanos, ts_source: TsSource) {
        self.has_ended = self.sequencer.has_ended();
        self.counters.set(Counter::SessionEnded, self.has_ended.into());
        if !self.has_ended {
            return;
        }
        self.status(StatusCode::SessionEnd, 0, at, ts_source);
    }

    /// Tells something of the whole feed.
    fn status(&mut self, code: StatusCode, value: u64, at: UnixNanos, ts_source: TsSource) {
        self.status_with(code, value, (0, *b"    "), at, ts_source);
    }

    /// The same, with a state and a reason.
    fn status_with(
        &mut self,
        code: StatusCode,
        value: u64,
        (state, reason): (u8, [u8; 4]),
        at: UnixNanos,
        ts_source: TsSource,
    ) {
        self.out.push(Status {
            ts_event: 0,
            ts_recv: at.0,
            sequence: self.sequencer.next().0,
            instrument_id: 0,
            publisher_id: self.publisher_id,
            kind: RecordKind::Status as u8,
            flags: Flags::NONE.0,
            ts_source: ts_source as u8,
            value,
            code: code as u8,
            state,
            reason,
            reserved: [0; 10],
        });
    }

    /// Takes note of how far receive times may be off, and tells of it where `tell` says so. `now` is the system's clock.
    pub fn clock(&mut self, clock: &ClockState, tell: bool, now: UnixNanos) {
        self.counters.set(Counter::ClockSource, clock.source as u64);
        self.counters.set(Counter::ClockBound, clock.bound_ns);
        self.counters.set(Counter::ClockUtcBound, clock.utc_bound_ns);
        self.counters.set(Counter::ClockVerdict, clock.verdict as u64);
        if tell {
            let state = (b'0' + clock.source as u8, clock.verdict.letters());
            self.status_with(StatusCode::Clock, clock.total_ns(), state, now, self.own_source());
            self.out.end_of_packet();
        }
    }

    /// What came on each line that was heard, or is expected to be.
    pub fn lines(&self) -> Vec<LineSummary> {
        let all = self.sequencer.lines().iter().zip(self.sequencer.lags()).enumerate();
        let heard = all.filter(|(number, (stats, _))| stats.packets > 0 || self.watch.is_expected(*number));
        heard
            .map(|(number, (stats, lags))| LineSummary {
                number,
                stats: *stats,
                is_down: self.watch.is_down(number),
                times_down: self.watch.times_down(number),
                lags: lags.clone(),
            })
            .collect()
    }

    /// Messages accounted for so far.
    pub fn message_count(&self) -> u64 {
        self.counters.get(Counter::Messages)
    }

    /// The counters, those that are states brought up to date.
    pub fn counters(&mut self) -> &mut Counters {
        for (line, [packets, first_copies, down]) in [
            [Counter::LineAPackets, Counter::LineAFirstCopies, Counter::LineADown],
            [Counter::LineBPackets, Counter::LineBFirstCopies, Counter::LineBDown],
        ]
        .into_iter()
        .enumerate()
        {
            let stats = &self.sequencer.lines()[line];
            self.counters.set(packets, stats.packets);
            self.counters.set(first_copies, stats.first_copies);
            self.counters.set(down, self.watch.is_down(line).into());
        }
        let recovery = self.recovery.stats();
        for (counter, value) in [
            (Counter::Requests, recovery.requests),
            (Counter::RequestsUnanswered, recovery.requests_unanswered),
            (Counter::SnapshotsRequested, recovery.fetches),
            (Counter::SnapshotsFailed, recovery.fetches_failed),
            (Counter::RecoveryLast, recovery.last_ns),
            (Counter::RecoveryLongest, recovery.max_ns),
        ] {
            self.counters.set(counter, value);
        }
        self.counters.set(Counter::Suspended, self.sequencer.is_suspended().into());
        let superseded = self.sequencer.superseded();
        let more = superseded - self.superseded;
        self.superseded = superseded;
        self.duplicates(more);
        self.counters.set(Counter::MessagesHeld, self.sequencer.held().into());
        self.counters.set(Counter::NextSequence, self.sequencer.next().0);
        self.counters.set(Counter::Records, self.out.published());
        if let Some(native) = self.out.native() {
            native.report(&mut self.counters);
        }
        &mut self.counters
    }

    /// From here on, every record is handed to a callback as well, right after it was published.
    pub fn call(&mut self, native: Native) {
        self.out.call(native);
    }

    /// There is nothing more to come: the callback is let go of.
    pub(crate) fn end_calls(&mut self) {
        self.out.end_calls();
    }

    /// The venue, and through it the books.
    pub fn venue(&self) -> &V {
        &self.venue
    }

    /// The venue, to be set up before the first packet.
    pub fn venue_mut(&mut self) -> &mut V {
        &mut self.venue
    }

    /// Drops the sink, and with it the ring; the books stay.
    pub fn into_venue(self) -> V {
        self.venue
    }

    /// Where the records go.
    pub fn sink_mut(&mut self) -> &mut S {
        self.out.sink_mut()
    }
}
