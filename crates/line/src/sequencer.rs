//! The state machine: which messages are next, which are ahead, which were seen, which are given up.

use barewire_types::{GapReason, Seq, UnixNanos};

use crate::reorder::{Came, Ring, Row, Stored};
use crate::skew::{Lags, Skew};
use crate::{Arrival, Content, Join, LineStats, MAX_LINES, Missing, Outcome, Room, SessionId, SpliceError};

/// A packet of another session is a restart when so many come in a row.
const TO_BELIEVE: u32 = 3;
/// A venue that begins a new session without ending the old one has been silent for so long: three heartbeats, ns.
const QUIET_NS: u64 = 3_000_000_000;

/// How to wait and how much to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long a missing message is waited for, ns: the other line may bring it, or the network deliver it late.
    pub hold_ns: u64,
    /// Messages that can be held meanwhile; a power of two is made of it. Each takes its longest length and 32 bytes.
    pub capacity: u32,
    /// The venue's longest message in bytes. A longer one is not held: it is lost unless it comes in its turn.
    pub longest_message: u16,
    /// How many packets must agree on a number far ahead, or on a hole, before they are believed: 3 on a network, on which
    /// anybody may send, 1 for a file.
    pub believe_after: u32,
}

/// Packets that claim numbers beyond what can be held: a burst of loss, or a forgery.
#[derive(Clone, Copy, Debug)]
struct Far {
    end: u64,
    seen: u32,
}

/// The state machine. One feed has one.
pub struct Sequencer {
    session: Option<SessionId>,
    /// When the current session was last heard.
    heard: UnixNanos,
    /// When it last said a number that was not behind `next`.
    current: UnixNanos,
    next: u64,
    /// One past the highest number known to exist; above `next` while something is missing.
    horizon: u64,
    /// Since when the message `next` has been missing.
    missing_since: UnixNanos,
    /// Packets that said so.
    evidence: u32,
    far: Option<Far>,
    /// Packets since the session was begun that agree with where it was: in order, or not far ahead.
    agreeing: u32,
    /// Packets in a row that do not: see [`is_behind_for_good`](Self::is_behind_for_good).
    behind: u32,
    /// The line of the packet with which the session was begun.
    begun_by: u8,
    /// What the session's first message is known by; 0 where it was not seen.
    opening: u64,
    /// Another first message came since the last packet that agreed.
    fallen: bool,
    /// One past the session's last number, once the venue has said so.
    end: Option<u64>,
    stray: Option<(SessionId, u32)>,
    /// The number at which the session was joined; 0 where it was heard from its beginning.
    joined: u64,
    /// While a snapshot is awaited: what is missing before `next`, or from there on.
    suspended: Option<Suspended>,
    ring: Ring,
    hold_ns: u64,
    believe_after: u32,
    superseded: u64,
    lines: [LineStats; MAX_LINES],
    skew: Skew,
}

/// Nothing is delivered until a snapshot has come, or is given up.
#[derive(Clone, Copy, Debug)]
struct Suspended {
    /// The first number that was not delivered.
    from: u64,
    /// One past the last number of the hole for which it was suspended; `from` where there was none.
    hole_end: u64,
    /// Up to where that hole has been filled meanwhile.
    filled: u64,
    /// How it was noticed.
    reason: GapReason,
}

impl Sequencer {
    /// A machine that has heard nothing: it adopts the first session that it hears. Takes its memory here.
    pub fn new(config: Config) -> Sequencer {
        Sequencer {
            session: None,
            heard: UnixNanos::ABSENT,
            current: UnixNanos::ABSENT,
            next: 1,
            horizon: 1,
            missing_since: UnixNanos::ABSENT,
            evidence: 0,
            far: None,
            agreeing: 0,
            behind: 0,
            begun_by: 0,
            opening: 0,
            fallen: false,
            end: None,
            stray: None,
            joined: 0,
            suspended: None,
            ring: Ring::new(config.capacity, config.longest_message),
            hold_ns: config.hold_ns,
            believe_after: config.believe_after.max(1),
            superseded: 0,
            lines: [LineStats::default(); MAX_LINES],
            skew: Skew::new(),
        }
    }

