//! A GLIMPSE server: the snapshots of a [`Mirror`](super::Mirror) that follows a [`Store`], by TCP.
//!
//! One thread follows, listens and serves all clients, none of whom it waits for: what a client does not take stays
//! where it is, and the next one has its turn.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use barewire_io::clock;
use barewire_wire::moldudp64::Session;
use barewire_wire::soupbintcp::padded;

use super::follower::Follower;
use super::glimpse::{Account, Connection, Outcome};
use super::mirror::{BookSnapshot, MAX_ORDERS};
use super::store::Store;
use super::{Fault, v4};

/// How long the thread sleeps when there is nothing to do, with clients and without.
const LOOK: Duration = Duration::from_micros(500);
const IDLE: Duration = Duration::from_millis(2);

/// Chunks that are followed, and bytes that are written to a client, before the others have their turn. Either takes half a
/// millisecond: who waits for a snapshot soon holds more of the live messages than it has room for.
const CHUNKS: usize = 4;
const PART: usize = 1 << 20;

/// How long a served client may take to hang up, ns. To close before it has would take away what it has not read.
const LINGER_NS: u64 = 2_000_000_000;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct GlimpseConfig {
    /// What is wrong with it. A [slow](Fault::Slow) one takes the snapshot at once and sends it later.
    pub fault: Fault,
    /// Username and password that a client has to log in with; `None` lets everybody in.
    pub login: Option<(String, String)>,
    /// Clients at a time; who comes when there are so many is disconnected.
    pub max_clients: usize,
    /// The most live orders; with more there is no snapshot.
    pub max_orders: usize,
}

impl Default for GlimpseConfig {
    /// Everybody, 8 at a time.
    fn default() -> GlimpseConfig {
        GlimpseConfig { fault: Fault::None, login: None, max_clients: 8, max_orders: MAX_ORDERS }
    }
}

/// What became of the clients: each ends in one of `refused` to `left`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GlimpseCounters {
    /// Connections that were made.
    pub connections: u64,
    /// Clients that found no room.
    pub refused: u64,
    /// Clients that were sent everything that the server's fault allows.
    pub served: u64,
    /// Clients whose login was not taken: the wrong one, for another session, or there is no snapshot.
    pub rejected: u64,
    /// Clients that sent what they may not.
    pub malformed: u64,
    /// Clients that were silent for 15 seconds, or did not read.
    pub timed_out: u64,
    /// Clients that went before they were served.
    pub left: u64,
    /// Clients that are there.
    pub open: u64,
    /// Snapshots that were taken.
    pub snapshots: u64,
    /// How long the newest snapshot took, ns.
    pub snapshot_ns: u64,
    /// Messages of snapshots that were sent.
    pub messages: u64,
    /// Number of the session's first message that was not followed yet.
    pub followed: u64,
    /// Whether there is no snapshot to be had: no session yet, or messages of it that were not followed.
    pub unavailable: bool,
}

/// Serves snapshots for as long as it exists.
#[derive(Debug)]
pub struct GlimpseServer {
    local: SocketAddrV4,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    counters: Mutex<GlimpseCounters>,
}

impl GlimpseServer {
    /// Listens, follows the store and serves whoever comes. Port 0 takes a free one.
    ///
    /// It follows from the session's first message on, so that it is to be there while the store still has that.
    ///
    /// # Errors
    ///
    /// The operating system's: no such address, port in use, no thread.
    pub fn bind(at: SocketAddrV4, store: Arc<Store>, fault: Fault) -> io::Result<GlimpseServer> {
        GlimpseServer::bind_with(at, store, GlimpseConfig { fault, ..GlimpseConfig::default() })
    }

    /// As [`bind`](GlimpseServer::bind), in every detail.
    ///
    /// # Errors
    ///
    /// As [`bind`](GlimpseServer::bind); `InvalidInput` for a username of more than 6 or a password of more than 10
    /// characters, or where they are not ASCII.
    pub fn bind_with(at: SocketAddrV4, store: Arc<Store>, config: GlimpseConfig) -> io::Result<GlimpseServer> {
        let account = match &config.login {
            None => None,
            Some((username, password)) => {
                let (username, password) = padded(username).zip(padded(password)).ok_or(ErrorKind::InvalidInput)?;
                Some(Account { username, password })
            }
        };
        let listener = TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let local = v4(listener.local_addr()?)?;
        let shared = Arc::new(Shared::default());
        let server = Server {
            listener,
            store,
            account,
            follower: Follower::new(config.max_orders),
            config,
            clients: Vec::new(),
            leaving: Vec::new(),
            counters: GlimpseCounters::default(),
        };
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("barewire-glimpse".into()).spawn(move || server.run(&theirs))?;
        Ok(GlimpseServer { local, shared, thread: Some(thread) })
    }

    /// Where clients connect.
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    /// What became of the clients so far.
    pub fn counters(&self) -> GlimpseCounters {
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GlimpseServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported where it happened.
            drop(thread.join());
        }
    }
}

