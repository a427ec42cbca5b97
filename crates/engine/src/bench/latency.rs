//! How long a message is under way: from the moment at which a sender hands its packet over to a strategy's first
//! instruction, for every message, by every receive path.
//!
//! Sender and receiver are two threads on two cores, in two network namespaces that a veth pair connects where the process
//! may make them, else on loopback. The sender keeps to a schedule whatever the receiver does ([`sender`]). It writes the
//! time into each message as it hands the packet over; both sides read CLOCK_MONOTONIC. The receiver is a feed: receive path,
//! sequencing, books, ring, and a strategy that is called for each record and looks at the clock first ([`probe`]).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use barewire_book::Capacity;
use barewire_io::live_frames::FrameStopper;
use barewire_io::memory::CachePrefetch;
use barewire_io::{LineConfig, OpenError, affinity, clock};
use barewire_ring::{Producer, RingConfig};
use barewire_wire::moldudp64::Session;

use crate::bench::{legacy, legacy_tcp};
use crate::counters::Counter;
use crate::live::Books;
use crate::nasdaq::{Nasdaq, Setup};
use crate::pipeline::{Pipeline, Sequencing};
use crate::receive::ReceivePath;
use crate::venue::{Publish, Subscription};

mod drain;
mod feed;
mod flow;
mod network;
pub(super) mod probe;
mod sender;

pub use drain::Drained;
pub(super) use feed::has_ended;
pub use flow::{Flow, FlowBuilder};
pub use network::Network;
pub use probe::{Latency, Samples};
pub use sender::{Sender, Sent};

use probe::Probe;
use sender::Plan;

/// A loop that takes so long for one turn was interrupted, ns: no turn has work for that.
pub(super) const INTERRUPTED_NS: u64 = 1_000_000;
/// Between both sides' being ready and the first message, ns.
const LEAD_NS: u64 = 100_000_000;
/// The longest that either side waits for the other.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The feed of a run.
pub(super) type Feed = Pipeline<Books, Probe>;

/// How packets are received.
#[derive(Clone, Debug)]
pub enum Path {
    /// The old way: [`legacy`](super::legacy).
    Legacy,
    /// The old way, by TCP: [`legacy_tcp`](super::legacy_tcp). It has a sender of its own.
    LegacyTcp,
    /// One of a feed's.
    Feed(ReceivePath),
}

/// The cores that the threads have, where they have any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// The sender's.
    pub sender: Option<usize>,
    /// The receiving thread's.
    pub receiver: Option<usize>,
    /// The strategy's where it has a thread of its own, as in the old way.
    pub strategy: Option<usize>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// How packets are received.
    pub path: Path,
    /// What sends them.
    pub sender: Sender,
    /// The kernel's receive buffer in the old ways, bytes.
    pub rcvbuf_bytes: usize,
    /// Messages a second.
    pub rate: f64,
    /// Messages a packet, at most: as many as fit into 1,472 bytes.
    pub messages_per_packet: u16,
    /// How long messages are sent, ns.
    pub duration_ns: u64,
    /// Which of them are measured.
    pub samples: Samples,
    /// Where the threads run.
    pub cores: Cores,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct RunResult {
    /// What was sent.
    pub sent: Sent,
    /// Packets that left together, at most.
    pub group: u32,
    /// Messages that came.
    pub received: u64,
    /// Messages that the feed found missing.
    pub lost: u64,
    /// Messages of which the feed knows nothing: the end of the session did not come either.
    pub unseen: u64,
    /// Packets that the hand-off of the old way had no room for.
    pub refused: u64,
    /// From hand-over to strategy.
    pub latency: Latency,
    /// From the moment at which the packet should have been handed over, to the strategy.
    pub from_due: Latency,
    /// Share of the time for which the receiver's loop stood still; `None` for a receiver that sleeps, which cannot tell.
    pub receiver_stolen: Option<f64>,
    /// What was asked of the receive path and what was got.
    pub report: Vec<String>,
}

