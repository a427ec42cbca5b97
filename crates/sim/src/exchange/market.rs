//! The books: for each instrument a window of price levels around its fair price, each level a queue in time priority.
//!
//! Both sides share the window, for a book that is not crossed has at most one side at any price. Levels are indexed by
//! price modulo the window's width, so moving the window moves nothing; what it leaves behind must have been emptied.

use barewire_types::{Prefetch as _, Side};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::Ahead;
use super::orders::{NIL, Order, Orders, zeroed};
use super::plan::Plan;

/// Best bid of a book that has none.
pub(super) const NO_BID: i32 = i32::MIN;
/// Best offer of a book that has none.
pub(super) const NO_ASK: i32 = i32::MAX;

/// An instrument and the head of its book.
#[derive(Clone, Debug)]
#[repr(C, align(128))]
pub(super) struct Instrument {
    pub(super) symbol: [u8; 8],
    /// Width of the window, a power of two of at least 64, less 1.
    pub(super) mask: i32,
    /// Its first level's index among all levels; a multiple of 64.
    pub(super) levels: u32,
    /// The lowest price of the window. All prices are in steps.
    pub(super) low: i32,
    pub(super) best_bid: i32,
    pub(super) best_ask: i32,
    /// The highest bid and the lowest offer that anyone who knows the fair price makes.
    pub(super) bid_limit: i32,
    pub(super) ask_limit: i32,
    /// Size of a step, in 1e-4 USD.
    pub(super) step: u32,
    /// What may be done: the letter of the trading state, or `h` while operations are halted.
    pub(super) state: u8,
    pub(super) sector: u8,
    /// How quickly the price's own movement returns: by one part in 2^this at a visit.
    pub(super) own_return: u8,
    pub(super) fund: bool,
    /// The furthest from its limit that an order may be placed, in steps, so that it lies within the window.
    pub(super) reach: i32,
    /// Half the spread of `bid_limit` and `ask_limit`, in 2^-16 steps.
    pub(super) half_spread: i64,
    /// What is usual, in 2^-16 steps.
    pub(super) usual: i64,
    /// The fair price as far as the book has followed it, in 2^-16 steps.
    pub(super) fair: i64,
    /// The price's own movement, and its size at a visit, in 2^-40.
    pub(super) own: i64,
    pub(super) own_size: i64,
    /// What the market's movement does, and the sector's, in 2^-8.
    pub(super) beta: i32,
    pub(super) sector_beta: i32,
}

impl Instrument {
    #[inline(always)]
    pub(super) fn best(&self, side: Side) -> Option<i32> {
        let best = if side == Side::Bid { self.best_bid } else { self.best_ask };
        (best != NO_BID && best != NO_ASK).then_some(best)
    }

    /// The price of a step's number, in 1e-4 USD.
    #[inline(always)]
    pub(super) fn price(&self, tick: i32) -> u32 {
        tick as u32 * self.step
    }

    /// Width of the window.
    #[inline(always)]
    pub(super) fn width(&self) -> i32 {
        self.mask + 1
    }
}

/// A queue of orders at one price, by their slots.
#[derive(Clone, Copy, Debug, FromZeros, IntoBytes, Immutable)]
#[repr(C, align(8))]
struct Level {
    oldest: u32,
    youngest: u32,
}

/// An order that enters a book.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewOrder {
    pub(super) index: u16,
    pub(super) side: Side,
    pub(super) tick: i32,
    pub(super) class: usize,
    pub(super) reference: u64,
    pub(super) shares: u32,
}

/// All instruments, levels and orders.
#[derive(Clone, Debug)]
pub(super) struct Market {
    pub(super) instruments: Vec<Instrument>,
    pub(super) orders: Orders,
    levels: Vec<Level>,
    /// A bit for each level: whether anyone is there.
    occupied: Vec<u64>,
    pub(super) ahead: Ahead,
}

impl Market {
    /// Empty books. Sets every instrument's `levels`.
    pub(super) fn new(mut instruments: Vec<Instrument>, live_orders: u32) -> Market {
        let mut count = 0;
        for instrument in &mut instruments {
            instrument.levels = count;
            count += instrument.width() as u32;
        }
        Market {
            instruments,
            orders: Orders::new(live_orders),
            levels: zeroed(count as usize),
            occupied: zeroed(count as usize / 64),
            ahead: Ahead::default(),
        }
    }

    #[inline(always)]
    pub(super) fn instrument(&self, index: u16) -> &Instrument {
        &self.instruments[usize::from(index)]
    }

    #[inline(always)]
    pub(super) fn instrument_mut(&mut self, index: u16) -> &mut Instrument {
        &mut self.instruments[usize::from(index)]
    }

    /// The oldest order of the best level.
    #[inline(always)]
    pub(super) fn first(&self, index: u16, side: Side) -> Option<u32> {
        let instrument = self.instrument(index);
        instrument.best(side).map(|tick| self.oldest(instrument, tick))
    }

    /// The oldest order at a price where there is one.
    #[inline(always)]
    pub(super) fn oldest(&self, instrument: &Instrument, tick: i32) -> u32 {
        self.levels[level_of(instrument, tick) as usize].oldest
    }

    /// A live order of the class, each as likely as any other; `None` where hardly any is live.
    #[inline(always)]
    pub(super) fn draw(&mut self, class: usize, bits: u32) -> Option<u32> {
        let (slot, coming) = self.orders.draw(class, bits, self.ahead)?;
        if let Some(order) = self.orders.find(coming) {
            self.ahead.prefetch(&self.levels[order.level as usize]);
            for neighbour in [order.previous, order.next] {
                if let Some(neighbour) = self.orders.find(neighbour) {
                    self.ahead.prefetch(neighbour);
                }
            }
        }
        Some(slot)
    }

