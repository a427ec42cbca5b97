//! The sender: every packet goes when it is due, whatever became of those before.

use std::io;
use std::net::SocketAddrV4;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use barewire_io::clock;
use barewire_io::send::{Outgoing, UdpSender};
use barewire_types::Seq;
use barewire_wire::moldudp64::{Session, end_of_session};

use super::flow::Packets;
use super::{INTERRUPTED_NS, PATIENCE, Shared};

/// A packet counts as late when it is handed over so long after it was due, ns.
const LATE_NS: u64 = 100_000;
/// How long after its end a schedule may still be worked off, ns.
const OVERTIME_NS: u64 = 500_000_000;
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

/// Sends. `None` when it was stopped before the first message.
///
/// # Errors
///
/// The operating system's.
pub(super) fn send(
    packets: &mut Packets,
    out: &mut UdpSender,
    plan: &Plan,
    shared: &Shared<'_>,
) -> io::Result<Option<Sent>> {
    shared.sender_ready.store(true, Ordering::Release);
    let patience = Instant::now() + PATIENCE;
    let start = loop {
        match shared.start.load(Ordering::Acquire) {
            0 if shared.is_stopped() || Instant::now() > patience => return Ok(None),
            0 => std::thread::sleep(Duration::from_millis(1)),
            start => break start,
        }
    };
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
        let (messages, payload) = packets.next(Seq(sent.messages + 1), now - plan.origin);
        while out.send(&[Outgoing { to: plan.to, payload }])? == 0 {
            sent.refusals += 1;
            if shared.is_stopped() || clock::monotonic() > end + OVERTIME_NS {
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

/// Says that this was all, again and again, until the receiver has heard it.
pub(super) fn end(out: &mut UdpSender, plan: &Plan, shared: &Shared<'_>, patience: Duration) {
    let until = Instant::now() + patience;
    let next = Seq(shared.sent.load(Ordering::Acquire) + 1);
    let packet = end_of_session(plan.session, next);
    while !shared.is_done() && !shared.is_stopped() && Instant::now() < until {
        // What fails here is told again.
        let _ = out.send(&[Outgoing { to: plan.to, payload: &packet }]);
        std::thread::sleep(END_EVERY);
    }
}
