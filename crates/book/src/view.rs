//! Looking at books: tops, depth, orders, and a digest of everything.

use crate::books::{Books, head, key_of, price_of, side_of};
use crate::levels::Cell;
use alloc::vec::Vec;
use barewire_types::{Prefetch, Price, Side};

/// The best bid and offer of one book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// The best bid; undefined where nobody bids.
    pub bid_price: Price,
    /// Size of all orders at the best bid.
    pub bid_size: u64,
    /// The best offer; undefined where nobody offers.
    pub ask_price: Price,
    /// Size of all orders at the best offer.
    pub ask_size: u64,
}

/// One price level.
///
/// A level holds at most 1,048,575 orders and a sum of at most 17,592,186,044,415, and a side at most 65,535 levels; the
/// order that would exceed any is refused ([`BookError::AtLimit`](crate::BookError::AtLimit)).
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
    /// The best bid and offer of a book, from one cache line. Both sides are empty for an instrument out of range.
    #[inline]
    pub fn top(&self, instrument: u32) -> Top {
        let tops = match head(&self.heads, instrument) {
            Some(head) => head.tops,
            None => [Cell::default(); 2],
        };
        let price = |cell: Cell, bit| if cell.sum == 0 { Price::UNDEF } else { price_of(cell.key, bit) };
        Top {
            bid_price: price(tops[0], 0),
            bid_size: tops[0].size(),
            ask_price: price(tops[1], 1),
            ask_size: tops[1].size(),
        }
    }

    /// Writes the best levels of one side into `out`, best first, and says how many.
    pub fn depth(&self, instrument: u32, side: Side, out: &mut [Level]) -> usize {
        let bit = match side {
            Side::Bid => 0,
            Side::Ask => 1,
            Side::None => return 0,
        };
        let Some(head) = head(&self.heads, instrument) else { return 0 };
        let cells = self.levels.side(head.sides[bit as usize]);
        for (level, cell) in out.iter_mut().zip(cells.iter().rev()) {
            *level = Level { price: price_of(cell.key, bit), size: cell.size(), orders: cell.orders() };
        }
        cells.len().min(out.len())
    }

    /// How many levels one side of a book has.
    pub fn level_count(&self, instrument: u32, side: Side) -> usize {
        match (head(&self.heads, instrument), side) {
            (Some(head), Side::Bid) => usize::from(head.sides[0].len),
            (Some(head), Side::Ask) => usize::from(head.sides[1].len),
            _ => 0,
        }
    }

    /// How many live orders a book has.
    pub fn order_count(&self, instrument: u32) -> usize {
        head(&self.heads, instrument).map_or(0, |head| head.orders as usize)
    }

    /// Whether a book lacks orders that the venue has, because there was no room for them. Until it is cleared.
    #[inline]
    pub fn is_incomplete(&self, instrument: u32) -> bool {
        head(&self.heads, instrument).is_some_and(|head| head.incomplete != 0)
    }

    /// The live order with this id, and its instrument.
    pub fn order(&self, id: u64) -> Option<(u32, Order)> {
        let (_, slot) = self.find(id)?;
        let order = Order { id, side: side_of(slot.owner), price: Price(slot.price), size: slot.size };
        Some((slot.owner >> 1, order))
    }

    /// The orders of one book in priority: bids and then asks, each from the best price, each price from the oldest.
    ///
    /// For cold use: reads the whole order table, and allocates.
    pub fn orders(&self, instrument: u32) -> impl Iterator<Item = Order> + use<P> {
        self.ranked(|owner| owner >> 1 == instrument).into_iter().map(|(_, _, _, order)| order)
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
        for instrument in 0..self.room.instruments {
            let Some(head) = head(&self.heads, instrument) else { continue };
            for bit in 0..2 {
                let cells = self.levels.side(head.sides[bit as usize]);
                if !cells.is_empty() {
                    word(u64::from(instrument << 1 | bit));
                    word(cells.len() as u64);
                }
                for cell in cells.iter().rev() {
                    word(price_of(cell.key, bit).0 as u64);
                    word(cell.size());
                    word(u64::from(cell.orders()));
                }
            }
        }
        let ranked = self.ranked(|_| true);
        for (owner, _, _, order) in &ranked {
            word(order.id);
            word(u64::from(*owner));
            word(order.price.0 as u64);
            word(u64::from(order.size));
        }
        word(ranked.len() as u64);
        hash
    }

    /// The live orders of some sides, sorted.
    fn ranked(&self, mut wanted: impl FnMut(u32) -> bool) -> Vec<Ranked> {
        let mut ranked: Vec<Ranked> = self
            .orders
            .iter()
            .filter(|slot| wanted(slot.owner))
            .filter(|slot| head(&self.heads, slot.owner >> 1).is_some_and(|head| slot.arrival >= head.cleared))
            .map(|slot| {
                let price = Price(slot.price);
                let order = Order { id: slot.id, side: side_of(slot.owner), price, size: slot.size };
                // A complement turns best-is-greatest into best-is-first.
                (slot.owner, !key_of(price, slot.owner), slot.arrival, order)
            })
            .collect();
        ranked.sort_unstable_by_key(|&(owner, key, arrival, order)| (owner, key, arrival, order.id));
        ranked
    }
}
