//! What is done about a hole: wait for the other line, then ask for the messages again, then for a snapshot, then declare
//! them lost. Each stage is bounded, in time and in number; a stage for which nothing is configured is passed over.
//!
//! [`Recovery`] does no IO and reads no clock. It looks at the [`Sequencer`] and says what is to be done next ([`Step`]);
//! whoever does it tells what came of it.
//!
//! *Requests.* Every hole that was waited for long enough is cut into pieces of at most so many messages. A piece is asked
//! for until it is there: at once again when a part of it came, from the next server when none came in time. A piece that
//! no server brings within so many attempts, a hole that stays open for too long or is greater than is reasonable to ask
//! for, ends the stage.
//!
//! *Snapshot.* Delivery is suspended and everything held from here on. The snapshot that comes includes every message
//! below some number: it takes their place, what is held from there on follows. When no server has one, or there is no
//! room to hold more, the hole is lost, what is held is delivered (no message that was received is ever thrown away for
//! want of a snapshot), and after some time, another is asked for.

use barewire_types::{Seq, UnixNanos};

use crate::{Join, Missing, Sequencer};

/// Pieces that are asked for at the same time.
const PIECES: usize = 16;

/// How messages are asked for again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// How many servers there are; at least 1.
    pub servers: u8,
    /// Most messages of a request; at least 1.
    pub max_messages: u16,
    /// Most requests a second; at least 1.
    pub per_second: u32,
    /// How long an answer is waited for, ns.
    pub timeout_ns: u64,
    /// How often a piece is asked for in vain; at least 1.
    pub attempts: u8,
    /// How long a hole may stay open, from the first request on, ns.
    pub give_up_ns: u64,
    /// The greatest hole that is asked for, in messages.
    pub max_gap: u64,
}

/// How snapshots are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// How many servers there are; at least 1.
    pub servers: u8,
    /// How many fetches may fail in a row before the hole is lost; at least 1.
    pub attempts: u8,
    /// After that, how long until another is tried, ns; 0 for not before the next hole.
    pub retry_ns: u64,
}

/// Which stages there are beyond waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecoveryConfig {
    /// Asking for messages again.
    pub requests: Option<Requests>,
    /// Asking for a snapshot.
    pub snapshots: Option<Snapshots>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, for now.
    Wait,
    /// Ask a server for messages of the current session.
    Request {
        /// Which server, from 0.
        server: u8,
        /// The first message wanted.
        first: Seq,
        /// How many.
        count: u16,
    },
    /// Fetch a snapshot.
    Fetch {
        /// Names this fetch: [`Recovery::is_current`].
        ticket: u64,
        /// Which server, from 0.
        server: u8,
    },
    /// These are lost; what is held behind them can be delivered.
    Lost(Missing),
    /// Nothing is lost, and what is held can be delivered: a hole was filled while a snapshot was awaited.
    Filled,
}

/// What recovery has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecoveryStats {
    /// Requests for messages.
    pub requests: u64,
    /// Those of them to which no message came in time.
    pub requests_unanswered: u64,
    /// Snapshots asked for.
    pub fetches: u64,
    /// Those of them that brought nothing that could be used.
    pub fetches_failed: u64,
    /// How long it took from when a hole had been waited for in vain until everything was there, or lost: the last time, ns.
    pub last_ns: u64,
    /// The longest time, ns.
    pub max_ns: u64,
}

/// A piece of a hole that was asked for.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The first message of it that is still missing.
    first: u64,
    /// One past the last.
    end: u64,
    /// What `first` was when it was last asked for.
    asked_from: u64,
    asked_at: UnixNanos,
    server: u8,
    attempts: u8,
}

/// A snapshot that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetch {
    /// None is wanted.
    No,
    /// It is on its way.
    Under { ticket: u64, failed: u8 },
    /// It is being loaded.
    Loading,
    /// None could be had then; after some time, another is tried.
    Again { since: UnixNanos },
}

