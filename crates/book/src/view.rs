//! Looking at books: tops, depth, orders, and a digest of everything.

use crate::books::{Books, instrument_of, owner_of, price_of, side, side_of};
use crate::grid::Best;
use crate::levels::{LevelKey, Sum};
use crate::orders::OrderRecord;
use alloc::vec::Vec;
use barewire_types::{Prefetch, Price, Side};

/// The best bid and offer of one book. Callbacks in other languages get it as it is: 32 bytes, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Top {
    /// The best bid; undefined where nobody bids.
    pub bid_price: Price,
    /// The best offer; undefined where nobody offers.
    pub ask_price: Price,
    /// Size of all orders at the best bid.
    pub bid_size: u64,
    /// Size of all orders at the best offer.
    pub ask_size: u64,
}

impl Top {
    /// Of a book without orders.
    pub const EMPTY: Top = Top { bid_price: Price::UNDEF, ask_price: Price::UNDEF, bid_size: 0, ask_size: 0 };
}

const _: () = assert!(size_of::<Top>() == 32);

/// One price level.
///
/// A level holds at most 1,048,575 orders and a sum of at most 17,592,186,044,415, and a side at least 65,535 levels;
/// the order that would exceed any is refused ([`BookError::AtLimit`](crate::BookError::AtLimit)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level's price.
    pub price: Price,
    /// Size of all its orders.
    pub size: u64,
    /// How many orders it has.
    pub orders: u32,
}

impl Level {
    /// What an output buffer is filled with beforehand: no price, no size, no orders.
    pub const EMPTY: Level = Level { price: Price::UNDEF, size: 0, orders: 0 };
}

/// One live order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The venue's number of the order.
    pub id: u64,
    /// Its side.
    pub side: Side,
    /// Its price.
    pub price: Price,
    /// What is left of it.
    pub size: u32,
}

/// An order with what it is sorted by: instrument and side, then price from the best, then time.
type Ranked = (u32, u64, u32, Order);

impl<P: Prefetch> Books<P> {
    /// The best bid and offer of a book, from two neighbouring cache lines. Both sides are empty for an instrument out
    /// of range.
    #[inline]
    pub fn top(&self, instrument: u32) -> Top {
        let best = |bit| side(&self.sides, owner_of(instrument, bit)).map(|side| side.best).unwrap_or_default();
        let price = |best: Best, bit| if best.sum.is_none() { Price::UNDEF } else { price_of(best.key, bit) };
        let (bid, ask) = (best(0), best(1));
        Top { bid_price: price(bid, 0), bid_size: bid.sum.size(), ask_price: price(ask, 1), ask_size: ask.sum.size() }
    }

    /// Writes the best levels of one side into `out`, best first, and says how many. Looks at one line a level.
    pub fn depth(&self, instrument: u32, side: Side, out: &mut [Level]) -> usize {
        let bit = match side {
            Side::Bid => 0,
            Side::Ask => 1,
            Side::None => return 0,
        };
        let mut count = 0;
        for (level, (key, sum)) in out.iter_mut().zip(self.levels_of(owner_of(instrument, bit))) {
            *level = Level { price: price_of(key, bit), size: sum.size(), orders: sum.orders() };
            count += 1;
        }
        count
    }

    /// The levels of a side from the best: keys and sums.
    fn levels_of(&self, owner: u32) -> impl Iterator<Item = (u64, Sum)> {
        let side = side(&self.sides, owner).copied().unwrap_or_default();
        side.keys(&self.keys, self.scale(owner, &side)).map(move |key| {
            let place = self.levels.find(LevelKey { key, owner });
            (key, place.map(|place| self.levels.sum(place)).unwrap_or_default())
        })
    }

    /// How many levels one side of a book has.
    pub fn level_count(&self, instrument: u32, side: Side) -> usize {
        let bit = match side {
            Side::Bid => 0,
            Side::Ask => 1,
            Side::None => return 0,
        };
        crate::books::side(&self.sides, owner_of(instrument, bit)).map_or(0, |side| side.len())
    }

