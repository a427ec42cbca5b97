//! The services of a live feed.

use std::fmt;
use std::io;

use barewire_io::request::{RequestCounters, RequestSocket};
use barewire_io::{OpenError, Waker};

use super::fetch::Fetcher;
use super::glimpse::GlimpseOptions;
use super::{FetchError, RecoveryConfig, Services, Snapshot};

/// Why a feed's recovery services could not be had.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServicesError {
    /// The socket that requests leave by.
    Open(OpenError),
    /// A setting is out of its range.
    BadSetting {
        /// Its name.
        name: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// The thread that fetches snapshots.
    Thread(io::Error),
}

impl fmt::Display for ServicesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServicesError::Open(error) => error.fmt(f),
            ServicesError::BadSetting { name, expected } => write!(f, "{name}: expected {expected}"),
            ServicesError::Thread(error) => write!(f, "snapshot thread: {error}"),
        }
    }
}

impl std::error::Error for ServicesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServicesError::Open(error) => Some(error),
            ServicesError::Thread(error) => Some(error),
            ServicesError::BadSetting { .. } => None,
        }
    }
}

/// Sockets: UDP from the feed's own thread, TCP from another.
pub struct LiveServices {
    requests: Option<RequestSocket>,
    fetcher: Option<Fetcher>,
}

impl LiveServices {
    /// Opens what the configuration names. Nothing is sent, and nobody connected to, before it is asked for.
    ///
    /// The thread that fetches snapshots runs on the cores of whoever calls this: that should not be the feed's thread,
    /// once it has a core of its own. `waker` is called when a fetch is over; for replies, have the receiver
    /// [watch](barewire_io::Receiver::watch) the descriptor of [`replies`](Self::replies).
    ///
    /// # Errors
    ///
    /// Every [`ServicesError`]; nothing is left open then.
    pub fn open(config: &RecoveryConfig, waker: Waker) -> Result<LiveServices, ServicesError> {
        let requests = match &config.rerequest {
            Some(config) => Some(RequestSocket::open(&config.servers, config.local).map_err(ServicesError::Open)?),
            None => None,
        };
        let fetcher = match &config.snapshot {
            Some(config) => {
                let bad = |name, expected| ServicesError::BadSetting { name, expected };
                if !(1..=256).contains(&config.servers.len()) {
                    return Err(bad("snapshot servers", "1 to 256 of them"));
                }
                let account = "username and password of at most 6 and 10 printable ASCII characters";
                let options = GlimpseOptions::new(config).ok_or(bad("snapshot account", account))?;
                let servers = config.servers.clone();
                Some(Fetcher::start(servers, options, waker).map_err(ServicesError::Thread)?)
            }
            None => None,
        };
        Ok(LiveServices { requests, fetcher })
    }

    /// Where replies come in: to be polled while a request is out.
    pub fn replies(&mut self) -> Option<&mut RequestSocket> {
        self.requests.as_mut()
    }

    /// What has been counted of requests and replies.
    pub fn counters(&self) -> RequestCounters {
        self.requests.as_ref().map(RequestSocket::counters).unwrap_or_default()
    }
}

impl Services for LiveServices {
    fn request(&mut self, server: u8, packet: &[u8]) {
        if let Some(requests) = &mut self.requests {
            // A failure is counted by the socket.
            let _ = requests.send(server, packet);
        }
    }

    fn fetch(&mut self, ticket: u64, server: u8) {
        if let Some(fetcher) = &mut self.fetcher {
            fetcher.fetch(ticket, server);
        }
    }

    fn fetched(&mut self) -> Option<(u64, Result<Snapshot, FetchError>)> {
        self.fetcher.as_mut()?.fetched()
    }

    fn give_back(&mut self, snapshot: Snapshot) {
        if let Some(fetcher) = &self.fetcher {
            fetcher.give_back(snapshot);
        }
    }
}