    /// Asks for an instrument's memory.
    #[inline(always)]
    pub(super) fn prefetch_instrument(&self, index: u16) {
        let instrument = self.instrument(index);
        self.ahead.prefetch(&instrument.symbol);
        self.ahead.prefetch(&instrument.own);
    }

    /// The level where a planned order will go, as things are.
    #[inline(always)]
    pub(super) fn level(&self, plan: &Plan) -> u32 {
        let instrument = self.instrument(plan.index);
        level_of(instrument, plan.tick(instrument))
    }

    /// The best level of the side that a planned order trades with, or any where there is none.
    #[inline(always)]
    pub(super) fn best_level(&self, plan: &Plan) -> u32 {
        let instrument = self.instrument(plan.index);
        instrument.best(plan.side).map_or(0, |tick| level_of(instrument, tick))
    }

    /// Asks for a level.
    #[inline(always)]
    pub(super) fn prefetch_level(&self, level: u32) {
        self.ahead.prefetch(&self.levels[level as usize]);
    }

    /// Asks for an order at a level that should be in the cache: the one that a new order will stand behind, or the one
    /// that is traded with first.
    #[inline(always)]
    pub(super) fn prefetch_order(&self, level: u32, youngest: bool) {
        let level = &self.levels[level as usize];
        self.ahead.prefetch(self.orders.get(if youngest { level.youngest } else { level.oldest }));
    }

    /// Puts an order at the end of its price's queue. The slot is the caller's, taken from the class; the price lies
    /// within the window and does not cross.
    #[inline(always)]
    pub(super) fn insert(&mut self, slot: u32, order: NewOrder) {
        let NewOrder { index, side, tick, class, reference, shares } = order;
        let instrument = &mut self.instruments[usize::from(index)];
        debug_assert!(tick >= instrument.low && tick - instrument.low <= instrument.mask);
        debug_assert!(if side == Side::Bid { tick < instrument.best_ask } else { tick > instrument.best_bid });
        let at = level_of(instrument, tick);
        let level = &mut self.levels[at as usize];
        let previous = level.youngest;
        level.youngest = slot;
        if previous == NIL {
            level.oldest = slot;
            self.occupied[at as usize / 64] |= 1 << (at % 64);
            if side == Side::Bid {
                instrument.best_bid = instrument.best_bid.max(tick);
            } else {
                instrument.best_ask = instrument.best_ask.min(tick);
            }
        } else {
            self.orders.get_mut(previous).next = slot;
        }
        *self.orders.get_mut(slot) = Order {
            reference,
            shares,
            tick,
            previous,
            next: NIL,
            level: at,
            instrument: index,
            is_bid: side == Side::Bid,
            class: class as u8,
        };
    }

    /// Takes an order out of its queue. Its slot stays the caller's.
    #[inline(always)]
    pub(super) fn unlink(&mut self, slot: u32) {
        let Order { previous, next, level: at, .. } = *self.orders.get(slot);
        if previous == NIL {
            self.levels[at as usize].oldest = next;
        } else {
            self.orders.get_mut(previous).next = next;
        }
        if next == NIL {
            self.levels[at as usize].youngest = previous;
            if previous == NIL {
                self.emptied(slot);
            }
        } else {
            self.orders.get_mut(next).previous = previous;
        }
    }

    /// Takes an order out of its queue and vacates its slot.
    #[inline(always)]
    pub(super) fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.orders.release(slot);
    }

    /// The last order at its price has gone.
    fn emptied(&mut self, slot: u32) {
        let Order { tick, level: at, instrument: index, .. } = *self.orders.get(slot);
        self.occupied[at as usize / 64] &= !(1 << (at % 64));
        let instrument = self.instrument(index);
        if tick == instrument.best_bid {
            let next = self.next_below(instrument, tick).unwrap_or(NO_BID);
            self.instrument_mut(index).best_bid = next;
        } else if tick == instrument.best_ask {
            let next = self.next_above(instrument, tick).unwrap_or(NO_ASK);
            self.instrument_mut(index).best_ask = next;
        }
    }

    /// The next occupied price below `tick` within the window.
    #[inline]
    pub(super) fn next_below(&self, instrument: &Instrument, tick: i32) -> Option<i32> {
        let mut at = tick - 1;
        while at >= instrument.low {
            let bit = at & 63;
            let word = self.occupied[level_of(instrument, at) as usize / 64] << (63 - bit);
            if word != 0 {
                let found = at - word.leading_zeros() as i32;
                return (found >= instrument.low).then_some(found);
            }
            at -= bit + 1;
        }
        None
    }

    /// The next occupied price above `tick` within the window.
    #[inline]
    pub(super) fn next_above(&self, instrument: &Instrument, tick: i32) -> Option<i32> {
        let high = instrument.low + instrument.mask;
        let mut at = tick + 1;
        while at <= high {
            let bit = at & 63;
            let word = self.occupied[level_of(instrument, at) as usize / 64] >> bit;
            if word != 0 {
                let found = at + word.trailing_zeros() as i32;
                return (found <= high).then_some(found);
            }
            at += 64 - bit;
        }
        None
    }
}

/// The index of a price's level.
#[inline(always)]
fn level_of(instrument: &Instrument, tick: i32) -> u32 {
    instrument.levels + (tick & instrument.mask) as u32
}
