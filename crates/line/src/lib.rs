//! Sequencing: which messages of a packet are new, which were seen before, which never came.
//!
//! What it does *not* do: read clocks, sockets or contents. It is told of every packet ([`Arrival`]: line, session, first
//! sequence number, count, time) and answers what to do with it ([`Verdict`]). It keeps no packet and allocates nothing.
//!
//! Concepts. A venue numbers its messages within a *session*, from 1. It sends each message on one *line* or more (A, B);
//! the lines may cut the stream into different packets, so the first copy of each *message* wins, not of each packet.
//! `next` is the number that is to be delivered next: below it everything has been delivered or declared missing. A packet
//! wholly below `next` is a *duplicate*; one that begins above it shows a *gap*: the messages between are missing on this
//! line, and are declared missing at once. (Holding such a packet back until another line or a retransmission has filled the
//! hole is the place of a reordering ring in front of this state machine.)
//!
//! Sessions. A packet of another session is taken as the venue's restart when the current session has ended, when it
//! begins at sequence number 1, or when it is the third in a row; otherwise it is a stray, and counted as such. Packets of
//! the session before are strays for good: a slow line still delivers its tail. A restart begins a new stream: whoever
//! keeps books empties them.
#![no_std]
#![forbid(unsafe_code)]

use barewire_types::{GapReason, Seq, UnixNanos};

/// A session's identity: the venue's bytes, packed. Only equality means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u128);

/// What a packet carries, as far as its order is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// `count` messages, the first of which has the packet's sequence number.
    Messages(u32),
    /// No message: the sequence number is that of the next one.
    Heartbeat,
    /// No message, and none will follow in this session: the sequence number is one past the last.
    EndOfSession,
}

/// One packet as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Index of the line it came on, below [`MAX_LINES`].
    pub line: u8,
    /// The session it belongs to.
    pub session: SessionId,
    /// The sequence number it states.
    pub sequence: Seq,
    /// What it carries.
    pub content: Content,
    /// When it arrived.
    pub at: UnixNanos,
}

/// A run of messages that never came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The first of them.
    pub first: Seq,
    /// How many; at least 1.
    pub count: u64,
    /// How it was noticed.
    pub reason: GapReason,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Deliver its messages from index `skip` on; those before were seen already.
    Deliver {
        /// How many messages at the packet's beginning are duplicates.
        skip: u32,
    },
    /// Every message of it was seen before.
    Duplicate,
    /// A heartbeat: nothing to deliver.
    Heartbeat,
    /// The session is over.
    EndOfSession,
    /// A stray of another session: drop it.
    ForeignSession,
    /// Its numbers run past 2^64, or its line is none of ours: drop it.
    Invalid,
}

/// The answer to an [`Arrival`]. Act in this order: restart, gap, outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A new session begins with this packet: what is known of the old one is void.
    pub new_session: bool,
    /// Messages in front of this packet that are lost.
    pub missing: Option<Missing>,
    /// What becomes of the packet.
    pub outcome: Outcome,
}

/// The most lines that one feed may have.
pub const MAX_LINES: usize = 8;

/// A packet of another session is a restart when so many come in a row.
const STRAYS_TO_RESTART: u32 = 3;

/// What one line contributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LineStats {
    /// Packets that came on this line.
    pub packets: u64,
    /// Messages whose first copy came on this line.
    pub first_copies: u64,
    /// Messages that another line (or an earlier packet) had brought already.
    pub duplicates: u64,
    /// When it was last heard.
    pub last_heard: UnixNanos,
}

/// The state machine. One feed has one.
#[derive(Debug, Clone)]
pub struct Sequencer {
    session: Option<SessionId>,
    /// The session before: its late packets are strays, however many come.
    previous: Option<SessionId>,
    next: u64,
    ended: bool,
    stray: Option<(SessionId, u32)>,
    lines: [LineStats; MAX_LINES],
}

impl Default for Sequencer {
    fn default() -> Self {
        Self::new()
    }
}

