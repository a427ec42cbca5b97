//! The way of a packet: framing, sequencing, venue, records. One thread, no wait, no copy.

use barewire_line::{Arrival, Missing, Outcome, Sequencer};
use barewire_types::{Flags, Gap, RecordKind, Status, StatusCode, TsSource, UnixNanos};

use crate::counters::{Counter, Counters};
use crate::sink::{Publisher, Sink};
use crate::venue::{Context, Framing, Venue};

/// Messages between asking for a message's order and using it. A miss costs about 100 ns, a message about 40.
const LOOK_AHEAD: usize = 12;
/// Messages between asking for a message's levels and using them.
const TOUCH_AHEAD: usize = 6;

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
    /// Messages were lost since the books were last known to be right.
    stale: bool,
}

impl<V: Venue, S: Sink> Pipeline<V, S> {
    /// A pipeline that has heard nothing.
    pub fn new(venue: V, sink: S, publisher_id: u8) -> Self {
        Pipeline {
            venue,
            sequencer: Sequencer::new(),
            out: Publisher::new(sink),
            counters: Counters::default(),
            publisher_id,
            stale: false,
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
        let verdict = self.sequencer.accept(&Arrival {
            line: input.line,
            session: framed.session,
            sequence: framed.sequence,
            content: framed.content,
            at: input.ts_recv,
        });
        let mut context = Context {
            sequence: framed.sequence.0,
            ts_recv: input.ts_recv,
            ts_source: input.ts_source,
            flags: Flags::NONE,
        };
        if verdict.new_session {
            self.restart(&context);
        }
        if let Some(missing) = verdict.missing {
            self.lost(&missing, &context);
        }
        let duplicates = match verdict.outcome {
            Outcome::Deliver { skip } => {
                self.counters.bump(Counter::PacketsDelivered);
                context.sequence += u64::from(skip);
                let mut messages = framed.messages;
                for _ in 0..skip {
                    messages.next();
                }
                self.messages::<false>(messages, context);
                u64::from(skip)
            }
            Outcome::Duplicate => {
                self.counters.bump(Counter::PacketsDuplicate);
                framed.messages.count() as u64
            }
            Outcome::Heartbeat => {
                self.counters.bump(Counter::PacketsHeartbeat);
                0
            }
            Outcome::EndOfSession => {
                self.counters.bump(Counter::PacketsEndOfSession);
                if self.counters.get(Counter::SessionEnded) == 0 {
                    self.session_end(&context);
                }
                0
            }
            Outcome::ForeignSession => {
                self.counters.bump(Counter::PacketsForeignSession);
                0
            }
            Outcome::Invalid => {
                self.counters.bump(Counter::PacketsMalformed);
                0
            }
        };
        self.counters.add(Counter::Messages, duplicates);
        self.counters.add(Counter::MessagesDuplicate, duplicates);
        self.out.end_of_packet();
        self.venue.maintain(&mut self.counters);
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

    #[cold]
    fn restart(&mut self, context: &Context) {
        self.counters.bump(Counter::SessionRestarts);
        self.counters.set(Counter::SessionEnded, 0);
        self.stale = false;
        self.venue.restart(context, &mut self.out);
    }

    #[cold]
    fn lost(&mut self, missing: &Missing, context: &Context) {
        self.counters.bump(Counter::Gaps);
        self.counters.add(Counter::MessagesMissing, missing.count);
        self.stale = true;
        self.out.push(Gap {
            ts_event: 0,
            ts_recv: context.ts_recv.0,
            sequence: missing.first.0,
            instrument_id: 0,
            publisher_id: self.publisher_id,
            kind: RecordKind::Gap as u8,
            flags: Flags::MAYBE_STALE.0,
            ts_source: context.ts_source as u8,
            count: missing.count,
            reason: missing.reason as u8,
            reserved: [0; 15],
        });
    }

    #[cold]
    fn session_end(&mut self, context: &Context) {
        self.counters.set(Counter::SessionEnded, 1);
        self.out.push(Status {
            ts_event: 0,
            ts_recv: context.ts_recv.0,
            sequence: context.sequence,
            instrument_id: 0,
            publisher_id: self.publisher_id,
            kind: RecordKind::Status as u8,
            flags: Flags::NONE.0,
            ts_source: context.ts_source as u8,
            value: 0,
            code: StatusCode::SessionEnd as u8,
            state: 0,
            reason: [b' '; 4],
            reserved: [0; 10],
        });
    }

    /// The counters, those that are states brought up to date.
    pub fn counters(&mut self) -> &mut Counters {
        let lines = self.sequencer.lines();
        for (line, packets, first_copies) in [
            (&lines[0], Counter::LineAPackets, Counter::LineAFirstCopies),
            (&lines[1], Counter::LineBPackets, Counter::LineBFirstCopies),
        ] {
            self.counters.set(packets, line.packets);
            self.counters.set(first_copies, line.first_copies);
        }
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
