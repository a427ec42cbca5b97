//! The thread that fetches snapshots: the only one that speaks TCP, and the one that frees what was fetched.
//!
//! It sleeps until it is asked, woken by its own [`Waker`]; every wait of a fetch, for a connection too, ends by that waker,
//! so that stopping takes no longer than a look.

use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use barewire_io::capabilities::{self, Capabilities};
use barewire_io::stream::{Interest, Stream, wait};
use barewire_io::{Waker, clock};

use super::glimpse::{Ended, FAREWELL, GlimpseClient, GlimpseOptions};
use super::{FetchError, Snapshot};

/// What the thread is asked for.
enum Order {
    /// A snapshot; what is being fetched is abandoned.
    Fetch { ticket: u64, server: u8 },
    /// Nothing but to free this.
    Free(#[expect(dead_code, reason = "it is dropped")] Snapshot),
}

type Fetched = (u64, Result<Snapshot, FetchError>);

/// The feed's end of the thread. Dropping it ends the thread.
pub(super) struct Fetcher {
    /// `None` once the thread is to end.
    orders: Option<Sender<Order>>,
    results: Receiver<Fetched>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    /// The fetch that has no result yet.
    waits_for: Option<u64>,
}

impl Fetcher {
    /// Starts the thread. `feed` is woken when there is a result.
    pub(super) fn start(servers: Vec<SocketAddrV4>, options: GlimpseOptions, feed: Waker) -> io::Result<Fetcher> {
        let waker = Waker::new()?;
        let (orders, inbox) = channel();
        let (outbox, results) = channel();
        let mut worker = Worker { servers, options, inbox, outbox, waker: waker.clone(), feed };
        let thread = std::thread::Builder::new().name("barewire-snapshot".to_owned()).spawn(move || {
            // It needs none. Where the system does not let it give them up, it does without need of them all the same.
            let _ = capabilities::drop_of_thread(Capabilities::NONE);
            worker.work();
        })?;
        Ok(Fetcher { orders: Some(orders), results, waker, thread: Some(thread), waits_for: None })
    }

    pub(super) fn fetch(&mut self, ticket: u64, server: u8) {
        self.waits_for = Some(ticket);
        self.order(Order::Fetch { ticket, server });
    }

    pub(super) fn fetched(&mut self) -> Option<Fetched> {
        let ticket = self.waits_for?;
        loop {
            let result = match self.results.try_recv() {
                Ok((of, result)) if of == ticket => result,
                // Of a fetch that was abandoned when its result was under way.
                Ok((_, Ok(snapshot))) => {
                    self.order(Order::Free(snapshot));
                    continue;
                }
                Ok((_, Err(_))) => continue,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Err(FetchError::Closed),
            };
            self.waits_for = None;
            return Some((ticket, result));
        }
    }

    pub(super) fn give_back(&self, snapshot: Snapshot) {
        self.order(Order::Free(snapshot));
    }

    fn order(&self, order: Order) {
        // Without a thread it is dropped here.
        if self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok()) {
            self.waker.wake();
        }
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.orders = None;
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It owns nothing that its death would spoil.
            let _ = thread.join();
        }
    }
}

/// The thread's end.
struct Worker {
    servers: Vec<SocketAddrV4>,
    options: GlimpseOptions,
    inbox: Receiver<Order>,
    outbox: Sender<Fetched>,
    waker: Waker,
    feed: Waker,
}

/// What a fetch has come to.
struct Fetch {
    ticket: u64,
    client: GlimpseClient,
    stream: Stream,
    is_connected: bool,
}

impl Worker {
    fn work(&mut self) {
        let mut fetch: Option<Fetch> = None;
        loop {
            match self.inbox.try_recv() {
                Ok(Order::Fetch { ticket, server }) => {
                    // What was being fetched is closed first.
                    drop(fetch.take());
                    fetch = self.begin(ticket, server);
                }
                Ok(Order::Free(_)) => {}
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    let Some(current) = &mut fetch else {
                        if wait(None, &self.waker, None).is_err() {
                            return;
                        }
                        continue;
                    };
                    if let Some(result) = current.advance(&self.waker) {
                        let ticket = current.ticket;
                        fetch = None;
                        self.report(ticket, result);
                    }
                }
            }
        }
    }

    fn begin(&self, ticket: u64, server: u8) -> Option<Fetch> {
        let client = GlimpseClient::new(self.options, clock::monotonic());
        let stream = self.servers.get(usize::from(server)).and_then(|server| Stream::connect(*server).ok());
        match stream {
            Some(stream) => Some(Fetch { ticket, client, stream, is_connected: false }),
            None => {
                self.report(ticket, Err(FetchError::Connect));
                None
            }
        }
    }

    fn report(&self, ticket: u64, result: Result<Snapshot, FetchError>) {
        // Where the feed is gone, so is who would want it.
        let _ = self.outbox.send((ticket, result));
        self.feed.wake();
    }
}

impl Fetch {
    /// Waits for one thing to happen, and works it off: no more than one buffer of bytes, so that orders are looked at in
    /// between however fast they come.
    fn advance(&mut self, waker: &Waker) -> Ended {
        let now = clock::monotonic();
        if let Some(error) = self.client.tick(now) {
            return Some(Err(error));
        }
        let write = !self.is_connected || !self.client.pending().is_empty();
        let interest = Interest { read: self.is_connected, write };
        let timeout = Duration::from_nanos(self.client.next_tick().saturating_sub(now));
        let Ok(ready) = wait(Some((&self.stream, interest)), waker, Some(timeout)) else { return self.closed() };
        if ready.write && !self.is_connected {
            if self.stream.connected().is_err() {
                return self.closed();
            }
            self.is_connected = true;
            self.client.connected(clock::monotonic());
        }
        if ready.write && !self.client.pending().is_empty() {
            match self.stream.write(self.client.pending()) {
                Ok(bytes) => self.client.sent(bytes),
                Err(error) if is_transient(&error) => {}
                // What came before the connection broke may hold the reason: it is read first.
                Err(_) => self.client.sent(usize::MAX),
            }
        }
        if !ready.read || !self.is_connected {
            return None;
        }
        match self.stream.read(self.client.space()) {
            Ok(0) => self.closed(),
            Ok(bytes) => {
                let ended = self.client.received(bytes, clock::monotonic());
                if let Some(Ok(_)) = ended {
                    // Out of politeness.
                    let _ = self.stream.write(FAREWELL);
                }
                ended
            }
            Err(error) if is_transient(&error) => None,
            Err(_) => self.closed(),
        }
    }

    fn closed(&self) -> Ended {
        Some(Err(self.client.closed()))
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