/// Decides what is done about holes.
#[derive(Clone, Debug)]
pub struct Recovery {
    config: RecoveryConfig,
    pieces: [Option<Piece>; PIECES],
    /// Up to where holes were cut into pieces.
    cut_to: u64,
    /// The server that is asked next.
    server: u8,
    /// When the next request may go out, and how many at once then: a bucket of a tenth of a second's.
    next_request: UnixNanos,
    /// The hole at the stream's end, as it was first met: where it ends, and when it was met.
    hole: Option<(u64, UnixNanos)>,
    /// No server has what is missing next.
    in_vain: bool,
    fetch: Fetch,
    tickets: u64,
    snapshot_server: u8,
    /// Since when the stream has not been complete.
    since: Option<UnixNanos>,
    stats: RecoveryStats,
}

/// Whether so long has passed. A clock that was set back must not make anybody wait for ever.
fn passed(since: UnixNanos, now: UnixNanos, ns: u64) -> bool {
    const SET_BACK_NS: u64 = 2_000_000_000;
    match now.0.checked_sub(since.0) {
        Some(elapsed) => elapsed >= ns,
        None => since.0 - now.0 > SET_BACK_NS,
    }
}

impl Recovery {
    /// Recovery that has nothing to do yet.
    pub fn new(config: RecoveryConfig) -> Recovery {
        Recovery {
            config,
            pieces: [None; PIECES],
            cut_to: 0,
            server: 0,
            next_request: UnixNanos::ABSENT,
            hole: None,
            in_vain: false,
            fetch: Fetch::No,
            tickets: 0,
            snapshot_server: 0,
            since: None,
            stats: RecoveryStats::default(),
        }
    }

    /// What it has done so far.
    pub fn stats(&self) -> &RecoveryStats {
        &self.stats
    }

    /// Whether answers to requests may still come.
    #[inline]
    pub fn is_asking(&self) -> bool {
        self.pieces.iter().any(Option::is_some)
    }

    /// Whether [`step`](Self::step) is to be asked although nothing is missing.
    #[inline(always)]
    pub fn has_plans(&self) -> bool {
        self.since.is_some() || self.fetch != Fetch::No
    }

    /// What is to be done about the messages before the first that was heard, [`begin`](Sequencer::begin) asks.
    pub fn join(&self, count: u64) -> Join {
        match self.config {
            RecoveryConfig { requests: Some(requests), .. } if count <= requests.max_gap => Join::Ask,
            RecoveryConfig { snapshots: Some(_), .. } => Join::Suspend,
            _ => Join::Declare,
        }
    }

    /// Another session: what was asked for is of no use any more.
    pub fn restart(&mut self) {
        self.forget_pieces();
        self.fetch = Fetch::No;
        self.since = None;
    }

    fn forget_pieces(&mut self) {
        self.pieces = [None; PIECES];
        self.cut_to = 0;
        self.forget_hole();
    }

    /// The hole at the stream's end is given up. What was asked for behind it goes on: those have had their time meanwhile.
    fn forget_hole(&mut self) {
        self.hole = None;
        self.in_vain = false;
    }

    fn is_time_to_try_again(&self, now: UnixNanos) -> bool {
        match (self.fetch, self.config.snapshots) {
            (Fetch::Again { since }, Some(snapshots)) => passed(since, now, snapshots.retry_ns),
            _ => false,
        }
    }

    /// Says what is to be done; ask again until it is [`Step::Wait`]. `now` is the time; `by` is that by which what is
    /// missing must have been noticed: earlier than `now` while what has arrived was not all read. Where there is no time
    /// ([`UnixNanos::ABSENT`]) nothing is waited for and nobody asked.
    pub fn step(&mut self, now: UnixNanos, by: UnixNanos, stream: &mut Sequencer) -> Step {
        if stream.is_suspended() {
            self.since.get_or_insert(now);
            return self.await_snapshot(now, stream);
        }
        // A hole that has only just been seen is left its time: where the try fails, it would be lost.
        let again = self.is_time_to_try_again(now) && !stream.has_ended();
        if !stream.is_waiting() {
            if again {
                stream.suspend();
                return self.fetch(0);
            }
            self.settle(now);
            return Step::Wait;
        }
        if now == UnixNanos::ABSENT {
            return stream.give_up(now).map_or(Step::Wait, Step::Lost);
        }
        if let Some(requests) = self.config.requests {
            let step = self.ask(&requests, now, by, stream);
            if step != Step::Wait || !self.in_vain {
                return step;
            }
        }
        if !stream.is_overdue(by) {
            return Step::Wait;
        }
        self.since.get_or_insert(now);
        // While a snapshot is waited for that repairs everything, one more hole is one more thing it repairs.
        if self.may_fetch() || again {
            self.forget_pieces();
            stream.suspend();
            return self.fetch(0);
        }
        self.forget_hole();
        stream.give_up(by).map_or(Step::Wait, Step::Lost)
    }

