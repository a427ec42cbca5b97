//! The other end of recovery: servers that send lost messages again and that hand out snapshots.
//!
//! - [`Store`]: the newest messages of the session, shared by whoever needs them; [`StoreSink`] fills it.
//! - [`Rerequests`] answers MoldUDP64 requests, [`RerequestServer`] does so on a socket.
//! - [`Mirror`] follows a session's messages and knows at any time what a GLIMPSE snapshot holds.
//! - [`Fault`]: every server can be told to be slow, partial, silent, or wrong.
//!
//! [`Store`], [`Rerequests`] and [`Mirror`] read no clock and open no socket: a simulated network can be built on them.

mod mirror;
mod rerequest;
mod store;

pub use mirror::{BookSnapshot, MAX_ORDERS, Mirror};
pub use rerequest::{RerequestCounters, Rerequests};
pub use store::{Store, StoreSink};

/// What is wrong with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It answers, later than it could.
    Slow {
        /// So much later, ns.
        delay_ns: u64,
    },
    /// It answers with less than it could: fewer messages than fit into a packet, a snapshot that breaks off midway.
    Partial,
    /// It never answers.
    Silent,
    /// It answers with what was not asked for: other sessions, other numbers, garbage, by turns. What looks true in its
    /// answers is true: no client could tell otherwise.
    Wrong,
}

impl Fault {
    /// How much later than it could such a server answers, ns.
    pub const fn delay_ns(self) -> u64 {
        match self {
            Fault::Slow { delay_ns } => delay_ns,
            Fault::None | Fault::Partial | Fault::Silent | Fault::Wrong => 0,
        }
    }
}
