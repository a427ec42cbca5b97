//! [`Rerequests`] on a UDP socket, in a thread of its own.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use barewire_io::clock;

use super::rerequest::{RerequestCounters, Rerequests};
use super::store::Store;
use super::{Fault, v4};

/// How long a stop may go unnoticed.
const STOP: Duration = Duration::from_millis(20);

/// How long a slow server sleeps between two looks.
const LOOK: Duration = Duration::from_micros(500);

/// Answers that a slow server keeps back at most.
const MAX_LATE: usize = 1_024;

/// Longer than a request, so that what is too long is seen to be.
const MAX_REQUEST: usize = 64;

/// What became of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RerequestServerCounters {
    /// Requests, and their outcomes.
    pub requests: RerequestCounters,
    /// Packets from a multicast or broadcast address, or from port 0: not looked at.
    pub refused: u64,
    /// Answers that the operating system refused to send.
    pub send_errors: u64,
    /// Answers that a slow server gave up, having kept back too many.
    pub dropped: u64,
}

/// Answers requests for as long as it exists.
#[derive(Debug)]
pub struct RerequestServer {
    local: SocketAddrV4,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    counters: Mutex<RerequestServerCounters>,
}

impl RerequestServer {
    /// Binds a socket and begins to answer on it, with payloads of at most `max_payload` bytes. Port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The operating system's: no such address, port in use, no thread.
    pub fn bind(at: SocketAddrV4, store: Arc<Store>, fault: Fault, max_payload: usize) -> io::Result<RerequestServer> {
        let socket = UdpSocket::bind(at)?;
        let local = v4(socket.local_addr()?)?;
        // Answers that have to wait are looked after more often than the kernel's timeouts allow.
        match fault {
            Fault::Slow { delay_ns: 1.. } => socket.set_nonblocking(true)?,
            _ => socket.set_read_timeout(Some(STOP))?,
        }
        let shared = Arc::new(Shared::default());
        let rerequests = Rerequests::new(fault, max_payload, u64::from(local.port()));
        let server = Server { socket, store, rerequests, late: VecDeque::new(), shared: Arc::clone(&shared) };
        let thread = std::thread::Builder::new().name("barewire-resend".into()).spawn(move || server.run())?;
        Ok(RerequestServer { local, shared, thread: Some(thread) })
    }

    /// Where requests go.
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.local
    }

    /// What became of the requests so far.
    pub fn counters(&self) -> RerequestServerCounters {
        *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RerequestServer {
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
    socket: UdpSocket,
    store: Arc<Store>,
    rerequests: Rerequests,
    /// Answers and when they are due, by the monotonic clock, ns.
    late: VecDeque<(u64, SocketAddrV4, Vec<u8>)>,
    shared: Arc<Shared>,
}

impl Server {
    fn run(mut self) {
        let (mut request, mut reply) = ([0; MAX_REQUEST], Vec::new());
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.send_late();
            let (len, from) = match self.socket.recv_from(&mut request) {
                Ok((len, SocketAddr::V4(from))) => (len, from),
                Ok((_, SocketAddr::V6(_))) => continue,
                Err(error) => {
                    // A socket with a timeout has waited for it; whatever else is wrong must not make a busy loop.
                    if self.rerequests.delay_ns() > 0 || error.kind() != io::ErrorKind::WouldBlock {
                        std::thread::sleep(LOOK);
                    }
                    continue;
                }
            };
            if !is_somebody(from) {
                self.count(|counters| counters.refused += 1);
                continue;
            }
            let answered = self.rerequests.answer(&self.store, request.get(..len).unwrap_or(&request), &mut reply);
            let requests = self.rerequests.counters();
            self.count(|counters| counters.requests = requests);
            match self.rerequests.delay_ns() {
                _ if !answered => {}
                0 => self.send(&reply, from),
                _ if self.late.len() >= MAX_LATE => self.count(|counters| counters.dropped += 1),
                delay => self.late.push_back((clock::monotonic().saturating_add(delay), from, reply.clone())),
            }
        }
    }

    fn send_late(&mut self) {
        while self.late.front().is_some_and(|(due, ..)| *due <= clock::monotonic()) {
            if let Some((_, to, reply)) = self.late.pop_front() {
                self.send(&reply, to);
            }
        }
    }

    fn send(&self, reply: &[u8], to: SocketAddrV4) {
        if self.socket.send_to(reply, to).is_err() {
            self.count(|counters| counters.send_errors += 1);
        }
    }

    fn count(&self, change: impl FnOnce(&mut RerequestServerCounters)) {
        change(&mut self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Whether an address is one host's, so that an answer goes to nobody else.
fn is_somebody(from: SocketAddrV4) -> bool {
    let ip = from.ip();
    !(ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified() || from.port() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_not_answered() {
        let from = |text: &str| text.parse().unwrap();
        assert!(is_somebody(from("127.0.0.1:1")) && is_somebody(from("10.1.2.255:65535")));
        for nobody in ["224.0.0.1:5", "239.255.255.255:5", "255.255.255.255:5", "0.0.0.0:5", "10.0.0.1:0"] {
            assert!(!is_somebody(from(nobody)), "{nobody}");
        }
    }
}