    /// The sequence number that is to be delivered next.
    pub fn next(&self) -> Seq {
        Seq(self.next)
    }

    /// The current session, once one was heard.
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Whether the current session has ended, and all of it was delivered or given up.
    pub fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end) && self.suspended.is_none()
    }

    /// Whether the venue has said where the current session ends.
    pub fn is_ending(&self) -> bool {
        self.end.is_some()
    }

    /// What each line contributed.
    pub fn lines(&self) -> &[LineStats; MAX_LINES] {
        &self.lines
    }

    /// By how much each line lagged behind the first copies, by the times of arrival.
    pub fn lags(&self) -> &[Lags] {
        self.skew.lags()
    }

    /// How many messages are held.
    #[inline(always)]
    pub fn held(&self) -> u32 {
        self.ring.held()
    }

    /// One past the highest number known to exist.
    pub fn horizon(&self) -> Seq {
        Seq(self.horizon)
    }

    /// When the current session was last heard.
    pub fn last_heard(&self) -> UnixNanos {
        self.heard
    }

    /// Messages that were held and then came again in their turn: that copy was delivered, and the held one was the duplicate.
    pub fn superseded(&self) -> u64 {
        self.superseded
    }

    /// Whether something is missing, so that [`Recovery::step`](crate::Recovery::step) is to be asked from time to time.
    #[inline(always)]
    pub fn is_waiting(&self) -> bool {
        self.horizon > self.next || self.suspended.is_some()
    }

    /// Whether nothing is delivered until a snapshot has come.
    pub fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    /// How long a missing message is waited for, ns.
    pub fn hold_ns(&self) -> u64 {
        self.hold_ns
    }

    /// Takes note of a packet and says what to do with it. Some twenty instructions for a packet in order; no branch
    /// depends on the number of messages.
    ///
    /// After [`Outcome::Deliver`], and whenever [`give_up`](Self::give_up) gave something up, ask [`row`](Self::row).
    #[inline]
    pub fn accept(&mut self, packet: &Arrival) -> Outcome {
        if usize::from(packet.line) >= MAX_LINES {
            return Outcome::Invalid;
        }
        let foreign = match self.session == Some(packet.session) {
            true => None,
            false => match self.other_session(packet) {
                // It comes again.
                Outcome::NewSession => return Outcome::NewSession,
                other => Some(other),
            },
        };
        if let Some(line) = self.lines.get_mut(usize::from(packet.line)) {
            line.packets += 1;
            line.last_heard = packet.at;
        }
        if let Some(outcome) = foreign {
            return outcome;
        }
        self.stray = None;
        self.heard = packet.at;
        self.order(packet)
    }

    /// The part of [`accept`](Self::accept) behind the session check.
    #[inline]
    fn order(&mut self, packet: &Arrival) -> Outcome {
        let first = packet.sequence.0;
        let count = match packet.content {
            Content::Messages(count) => count,
            Content::Heartbeat | Content::EndOfSession => 0,
        };
        let Some(end) = first.checked_add(u64::from(count)) else { return Outcome::Invalid };
        if first > self.next || self.suspended.is_some() {
            return self.ahead(packet, first, end);
        }
        // Seen before: messages below `next`. At most `count`, so the cast is exact.
        let skip = (self.next - first).min(u64::from(count)) as u32;
        if end > self.next {
            let held = self.ring.pass(self.next, end);
            self.superseded += u64::from(held);
            self.next = end;
            self.far = None;
            if self.horizon > end {
                // What is missing now has not been for long; and where numbers may be forged, somebody should say so again.
                self.missing_since = packet.at;
                if self.believe_after > 1 {
                    self.evidence = 0;
                }
            } else {
                self.horizon = end;
            }
            if self.end.is_some_and(|last| end > last) {
                self.end = None;
            }
            self.count(packet.line, count - skip - held.min(count - skip), skip + held);
            self.agreeing = self.agreeing.saturating_add(1);
            self.current = packet.at;
            self.fallen = false;
            if packet.opening != 0 {
                self.opening = packet.opening;
            }
            self.skew.first(end, packet.ts_recv, packet.line);
        } else {
            return self.behind(packet, first, end, skip);
        }
        match packet.content {
            Content::EndOfSession => self.end_of_session(first),
            Content::Heartbeat | Content::Messages(0) => Outcome::Heartbeat,
            Content::Messages(_) => Outcome::Deliver { skip },
        }
    }

    /// A packet of which every message was seen.
    #[inline]
    fn behind(&mut self, packet: &Arrival, first: u64, end: u64, count: u32) -> Outcome {
        if end == self.next {
            self.current = packet.at;
            self.agreeing = self.agreeing.saturating_add(1);
            self.behind = 0;
            self.fallen = false;
        } else if self.is_behind_for_good(packet, end) {
            return Outcome::NewSession;
        }
        match packet.content {
            Content::EndOfSession => self.end_of_session(first),
            Content::Heartbeat | Content::Messages(0) => Outcome::Heartbeat,
            Content::Messages(_) => {
                self.count(packet.line, 0, count);
                self.skew.again(end, packet.ts_recv, packet.line);
                Outcome::Duplicate
            }
        }
    }

    /// Whether a packet behind `next` says that numbers are lower than was believed. Either the session was joined at a
    /// number that was wrong: the line that said it goes on far below, and nobody agrees. Or numbers began anew under the
    /// same name: copies of what was seen come soon after, and nobody repeats them when nothing new has come for three
    /// heartbeats; nor does a copy of the first message differ from it.
    #[inline]
    fn is_behind_for_good(&mut self, packet: &Arrival, end: u64) -> bool {
        let is_old = packet.at.0.saturating_sub(self.current.0) >= QUIET_NS;
        let is_far =
            self.agreeing <= 1 && packet.line == self.begun_by && end.saturating_add(self.ring.capacity()) < self.next;
        if packet.opening != 0 && self.opening != 0 && packet.opening != self.opening {
            self.behind = if self.fallen { self.behind } else { 0 };
            self.fallen = true;
        }
        if !is_old && !is_far && !self.fallen {
            self.behind = 0;
            return false;
        }
        self.behind += 1;
        self.behind >= TO_BELIEVE || is_old && packet.sequence.0 <= 1 && packet.content != Content::Heartbeat
    }

    #[inline]
    fn count(&mut self, line: u8, first_copies: u32, duplicates: u32) {
        if let Some(line) = self.lines.get_mut(usize::from(line)) {
            line.first_copies += u64::from(first_copies);
            line.duplicates += u64::from(duplicates);
        }
    }

    /// The venue says that the session's numbers end before `end`. One that says so of numbers long passed is wrong.
    fn end_of_session(&mut self, end: u64) -> Outcome {
        if end >= self.next {
            self.end = Some(end);
        }
        Outcome::EndOfSession
    }

    /// A packet that begins above the next number: something is missing. Or nothing is delivered now.
    #[cold]
    fn ahead(&mut self, packet: &Arrival, first: u64, end: u64) -> Outcome {
        if end <= self.next && self.suspended.is_some() {
            return self.behind(packet, first, end, (end - first) as u32);
        }
        if end - self.next > self.ring.capacity() {
            // Where what is held goes on, there is only no room to wait any longer.
            return if (self.horizon > self.next || self.suspended.is_some()) && first <= self.horizon {
                Outcome::NoRoom
            } else {
                self.far(first, end)
            };
        }
        if self.horizon <= self.next {
            self.missing_since = packet.at;
            self.evidence = 0;
        }
        self.evidence += 1;
        self.current = packet.at;
        self.agreeing = self.agreeing.saturating_add(1);
        self.behind = 0;
        self.fallen = false;
        self.horizon = self.horizon.max(end);
        match packet.content {
            Content::EndOfSession => self.end_of_session(first),
            Content::Heartbeat | Content::Messages(0) => Outcome::Heartbeat,
            Content::Messages(_) => Outcome::Ahead,
        }
    }

    /// A packet that begins further above than can be held. One alone is not believed, lest a forged number silence the
    /// feed; several in a row, near each other and with nothing in order between them, are.
    fn far(&mut self, first: u64, end: u64) -> Outcome {
        let near = |far: &Far| first.abs_diff(far.end) <= self.ring.capacity();
        let far = match self.far.filter(near) {
            Some(far) => Far { end: far.end.max(end), seen: far.seen + 1 },
            None => Far { end, seen: 1 },
        };
        self.far = Some(far);
        if far.seen >= self.believe_after { Outcome::NoRoom } else { Outcome::TooFar }
    }

    /// Gives up what a packet that was [`Outcome::NoRoom`] leaves no room to wait for. Deliver the [`row`](Self::row) after
    /// it, and accept the packet anew. While [suspended](Self::is_suspended), [`resume`](Self::resume) first.
    ///
    /// Where it is only far ahead, nothing is held, and `snapshots` are to be had, nothing is given up: delivery is suspended,
    /// and what is held begins with the packet.
    pub fn make_room(&mut self, packet: &Arrival, snapshots: bool) -> Room {
        if let Some(missing) = self.lose() {
            return Room::Lost(missing);
        }
        // Nothing is held, and still there is no room: the packets far ahead are believed, and the stream goes on there.
        let first = self.next;
        let Some(count) = packet.sequence.0.checked_sub(first).filter(|count| *count > 0) else { return Room::None };
        let reason = self.reason(first);
        self.next = packet.sequence.0;
        self.horizon = self.next;
        self.far = None;
        if snapshots {
            self.suspended = Some(Suspended { from: first, hole_end: self.next, filled: first, reason });
            return Room::Suspended;
        }
        Room::Lost(Missing { first: Seq(first), count, reason })
    }

    /// Holds a message of a packet that was [`Outcome::Ahead`]. Copies it: the one copy that a message ever costs.
    pub fn hold(&mut self, sequence: Seq, message: &[u8], came: Came) -> Stored {
        // What `ahead` let through lies within the ring; its beginning may have been seen.
        let stored = match sequence.0.checked_sub(self.next) {
            Some(ahead) if ahead < self.ring.capacity() => self.ring.store(sequence.0, message, came),
            Some(_) => Stored::TooLong,
            None => Stored::Duplicate,
        };
        match stored {
            Stored::New => self.count(came.line, 1, 0),
            Stored::Duplicate => self.count(came.line, 0, 1),
            Stored::TooLong => {}
        }
        stored
    }

    /// A message that is held came again, the last one of its packet.
    pub fn came_again(&mut self, sequence: Seq, came: Came) {
        if let Some((_, first)) = self.ring.get(sequence.0) {
            self.skew.differ((first.ts_recv, first.line), (came.ts_recv, came.line));
        }
    }

    /// The held messages whose turn has come. When they have been delivered, [`delivered`](Self::delivered) must be told
    /// how many they were.
    #[inline]
    pub fn row(&self) -> Row<'_> {
        Row { ring: &self.ring, next: self.next }
    }

    /// `count` messages of the [`row`](Self::row) were delivered.
    pub fn delivered(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        let to = self.next.saturating_add(count).min(self.horizon.max(self.next));
        if let Some((_, came)) = self.ring.get(to.saturating_sub(1)) {
            self.skew.first(to, came.ts_recv, came.line);
        }
        self.ring.pass(self.next, to);
        self.next = to;
        self.far = None;
        self.look_at_next_hole();
    }

    /// What lies behind a hole that was filled or given up may be another: it has been missing since what is behind *it*
    /// came. Where nothing is held behind it, somebody only said so: that it is missing begins to count now, for what is
    /// next may be about to come.
    fn look_at_next_hole(&mut self) {
        if self.horizon <= self.next {
            return;
        }
        let behind = self.ring.first_from(self.next, self.horizon);
        if let Some((_, came)) = behind.and_then(|behind| self.ring.get(behind)) {
            self.missing_since = came.at;
            // It came, and so did what showed the hole before it.
            self.evidence = self.to_give_up();
        } else {
            self.missing_since = self.heard;
        }
    }

    /// Gives up what has been missing for too long by `now`: these messages are lost. Ask again, until there is nothing;
    /// after each, deliver the [`row`](Self::row). Where there is no time (a capture without times), nothing is waited for.
    pub fn give_up(&mut self, now: UnixNanos) -> Option<Missing> {
        if self.is_overdue(now) { self.lose() } else { None }
    }

    /// Whether the message `next` has been missing for longer than it is to be waited for.
    pub(crate) fn is_overdue(&self, now: UnixNanos) -> bool {
        self.horizon > self.next
            && self.suspended.is_none()
            && self.evidence >= self.to_give_up()
            && self.has_waited(self.missing_since, now)
    }

    fn has_waited(&self, since: UnixNanos, now: UnixNanos) -> bool {
        // A clock that was set back would hold everything up: what lies in the future has waited long enough.
        let set_back = since.0.saturating_sub(now.0) > self.hold_ns.max(QUIET_NS);
        now == UnixNanos::ABSENT || now.0.saturating_sub(since.0) >= self.hold_ns || set_back
    }

    /// The first hole from `from` on that has been open for longer than it is to be waited for: its first number and one
    /// past its last. Else the number from which on to look again.
    pub(crate) fn overdue_hole(&self, from: u64, now: UnixNanos) -> Result<(u64, u64), u64> {
        let from = from.max(self.next);
        let Some(first) = self.ring.first_free(from, self.horizon) else { return Err(self.horizon) };
        let behind = self.ring.first_from(first, self.horizon);
        let overdue = match behind.and_then(|behind| self.ring.get(behind)) {
            // What came behind the first hole may not be what showed it.
            Some((_, came)) if first > self.next => self.has_waited(came.at, now),
            None if first > self.next => self.has_waited(self.heard, now),
            _ => self.is_overdue(now),
        };
        if overdue { Ok((first, behind.unwrap_or(self.horizon))) } else { Err(first) }
    }

    /// One past the last message that is missing in front of the first held one.
    pub(crate) fn hole_end(&self) -> u64 {
        self.ring.first_from(self.next, self.horizon).unwrap_or(self.horizon)
    }

    /// Whether the message of this number was delivered, given up, or is held.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        sequence < self.next || self.ring.get(sequence).is_some()
    }

    /// Whether a message of this number is missing: what a server sends to fill a hole is held where it is, and dropped
    /// where it is not. A server cannot move the stream on, begin a session or end one.
    pub fn misses(&self, session: SessionId, sequence: Seq) -> bool {
        self.session == Some(session) && sequence.0 < self.horizon && !self.has(sequence.0)
    }

    /// From here on everything is held and nothing delivered: a snapshot is to fill what is missing, if anything is.
    pub fn suspend(&mut self) {
        let hole_end = self.hole_end();
        let reason = self.reason(self.next);
        let suspended = Suspended { from: self.next, hole_end, filled: self.next, reason };
        self.suspended.get_or_insert(suspended);
    }

    /// Whether the hole for which delivery was suspended has been filled meanwhile, so that no snapshot is needed.
    pub(crate) fn is_filled(&mut self) -> bool {
        let Some(suspended) = &mut self.suspended else { return false };
        if suspended.from != self.next || suspended.hole_end == suspended.from {
            return false;
        }
        while suspended.filled < suspended.hole_end && self.ring.get(suspended.filled).is_some() {
            suspended.filled += 1;
        }
        suspended.filled >= suspended.hole_end
    }

    /// A snapshot joins on to the stream at `at`, the first message that it does not include: what is held below is passed.
    /// The stream stays suspended until the snapshot has been loaded and [`resume`](Self::resume) is called. How many held
    /// messages were passed, and the messages that are not delivered.
    ///
    /// # Errors
    ///
    /// Why the snapshot does not fit; nothing has changed then.
    pub fn splice(&mut self, at: Seq) -> Result<(u64, Option<Missing>), SpliceError> {
        let Some(Suspended { from, .. }) = self.suspended else { return Err(SpliceError::NotSuspended) };
        let at = at.0;
        if at < self.next {
            return Err(SpliceError::TooOld);
        }
        if at > self.horizon.saturating_add(self.ring.capacity()) {
            return Err(SpliceError::TooNew);
        }
        let passed = self.ring.pass(self.next, at);
        self.next = at;
        self.horizon = self.horizon.max(at);
        self.suspended = Some(Suspended { from: at, hole_end: at, filled: at, reason: GapReason::SequenceJump });
        self.far = None;
        self.look_at_next_hole();
        let count = at - from;
        let missing = (count > 0).then_some(Missing { first: Seq(from), count, reason: GapReason::Snapshot });
        Ok((u64::from(passed), missing))
    }

    /// Messages are delivered again: deliver the [`row`](Self::row). Where no snapshot was spliced in, the hole for which
    /// delivery was suspended is lost, as far as nothing has filled it.
    pub fn resume(&mut self) -> Option<Missing> {
        let Suspended { from, hole_end, reason, .. } = self.suspended.take()?;
        if hole_end > from {
            self.next = self.hole_end();
        }
        self.look_at_next_hole();
        let count = self.next - from;
        (count > 0).then_some(Missing { first: Seq(from), count, reason })
    }

    /// Gives up everything that is missing, however short the wait: the stream ends, or another takes its place. What only
    /// one packet spoke of, and nothing came of, was not missing.
    pub fn flush(&mut self) -> Option<Missing> {
        if self.ring.held() == 0 && self.evidence < self.to_give_up() && self.end.is_none() {
            self.horizon = self.next;
        }
        self.lose()
    }

    /// Nothing is given up on one packet's word: so many must have said that there is something behind the hole.
    fn to_give_up(&self) -> u32 {
        self.believe_after.min(2)
    }

    fn lose(&mut self) -> Option<Missing> {
        let first = self.next;
        let end = self.hole_end();
        if end <= first {
            return None;
        }
        self.next = end;
        self.look_at_next_hole();
        Some(Missing { first: Seq(first), count: end - first, reason: self.reason(first) })
    }

    /// Why a message of this number is missing.
    fn reason(&self, first: u64) -> GapReason {
        match first < self.joined {
            true => GapReason::LateJoin,
            false if self.end.is_some() => GapReason::SessionEnd,
            false => GapReason::SequenceJump,
        }
    }

    /// A packet of a session that is not the current one.
    #[cold]
    fn other_session(&mut self, packet: &Arrival) -> Outcome {
        if self.session.is_none() || self.has_ended() {
            return Outcome::NewSession;
        }
        let strays = match self.stray {
            Some((session, seen)) if session == packet.session => seen.saturating_add(1),
            _ => 1,
        };
        self.stray = Some((packet.session, strays));
        // While the current session speaks, another one is somebody else's.
        // A clock that was set back counts as silence, or the next session would be a stranger until it has caught up.
        let quiet = packet.at == UnixNanos::ABSENT || packet.at.0.abs_diff(self.heard.0) >= QUIET_NS;
        let begins = packet.sequence.0 <= 1 && packet.content != Content::Heartbeat;
        if quiet && (begins || strays >= TO_BELIEVE) { Outcome::NewSession } else { Outcome::ForeignSession }
    }

    /// Begins the session of a packet that was [`Outcome::NewSession`], after [`flush`](Self::flush); then the packet is to
    /// be accepted anew. Where it does not begin its session, messages before it are missing: of a session joined late, or
    /// of one whose beginning was lost. `join` says, given how many, what is to be done about them; what is declared lost at
    /// once is returned.
    pub fn begin(&mut self, packet: &Arrival, join: impl FnOnce(u64) -> Join) -> Option<Missing> {
        let late = self.session.is_none();
        self.session = Some(packet.session);
        // Numbers begin at 1; a capture cut out of its session and renumbered may say 0.
        let first = packet.sequence.0.min(1);
        self.next = packet.sequence.0;
        self.horizon = self.next;
        self.current = packet.at;
        self.evidence = 0;
        self.agreeing = 0;
        self.behind = 0;
        self.begun_by = packet.line;
        self.opening = 0;
        self.fallen = false;
        self.far = None;
        self.end = None;
        self.stray = None;
        self.suspended = None;
        self.skew.restart();
        let count = self.next - first;
        self.joined = if late && count > 0 { self.next } else { 0 };
        let reason = self.reason(first);
        if count == 0 {
            return None;
        }
        match join(count) {
            Join::Declare => return Some(Missing { first: Seq(first), count, reason }),
            Join::Ask if count < self.ring.capacity() => {
                self.next = first;
                self.missing_since = packet.at;
            }
            Join::Ask | Join::Suspend => {
                self.suspended = Some(Suspended { from: first, hole_end: self.next, filled: first, reason });
            }
        }
        None
    }
}
