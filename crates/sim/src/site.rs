//! A venue's lines and servers in simulated time, for replays and for simulations of thousands of sessions.
//!
//! What is sent on any line is what the venue says. The servers know it at once, and answer what they are asked: requests
//! over a network of their own, snapshots as they are when the login arrives.

use std::collections::VecDeque;

use barewire_engine::pipeline::REPLIES;
use barewire_engine::recovery::{FetchError, Services, Snapshot};
use barewire_engine::replay;
use barewire_types::{Seq, UnixNanos};
use barewire_wire::moldudp64::{Packet, Session};

use crate::impair::{Arrived, ImpairCounters, Impairment, Network};
use crate::recovery::{Fault, Mirror, RerequestCounters, Rerequests, Store};

/// The two ways of the network that the servers are on.
const TO_SERVERS: u8 = 0;
const FROM_SERVERS: u8 = 1;
/// How long a snapshot takes to be transferred, ns a message: 40 bytes at a gigabit and a half a second.
const TRANSFER_NS: u64 = 200;
/// After so long a client gives a silent snapshot server up, ns.
const SILENCE_NS: u64 = 50_000_000;

/// Lines and servers.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteConfig {
    /// What each line does to its packets.
    pub lines: Vec<Impairment>,
    /// What the way to the re-request servers does, and the way back.
    pub service: Impairment,
    /// The re-request servers, each with what is wrong with it.
    pub rerequest: Vec<Fault>,
    /// The snapshot servers.
    pub snapshot: Vec<Fault>,
    /// Most bytes of a reply's payload.
    pub max_payload: usize,
    /// What the servers can look back on, in bytes of messages.
    pub store_bytes: usize,
    /// Decides everything that is left to chance.
    pub seed: u64,
}

impl Default for SiteConfig {
    /// Lines without faults, one server of each kind, 100 us away.
    fn default() -> SiteConfig {
        SiteConfig {
            lines: Vec::new(),
            service: Impairment { delay_ns: 100_000, ..Impairment::default() },
            rerequest: vec![Fault::None],
            snapshot: vec![Fault::None],
            max_payload: 1_400,
            store_bytes: 64 << 20,
            seed: 1,
        }
    }
}

/// What a line said last.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    session: Option<Session>,
    next: u64,
    /// Sessions that it began so far.
    generation: u64,
}

/// A snapshot that was asked for.
#[derive(Clone, Copy, Debug)]
struct Login {
    ticket: u64,
    server: usize,
    /// When the server takes the snapshot.
    at: UnixNanos,
}

/// A snapshot, or none, on its way back.
#[derive(Debug)]
struct Transfer {
    ticket: u64,
    done: UnixNanos,
    result: Result<Snapshot, FetchError>,
}

/// Lines and servers in simulated time: a [`replay::Network`].
#[derive(Debug)]
pub struct Site {
    config: SiteConfig,
    lines: Network,
    service: Network,
    servers: Vec<Rerequests>,
    store: Store,
    mirror: Mirror,
    said: Vec<Said>,
    /// Sessions begun so far.
    generation: u64,
    /// What the mirror's numbers, which begin at 1, are less than the session's.
    offset: u64,
    login: Option<Login>,
    transfer: Option<Transfer>,
    /// Turns of servers that are wrong.
    turn: u64,
    now: UnixNanos,
    reply: Vec<u8>,
    arrived: VecDeque<(UnixNanos, Vec<u8>)>,
    given_out: Vec<u8>,
}

impl Site {
    /// A venue that has said nothing yet.
    pub fn new(config: SiteConfig) -> Site {
        let seed = config.seed;
        let server =
            |(number, fault): (u64, &Fault)| Rerequests::new(*fault, config.max_payload, seed ^ (number + 1) << 32);
        Site {
            lines: Network::new(&config.lines, seed),
            service: Network::new(&[config.service.clone(), config.service.clone()], !seed),
            servers: (0..).zip(&config.rerequest).map(server).collect(),
            store: Store::new(config.store_bytes),
            mirror: Mirror::new(),
            said: Vec::new(),
            generation: 0,
            offset: 0,
            login: None,
            transfer: None,
            turn: 0,
            now: UnixNanos::ABSENT,
            reply: Vec::new(),
            arrived: VecDeque::new(),
            given_out: Vec::new(),
            config,
        }
    }

    /// What became of a line's packets.
    pub fn line(&self, line: u8) -> ImpairCounters {
        self.lines.counters(line)
    }

    /// What each re-request server was asked.
    pub fn servers(&self) -> impl Iterator<Item = RerequestCounters> {
        self.servers.iter().map(Rerequests::counters)
    }