    /// How many live orders a book has. Looks at one line a level.
    pub fn order_count(&self, instrument: u32) -> usize {
        let count =
            |bit| self.levels_of(owner_of(instrument, bit)).map(|(_, sum)| sum.orders() as usize).sum::<usize>();
        count(0) + count(1)
    }

    /// Whether a book lacks orders that the venue has, because there was no room for them. Until it is cleared.
    #[inline]
    pub fn is_incomplete(&self, instrument: u32) -> bool {
        self.incomplete.get(instrument as usize).is_some_and(|&incomplete| incomplete)
    }

    /// The live order with this id, and its instrument.
    pub fn order(&self, id: u64) -> Option<(u32, Order)> {
        let (_, order) = self.orders.find(id)?;
        let (level, order) = self.with_level(order)?;
        Some((instrument_of(level.owner), order))
    }

    /// An order as it is shown, and its level; `None` where its book was cleared.
    fn with_level(&self, order: OrderRecord) -> Option<(LevelKey, Order)> {
        let level = self.levels.level(order.level)?;
        let OrderRecord { id, size, .. } = order;
        Some((level, Order { id, side: side_of(level.owner), price: price_of(level.key, level.owner), size }))
    }

    /// The orders of one book in priority: bids and then asks, each from the best price, each price from the oldest.
    ///
    /// For cold use: reads the whole order table, and allocates.
    pub fn orders(&self, instrument: u32) -> impl Iterator<Item = Order> + use<P> {
        self.ranked(|owner| instrument_of(owner) == instrument).into_iter().map(|(_, _, _, order)| order)
    }

    /// A fingerprint of all orders and levels. Equal books have equal digests, in every run and on every machine,
    /// however their tables are laid out and whichever way they came about.
    ///
    /// The 128-bit FNV-1a hash of what follows, as little-endian u64 words: for every side that has orders, by
    /// instrument and then bids before asks: `instrument * 2 + (1 for asks)`, the number of levels, and of each level
    /// from the best: price, summed size, number of orders. Then all orders by instrument, side, price from the best,
    /// and time: id, `instrument * 2 + (1 for asks)`, price, size. At the end the number of orders.
    ///
    /// For cold use: reads everything, and allocates.
    pub fn digest(&self) -> u128 {
        let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
        let mut word = |word: u64| {
            for byte in word.to_le_bytes() {
                hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
            }
        };
        for number in 0..self.room.instruments << 1 {
            let owner = owner_of(number >> 1, number & 1);
            let count = self.levels_of(owner).count();
            if count != 0 {
                word(u64::from(number));
                word(count as u64);
            }
            for (key, sum) in self.levels_of(owner) {
                word(price_of(key, owner).0 as u64);
                word(sum.size());
                word(u64::from(sum.orders()));
            }
        }
        let ranked = self.ranked(|_| true);
        for (owner, _, _, order) in &ranked {
            word(order.id);
            word(u64::from(instrument_of(*owner) << 1 | *owner & 1));
            word(order.price.0 as u64);
            word(u64::from(order.size));
        }
        word(ranked.len() as u64);
        hash
    }

    /// The live orders of some sides, sorted.
    fn ranked(&self, wanted: impl Fn(u32) -> bool) -> Vec<Ranked> {
        let ranked = self.orders.iter().filter_map(|(place, order)| {
            let (level, shown) = self.with_level(order)?;
            // A complement turns best-is-greatest into best-is-first.
            wanted(level.owner).then_some((level.owner, !level.key, self.orders.arrival(place), shown))
        });
        let mut ranked: Vec<Ranked> = ranked.collect();
        ranked.sort_unstable_by_key(|&(owner, key, arrival, order)| (owner, key, arrival, order.id));
        ranked
    }
}
