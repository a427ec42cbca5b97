//! Fetching a snapshot by GLIMPSE 5.0 over SoupBinTCP 3.00, without sockets or clocks.
//!
//! Whoever has the connection asks [`GlimpseClient::pending`] what to send, puts what came into
//! [`GlimpseClient::space`], and says so, with the time. As soon as one of the calls returns a result, the fetch is over.
//!
//! The server is not trusted. Memory is bounded by [`GlimpseOptions::max_bytes`] and one packet; time by
//! [`GlimpseOptions::timeout_ns`], however busily the server says nothing. A part of a snapshot is never a result: its books
//! would be wrong without a sign of it. So the first thing that cannot be ends the fetch, unlike with live messages: a
//! packet or a message that is not the protocol's, a message of another length than its type has. A message of a type
//! that is not known is kept: new editions add some.

use barewire_types::Seq;
use barewire_wire::glimpse50::Message;
use barewire_wire::itch50;
use barewire_wire::soupbintcp::{
    CLIENT_HEARTBEAT, CURRENT_SESSION, HEARTBEAT_SECONDS, LOGIN_REQUEST_LEN, LOGOUT_REQUEST, LoginRequest,
    MAX_PACKET_LEN, Packet, Step, padded, step,
};

use super::{FetchError, Snapshot, SnapshotConfig};

const SECOND_NS: u64 = 1_000_000_000;
const HEARTBEAT_NS: u64 = HEARTBEAT_SECONDS * SECOND_NS;
/// A server that has missed three heartbeats is given up, one that does not answer the login too. The specification has
/// fifteen seconds, but the feed stands still meanwhile.
const SILENCE_NS: u64 = 3 * HEARTBEAT_NS;

/// Room for what came: more than any packet, so that there always is some.
const BUFFER_LEN: usize = 1 << 17;
const _: () = assert!(BUFFER_LEN > MAX_PACKET_LEN);

/// Length of what stands before each message of a [`Snapshot`].
const PREFIX_LEN: usize = size_of::<u16>();

/// What to log in with, and what to bear.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct GlimpseOptions {
    login: LoginRequest,
    /// How long all of it may take, ns.
    pub timeout_ns: u64,
    /// The most bytes that a snapshot may have, in memory.
    pub max_bytes: usize,
    /// Whether the end states the last message that is in the snapshot, rather than the first that is not.
    pub last_included: bool,
}

impl GlimpseOptions {
    /// What a configuration says; `None` where the account or its password is too long or not printable ASCII.
    pub fn new(config: &SnapshotConfig) -> Option<GlimpseOptions> {
        let (username, password) = (padded(&config.username)?, padded(&config.password)?);
        Some(GlimpseOptions {
            login: LoginRequest { username, password, session: CURRENT_SESSION, sequence: Seq(1) },
            timeout_ns: config.timeout_ns,
            max_bytes: config.max_bytes,
            last_included: config.last_included,
        })
    }
}

/// The end of a fetch, once it has come.
pub type Ended = Option<Result<Snapshot, FetchError>>;

/// One fetch, from connecting on.
pub struct GlimpseClient {
    options: GlimpseOptions,
    /// What came and is not worked off: the first `filled` bytes, at most a part of a packet between two calls.
    buffer: Box<[u8]>,
    filled: usize,
    /// What is to be sent: the first `to_send` bytes, of which `sent` are.
    out: [u8; LOGIN_REQUEST_LEN],
    to_send: usize,
    sent: usize,
    is_connected: bool,
    is_logged_in: bool,
    deadline: u64,
    heard: u64,
    spoke: u64,
    snapshot: Snapshot,
}

impl GlimpseClient {
    /// Begins a fetch; the connection is being made. Times are nanoseconds of a clock that is never set back.
    pub fn new(options: GlimpseOptions, now: u64) -> GlimpseClient {
        GlimpseClient {
            options,
            buffer: vec![0; BUFFER_LEN].into(),
            filled: 0,
            out: [0; LOGIN_REQUEST_LEN],
            to_send: 0,
            sent: 0,
            is_connected: false,
            is_logged_in: false,
            deadline: now.saturating_add(options.timeout_ns),
            heard: now,
            spoke: now,
            snapshot: Snapshot::default(),
        }
    }

    /// There is a connection: the login is to be sent.
    pub fn connected(&mut self, now: u64) {
        self.is_connected = true;
        self.heard = now;
        let login = self.options.login.encode();
        self.say(&login, now);
    }

    /// What is to be sent; mostly nothing.
    pub fn pending(&self) -> &[u8] {
        self.out.get(self.sent..self.to_send).unwrap_or_default()
    }

