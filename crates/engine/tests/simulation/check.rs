//! What must hold of every seed.

use barewire_engine::counters::Counter;
use barewire_engine::nasdaq::Nasdaq;
use barewire_engine::pipeline::Pipeline;
use barewire_engine::sink::{Discard, Memory, Publisher};
use barewire_engine::venue::{Context, Venue};
use barewire_types::{Bbo, Flags, Gap, GapReason, NoPrefetch, RecordKind, Status, StatusCode, TsSource, UnixNanos};

use crate::schedule::Schedule;
use crate::witness::{Seen, Witness, venue};

/// The most messages that a packet has here.
const ONE_PACKET: u64 = 40;

/// What seeds have led to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub seeds: u64,
    pub messages: u64,
    /// Brought by re-request servers.
    pub recovered: u64,
    /// Held back and put in order.
    pub reordered: u64,
    /// Gaps that were lost for good.
    pub lost: u64,
    /// Gaps that snapshots made up for.
    pub snapshots: u64,
    pub failed_snapshots: u64,
    pub restarts: u64,
    /// Feeds whose books were known to be right in the end.
    pub right: u64,
}

impl Outcome {
    pub fn and(self, other: Outcome) -> Outcome {
        Outcome {
            seeds: self.seeds + other.seeds,
            messages: self.messages + other.messages,
            recovered: self.recovered + other.recovered,
            reordered: self.reordered + other.reordered,
            lost: self.lost + other.lost,
            snapshots: self.snapshots + other.snapshots,
            failed_snapshots: self.failed_snapshots + other.failed_snapshots,
            restarts: self.restarts + other.restarts,
            right: self.right + other.right,
        }
    }

    /// Whether every stage was reached, and not all was lost or all was well.
    pub fn is_telling(&self) -> bool {
        let Outcome { recovered, reordered, lost, snapshots, failed_snapshots, restarts, right, seeds, .. } = *self;
        [recovered, reordered, lost, snapshots, failed_snapshots, restarts, right].iter().all(|n| *n >= seeds / 50)
            && right < seeds
    }
}

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}

/// What the strategy was told of the stream, in order: the venue's log, and the gaps from the records.
pub fn check(schedule: &Schedule, feed: &mut Pipeline<Witness, Memory>) -> Result<Outcome, String> {
    feed.counters().check()?;
    let counters = feed.counters().clone();
    let gaps = gaps(feed)?;
    let mut gaps = gaps.into_iter().peekable();
    let log = std::mem::take(&mut feed.venue_mut().log);
    // Which session it is in, and what it has of it: as good as everything below.
    let (mut session, mut next) = (None, 1);
    let mut begun_at = 0;
    // Messages seen of this session.
    let mut run = 0;
    let mut doubted = false;
    let mut outcome = Outcome {
        seeds: 1,
        messages: counters.get(Counter::Messages),
        recovered: counters.get(Counter::MessagesRecovered),
        reordered: counters.get(Counter::MessagesReordered),
        failed_snapshots: counters.get(Counter::SnapshotsFailed),
        restarts: counters.get(Counter::SessionRestarts),
        ..Outcome::default()
    };
    let mut expected = Expected { venue: venue(), next: 1 };
    let mut recovered = 0;
    for (place, seen) in log.iter().enumerate() {
        match seen {
            Seen::Message { sequence, bytes, recovered: by_server } => {
                recovered += u64::from(*by_server);
                ensure!(*sequence == next, "message {sequence} was delivered where {next} was expected");
                // An empty message does not say of which session it is.
                session = session.or_else(|| bytes.get(4).map(|session| usize::from(*session)));
                if let Some(session) = session {
                    ensure!(session >= begun_at, "a message of session {session} after that one had ended");
                    let sent = schedule.sessions.get(session).and_then(|sent| sent.get(*sequence as usize - 1));
                    ensure!(sent == Some(bytes), "message {sequence} of session {session} is not what was sent");
                }
                next += 1;
                run += 1;
            }
            Seen::Doubt => {
                let gap = gaps.next().ok_or("messages were lost, and no gap was told")?;
                ensure!(gap.reason != GapReason::Snapshot as u8, "a snapshot lost messages");
                ensure!(gap.sequence == next, "the gap at {} was told where {next} was expected", gap.sequence);
                ensure!(gap.count > 0, "an empty gap");
                next += gap.count;
                doubted = true;
                outcome.lost += 1;
            }
            Seen::Snapshot { next: to } => {
                if *to > next {
                    let gap = gaps.next().ok_or("a snapshot passed over messages, and no gap was told")?;
                    ensure!(gap.reason == GapReason::Snapshot as u8, "a snapshot's gap has reason {}", gap.reason);
                    ensure!(gap.sequence == next && next + gap.count == *to, "{gap:?} is not {next} to {to}");
                }
                ensure!(*to >= next, "the snapshot at {to} is older than what was delivered, {next}");
                next = *to;
                outcome.snapshots += 1;
            }
            Seen::SnapshotEnd => {
                ensure!(matches!(log[..place].last(), Some(Seen::Snapshot { .. })), "messages in mid-snapshot");
                doubted = false;
            }
            Seen::Restart => {
                // A session whose first packet overtook many others is joined anew where those agree that it began below.
                begun_at = session.map_or(begun_at, |session| session + usize::from(run > ONE_PACKET));
                (session, next, doubted, run) = (None, 1, false, 0);
            }
        }
    }
    ensure!(gaps.next().is_none(), "a gap was told, and nothing was lost");
    ensure!(recovered == outcome.recovered, "{recovered} messages flagged as recovered, {} counted", outcome.recovered);
    let right = !doubted;
    let is_flagged = feed.venue().venue.is_doubted(1);
    ensure!(is_flagged == doubted, "doubted: {is_flagged}, where it should be {doubted}");
    if let Some(session) = session {
        let sent = &schedule.sessions[session];
        ensure!(next <= sent.len() as u64 + 1, "{next} was reached of {} messages", sent.len());
        if right {
            expected.follow(sent, next);
            let (is, should) = (feed.venue().venue.books().digest(), expected.venue.books().digest());
            ensure!(is == should, "the books are not those of the messages up to {next} of session {session}");
        }
        if schedule.is_recoverable {
            ensure!(next == sent.len() as u64 + 1, "{next} was reached of {} messages, with good servers", sent.len());
        }
    }
    if schedule.is_recoverable {
        ensure!(outcome.lost == 0, "{} gaps, with good servers", outcome.lost);
        ensure!(right, "the books are in doubt, with good servers");
    }
    outcome.right = u64::from(right);
    Ok(outcome)
}

