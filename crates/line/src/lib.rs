//! Sequencing: which messages of a packet are new, which were seen before, which are ahead of their turn, which are lost.
//!
//! What it does *not* do: read clocks, sockets or contents. It is told of every packet ([`Arrival`]: line, session, first
//! sequence number, count, time) and answers what to do with it ([`Outcome`]). It allocates at construction only.
//!
//! Concepts. A venue numbers its messages within a *session*, from 1. It sends each message on one *line* or more (A, B);
//! the lines may cut the stream into different packets, so the first copy of each *message* wins, not of each packet.
//! `next` is the number that is to be delivered next: below it everything has been delivered or given up. A packet wholly
//! below `next` is a *duplicate*. One that begins above it is *ahead*: something is missing. Its messages are copied into the
//! *reordering ring* and wait there until the hole in front of them is closed, by the other line or by late packets, or given
//! up after [`Config::hold_ns`]: then the missing messages are a declared *gap*. Packets in order never touch the ring. Where
//! the ring is full there is no room to wait, and the oldest hole is given up at once.
//!
//! What one packet says is not enough to give anything up: numbers can be forged or broken. Two must have shown the hole,
//! and three in a row a place further ahead than the ring reaches.
//!
//! Sessions. A packet of another session is the venue's restart when the current session has ended, or when that one has been
//! silent for three heartbeats and the packet begins its session or is the third in a row; while the current session
//! speaks, it is a stray, and counted as such. Numbers that fall back under the same name are a restart, too, when nothing
//! new has come for three heartbeats, or when their first message is another and three packets in a row agree. A restart begins a new stream: whoever keeps books empties them.
#![no_std]
#![forbid(unsafe_code)]

mod recovery;
mod reorder;
mod sequencer;
mod skew;
mod watch;

pub use recovery::{Recovery, RecoveryConfig, RecoveryStats, Requests, Snapshots, Step};
pub use reorder::{Came, Row, Stored};
pub use sequencer::{Config, Sequencer};
pub use skew::Lags;
pub use watch::{LineChange, LineWatch};

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
    /// When it arrived, by a clock that timers are by, too: silence, and how long to wait for what is missing.
    pub at: UnixNanos,
    /// When it arrived by the best clock, which may be another one, and off: lines are compared by it, nothing else.
    pub ts_recv: UnixNanos,
    /// Something that tells the session's first message from another session's, of a packet that begins with it; 0 for any
    /// other. Numbers that begin anew under the same name are known by it.
    pub opening: u64,
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

/// What to do about the messages before the first packet that was heard of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// They are lost: begin with the packet.
    Declare,
    /// They are a hole like any other: servers may have them.
    Ask,
    /// Hold everything until a snapshot has come.
    Suspend,
}

/// How room was made for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// These messages were given up.
    Lost(Missing),
    /// Delivery was suspended: a snapshot is to fill what is missing.
    Suspended,
    /// It was not: drop the packet.
    None,
}

/// Why a snapshot does not join on to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpliceError {
    /// It ends before what was delivered, or before the oldest message that is held.
    TooOld,
    /// It claims to include messages further ahead than the stream is believed to be.
    TooNew,
    /// Nobody is waiting for one.
    NotSuspended,
}

/// What to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Deliver its messages from index `skip` on; those before were seen already.
    Deliver {
        /// How many messages at the packet's beginning are duplicates.
        skip: u32,
    },
    /// Something before it is missing: [`hold`](Sequencer::hold) its messages.
    Ahead,
    /// It is further ahead than anything can be held, and the first to say so: drop it.
    TooFar,
    /// It is ahead, and there is no room to wait: [`make_room`](Sequencer::make_room), and accept it anew, until it fits.
    NoRoom,
    /// Every message of it was seen before.
    Duplicate,
    /// A heartbeat: nothing to deliver.
    Heartbeat,
    /// The session is over.
    EndOfSession,
    /// It begins another session: [`flush`](Sequencer::flush) this one, [`begin`](Sequencer::begin) that one, and accept the
    /// packet anew.
    NewSession,
    /// A stray of another session: drop it.
    ForeignSession,
    /// Its numbers run past 2^64, or its line is none of ours: drop it.
    Invalid,
}

/// The most lines that one feed may have.
pub const MAX_LINES: usize = 8;

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

#[cfg(test)]
mod tests;
