//! Lines, and what is under way on them.

use barewire_types::UnixNanos;

use super::line::LineState;
use super::queue::{Packet, Queue};
use super::{ImpairCounters, Impairment, MAX_HOLD_NS};

/// A packet at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived<'a> {
    /// On which line.
    pub line: u8,
    /// When it arrived, by the clock by which it was sent.
    pub at: UnixNanos,
    /// What was sent.
    pub payload: &'a [u8],
}

/// Lines that impair what is sent on them. It does no IO and reads no clock: times are the caller's.
///
/// Packets arrive in the order of their times, and those of one time in the order in which they were sent. This holds
/// where they are sent in the order of their times; where these go back, as some captures' do, so may arrivals. Without
/// impairments every packet arrives when it is sent.
///
/// Memory is taken by packets under way: at most what a line sends in `delay_ns + jitter_ns`, and where it holds packets
/// back in [`MAX_HOLD_NS`] more. It is kept for later packets.
///
/// ```
/// use barewire_sim::{Impairment, Network};
/// use barewire_types::UnixNanos;
///
/// let late = Impairment { delay_ns: 50, ..Default::default() };
/// let mut network = Network::new(&[Impairment::default(), late], 1);
/// network.send(1, UnixNanos(1_000), b"first sent");
/// network.send(0, UnixNanos(1_020), b"first there");
/// assert_eq!(network.arrive(UnixNanos(1_020)).map(|arrived| arrived.payload), Some(&b"first there"[..]));
/// assert_eq!(network.arrive(UnixNanos(1_020)), None);
/// assert_eq!(network.next_arrival(), Some(UnixNanos(1_050)));
/// ```
#[derive(Debug)]
pub struct Network {
    lines: Vec<LineState>,
    seed: u64,
    /// When the first packet was sent.
    began: Option<u64>,
    queue: Queue,
    /// The slot whose packet [`arrive`](Network::arrive) gave out.
    given_out: Option<u32>,
}

/// A packet whose time has come, in its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) line: u8,
    pub(crate) at: UnixNanos,
    pub(crate) slot: u32,
}

impl Network {
    /// A network with these lines; others have no impairment. Values out of their range, which
    /// [`validate`](Impairment::validate) tells, count as the nearest one within.
    pub fn new(lines: &[Impairment], seed: u64) -> Network {
        let lines = (0..=u8::MAX).zip(lines).map(|(line, impairment)| LineState::new(impairment, seed, line)).collect();
        Network { lines, seed, began: None, queue: Queue::default(), given_out: None }
    }

    /// Sends a packet.
    pub fn send(&mut self, line: u8, at: UnixNanos, payload: &[u8]) {
        self.admit(line, at, payload, false);
    }

    /// When the next packet arrives; `None` where nothing is under way.
    #[inline]
    pub fn next_arrival(&self) -> Option<UnixNanos> {
        self.queue.first().map(UnixNanos)
    }

    /// The next packet that has arrived by now. A `now` of `u64::MAX` takes all that is under way.
    pub fn arrive(&mut self, now: UnixNanos) -> Option<Arrived<'_>> {
        if let Some(slot) = self.given_out.take() {
            self.queue.give_back(slot);
        }
        let Due { line, at, slot } = self.due(now)?;
        self.given_out = Some(slot);
        Some(Arrived { line, at, payload: self.queue.payload(slot) })
    }

    /// What became of a line's packets so far.
    pub fn counters(&self, line: u8) -> ImpairCounters {
        self.lines.get(usize::from(line)).map_or(ImpairCounters::default(), |line| line.counters)
    }

    /// Sends a packet. With `in_place`, nothing is queued of what arrives at once: the caller delivers that himself, so
    /// many times as this returns, behind what was due by `at` before and ahead of all else.
    #[inline]
    pub(crate) fn admit(&mut self, line: u8, at: UnixNanos, payload: &[u8], in_place: bool) -> u32 {
        let since_ns = at.0.saturating_sub(*self.began.get_or_insert(at.0));
        let state = line_state(&mut self.lines, self.seed, line);
        let number = state.counters.sent;
        let Some(fate) = state.fate(at.0, since_ns) else { return 0 };
        let mut at_once = 0;
        for (due, is_copy) in [(Some(fate.due), false), (fate.copy_due, true)] {
            let Some(due) = due else { continue };
            let packet = Packet { line, number, is_copy, due };
            if let Some(until) = fate.held_until {
                let ticket = self.queue.push(packet, due.saturating_add(MAX_HOLD_NS), payload);
                state.hold(until, ticket);
            } else if in_place && due <= at.0 {
                state.arrived(number, is_copy);
                at_once += 1;
            } else {
                self.queue.push(packet, due, payload);
            }
        }
        // It has passed those that waited for it, which are right behind it now, if their time was not up before.
        while let Some(ticket) = state.next_overtaken() {
            let Some(packet) = self.queue.get(ticket) else { continue };
            let due = packet.due.max(fate.due);
            if due < packet.due.saturating_add(MAX_HOLD_NS) {
                self.queue.move_to(ticket, due);
            }
        }
        at_once
    }

    /// Takes the next packet that has arrived by now. Its bytes stay until [`give_back`](Network::give_back).
    #[inline]
    pub(crate) fn due(&mut self, now: UnixNanos) -> Option<Due> {
        let (time, packet, slot) = self.queue.pop(now.0)?;
        line_state(&mut self.lines, self.seed, packet.line).arrived(packet.number, packet.is_copy);
        Some(Due { line: packet.line, at: UnixNanos(time), slot })
    }

    /// The bytes of a packet that was due.
    #[inline]
    pub(crate) fn payload(&self, slot: u32) -> &[u8] {
        self.queue.payload(slot)
    }

    /// A packet that was due is needed no longer.
    #[inline]
    pub(crate) fn give_back(&mut self, slot: u32) {
        self.queue.give_back(slot);
    }
}

/// A line's state; a line that was not configured has one from its first packet on.
#[inline]
fn line_state(lines: &mut Vec<LineState>, seed: u64, line: u8) -> &mut LineState {
    while lines.len() <= usize::from(line) {
        let number = lines.len() as u8;
        lines.push(LineState::new(&Impairment::default(), seed, number));
    }
    &mut lines[usize::from(line)]
}