/// Why there was no run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The receive path could not be opened, or the sender's socket.
    Open(OpenError),
    /// What the operating system said meanwhile.
    Io(io::Error),
    /// No memory for books or ring.
    Memory,
    /// A thread could not be pinned.
    Pin(affinity::AffinityError),
    /// The flow has no messages.
    NoMessages,
    /// A packet is none that the program can send; or so it seems.
    Frame,
    /// No program can send here.
    NoProgram(String),
    /// What a stream holds for a receiver is not packets.
    NoQueue,
    /// What came by TCP was not the session that was sent.
    BadStream(&'static str),
    /// The other side of it failed, or it was stopped.
    Stopped,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Open(error) => error.fmt(f),
            RunError::Io(error) => error.fmt(f),
            RunError::Memory => f.write_str("no memory for the books and the ring"),
            RunError::Pin(error) => error.fmt(f),
            RunError::NoMessages => f.write_str("expected a flow with order messages, found none"),
            RunError::Frame => f.write_str("a packet that the program cannot send; please report this"),
            RunError::NoProgram(why) => write!(f, "no program can send frames here: {why}"),
            RunError::NoQueue => f.write_str("a TCP stream has no queue of packets to empty"),
            RunError::BadStream(what) => write!(f, "TCP: expected the session that was sent, found {what}"),
            RunError::Stopped => f.write_str("stopped"),
        }
    }
}

impl std::error::Error for RunError {}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> RunError {
        RunError::Io(error)
    }
}

impl From<OpenError> for RunError {
    fn from(error: OpenError) -> RunError {
        RunError::Open(error)
    }
}

/// What both sides know of each other.
#[derive(Debug)]
pub(super) struct Shared<'a> {
    /// When the first message is due, by CLOCK_MONOTONIC; 0 until the receiver is ready.
    start: AtomicU64,
    /// The sender has everything but the time.
    sender_ready: AtomicBool,
    /// The receiver has heard the end.
    done: AtomicBool,
    /// Messages sent, once all are.
    sent: AtomicU64,
    /// One side has ended.
    stop: AtomicBool,
    /// Ends the sender where that is a program, which looks at nothing here.
    stopper: OnceLock<FrameStopper>,
    /// Where the sender serves TCP.
    server: OnceLock<SocketAddrV4>,
    /// Somebody else wants it to end.
    outer: &'a AtomicBool,
}

impl<'a> Shared<'a> {
    fn new(outer: &'a AtomicBool) -> Shared<'a> {
        let (start, sent) = (AtomicU64::new(0), AtomicU64::new(0));
        let [sender_ready, done, stop] = [const { AtomicBool::new(false) }; 3];
        let (stopper, server) = (OnceLock::new(), OnceLock::new());
        Shared { start, sender_ready, done, sent, stop, stopper, server, outer }
    }

    /// The receiver is ready: as soon as the sender is, the first message is due some time from here.
    pub(super) fn begin(&self) -> u64 {
        while !self.sender_ready.load(Ordering::Acquire) && !self.is_stopped() {
            thread::sleep(Duration::from_millis(1));
        }
        let start = clock::monotonic() + LEAD_NS;
        self.start.store(start, Ordering::Release);
        start
    }

    /// The receiver has what it can have.
    pub(super) fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    /// Whether the receiver has what it can have.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Nobody is to go on.
    pub(super) fn give_up(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.stopper.get().into_iter().for_each(FrameStopper::stop);
    }

    /// By what the sender is ended.
    fn stops(&self, stopper: FrameStopper) {
        let stopper = self.stopper.get_or_init(|| stopper);
        // Who gave up before this was known has not ended it.
        if self.stop.load(Ordering::SeqCst) {
            stopper.stop();
        }
    }

    /// Where the sender serves TCP.
    fn serves(&self, address: SocketAddrV4) {
        self.server.get_or_init(|| address);
    }

    /// Where the sender serves TCP, once it does. `None` when it will not any more.
    pub(super) fn server(&self) -> Option<SocketAddrV4> {
        while self.server.get().is_none() && !self.is_stopped() {
            thread::sleep(Duration::from_millis(1));
        }
        self.server.get().copied()
    }

    /// Whether to give up.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.outer.load(Ordering::Relaxed)
    }
}

