//! Asking for cache lines ahead of the changes that will need them. See *Cost* in the [crate's documentation](crate).

use crate::books::{Books, key_of, owner_of, side_line};
use crate::levels::LevelKey;
use crate::table::parts;
use barewire_types::{Prefetch, Price, Side};
use core::hint::select_unpredictable;

impl<P: Prefetch> Books<P> {
    /// Stage 1 of looking ahead: asks for the line on which the order with this id is, or would be put.
    #[inline(always)]
    pub fn prefetch_order(&self, id: u64) {
        let home = self.orders.table.home(id);
        // The one behind it too: some orders are there, and all that are not known yet may be.
        if let Some(line) = self.orders.table.line(home + 1) {
            self.prefetch.prefetch(line);
        }
        if let Some(line) = self.orders.table.line(home) {
            self.prefetch.prefetch(line);
        }
    }

    /// Stage 1 of looking ahead: asks for both sides of a book.
    #[inline(always)]
    pub fn prefetch_instrument(&self, instrument: u32) {
        for bit in 0..2 {
            if let Some(line) = side_line(&self.sides, owner_of(instrument, bit)) {
                self.prefetch.prefetch(line);
            }
        }
    }

    /// Stage 1 of looking ahead, for an add: asks for the line on which its level is, or would be put.
    ///
    /// Not `wanted`, it asks for the book's side once more, without a branch: for a caller that knows without one what
    /// kind of message comes.
    #[inline(always)]
    pub fn prefetch_level(&self, wanted: bool, instrument: u32, side: Side, price: Price) {
        let owner = owner_of(instrument, u32::from(side == Side::Ask));
        let level = self.levels.line(self.levels.home(LevelKey { key: key_of(price, owner), owner }));
        if let (Some(level), Some(side)) = (level, side_line(&self.sides, owner)) {
            self.prefetch.prefetch(select_unpredictable(wanted, level, side));
        }
    }

    /// Stage 2 of looking ahead, for all that names an order: asks for the order's level. Reads the order.
    ///
    /// For an id that is not here it asks for the order's line once more, without a branch: it may be called for every
    /// message, of whatever kind.
    #[inline(always)]
    pub fn prefetch_levels_of(&self, id: u64) {
        let home = self.orders.table.home(id);
        let Some(line) = self.orders.table.bucket(home) else { return };
        let (handle, found) = line.level_of(id);
        if let Some(level) = self.levels.line(parts(handle).0)
            && let Some(order) = self.orders.table.line(home)
        {
            self.prefetch.prefetch(select_unpredictable(found, level, order));
        }
    }
}
