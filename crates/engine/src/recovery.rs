//! What a feed asks of the world when messages are missing: retransmissions, and snapshots of the books.
//!
//! What it does *not* do: decide when something is missing, when to ask, or what to do with the answer. That is the
//! sequencer's and the pipeline's; they speak to a [`Services`] and never wait for it.
//!
//! Two services. A *re-request server* answers MoldUDP64 request packets by UDP, with packets of the same session: each
//! request is a shot in the dark, and the reply comes or does not. A *snapshot server* speaks GLIMPSE 5.0 over SoupBinTCP
//! 3.00: the whole snapshot is fetched into memory, away from the feed's thread, and handed over when its end has been
//! seen, never a part of it.

mod fetch;
pub mod glimpse;
mod live;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use barewire_types::Seq;

pub use live::{LiveServices, ServicesError};

/// The recovery services of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// Who retransmits; `None`: nobody is asked.
    pub rerequest: Option<RerequestConfig>,
    /// Who has snapshots; `None`: nobody is asked.
    pub snapshot: Option<SnapshotConfig>,
}

/// Whom to ask for lost messages, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerequestConfig {
    /// The servers, asked by turns; 1 to 256.
    pub servers: Vec<SocketAddrV4>,
    /// The address to ask from; `None` leaves it to the routing table.
    pub local: Option<Ipv4Addr>,
    /// The most messages that one request asks for.
    pub max_messages: u16,
    /// The most requests a second, all servers together.
    pub per_second: u32,
    /// How long to wait for a reply before the next attempt, ns.
    pub timeout_ns: u64,
    /// How often to ask for the same messages.
    pub attempts: u8,
    /// How long after a hole was first seen nobody is asked any more, ns.
    pub give_up_ns: u64,
    /// Holes of more messages than this are not asked for: a snapshot is quicker.
    pub max_gap: u64,
}

/// Where snapshots are to be had.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// The servers, asked by turns; 1 to 256.
    pub servers: Vec<SocketAddrV4>,
    /// The account: at most 6 printable ASCII characters.
    pub username: String,
    /// Its password: at most 10 printable ASCII characters.
    pub password: String,
    /// How long a whole fetch may take, from connecting to the end of the snapshot, ns.
    pub timeout_ns: u64,
    /// How often to try before giving up for now.
    pub attempts: u8,
    /// How long after all attempts have failed to begin anew, ns; 0 for never.
    pub retry_ns: u64,
    /// The most bytes that a snapshot may have, in memory.
    pub max_bytes: usize,
    /// What the end of a snapshot states: the number of the last message that is in it, not of the first that is not.
    pub last_included: bool,
}

impl fmt::Debug for SnapshotConfig {
    /// Never shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotConfig")
            .field("servers", &self.servers)
            .field("username", &self.username)
            .field("timeout_ns", &self.timeout_ns)
            .field("attempts", &self.attempts)
            .field("retry_ns", &self.retry_ns)
            .field("max_bytes", &self.max_bytes)
            .field("last_included", &self.last_included)
            .finish_non_exhaustive()
    }
}

/// A whole snapshot in memory: complete, checked, its end seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The messages, each behind its big-endian 2-byte length, as in a BinaryFILE:
    /// [`records`](barewire_wire::binaryfile::records) reads them. None is empty, none is the snapshot's end.
    pub messages: Vec<u8>,
    /// How many there are.
    pub count: u64,
    /// The first live message to apply.
    pub next: Seq,
}

/// Why a snapshot could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FetchError {
    /// No connection: refused, unreachable, or no such server.
    Connect,
    /// The server did not take the login.
    Rejected,
    /// The fetch took longer than it may.
    Timeout,
    /// The server was not heard for three seconds, not even by a heartbeat.
    Silent,
    /// The connection broke before the snapshot's end.
    Closed,
    /// The server ended the session before the snapshot's end.
    Ended,
    /// What came is not SoupBinTCP, not GLIMPSE, or has an end that makes no sense.
    Malformed,
    /// The snapshot is longer than it may be.
    TooLong,
    /// There was no memory for it.
    OutOfMemory,
}

impl FetchError {
    /// Every error, in order of declaration.
    pub const ALL: &[FetchError] = &[
        FetchError::Connect,
        FetchError::Rejected,
        FetchError::Timeout,
        FetchError::Silent,
        FetchError::Closed,
        FetchError::Ended,
        FetchError::Malformed,
        FetchError::TooLong,
        FetchError::OutOfMemory,
    ];

    /// The name that counters have.
    pub const fn name(self) -> &'static str {
        match self {
            FetchError::Connect => "connect",
            FetchError::Rejected => "rejected",
            FetchError::Timeout => "timeout",
            FetchError::Silent => "silent",
            FetchError::Closed => "closed",
            FetchError::Ended => "ended",
            FetchError::Malformed => "malformed",
            FetchError::TooLong => "too_long",
            FetchError::OutOfMemory => "out_of_memory",
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FetchError::Connect => "no connection to the snapshot server",
            FetchError::Rejected => "the snapshot server rejected the login",
            FetchError::Timeout => "the snapshot did not come in time",
            FetchError::Silent => "the snapshot server fell silent",
            FetchError::Closed => "the connection broke before the snapshot's end",
            FetchError::Ended => "the session ended before the snapshot's end",
            FetchError::Malformed => "what came is no snapshot",
            FetchError::TooLong => "the snapshot is longer than it may be",
            FetchError::OutOfMemory => "no memory for the snapshot",
        })
    }
}

impl std::error::Error for FetchError {}

/// What recovery asks of the world: sockets when live, a simulated network in tests and replays. Nothing here waits.
pub trait Services {
    /// Sends one request packet to one of the re-request servers. A failed send is as good as a lost one, and counted.
    fn request(&mut self, server: u8, packet: &[u8]);

    /// Begins to fetch a snapshot from one of the snapshot servers; an unfinished earlier fetch is abandoned.
    fn fetch(&mut self, ticket: u64, server: u8);

    /// The result of the latest fetch, with its ticket: at most one a fetch. A cheap look, without a system call.
    fn fetched(&mut self) -> Option<(u64, Result<Snapshot, FetchError>)>;

    /// Takes back a snapshot that has been applied: it is freed elsewhere than on the feed's thread.
    fn give_back(&mut self, snapshot: Snapshot);
}

/// For feeds without recovery services: nothing is sent, and no fetch ever has a result.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoServices;

impl Services for NoServices {
    fn request(&mut self, _server: u8, _packet: &[u8]) {}

    fn fetch(&mut self, _ticket: u64, _server: u8) {}

    fn fetched(&mut self) -> Option<(u64, Result<Snapshot, FetchError>)> {
        None
    }

    fn give_back(&mut self, _snapshot: Snapshot) {}
}