    /// Nothing is missing.
    fn settle(&mut self, now: UnixNanos) {
        if self.is_asking() || self.hole.is_some() {
            self.forget_pieces();
        }
        if let Some(since) = self.since.take() {
            self.stats.last_ns = now.0.saturating_sub(since.0);
            self.stats.max_ns = self.stats.max_ns.max(self.stats.last_ns);
        }
    }

    // --- requests

    fn ask(&mut self, requests: &Requests, now: UnixNanos, by: UnixNanos, stream: &Sequencer) -> Step {
        let next = stream.next().0;
        if let Some((end, since)) = self.hole {
            if next >= end {
                // That one is closed; what is open now is another.
                self.hole = None;
                self.in_vain = false;
            } else if passed(since, now, requests.give_up_ns) {
                self.in_vain = true;
            }
        }
        if self.hole.is_none() && stream.is_overdue(by) {
            let end = stream.hole_end();
            self.hole = Some((end, now));
            self.in_vain = end - next > requests.max_gap;
        }
        for index in 0..PIECES {
            let Some(piece) = self.pieces.get_mut(index) else { break };
            let Some(asked) = piece else { continue };
            while asked.first < asked.end && stream.has(asked.first) {
                asked.first += 1;
            }
            if asked.first == asked.end {
                *piece = None;
                continue;
            }
            if asked.first > asked.asked_from {
                // A part of it came.
                asked.attempts = 0;
            } else if !passed(asked.asked_at, now, requests.timeout_ns) {
                continue;
            } else if asked.attempts >= requests.attempts {
                // Counted when this was first found.
                self.in_vain |= asked.first == next;
                continue;
            } else {
                self.stats.requests_unanswered += 1;
                if asked.attempts + 1 >= requests.attempts {
                    asked.attempts = requests.attempts;
                    self.in_vain |= asked.first == next;
                    continue;
                }
                asked.server = (asked.server + 1) % requests.servers.max(1);
                self.server = asked.server;
                asked.attempts += 1;
            }
            if self.in_vain {
                continue;
            }
            let asked = *asked;
            return self.send(requests, now, index, asked);
        }
        if self.in_vain {
            return Step::Wait;
        }
        let Some(free) = self.pieces.iter().position(Option::is_none) else { return Step::Wait };
        let (first, end) = match stream.overdue_hole(self.cut_to.max(next), by) {
            Ok(hole) => hole,
            Err(to) => {
                self.cut_to = to;
                return Step::Wait;
            }
        };
        self.since.get_or_insert(now);
        let end = end.min(first.saturating_add(u64::from(requests.max_messages.max(1))));
        let server = self.server % requests.servers.max(1);
        let piece = Piece { first, end, asked_from: first, asked_at: now, server, attempts: 0 };
        let step = self.send(requests, now, free, piece);
        if step != Step::Wait {
            self.cut_to = end;
        }
        step
    }

    /// Asks for a piece, if that is not too often.
    fn send(&mut self, requests: &Requests, now: UnixNanos, index: usize, mut piece: Piece) -> Step {
        let every = 1_000_000_000 / u64::from(requests.per_second.max(1));
        let burst = every.max(100_000_000);
        // The bucket: requests are due one after another, and may be so far behind.
        let earliest = UnixNanos(now.0.saturating_sub(burst - every));
        let due = if passed(self.next_request, now, 0) { self.next_request.max(earliest) } else { return Step::Wait };
        self.next_request = UnixNanos(due.0.saturating_add(every));
        piece.asked_from = piece.first;
        piece.asked_at = now;
        if let Some(place) = self.pieces.get_mut(index) {
            *place = Some(piece);
        }
        self.stats.requests += 1;
        let count = (piece.end - piece.first).min(u64::from(requests.max_messages)) as u16;
        Step::Request { server: piece.server, first: Seq(piece.first), count }
    }