/// Books that followed what was sent.
struct Expected {
    venue: Nasdaq<NoPrefetch>,
    next: u64,
}

impl Expected {
    fn follow(&mut self, sent: &[Vec<u8>], to: u64) {
        let (mut out, mut counters) = (Publisher::new(Discard), Default::default());
        for message in &sent[self.next as usize - 1..to as usize - 1] {
            let context = Context {
                sequence: self.next,
                ts_recv: UnixNanos::ABSENT,
                ts_source: TsSource::None,
                flags: Flags::NONE,
            };
            self.venue.apply(message, &context, &mut out, &mut counters);
            self.venue.maintain(&mut counters);
            self.next += 1;
        }
    }
}

/// Checks the records by themselves, and returns the gaps among them.
fn gaps(feed: &mut Pipeline<Witness, Memory>) -> Result<Vec<Gap>, String> {
    let mut gaps = Vec::new();
    let (mut doubted, mut last) = (false, 0);
    for record in &feed.sink_mut().records {
        // Every kind's head is alike.
        let head = Bbo::from(*record);
        let kind = record.kind().ok_or("a record of no kind")?;
        let status = Status::from(*record);
        match kind {
            RecordKind::Gap => {
                let gap = Gap::from(*record);
                doubted |= gap.reason != GapReason::Snapshot as u8;
                gaps.push(gap);
            }
            RecordKind::Status if status.code == StatusCode::SessionStart as u8 => (doubted, last) = (false, 0),
            RecordKind::Status => {}
            RecordKind::Mbo | RecordKind::Bbo => {
                let flags = Flags(head.flags);
                if flags.contains(Flags::SNAPSHOT) {
                    doubted = false;
                }
                // A restart's own records come before its status.
                let is_clear = kind == RecordKind::Mbo && barewire_types::Mbo::from(*record).action == b'R';
                ensure!(
                    is_clear || flags.contains(Flags::MAYBE_STALE) == doubted,
                    "record {head:?} has the wrong flags: books are {}",
                    if doubted { "in doubt" } else { "right" }
                );
                if is_clear {
                    last = 0;
                }
                ensure!(head.sequence >= last, "record {} came after {last}", head.sequence);
                last = head.sequence;
            }
        }
    }
    Ok(gaps)
}
