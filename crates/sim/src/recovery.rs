//! The other end of recovery: servers that send lost messages again and that hand out snapshots.
//!
//! - [`Store`]: the newest messages of the session, shared by whoever needs them; [`StoreSink`] fills it.
//! - [`Rerequests`] answers MoldUDP64 requests, [`RerequestServer`] does so on a socket.
//! - [`Mirror`] follows a session's messages and knows at any time what a snapshot holds, [`GlimpseServer`] serves it.
//! - [`Fault`]: every server can be told to be slow, partial, silent, or wrong.
//!
//! [`Store`], [`Rerequests`] and [`Mirror`] read no clock and open no socket: a simulated network can be built on them.

mod follower;
mod glimpse;
mod glimpse_server;
mod mirror;
mod rerequest;
mod rerequest_server;
mod store;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

pub use glimpse_server::{GlimpseConfig, GlimpseCounters, GlimpseServer};
pub use mirror::{BookSnapshot, MAX_ORDERS, Mirror};
pub use rerequest::{RerequestCounters, Rerequests};
pub use rerequest_server::{RerequestServer, RerequestServerCounters};
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
    /// It answers with what was not asked for: other sessions, other numbers, garbage, by turns. It tells no lie that no
    /// client could see through: what carries the session's name and numbers that exist is true.
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

/// The address of a socket that was bound to one of IPv4.
fn v4(address: SocketAddr) -> io::Result<SocketAddrV4> {
    match address {
        SocketAddr::V4(address) => Ok(address),
        SocketAddr::V6(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