impl Sequencer {
    /// A machine that has heard nothing: it adopts the first session that it hears.
    pub const fn new() -> Sequencer {
        const SILENT: LineStats =
            LineStats { packets: 0, first_copies: 0, duplicates: 0, last_heard: UnixNanos::ABSENT };
        Sequencer { session: None, previous: None, next: 1, ended: false, stray: None, lines: [SILENT; MAX_LINES] }
    }

    /// The sequence number that is to be delivered next.
    pub fn next(&self) -> Seq {
        Seq(self.next)
    }

    /// The current session, once one was heard.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Whether the current session has ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What each line contributed.
    pub fn lines(&self) -> &[LineStats; MAX_LINES] {
        &self.lines
    }

    /// Takes note of a packet and says what to do with it. Some twenty instructions for a packet in order; no branch
    /// depends on the number of messages.
    #[inline]
    pub fn accept(&mut self, packet: &Arrival) -> Verdict {
        let Some(line) = self.lines.get_mut(usize::from(packet.line)) else {
            return Verdict { new_session: false, missing: None, outcome: Outcome::Invalid };
        };
        line.packets += 1;
        line.last_heard = packet.at;

        let (mut new_session, mut late_join) = (false, false);
        if self.session != Some(packet.session) {
            if !self.is_restart(packet) {
                return Verdict { new_session: false, missing: None, outcome: Outcome::ForeignSession };
            }
            late_join = self.session.is_none();
            new_session = !late_join;
            self.previous = self.session.replace(packet.session);
            // Numbers begin at 1; a capture cut out of its session and renumbered may say 0.
            self.next = packet.sequence.0.min(1);
            self.ended = false;
        }
        self.stray = None;
        Verdict { new_session, ..self.order(packet, late_join) }
    }

    /// The part of [`accept`](Self::accept) behind the session check.
    #[inline]
    fn order(&mut self, packet: &Arrival, late_join: bool) -> Verdict {
        let first = packet.sequence.0;
        let count = match packet.content {
            Content::Messages(count) => count,
            Content::Heartbeat | Content::EndOfSession => 0,
        };
        let Some(end) = first.checked_add(u64::from(count)) else {
            return Verdict { new_session: false, missing: None, outcome: Outcome::Invalid };
        };
        let missing = (first > self.next).then(|| {
            let reason = match packet.content {
                _ if late_join => GapReason::LateJoin,
                Content::EndOfSession => GapReason::SessionEnd,
                _ => GapReason::SequenceJump,
            };
            Missing { first: Seq(self.next), count: first - self.next, reason }
        });
        // Seen before: messages below `next`. At most `count`, so the casts are exact.
        let skip = self.next.saturating_sub(first).min(u64::from(count)) as u32;
        self.next = self.next.max(end);
        let line = &mut self.lines[usize::from(packet.line) % MAX_LINES];
        line.duplicates += u64::from(skip);
        line.first_copies += u64::from(count - skip);
        let outcome = match packet.content {
            Content::Messages(_) if skip == count && count > 0 => Outcome::Duplicate,
            Content::Messages(0) | Content::Heartbeat => Outcome::Heartbeat,
            Content::Messages(_) => Outcome::Deliver { skip },
            Content::EndOfSession => {
                self.ended = true;
                Outcome::EndOfSession
            }
        };
        Verdict { new_session: false, missing, outcome }
    }

    /// Whether a packet of another session begins that session for us. The cold path.
    #[cold]
    fn is_restart(&mut self, packet: &Arrival) -> bool {
        if self.previous == Some(packet.session) {
            return false;
        }
        if self.session.is_none() || self.ended || packet.sequence.0 == 1 {
            return true;
        }
        let strays = match self.stray {
            Some((session, seen)) if session == packet.session => seen + 1,
            _ => 1,
        };
        self.stray = Some((packet.session, strays));
        strays >= STRAYS_TO_RESTART
    }
}

#[cfg(test)]
mod tests;
