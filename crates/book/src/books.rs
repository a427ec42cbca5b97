//! The books: what they are made of, and what happens to a whole book.

use crate::error::{BookError, Counters};
use crate::grid::{Scale, Side as BookSide};
use crate::keys::Keys;
use crate::levels::{LevelKey, LevelLine};
use crate::lines::Lines;
use crate::orders::Orders;
use crate::room::Room;
use crate::table::Table;
use alloc::vec::Vec;
use barewire_types::{NoPrefetch, Prefetch, Price, Side};
use core::num::NonZeroU64;
use zerocopy::{transmute_mut, transmute_ref};

/// The order-by-order books of a venue. See the [crate's documentation](crate).
pub struct Books<P: Prefetch = NoPrefetch> {
    /// The sides of all books, a line each: bids and asks of an instrument next to each other.
    pub(crate) sides: Lines<u64>,
    pub(crate) orders: Orders,
    pub(crate) levels: Table<LevelLine>,
    pub(crate) keys: Keys,
    /// What [`BookSide::tick`] numbers.
    pub(crate) ticks: Vec<NonZeroU64>,
    /// By instrument: whether an order was refused for want of room.
    pub(crate) incomplete: Vec<bool>,
    pub(crate) counters: Counters,
    /// Orders in the table whose books were cleared.
    pub(crate) swept: usize,
    pub(crate) room: Room,
    pub(crate) prefetch: P,
}

impl<P: Prefetch> Books<P> {
    /// Removes every order of one book, which is then complete again. Costs as much as one change a level; the orders'
    /// places in the table are given back later, by [`Books::maintain`].
    ///
    /// # Errors
    /// [`BadInstrument`](BookError::BadInstrument), counted.
    pub fn clear(&mut self, instrument: u32) -> Result<(), BookError> {
        if instrument >= self.room.instruments {
            return Err(self.counters.refuse(BookError::BadInstrument));
        }
        for bit in 0..2 {
            let owner = owner_of(instrument, bit);
            let Some(side) = side(&self.sides, owner).copied() else { continue };
            for key in side.keys(&self.keys, self.scale(owner, &side)) {
                if let Some(place) = self.levels.find(LevelKey { key, owner }) {
                    self.swept += self.levels.sum(place).orders() as usize;
                    self.levels.clear_level(place);
                }
            }
            side.free(&mut self.keys);
            if let Some(cleared) = side_mut(&mut self.sides, owner) {
                *cleared = BookSide::with_tick(side.tick());
            }
        }
        if let Some(incomplete) = self.incomplete.get_mut(instrument as usize) {
            *incomplete = false;
        }
        Ok(())
    }

    /// Removes every order of every book: a new session. Every book is then complete again. Touches the whole table.
    pub fn clear_all(&mut self) {
        for instrument in 0..self.room.instruments {
            for owner in [owner_of(instrument, 0), owner_of(instrument, 1)] {
                if let Some(side) = side_mut(&mut self.sides, owner) {
                    *side = BookSide::with_tick(side.tick());
                }
            }
        }
        self.orders.clear();
        self.levels.clear();
        self.keys.clear();
        self.incomplete.fill(false);
        self.swept = 0;
    }

    /// Says how far an instrument's prices usually are apart: 1 cent where nothing was said. Only the speed depends on
    /// it. Says whether it was taken: not for a book that has orders, nor with a tick that is not positive, nor after
    /// 255 different ones.
    pub fn set_tick(&mut self, instrument: u32, tick: Price) -> bool {
        let owners = [owner_of(instrument, 0), owner_of(instrument, 1)];
        let empty = owners.iter().all(|&owner| side(&self.sides, owner).is_some_and(|side| side.best.sum.is_none()));
        let Some(tick) = u64::try_from(tick.0).ok().and_then(NonZeroU64::new).filter(|_| empty) else { return false };
        let known = self.ticks.iter().position(|&known| known == tick);
        let number = known.unwrap_or(self.ticks.len());
        let Ok(number) = u8::try_from(number) else { return false };
        if known.is_none() {
            self.ticks.push(tick);
        }
        for owner in owners {
            if let Some(side) = side_mut(&mut self.sides, owner) {
                side.free(&mut self.keys);
                *side = BookSide::with_tick(number);
            }
        }
        true
    }

    /// Whether the order with this id is live. See *Following a subset* in the [crate's documentation](crate).
    #[inline]
    pub fn contains(&self, id: u64) -> bool {
        self.orders.find(id).is_some_and(|(_, order)| self.levels.level(order.level).is_some())
    }

    /// Live orders of all books.
    pub fn len(&self) -> usize {
        self.orders.table.len() - self.swept
    }

    /// Whether no order is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What went wrong so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How keys lie on a side's grid.
    pub(crate) fn scale(&self, owner: u32, side: &BookSide) -> Scale {
        scale(&self.ticks, owner, side)
    }
}

/// The line of a side.
#[inline(always)]
pub(crate) fn side_line(sides: &Lines<u64>, owner: u32) -> Option<&u64> {
    sides.run(owner.wrapping_sub(2) as usize, 1)?.first()
}

/// A side of a book.
#[inline(always)]
pub(crate) fn side(sides: &Lines<u64>, owner: u32) -> Option<&BookSide> {
    let line: &[u64; 8] = sides.run(owner.wrapping_sub(2) as usize, 8)?.try_into().ok()?;
    Some(transmute_ref!(line))
}

/// A side of a book.
#[inline(always)]
pub(crate) fn side_mut(sides: &mut Lines<u64>, owner: u32) -> Option<&mut BookSide> {
    let line: &mut [u64; 8] = sides.run_mut(owner.wrapping_sub(2) as usize, 8)?.try_into().ok()?;
    Some(transmute_mut!(line))
}

/// How keys lie on a side's grid.
#[inline(always)]
pub(crate) fn scale(ticks: &[NonZeroU64], owner: u32, side: &BookSide) -> Scale {
    let tick = ticks.get(usize::from(side.tick())).copied().unwrap_or(NonZeroU64::MIN);
    Scale { tick, origin: key_of(Price(0), owner) }
}

/// A price such that a better one is greater, and none is 0 but the lowest bid.
#[inline(always)]
pub(crate) fn key_of(price: Price, owner: u32) -> u64 {
    price.0 as u64 ^ key_mask(owner)
}

/// The price that has this key.
#[inline(always)]
pub(crate) fn price_of(key: u64, owner: u32) -> Price {
    Price((key ^ key_mask(owner)) as i64)
}

/// Flips the sign bit of a bid, and all others of an ask.
#[inline(always)]
fn key_mask(owner: u32) -> u64 {
    1 << 63 ^ u64::from(owner & 1).wrapping_neg()
}

/// A side of a book as one number: never 0, and the last bit is 1 for an ask.
#[inline(always)]
pub(crate) fn owner_of(instrument: u32, bit: u32) -> u32 {
    (instrument << 1 | bit).wrapping_add(2)
}

/// The instrument that an owner belongs to.
#[inline(always)]
pub(crate) fn instrument_of(owner: u32) -> u32 {
    (owner >> 1).wrapping_sub(1)
}

/// The side that an owner's last bit stands for.
#[inline(always)]
pub(crate) fn side_of(owner: u32) -> Side {
    if owner & 1 == 0 { Side::Bid } else { Side::Ask }
}
