//! How fast packets that wait are taken: a queue is filled while nobody looks, and then emptied.
//!
//! What is measured is the receive path alone: from the first look to the last packet's being in the strategy's hands, which
//! does nothing with it but look at its number.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use barewire_io::legacy::LegacyReceiver;
use barewire_io::{Receiver, clock};
use barewire_types::Seq;
use barewire_wire::moldudp64::{Packet as Mold, PacketKind, Session};

use super::sender::{self, Plan, Sender};
use super::{LatencyBench, Path, RunConfig, RunError, Shared, StopOnDrop, join, settle};
use crate::bench::legacy::{HandOff, LONGEST_WAIT, Packet};
use crate::receive::Visitor;

/// For packets that are on their way when the last one was sent.
const SETTLE: Duration = Duration::from_millis(5);
/// When nothing comes for so long, nothing will, ns.
const SILENCE_NS: u64 = 1_000_000_000;

/// What came of filling and emptying a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that were taken, in order.
    pub taken: u64,
    /// How long that took, ns.
    pub elapsed_ns: u64,
}

/// Counts packets as they come.
#[derive(Debug)]
struct Tally {
    taken: u64,
    messages: u64,
    last: Option<Seq>,
    began: u64,
    latest: u64,
}

impl Tally {
    fn begin() -> Tally {
        let now = clock::monotonic();
        Tally { taken: 0, messages: 0, last: None, began: now, latest: now }
    }

    /// Takes one packet, whose number has to be above the last one's.
    #[inline]
    fn take(&mut self, payload: &[u8]) {
        let Ok(packet) = Mold::parse(payload) else { return };
        if packet.kind() == PacketKind::Messages && self.last.is_none_or(|last| packet.sequence() > last) {
            self.last = Some(packet.sequence());
            self.taken += 1;
            self.messages += u64::from(packet.whole());
        }
    }

    /// Whether there is something to wait for. Looks at the clock: once a batch.
    fn goes_on(&mut self, came: bool, messages: u64) -> bool {
        let now = clock::monotonic();
        if came {
            self.latest = now;
        }
        self.messages < messages && now - self.latest < SILENCE_NS
    }

    fn drained(&self) -> Drained {
        Drained { sent: 0, taken: self.taken, elapsed_ns: self.latest - self.began }
    }
}

/// Says that the path is open, and waits until its queue is full: how many messages were sent.
fn filled(shared: &Shared<'_>) -> u64 {
    shared.begin();
    let mut sent = 0;
    while sent == 0 && !shared.is_stopped() {
        thread::sleep(Duration::from_millis(1));
        sent = shared.sent.load(Ordering::Acquire);
    }
    thread::sleep(SETTLE);
    sent
}

struct Emptied<'a>(&'a Shared<'a>);

impl Visitor for Emptied<'_> {
    type Output = Result<Drained, RunError>;

    fn visit<R: Receiver + Send + 'static>(self, mut receiver: R, _report: Vec<String>) -> Self::Output {
        receiver.receive(&mut |_| {})?;
        let messages = filled(self.0);
        let mut tally = Tally::begin();
        loop {
            let came = receiver.receive(&mut |packet| tally.take(packet.payload))?;
            if !tally.goes_on(came > 0, messages) {
                return Ok(tally.drained());
            }
        }
    }
}

/// The old way: the queue between the threads is emptied as well.
fn legacy(mut receiver: LegacyReceiver, config: &RunConfig, shared: &Shared<'_>) -> Result<Drained, RunError> {
    let (hand_off, done) = (&HandOff::new(config), &AtomicBool::new(false));
    let messages = filled(shared);
    // Not when the strategy's thread gets its core, but from the first look on.
    let mut tally = Tally::begin();
    thread::scope(|scope| {
        let strategy = scope.spawn(move || {
            let pinned = settle(config.cores.strategy);
            loop {
                let packet = hand_off.pop();
                if let Some(packet) = &packet {
                    tally.take(&packet.payload);
                }
                if !tally.goes_on(packet.is_some(), messages) {
                    done.store(true, Ordering::Relaxed);
                    return pinned.map(|()| tally.drained());
                }
            }
        });
        while !done.load(Ordering::Relaxed) {
            receiver.receive(|packet| {
                let (ts_recv, ts_source, seen) = (packet.ts_recv, packet.ts_source, packet.seen);
                hand_off.push(Packet { payload: packet.payload.into(), ts_recv, ts_source, seen });
            })?;
        }
        join(strategy)
    })
}

impl LatencyBench {
    /// Fills a path's queue with so many packets, and empties it. Rate and duration do not matter.
    ///
    /// # Errors
    ///
    /// [`RunError`]; nothing stays open.
    pub fn drain(&mut self, config: &RunConfig, packets: u32, stop: &AtomicBool) -> Result<Drained, RunError> {
        let (line, shared) = (self.line(), &Shared::new(stop));
        let session = Session(*b"DRAIN00000");
        let mut cut = self.flow.cut(session, config.messages_per_packet);
        if cut.is_empty() {
            return Err(RunError::NoMessages);
        }
        let (network, to, messages) = (&self.network, self.to, cut.mean_messages() * f64::from(packets));
        // As fast as can be: all of it is due within a millisecond.
        let ns_per_message = 1e6 / messages;
        let (origin, group) = (clock::monotonic(), sender::program::group(f64::INFINITY));
        let plan = Plan { origin, ns_per_message, duration_ns: 1_000_000, session, to, group };
        let (drained, sent) = thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let _stop = StopOnDrop(shared);
                settle(config.cores.receiver)?;
                network.enter_receiver()?;
                match &config.path {
                    Path::Legacy => {
                        legacy(LegacyReceiver::open(&line, Some(config.rcvbuf_bytes), LONGEST_WAIT)?, config, shared)
                    }
                    Path::LegacyTcp => Err(RunError::NoQueue),
                    Path::Feed(path) => path.clone().open(&[line], &["A".to_owned()], Emptied(shared))?,
                }
            });
            let sender = scope.spawn(|| {
                settle(config.cores.sender)?;
                network.enter_sender()?;
                let mut udp = sender::Udp::open(network, to)?;
                let sent = match config.sender {
                    Sender::Udp => sender::send(&mut cut, &mut udp, &plan, shared)?,
                    Sender::Program => sender::program::send(&cut, network, &plan, shared)?,
                };
                Ok::<_, RunError>(sent)
            });
            (join(receiver), join(sender))
        });
        let (drained, sent) = (drained?, sent?.ok_or(RunError::Stopped)?);
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Stopped);
        }
        Ok(Drained { sent: sent.packets, ..drained })
    }
}