/// Gives up when it goes: however one side ends, the other does not wait for it.
struct StopOnDrop<'a>(&'a Shared<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Order flow, and a network to send it over.
#[derive(Debug)]
pub struct LatencyBench {
    flow: Flow,
    network: Network,
    to: SocketAddrV4,
    runs: u32,
}

impl LatencyBench {
    /// A bench that sends this flow.
    pub fn new(flow: Flow, network: Network) -> LatencyBench {
        static BENCHES: AtomicU64 = AtomicU64::new(0);
        let (pid, bench) = (std::process::id(), BENCHES.fetch_add(1, Ordering::Relaxed));
        let [.., high, low] = pid.to_be_bytes();
        // A group and port of its own: on loopback others may be at work too.
        let port = 20_000 + ((u64::from(pid) + bench) % 20_000) as u16;
        let to = SocketAddrV4::new(Ipv4Addr::new(239, 213, high, low), port);
        LatencyBench { flow, network, to, runs: 0 }
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    fn line(&self) -> LineConfig {
        let interface = Some(self.network.receiver_interface().to_owned());
        LineConfig { group: *self.to.ip(), port: self.to.port(), interface, source: None, allow: Vec::new(), line: 0 }
    }

    /// Whether a receive path can be opened here.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn check(&self, path: &ReceivePath) -> Result<(), RunError> {
        let (path, line) = (path.clone(), self.line());
        on_thread(|| {
            self.network.enter_receiver()?;
            Ok(path.open(&[line], &["A".to_owned()], feed::Opened)?)
        })
    }