    // --- snapshots

    fn fetch(&mut self, failed: u8) -> Step {
        let servers = self.config.snapshots.map_or(1, |snapshots| snapshots.servers.max(1));
        self.tickets += 1;
        self.stats.fetches += 1;
        self.fetch = Fetch::Under { ticket: self.tickets, failed };
        Step::Fetch { ticket: self.tickets, server: self.snapshot_server % servers }
    }

    fn await_snapshot(&mut self, now: UnixNanos, stream: &mut Sequencer) -> Step {
        match self.fetch {
            Fetch::Under { .. } if stream.is_filled() => {
                self.fetch = Fetch::No;
                stream.resume().map_or(Step::Filled, Step::Lost)
            }
            Fetch::Under { .. } | Fetch::Loading => Step::Wait,
            Fetch::No if self.config.snapshots.is_some() => self.fetch(0),
            // Nobody can bring one.
            Fetch::No | Fetch::Again { .. } => self.no_snapshot(now, stream),
        }
    }

    /// Whether this is the fetch that is waited for.
    pub fn is_current(&self, ticket: u64) -> bool {
        matches!(self.fetch, Fetch::Under { ticket: current, .. } if current == ticket)
    }

    /// Whether a fetch is waited for.
    pub fn is_fetching(&self) -> bool {
        matches!(self.fetch, Fetch::Under { .. })
    }

    /// Whether there is somebody to ask for a snapshot now, so that nothing need be given up for being far ahead.
    pub fn may_fetch(&self) -> bool {
        self.config.snapshots.is_some() && self.fetch == Fetch::No
    }

    /// A hole was lost for want of room, before anybody could be asked for a snapshot: one is asked for at once.
    pub fn lost(&mut self) {
        if self.may_fetch() {
            self.fetch = Fetch::Again { since: UnixNanos::ABSENT };
        }
        self.forget_hole();
    }

    /// The snapshot came, and was [spliced in](Sequencer::splice); it is being loaded.
    pub fn loading(&mut self) {
        self.fetch = Fetch::Loading;
    }

    /// The snapshot was loaded, and delivery [resumed](Sequencer::resume).
    pub fn loaded(&mut self) {
        self.fetch = Fetch::No;
        self.forget_pieces();
    }

    /// The fetch that is waited for brought nothing of use: another server is tried, or the hole is lost.
    pub fn failed(&mut self, now: UnixNanos, stream: &mut Sequencer) -> Step {
        let Some(snapshots) = self.config.snapshots else { return self.no_snapshot(now, stream) };
        self.stats.fetches_failed += 1;
        self.snapshot_server = (self.snapshot_server + 1) % snapshots.servers.max(1);
        match self.fetch {
            Fetch::Under { failed, .. } if failed + 1 < snapshots.attempts => self.fetch(failed + 1),
            _ => self.no_snapshot(now, stream),
        }
    }

    /// Nothing more can be held while a snapshot is waited for: the hole is lost. A fetch under way is of no use any more,
    /// for what follows it has been delivered.
    pub fn no_room(&mut self, now: UnixNanos, stream: &mut Sequencer) -> Step {
        self.stats.fetches_failed += u64::from(matches!(self.fetch, Fetch::Under { .. }));
        self.no_snapshot(now, stream)
    }

    fn no_snapshot(&mut self, now: UnixNanos, stream: &mut Sequencer) -> Step {
        let retry_ns = self.config.snapshots.map_or(0, |snapshots| snapshots.retry_ns);
        self.fetch = if retry_ns == 0 { Fetch::No } else { Fetch::Again { since: now } };
        self.forget_pieces();
        stream.resume().map_or(Step::Filled, Step::Lost)
    }
}
