//! Live orders: 32 bytes each, in three classes by how long they tend to live.
//!
//! An order's class decides which slots it may take, so a draw over a class's slots is a draw over its live orders (and
//! a few vacant slots, which are drawn again). Every order of a class is then as likely to go as any other: lifetimes
//! are geometric within a class, and with few orders in the short-lived classes, where most new ones go, heavy-tailed
//! over all three: most orders die young, some rest all day.

use barewire_types::{Prefetch as _, Side};

use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::Ahead;
use super::random::below;

/// No slot: the first one is never used, so that memory that is all zeros holds no orders and no links.
pub(super) const NIL: u32 = 0;

/// How many draws are kept ahead, so that the memory of an order is asked for before its turn comes.
const AHEAD: usize = 8;

/// One slot.
#[derive(Clone, Copy, Debug, FromZeros, IntoBytes, Immutable)]
#[repr(C, align(32))]
pub(super) struct Order {
    /// The venue's number.
    pub(super) reference: u64,
    /// Shares left; 0 in a vacant slot.
    pub(super) shares: u32,
    /// Price, in the instrument's steps.
    pub(super) tick: i32,
    /// Neighbours at the same price, older and younger. In a vacant slot `next` is the next vacant one.
    pub(super) previous: u32,
    pub(super) next: u32,
    /// Its level's index among all levels.
    pub(super) level: u32,
    pub(super) instrument: u16,
    pub(super) is_bid: bool,
    pub(super) class: u8,
}

impl Order {
    pub(super) fn side(&self) -> Side {
        if self.is_bid { Side::Bid } else { Side::Ask }
    }
}

/// How many classes there are.
pub(super) const CLASSES: usize = 3;

/// The slots of one class.
#[derive(Clone, Debug)]
struct Class {
    /// The first slot, and how many there are.
    base: u32,
    capacity: u32,
    /// How many have ever been taken: those behind have never been touched.
    used: u32,
    /// The first of the vacant ones among those used.
    vacant: u32,
    live: u32,
    target: u32,
    /// By how much one order missing raises the odds of a new one, in 2^-28.
    gain: i64,
    /// Draws to come, in a circle.
    drawn: [u32; AHEAD],
    turn: usize,
}

/// Every slot.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    slots: Vec<Order>,
    classes: [Class; CLASSES],
}

impl Orders {
    /// Room for `target` live orders and a ninth more.
    pub(super) fn new(target: u32) -> Orders {
        let young = (target / 8).min(2_048);
        let middle = (target / 4).min(65_536);
        let mut base = NIL + 1;
        let classes = [young, middle, target - young - middle].map(|target| {
            let capacity = target + target / 8 + 32;
            // An eighth more new orders than deletions at a 64th below the target.
            let gain = (8 << 28) / i64::from(target);
            let drawn = [base; AHEAD];
            let class = Class { base, capacity, used: 0, vacant: NIL, live: 0, target, gain, drawn, turn: 0 };
            base += capacity;
            class
        });
        let slots = zeroed(base as usize);
        Orders { slots, classes }
    }

    #[inline(always)]
    pub(super) fn get(&self, slot: u32) -> &Order {
        &self.slots[slot as usize]
    }

    #[inline(always)]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Order {
        &mut self.slots[slot as usize]
    }

    /// A vacant slot of the class, or `None` where it is full. It stays vacant until its shares are set.
    #[inline(always)]
    pub(super) fn take(&mut self, class: usize) -> Option<u32> {
        let of = &mut self.classes[class];
        let slot = of.vacant;
        if slot != NIL {
            of.vacant = self.slots[slot as usize].next;
        } else if of.used < of.capacity {
            of.used += 1;
            of.live += 1;
            return Some(of.base + of.used - 1);
        } else {
            return None;
        }
        of.live += 1;
        Some(slot)
    }

    /// Vacates a slot.
    #[inline(always)]
    pub(super) fn release(&mut self, slot: u32) {
        let order = &mut self.slots[slot as usize];
        let class = &mut self.classes[usize::from(order.class)];
        order.shares = 0;
        order.next = class.vacant;
        class.vacant = slot;
        class.live -= 1;
    }

    /// A live order of the class, each as likely as any other, and the slot whose turn comes in four draws, which by now
    /// is in the cache. `None` where hardly any order is live.
    #[inline(always)]
    pub(super) fn draw(&mut self, class: usize, mut bits: u32, ahead: Ahead) -> Option<(u32, u32)> {
        let of = &mut self.classes[class];
        for _ in 0..16 {
            let slot = of.drawn[of.turn];
            let next = of.base + below(bits, of.used);
            of.drawn[of.turn] = next;
            of.turn = (of.turn + 1) % AHEAD;
            ahead.prefetch(&self.slots[next as usize]);
            if self.slots[slot as usize].shares != 0 {
                return Some((slot, of.drawn[(of.turn + AHEAD / 2) % AHEAD]));
            }
            bits = bits.wrapping_mul(0x9e37_79b9).rotate_left(15);
        }
        None
    }

    /// The order in this slot, if there are both.
    #[inline(always)]
    pub(super) fn find(&self, slot: u32) -> Option<&Order> {
        self.slots.get(slot as usize).filter(|order| order.shares != 0)
    }

    /// The odds of a new order rather than a deletion that bring the class to its target, in 2^-12.
    #[inline(always)]
    pub(super) fn odds(&self, class: usize) -> u32 {
        let of = &self.classes[class];
        let missing = i64::from(of.target) - i64::from(of.live);
        ((1 << 11) + ((missing * of.gain) >> 16)).clamp(1 << 9, 7 << 9) as u32
    }

    /// How many orders the class lacks to its target.
    #[inline]
    pub(super) fn shortfall(&self, class: usize) -> u32 {
        let of = &self.classes[class];
        of.target.saturating_sub(of.live)
    }

    /// How many orders are live.
    pub(super) fn live(&self) -> u32 {
        self.classes.iter().map(|class| class.live).sum()
    }
}

/// Memory that is all zeros and has not been touched, on huge pages where the kernel has any to give.
pub(super) fn zeroed<T: FromZeros + IntoBytes + Immutable>(len: usize) -> Vec<T> {
    let mut memory = Vec::new();
    if T::extend_vec_zeroed(&mut memory, len).is_err() {
        std::alloc::handle_alloc_error(std::alloc::Layout::new::<T>());
    }
    // Advice only: without huge pages it works as well, and slower.
    let _ = barewire_io::memory::advise_huge(memory.as_bytes());
    memory
}