    /// Whether a program can send here.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn check_program(&self) -> Result<(), RunError> {
        on_thread(|| sender::program::check(&self.network))
    }

    /// One run, which ends before its time when somebody sets `stop`.
    ///
    /// # Errors
    ///
    /// [`RunError`]; nothing stays open.
    pub fn run(&mut self, config: &RunConfig, stop: &AtomicBool) -> Result<RunResult, RunError> {
        self.runs += 1;
        let mut name = *b"LAT0000000";
        name[3..].copy_from_slice(format!("{:07}", self.runs % 10_000_000).as_bytes());
        let session = Session(name);
        let line = self.line();
        let shared = Shared::new(stop);
        let LatencyBench { flow, network, to, .. } = self;
        let mut packets = match config.path {
            Path::LegacyTcp => flow.cut_stream(config.messages_per_packet),
            _ => flow.cut(session, config.messages_per_packet),
        };
        if packets.is_empty() {
            return Err(RunError::NoMessages);
        }
        let (flow, network, to, shared) = (&*flow, &*network, *to, &shared);
        // What the messages count their time from: their 48 bits last for three days.
        let origin = clock::monotonic();
        let ns_per_message = 1e9 / config.rate;
        let group = match (&config.path, config.sender) {
            (Path::Legacy | Path::Feed(_), Sender::Program) => {
                sender::program::group(config.rate / packets.mean_messages())
            }
            _ => 1,
        };
        let plan = Plan { origin, ns_per_message, duration_ns: config.duration_ns, session, to, group };
        let (received, sent) = thread::scope(|scope| {
            let receiver = scope.spawn(move || {
                let _stop = StopOnDrop(shared);
                settle(config.cores.receiver)?;
                network.enter_receiver()?;
                let mut pipeline = books(flow, origin)?;
                let base = pipeline.message_count();
                let schedule = probe::Schedule { ns_per_message: plan.ns_per_message, samples: config.samples };
                let ended = match &config.path {
                    Path::Legacy => legacy::run(&mut pipeline, &line, config, schedule, shared)?,
                    Path::LegacyTcp => legacy_tcp::run(&mut pipeline, session, config, schedule, shared)?,
                    Path::Feed(path) => {
                        let feed = feed::Drive { pipeline: &mut pipeline, schedule, shared };
                        path.clone().open(&[line], &["A".to_owned()], feed)??
                    }
                };
                let received = pipeline.message_count() - base;
                let lost = pipeline.counters().get(Counter::MessagesMissing);
                let (latency, from_due) = pipeline.sink_mut().take();
                Ok::<_, RunError>((received, lost, latency, from_due, ended))
            });
            let sender = scope.spawn(move || {
                let _stop = StopOnDrop(shared);
                settle(config.cores.sender)?;
                network.enter_sender()?;
                if matches!(config.path, Path::LegacyTcp) {
                    return sender::stream::serve(&mut packets, network, &plan, shared);
                }
                let mut udp = sender::Udp::open(network, to)?;
                let sent = match config.sender {
                    Sender::Udp => sender::send(&mut packets, &mut udp, &plan, shared)?,
                    Sender::Program => sender::program::send(&packets, network, &plan, shared)?,
                };
                // The receiver ends by itself, when it has heard the end or waited long enough for it.
                if sent.is_some() {
                    udp.end(&plan, shared);
                }
                Ok::<_, RunError>(sent)
            });
            (join(receiver), join(sender))
        });
        // The receiver's error says more: the sender's may only be that it was left alone.
        let (received, lost, latency, from_due, ended) = received?;
        let Some(sent) = sent? else { return Err(RunError::Stopped) };
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        Ok(RunResult {
            sent,
            group,
            received,
            lost,
            unseen: sent.messages.saturating_sub(received + lost),
            refused: ended.refused,
            latency,
            from_due,
            receiver_stolen: ended.stolen,
            report: ended.report,
        })
    }
}

/// What a receiving side says when it has ended, besides what its pipeline knows.
#[derive(Debug, Default)]
pub(super) struct Ended {
    pub(super) report: Vec<String>,
    pub(super) refused: u64,
    pub(super) stolen: Option<f64>,
}

fn join<T>(handle: thread::ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T, RunError> + Send) -> Result<T, RunError> {
    thread::scope(|scope| join(scope.spawn(work)))
}

/// Pins the calling thread, where it is to be.
pub(super) fn settle(core: Option<usize>) -> Result<(), RunError> {
    core.map_or(Ok(()), affinity::pin).map_err(RunError::Pin)
}

/// A feed whose memory has been used before: the instruments are named, and the flow went once through its books.
fn books(flow: &Flow, origin: u64) -> Result<Feed, RunError> {
    let setup = Setup {
        publisher_id: 1,
        midnight_ns: origin,
        subscription: Subscription::All,
        publish: Publish { mbo: true, bbo: true },
        capacity: Capacity { instruments: 1 << 16, orders: flow.peak_orders().max(1024) * 2, levels: 1 << 17 },
    };
    let books = Nasdaq::new(setup, CachePrefetch).map_err(|_| RunError::Memory)?;
    crate::live::advise_huge(&books);
    let ring = Producer::create(&RingConfig::default()).map_err(|_| RunError::Memory)?;
    let probe = Probe::new(ring).ok_or(RunError::Memory)?;
    // There is one line, and nobody to ask: what is missing is lost at once.
    let sequencing = Sequencing { hold_ns: 0, lines: 1, ..Sequencing::default() };
    let mut pipeline = Pipeline::new(books, probe, 1, sequencing);
    pipeline.unframed(flow.opening(), 1);
    pipeline.unframed(flow.cycle(), 1);
    Ok(pipeline)
}