/// What the thread has.
struct Server {
    listener: TcpListener,
    store: Arc<Store>,
    account: Option<Account>,
    follower: Follower,
    config: GlimpseConfig,
    clients: Vec<(TcpStream, Connection)>,
    /// Clients to whom nothing more is sent, and since when, ns.
    leaving: Vec<(TcpStream, u64)>,
    counters: GlimpseCounters,
}

impl Server {
    fn run(mut self, shared: &Shared) {
        while !shared.stop.load(Ordering::Relaxed) {
            let mut is_busy = self.accept();
            for _ in 0..CHUNKS {
                if !self.follower.follow(&self.store, false) {
                    break;
                }
                is_busy = true;
            }
            self.give_snapshots();
            for (stream, connection) in &mut self.clients {
                is_busy |= serve(stream, connection);
            }
            self.part();
            self.counters.open = self.clients.len() as u64;
            self.counters.followed = self.follower.next();
            self.counters.unavailable = !self.follower.is_right();
            *shared.counters.lock().unwrap_or_else(PoisonError::into_inner) = self.counters;
            if !is_busy {
                std::thread::sleep(if self.clients.is_empty() { IDLE } else { LOOK });
            }
        }
    }

    /// Takes in who has come.
    fn accept(&mut self) -> bool {
        // Whatever else is wrong with a connection or with the listener, the next look will tell.
        let Ok((stream, _)) = self.listener.accept() else { return false };
        let number = self.counters.connections;
        self.counters.connections += 1;
        let is_ready = stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_ok();
        if is_ready && self.clients.len() < self.config.max_clients {
            let connection = Connection::new(self.config.fault, self.account, number, clock::monotonic());
            self.clients.push((stream, connection));
        } else {
            self.counters.refused += 1;
        }
        true
    }

    /// Who wants a snapshot gets one, all at this time the same.
    fn give_snapshots(&mut self) {
        let mut wanting = self.clients.iter_mut().map(|(_, connection)| connection).filter(|it| it.wants_snapshot());
        let Some(first) = wanting.next() else { return };
        let begin = clock::monotonic();
        let taken = self.follower.snapshot(&self.store);
        let taken: Option<(Session, Arc<BookSnapshot>)> =
            taken.map(|(session, snapshot)| (session, Arc::new(snapshot)));
        let now = clock::monotonic();
        if taken.is_some() {
            self.counters.snapshots += 1;
            self.counters.snapshot_ns = now.saturating_sub(begin);
        }
        for connection in std::iter::once(first).chain(wanting) {
            connection.give(taken.as_ref().map(|(session, snapshot)| (*session, snapshot)), now);
        }
    }

    /// Parts from those who are served, or with whom there is no going on.
    fn part(&mut self) {
        let now = clock::monotonic();
        let is_over = |(_, connection): &mut (TcpStream, Connection)| connection.outcome().is_some();
        for (stream, connection) in self.clients.extract_if(.., is_over) {
            let counters = &mut self.counters;
            counters.messages += connection.messages();
            let outcome = connection.outcome();
            *match outcome {
                Some(Outcome::Served) => &mut counters.served,
                Some(Outcome::Rejected) => &mut counters.rejected,
                Some(Outcome::Malformed) => &mut counters.malformed,
                Some(Outcome::TimedOut) => &mut counters.timed_out,
                Some(Outcome::Left) | None => &mut counters.left,
            } += 1;
            let is_read = matches!(outcome, Some(Outcome::Served | Outcome::Rejected));
            if is_read && self.leaving.len() < self.config.max_clients && stream.shutdown(Shutdown::Write).is_ok() {
                self.leaving.push((stream, now));
            }
        }
        let mut bytes = [0; 512];
        self.leaving.retain_mut(|(stream, since)| {
            let is_there = match stream.read(&mut bytes) {
                Ok(len) => len > 0,
                Err(error) => is_later(&error),
            };
            is_there && now.saturating_sub(*since) < LINGER_NS
        });
    }
}

/// A client's turn: reads what it says and writes what it takes. Whether there was anything.
fn serve(stream: &mut TcpStream, connection: &mut Connection) -> bool {
    let now = clock::monotonic();
    let mut is_busy = false;
    let mut bytes = [0; 4_096];
    match stream.read(&mut bytes) {
        Ok(0) => connection.hang_up(),
        Ok(len) => {
            connection.receive(bytes.get(..len).unwrap_or_default(), now);
            is_busy = true;
        }
        Err(error) if is_later(&error) => {}
        Err(_) => connection.hang_up(),
    }
    let mut left = PART;
    while left > 0 {
        connection.poll(now);
        if connection.output().is_empty() {
            break;
        }
        match stream.write(connection.output()) {
            Ok(len) => {
                connection.wrote(len, now);
                left = left.saturating_sub(len.max(1));
                is_busy = true;
            }
            Err(error) if is_later(&error) => break,
            Err(_) => connection.hang_up(),
        }
    }
    is_busy
}

/// Whether nothing is wrong, but that it has to be tried again.
fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
