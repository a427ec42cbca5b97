//! The way of a packet: framing, sequencing, venue, records. One thread, no wait, no copy.

pub use barewire_line::MAX_LINES;
use barewire_line::{Arrival, Came, Content, Missing, Outcome, Sequencer, Stored};
use barewire_types::{Flags, Gap, RecordKind, Seq, Status, StatusCode, TsSource, UnixNanos};

use crate::counters::{Counter, Counters};
use crate::sink::{Publisher, Sink};
use crate::venue::{Context, Framing, Venue};

/// Messages between asking for a message's order and using it. A miss costs about 100 ns, a message about 40.
const LOOK_AHEAD: usize = 12;
/// Messages between asking for a message's levels and using them.
const TOUCH_AHEAD: usize = 6;
/// Held messages that are delivered before the books get a chance to grow.
const ROW_PART: u64 = 256;
/// Under load, the holds after which a hole is given up although packets are still waiting to be read.
const PATIENCE: u64 = 8;

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
}

/// A feed without its surroundings: hand it packets, and records come out of its sink.
pub struct Pipeline<V, S> {
    venue: V,
    sequencer: Sequencer,
    out: Publisher<S>,
    counters: Counters,
    publisher_id: u8,
    from_file: bool,
    /// Messages were lost since the books were last known to be right.
    stale: bool,
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
}

impl Default for Sequencing {
    /// Two milliseconds, 65,536 messages.
    fn default() -> Self {
        Sequencing { hold_ns: 2_000_000, capacity: 1 << 16, from_file: false }
    }
}

