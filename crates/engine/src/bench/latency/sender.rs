//! The sender: every packet goes when it is due, whatever became of those before.

use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barewire_io::clock;
use barewire_io::send::{Outgoing, SendOptions, UdpSender};
use barewire_types::Seq;
use barewire_wire::moldudp64::{Session, end_of_session};

use super::flow::Packets;
use super::network::Network;
use super::{INTERRUPTED_NS, PATIENCE, RunError, Shared};

pub(super) mod program;
pub(super) mod stream;

/// What sends packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// A UDP socket.
    #[default]
    Udp,
    /// A program in the kernel: [`live_frames`](barewire_io::live_frames). Over a veth pair only.
    Program,
}

impl Sender {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Sender::Udp => "udp",
            Sender::Program => "program",
        }
    }
}

/// A packet counts as late when it is handed over so long after it was due, ns.
pub(super) const LATE_NS: u64 = 100_000;
/// How long after its end a schedule may still be worked off, ns.
pub(super) const OVERTIME_NS: u64 = 500_000_000;
/// How often the end of the session is told.
const END_EVERY: Duration = Duration::from_millis(2);

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// What messages count their time from, by CLOCK_MONOTONIC.
    pub(super) origin: u64,
    pub(super) ns_per_message: f64,
    pub(super) duration_ns: u64,
    pub(super) session: Session,
    pub(super) to: SocketAddrV4,
    /// Packets that leave together, at most.
    pub(super) group: u32,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages.
    pub messages: u64,
    /// Packets with messages.
    pub packets: u64,
    /// From the first message's turn to the last packet's hand-over, ns.
    pub elapsed_ns: u64,
    /// Packets handed over more than 100 us after they were due.
    pub late_packets: u64,
    /// How late the latest was, ns.
    pub max_late_ns: u64,
    /// Times that the kernel had no room.
    pub refusals: u64,
    /// Time for which the sender's loop stood still, ns.
    pub stolen_ns: u64,
}

/// Where packets go.
pub(super) trait Out {
    /// Hands over as much as there is room for now, and returns how many bytes that were.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// By a UDP socket.
pub(super) struct Udp {
    sender: UdpSender,
    to: SocketAddrV4,
}

impl Udp {
    pub(super) fn open(network: &Network, to: SocketAddrV4) -> Result<Udp, RunError> {
        let interface = Some(network.sender_interface().to_owned());
        let options = SendOptions { interface, loopback: network.is_loopback(), ..SendOptions::default() };
        Ok(Udp { sender: UdpSender::open(&options)?, to })
    }

    /// Says that this was all, again and again, until the receiver has heard it.
    pub(super) fn end(&mut self, plan: &Plan, shared: &Shared<'_>) {
        let until = Instant::now() + PATIENCE;
        let next = Seq(shared.sent.load(Ordering::Acquire) + 1);
        let packet = end_of_session(plan.session, next);
        while !shared.is_done() && !shared.is_stopped() && Instant::now() < until {
            // What fails here is told again.
            let _ = self.send(&packet);
            std::thread::sleep(END_EVERY);
        }
    }
}

impl Out for Udp {
    #[inline]
    fn send(&mut self, payload: &[u8]) -> io::Result<usize> {
        let sent = self.sender.send(&[Outgoing { to: self.to, payload }])?;
        Ok(if sent == 0 { 0 } else { payload.len() })
    }
}

/// Says that the sender is ready, and waits for the receiver to be. When the first message is due; `None` where nothing is
/// to be sent.
pub(super) fn start(shared: &Shared<'_>) -> Option<u64> {
    shared.sender_ready.store(true, Ordering::Release);
    let patience = Instant::now() + PATIENCE;
    loop {
        match shared.start.load(Ordering::Acquire) {
            0 if shared.is_stopped() || Instant::now() > patience => return None,
            0 => std::thread::sleep(Duration::from_millis(1)),
            start => return Some(start),
        }
    }
}

/// Sends. `None` when it was stopped before the first message.
///
/// # Errors
///
/// The operating system's.
pub(super) fn send(
    packets: &mut Packets,
    out: &mut impl Out,
    plan: &Plan,
    shared: &Shared<'_>,
) -> io::Result<Option<Sent>> {
    let Some(start) = start(shared) else { return Ok(None) };
    let end = start + plan.duration_ns;
    let mut sent = Sent::default();
    let mut last = start;
    'packets: loop {
        let due = start + (sent.messages as f64 * plan.ns_per_message) as u64;
        if due >= end {
            break;
        }
        let now = loop {
            let now = clock::monotonic();
            let turn = now.saturating_sub(last);
            if turn >= INTERRUPTED_NS {
                sent.stolen_ns += turn;
            }
            last = last.max(now);
            if shared.is_stopped() || now > end + OVERTIME_NS {
                break 'packets;
            }
            if now >= due {
                break now;
            }
            std::hint::spin_loop();
        };
        let late = now - due;
        sent.late_packets += u64::from(late > LATE_NS);
        sent.max_late_ns = sent.max_late_ns.max(late);
        let (messages, mut payload) = packets.next(Seq(sent.messages + 1), now - plan.origin);
        loop {
            let taken = out.send(payload)?;
            payload = payload.get(taken..).unwrap_or_default();
            if payload.is_empty() {
                break;
            }
            sent.refusals += 1;
            // What was begun of a stream has to be ended, or the receiver understands nothing behind it.
            if shared.is_stopped() || clock::monotonic() > end + PATIENCE.as_nanos() as u64 {
                break 'packets;
            }
        }
        sent.messages += messages;
        sent.packets += 1;
    }
    sent.elapsed_ns = last.saturating_sub(start);
    shared.sent.store(sent.messages, Ordering::Release);
    Ok(Some(sent))
}