    /// The venue says this on a line: the servers know it, from the line that says it first.
    fn learn(&mut self, line: u8, payload: &[u8]) {
        let Ok(packet) = Packet::parse(payload) else { return };
        if packet.whole() == 0 {
            return;
        }
        let first = packet.sequence().0;
        if self.said.len() <= usize::from(line) {
            self.said.resize(usize::from(line) + 1, Said::default());
        }
        let Some(said) = self.said.get_mut(usize::from(line)) else { return };
        // Another session, or the same name and numbers that begin anew.
        if said.session != Some(packet.session()) || first < said.next {
            said.session = Some(packet.session());
            said.generation += 1;
            if said.generation > self.generation {
                self.generation = said.generation;
                self.mirror = Mirror::new();
                self.offset = first.saturating_sub(1);
                self.store = Store::new(self.config.store_bytes);
            }
        }
        said.next = packet.next_sequence().0;
        let next = self.mirror.next() + self.offset;
        // What the first line itself lacks, the servers lack, too.
        if said.generation < self.generation || first > next && line != 0 {
            return;
        }
        for (number, message) in (first..).zip(packet.messages()) {
            let next = self.mirror.next() + self.offset;
            if number >= next {
                self.offset += number - next;
                self.mirror.message(message);
            }
        }
        self.store.take([payload]);
    }

    /// Takes the snapshot that was asked for, if the login has arrived by `now`.
    fn take_snapshot(&mut self, now: UnixNanos) {
        let Some(Login { ticket, server, at }) = self.login.filter(|login| login.at <= now) else { return };
        self.login = None;
        let fault = self.config.snapshot.get(server).copied().unwrap_or(Fault::Silent);
        let taken = self.mirror.snapshot();
        let next = taken.next + self.offset;
        let took_ns = taken.count * TRANSFER_NS + self.config.service.delay_ns;
        let mut snapshot = Snapshot { messages: taken.messages, count: taken.count, next: Seq(next) };
        let (after_ns, result) = match fault {
            Fault::None => (took_ns, Ok(snapshot)),
            Fault::Slow { delay_ns } => (took_ns + delay_ns, Ok(snapshot)),
            Fault::Partial => (took_ns / 2, Err(FetchError::Closed)),
            Fault::Silent => (SILENCE_NS, Err(FetchError::Silent)),
            Fault::Wrong => {
                self.turn += 1;
                let result = match self.turn % 4 {
                    0 => Err(FetchError::Malformed),
                    1 => Err(FetchError::Rejected),
                    2 => {
                        snapshot.next = Seq(u64::MAX - 1);
                        Ok(snapshot)
                    }
                    _ => {
                        snapshot.next = Seq(0);
                        Ok(snapshot)
                    }
                };
                (took_ns, result)
            }
        };
        self.transfer = Some(Transfer { ticket, done: UnixNanos(at.0.saturating_add(after_ns)), result });
    }

    /// Lets the servers work off what has reached them by `now`.
    fn serve(&mut self, now: UnixNanos) {
        self.take_snapshot(now);
        while let Some(Arrived { line, at, payload }) = self.service.arrive(now) {
            if line == FROM_SERVERS {
                self.arrived.push_back((at, payload.to_vec()));
                continue;
            }
            let Some((server, request)) = payload.split_first() else { continue };
            let Some(server) = self.servers.get_mut(usize::from(*server)) else { continue };
            if server.answer(&self.store, request, &mut self.reply) {
                let sent = UnixNanos(at.0.saturating_add(server.delay_ns()));
                self.service.send(FROM_SERVERS, sent, &self.reply);
            }
        }
    }
}

impl replay::Network for Site {
    fn send(&mut self, line: u8, at: UnixNanos, payload: &[u8]) {
        self.now = self.now.max(at);
        self.serve(at);
        self.learn(line, payload);
        self.lines.send(line, at, payload);
    }

    fn tick(&mut self, now: UnixNanos) {
        self.now = self.now.max(now);
        self.serve(now);
    }

    fn next_arrival(&self) -> Option<UnixNanos> {
        let replies = self.arrived.front().map(|(at, _)| *at);
        [replies, self.lines.next_arrival(), self.service.next_arrival()].into_iter().flatten().min()
    }

    fn arrive(&mut self, now: UnixNanos) -> Option<(u8, UnixNanos, &[u8])> {
        self.serve(now);
        let line_at = self.lines.next_arrival().unwrap_or(UnixNanos(u64::MAX));
        if self.arrived.front().is_some_and(|(at, _)| *at <= line_at)
            && let Some((at, reply)) = self.arrived.pop_front()
        {
            self.given_out = reply;
            return Some((REPLIES, at, &self.given_out));
        }
        self.lines.arrive(now).map(|Arrived { line, at, payload }| (line, at, payload))
    }
}

impl Services for Site {
    fn request(&mut self, server: u8, packet: &[u8]) {
        let addressed = [&[server], packet].concat();
        self.service.send(TO_SERVERS, self.now, &addressed);
    }

    fn fetch(&mut self, ticket: u64, server: u8) {
        self.transfer = None;
        let at = UnixNanos(self.now.0.saturating_add(self.config.service.delay_ns));
        self.login = Some(Login { ticket, server: server.into(), at });
    }

    fn fetched(&mut self) -> Option<(u64, Result<Snapshot, FetchError>)> {
        let transfer = self.transfer.take_if(|transfer| transfer.done <= self.now)?;
        Some((transfer.ticket, transfer.result))
    }

    fn give_back(&mut self, _snapshot: Snapshot) {}
}