    /// So many bytes of [`pending`](Self::pending) were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes).min(self.to_send);
    }

    /// Where to put what came; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// So many bytes came, and are in [`space`](Self::space).
    pub fn received(&mut self, bytes: usize, now: u64) -> Ended {
        self.heard = now;
        self.filled = self.filled.saturating_add(bytes).min(self.buffer.len());
        // Moved out so that the packets can borrow it.
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut rest = buffer.get(..self.filled).unwrap_or_default();
        let ended = loop {
            match step(rest) {
                Step::Packet { frame, rest: behind } => {
                    rest = behind;
                    let ended = frame.parse().map_err(|_| FetchError::Malformed).and_then(|packet| self.packet(packet));
                    if let Some(ended) = ended.transpose() {
                        break Some(ended);
                    }
                }
                Step::NeedMore => break None,
                Step::Broken => break Some(Err(FetchError::Malformed)),
            }
        };
        let left = rest.len();
        buffer.copy_within(self.filled - left..self.filled, 0);
        (self.buffer, self.filled) = (buffer, left);
        ended
    }

    /// The connection was not made, or is gone.
    pub fn closed(&self) -> FetchError {
        if self.is_connected { FetchError::Closed } else { FetchError::Connect }
    }

    /// Time has passed. Says what has lasted too long, or finds that it is time for a heartbeat.
    pub fn tick(&mut self, now: u64) -> Option<FetchError> {
        let is_silent = now >= self.heard.saturating_add(SILENCE_NS);
        if now >= self.deadline || is_silent {
            return Some(match self.is_connected {
                false => FetchError::Connect,
                true if is_silent => FetchError::Silent,
                true => FetchError::Timeout,
            });
        }
        if self.is_connected && self.pending().is_empty() && now >= self.spoke.saturating_add(HEARTBEAT_NS) {
            self.say(&CLIENT_HEARTBEAT, now);
        }
        None
    }

    /// When [`tick`](Self::tick) is to be called at the latest.
    pub fn next_tick(&self) -> u64 {
        let dead = self.deadline.min(self.heard.saturating_add(SILENCE_NS));
        // What cannot be sent is not followed by more.
        let speaks = self.is_connected && self.pending().is_empty();
        if speaks { dead.min(self.spoke.saturating_add(HEARTBEAT_NS)) } else { dead }
    }

    fn say(&mut self, packet: &[u8], now: u64) {
        if let Some(out) = self.out.get_mut(..packet.len()) {
            out.copy_from_slice(packet);
            (self.sent, self.to_send, self.spoke) = (0, packet.len(), now);
        }
    }

    fn packet(&mut self, packet: Packet<'_>) -> Result<Option<Snapshot>, FetchError> {
        match packet {
            Packet::Debug(_) | Packet::ServerHeartbeat => Ok(None),
            Packet::LoginRejected(_) if !self.is_logged_in => Err(FetchError::Rejected),
            // A later first message: the snapshot's beginning would be missing.
            Packet::LoginAccepted { next, .. } if !self.is_logged_in && next <= Seq(1) => {
                self.is_logged_in = true;
                Ok(None)
            }
            Packet::Sequenced(message) if self.is_logged_in => self.message(message),
            Packet::Unsequenced(_) if self.is_logged_in => Ok(None),
            Packet::EndOfSession => Err(FetchError::Ended),
            _ => Err(FetchError::Malformed),
        }
    }

    fn message(&mut self, message: &[u8]) -> Result<Option<Snapshot>, FetchError> {
        match Message::parse(message) {
            Ok(Message::Itch(message)) => self.keep(message).map(|()| None),
            Ok(Message::End(stated)) => {
                let next = stated.0.checked_add(u64::from(self.options.last_included));
                // Messages are numbered from 1.
                self.snapshot.next = next.filter(|next| *next > 0).map(Seq).ok_or(FetchError::Malformed)?;
                Ok(Some(std::mem::take(&mut self.snapshot)))
            }
            Err(_) => Err(FetchError::Malformed),
        }
    }

    fn keep(&mut self, message: &[u8]) -> Result<(), FetchError> {
        let [type_code, ..] = *message else { return Err(FetchError::Malformed) };
        if itch50::spec(type_code).is_some_and(|spec| spec.len != message.len()) {
            return Err(FetchError::Malformed);
        }
        let len = u16::try_from(message.len()).map_err(|_| FetchError::Malformed)?;
        let messages = &mut self.snapshot.messages;
        let needed = messages.len() + PREFIX_LEN + message.len();
        if needed > self.options.max_bytes {
            return Err(FetchError::TooLong);
        }
        if needed > messages.capacity() {
            // Twice as much, but no more than may be.
            let capacity = needed.max(2 * messages.capacity()).max(BUFFER_LEN).min(self.options.max_bytes);
            messages.try_reserve_exact(capacity - messages.len()).map_err(|_| FetchError::OutOfMemory)?;
        }
        messages.extend_from_slice(&len.to_be_bytes());
        messages.extend_from_slice(message);
        self.snapshot.count += 1;
        Ok(())
    }
}

/// What to send, if it can be sent at once, when the snapshot is there.
pub const FAREWELL: &[u8] = &LOGOUT_REQUEST;