impl<V: Venue, S: Sink> Pipeline<V, S> {
    /// A pipeline that has heard nothing.
    pub fn new(venue: V, sink: S, publisher_id: u8, sequencing: Sequencing) -> Self {
        let Sequencing { hold_ns, capacity, from_file } = sequencing;
        let believe_after = if from_file { 1 } else { 3 };
        let longest_message = V::LONGEST_MESSAGE;
        Pipeline {
            venue,
            sequencer: Sequencer::new(barewire_line::Config { hold_ns, capacity, longest_message, believe_after }),
            out: Publisher::new(sink),
            counters: Counters::default(),
            publisher_id,
            from_file,
            stale: false,
            has_ended: false,
            ts_source: TsSource::None,
            superseded: 0,
        }
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
            at: input.ts_recv,
        };
        self.ts_source = input.ts_source;
        let mut context = Context {
            sequence: framed.sequence.0,
            ts_recv: input.ts_recv,
            ts_source: input.ts_source,
            flags: Flags::NONE,
        };
        if self.from_file && framed.sequence.0 == 0 && matches!(framed.content, Content::Messages(_)) {
            self.counters.bump(Counter::PacketsDelivered);
            self.messages::<false>(framed.messages, context);
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
            let Some(missing) = self.sequencer.make_room(&arrival) else { break };
            self.lost(&missing, input.ts_recv);
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
                self.messages::<false>(messages, context);
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
            self.session_end(input.ts_recv);
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
        let came = Came { at: input.ts_recv, ts_source: input.ts_source, line: input.line };
        for message in messages {
            match self.sequencer.hold(sequence, message, came) {
                // Counted when it is delivered.
                Stored::New => {}
                Stored::Duplicate => self.duplicates(1),
                Stored::TooLong => {
                    self.counters.bump(Counter::Messages);
                    self.counters.bump(Counter::MessagesTooLong);
                }
            }
            sequence.0 += 1;
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
        let Pipeline { venue, sequencer, out, counters, stale, .. } = self;
        let flags = if *stale { Flags::MAYBE_STALE } else { Flags::NONE };
        let mut row = sequencer.row();
        let mut ahead = row.clone();
        for message in ahead.by_ref().take(LOOK_AHEAD) {
            venue.look_ahead(message);
        }
        let mut count = 0;
        while count < ROW_PART {
            let Some(Came { at: ts_recv, ts_source, .. }) = row.came() else { break };
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
        count
    }

    /// Whether something is missing, so that [`give_up`](Self::give_up) is to be called from time to time.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        self.sequencer.is_waiting()
    }

    /// Declares lost what has been missing for too long, and goes on with what is held behind it.
    ///
    /// `now` is the time, and `drained` says whether everything that had arrived by then was read. While packets wait to be
    /// read, what is missing may be among them, however late it is: then it is waited for eight times as long.
    #[cold]
    pub fn give_up(&mut self, now: UnixNanos, drained: bool) {
        let patience = if drained { 0 } else { (PATIENCE - 1) * self.sequencer.hold_ns() };
        // Not to 0, which stands for no time at all.
        let by = UnixNanos(now.0.saturating_sub(patience).max(u64::from(now != UnixNanos::ABSENT)));
        while let Some(missing) = self.sequencer.give_up(by) {
            self.lost(&missing, now);
        }
        if self.sequencer.has_ended() != self.has_ended {
            self.session_end(now);
        }
        self.out.end_of_packet();
        self.venue.maintain(&mut self.counters);
    }

    /// As [`give_up`](Self::give_up), by the times of a capture: everything before the time of the line that is furthest
    /// behind has been read.
    #[cold]
    pub fn give_up_by_lines(&mut self, now: UnixNanos) {
        let heard = self.sequencer.lines().iter().filter(|line| line.packets > 0).map(|line| line.last_heard);
        let drained = heard.min().unwrap_or(now);
        self.give_up(drained, true);
        if self.sequencer.is_waiting() {
            self.give_up(now, false);
        }
    }

    /// Declares lost whatever is missing: nothing more will come.
    pub fn flush(&mut self, now: UnixNanos) {
        while let Some(missing) = self.sequencer.flush() {
            self.lost(&missing, now);
        }
        if self.sequencer.has_ended() != self.has_ended {
            self.session_end(now);
        }
        self.out.end_of_packet();
        self.venue.maintain(&mut self.counters);
    }

    /// Begins the session that a packet belongs to: the first one, or the venue's next.
    #[cold]
    fn begin(&mut self, arrival: &Arrival, context: &Context) {
        self.flush(arrival.at);
        if self.sequencer.session().is_some() {
            self.counters.bump(Counter::SessionRestarts);
            self.counters.set(Counter::SessionEnded, 0);
            self.has_ended = false;
            self.stale = false;
            self.venue.restart(context, &mut self.out);
        }
        if let Some(missing) = self.sequencer.begin(arrival) {
            self.lost(&missing, arrival.at);
        }
    }

    /// Applies messages in order, looking ahead: three walks over the same bytes, two of them only asking for memory.
    /// With `SOLO`, each message is a packet of its own.
    #[inline]
    fn messages<'a, const SOLO: bool>(
        &mut self,
        messages: impl Iterator<Item = &'a [u8]> + Clone,
        mut context: Context,
    ) {
        if self.stale {
            context.flags = context.flags.with(Flags::MAYBE_STALE);
        }
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
            context.sequence = context.sequence.wrapping_add(1);
            count += 1;
        }
        self.counters.add(Counter::Messages, count);
    }

    /// Applies messages of a file that has neither packets nor numbers; `sequence` is the first one's place.
    pub fn unframed<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]> + Clone, sequence: u64) {
        let context = Context { sequence, ts_recv: UnixNanos::ABSENT, ts_source: TsSource::None, flags: Flags::NONE };
        self.messages::<true>(messages, context);
        self.venue.maintain(&mut self.counters);
    }

    /// A frame that is none of this feed's.
    pub fn refuse(&mut self) {
        self.counters.bump(Counter::Packets);
        self.counters.bump(Counter::PacketsRefused);
    }

    fn lost(&mut self, missing: &Missing, now: UnixNanos) {
        self.counters.bump(Counter::Gaps);
        self.counters.add(Counter::MessagesMissing, missing.count);
        self.stale = true;
        self.out.push(Gap {
            ts_event: 0,
            ts_recv: now.0,
            sequence: missing.first.0,
            instrument_id: 0,
            publisher_id: self.publisher_id,
            kind: RecordKind::Gap as u8,
            flags: Flags::MAYBE_STALE.0,
            ts_source: self.ts_source as u8,
            count: missing.count,
            reason: missing.reason as u8,
            reserved: [0; 15],
        });
        if self.sequencer.held() > 0 {
            self.row();
        }
    }

    /// The session's end was reached; or it turned out that the session goes on.
    #[cold]
    fn session_end(&mut self, now: UnixNanos) {
        self.has_ended = self.sequencer.has_ended();
        self.counters.set(Counter::SessionEnded, self.has_ended.into());
        if !self.has_ended {
            return;
        }
        self.out.push(Status {
            ts_event: 0,
            ts_recv: now.0,
            sequence: self.sequencer.next().0,
            instrument_id: 0,
            publisher_id: self.publisher_id,
            kind: RecordKind::Status as u8,
            flags: Flags::NONE.0,
            ts_source: self.ts_source as u8,
            value: 0,
            code: StatusCode::SessionEnd as u8,
            state: 0,
            reason: [b' '; 4],
            reserved: [0; 10],
        });
    }

    /// Messages accounted for so far.
    pub fn message_count(&self) -> u64 {
        self.counters.get(Counter::Messages)
    }

    /// The counters, those that are states brought up to date.
    pub fn counters(&mut self) -> &mut Counters {
        let lines = *self.sequencer.lines();
        for (line, packets, first_copies) in [
            (&lines[0], Counter::LineAPackets, Counter::LineAFirstCopies),
            (&lines[1], Counter::LineBPackets, Counter::LineBFirstCopies),
        ] {
            self.counters.set(packets, line.packets);
            self.counters.set(first_copies, line.first_copies);
        }
        let superseded = self.sequencer.superseded();
        let more = superseded - self.superseded;
        self.superseded = superseded;
        self.duplicates(more);
        self.counters.set(Counter::MessagesHeld, self.sequencer.held().into());
        self.counters.set(Counter::NextSequence, self.sequencer.next().0);
        self.counters.set(Counter::Records, self.out.published());
        &mut self.counters
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
