//! Packets that are under way, in the order in which they will arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// Whose packet it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packet {
    pub(super) line: u8,
    /// Number on its line.
    pub(super) number: u64,
    pub(super) is_copy: bool,
    /// When it arrives, unless it is held back.
    pub(super) due: u64,
}

/// Packets by their time; those of one time in the order in which their times were set.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Time, ticket, slot. Those whose slot has another ticket are out of date; the first never is.
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    next_ticket: u64,
}

/// Room for a packet.
#[derive(Debug, Default)]
struct Slot {
    packet: Packet,
    payload: Vec<u8>,
    /// `None` where no packet is under way.
    ticket: Option<u64>,
}

/// A packet that is under way, for as long as its time is not set anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    number: u64,
    slot: u32,
}

impl Queue {
    /// Adds a packet that arrives at `time`.
    pub(super) fn push(&mut self, packet: Packet, time: u64, payload: &[u8]) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        if let Some(to) = self.slots.get_mut(slot as usize) {
            to.packet = packet;
            to.payload.clear();
            to.payload.extend_from_slice(payload);
        }
        self.set_time(slot, time)
    }

    fn set_time(&mut self, slot: u32, time: u64) -> Ticket {
        let number = self.next_ticket;
        self.next_ticket += 1;
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.ticket = Some(number);
        }
        self.heap.push(Reverse((time, number, slot)));
        Ticket { number, slot }
    }

    /// A packet, where it is still under way.
    pub(super) fn get(&self, ticket: Ticket) -> Option<Packet> {
        self.slots.get(ticket.slot as usize).filter(|slot| slot.ticket == Some(ticket.number)).map(|slot| slot.packet)
    }

    /// Sets the time of a packet that is under way anew.
    pub(super) fn move_to(&mut self, ticket: Ticket, time: u64) {
        self.set_time(ticket.slot, time);
        self.forget_outdated();
    }

    /// When the first packet arrives.
    #[inline]
    pub(super) fn first(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((time, ..))| *time)
    }

    /// Takes the first packet, if it arrives by `now`: its time, whose it is, and its slot, which is kept.
    #[inline]
    pub(super) fn pop(&mut self, now: u64) -> Option<(u64, Packet, u32)> {
        let first = self.heap.peek_mut()?;
        let Reverse((time, _, number)) = *first;
        if time > now {
            return None;
        }
        PeekMut::pop(first);
        let slot = self.slots.get_mut(number as usize)?;
        slot.ticket = None;
        let packet = slot.packet;
        self.forget_outdated();
        Some((time, packet, number))
    }

    /// The bytes of a packet that was taken.
    #[inline]
    pub(super) fn payload(&self, slot: u32) -> &[u8] {
        self.slots.get(slot as usize).map_or(&[], |slot| &slot.payload)
    }

    /// Gives the slot of a packet that was taken back.
    #[inline]
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    #[inline]
    fn forget_outdated(&mut self) {
        while let Some(first) = self.heap.peek_mut() {
            let Reverse((_, ticket, slot)) = *first;
            if self.slots.get(slot as usize).is_some_and(|slot| slot.ticket == Some(ticket)) {
                break;
            }
            PeekMut::pop(first);
        }
    }
}
