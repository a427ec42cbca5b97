//! The changes that messages make.
//!
//! What is likely is in line and looks at each cache line once; what is not is out of line.

use crate::books::{Books, instrument_of, key_of, owner_of, price_of, scale, side, side_mut, side_of};
use crate::error::BookError;
use crate::grid::Best;
use crate::keys::Refused;
use crate::levels::{LevelKey, Sum};
use crate::orders::{OrderLine, OrderRecord};
use crate::room::Room;
use crate::table::{Bucket, Place, Sought, handle};
use barewire_types::{Prefetch, Price, Side};
use core::hint::select_unpredictable;

/// What one change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The order's instrument.
    pub instrument: u32,
    /// The order's side.
    pub side: Side,
    /// The order's price.
    pub price: Price,
    /// What was added, or what was really taken.
    pub size: u32,
    /// What is left of the order; 0 where it is gone.
    pub remaining: u32,
    /// Whether the best price, or the summed size at it, of either side is another than before.
    pub top_changed: bool,
}

/// What a replacement did: the old order is gone in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The instrument of both orders.
    pub instrument: u32,
    /// The side of both orders.
    pub side: Side,
    /// The old order's price.
    pub price: Price,
    /// What was left of the old order.
    pub size: u32,
    /// Why the new order was not added; `None` where all is well.
    pub refused: Option<BookError>,
    /// Whether the best price, or the summed size at it, of either side is another than before the call.
    pub top_changed: bool,
}

impl<P: Prefetch> Books<P> {
    /// Adds an order.
    ///
    /// # Errors
    /// Each is counted, and changes nothing: [`BadInstrument`](BookError::BadInstrument),
    /// [`BadSide`](BookError::BadSide), [`ZeroSize`](BookError::ZeroSize),
    /// [`UndefinedPrice`](BookError::UndefinedPrice), [`DuplicateOrder`](BookError::DuplicateOrder); and, marking the
    /// book incomplete, [`OutOfCapacity`](BookError::OutOfCapacity) and [`AtLimit`](BookError::AtLimit).
    #[inline]
    pub fn add(&mut self, instrument: u32, id: u64, side: Side, price: Price, size: u32) -> Result<Change, BookError> {
        let bit = match side {
            Side::Bid => 0,
            Side::Ask => 1,
            Side::None => return Err(self.counters.refuse(BookError::BadSide)),
        };
        if instrument >= self.room.instruments {
            return Err(self.counters.refuse(BookError::BadInstrument));
        }
        let top_changed = self.place(id, owner_of(instrument, bit), price, size)?;
        Ok(Change { instrument, side, price, size, remaining: size, top_changed })
    }

    /// Takes `size` from an order: an execution or a partial cancel. An order of which nothing is left is removed.
    ///
    /// Where less than `size` is left, all of it is taken, the order is removed, and
    /// [`Counters`](crate::Counters) count it: [`Change::size`] says what was really taken.
    ///
    /// # Errors
    /// [`UnknownOrder`](BookError::UnknownOrder) or [`ZeroSize`](BookError::ZeroSize), counted, with nothing changed.
    #[inline]
    pub fn reduce(&mut self, id: u64, size: u32) -> Result<Change, BookError> {
        if size == 0 {
            return Err(self.counters.refuse(BookError::ZeroSize));
        }
        let Some(change) = self.lessen(id, size) else {
            return Err(self.counters.refuse(BookError::UnknownOrder));
        };
        if change.size < size {
            self.counters.over_reduced = self.counters.over_reduced.saturating_add(1);
        }
        Ok(change)
    }

    /// Removes an order.
    ///
    /// # Errors
    /// [`UnknownOrder`](BookError::UnknownOrder), counted, with nothing changed.
    #[inline]
    pub fn delete(&mut self, id: u64) -> Result<Change, BookError> {
        self.lessen(id, u32::MAX).ok_or_else(|| self.counters.refuse(BookError::UnknownOrder))
    }

    /// Replaces an order: the old one is removed, and a new one added to the same side of the same book, behind all
    /// that are there. Both may have the same id.
    ///
    /// The old order is gone whatever is wrong with the new one, because the venue has taken it off the book; why the
    /// new one was refused, for any reason that [`Books::add`] has, is then in [`Replaced::refused`], and counted.
    ///
    /// # Errors
    /// [`UnknownOrder`](BookError::UnknownOrder), counted, with nothing changed: whose side and instrument the new
    /// order would take is not known.
    #[inline]
    pub fn replace(&mut self, old: u64, new: u64, price: Price, size: u32) -> Result<Replaced, BookError> {
        let Some(taken) = self.lessen(old, u32::MAX) else {
            return Err(self.counters.refuse(BookError::UnknownOrder));
        };
        let owner = owner_of(taken.instrument, u32::from(taken.side == Side::Ask));
        let between = self.best(owner);
        let refused = self.place(new, owner, price, size).err();
        let after = self.best(owner);
        let mut before = (between.key, between.sum.size());
        if taken.top_changed {
            let key = key_of(taken.price, owner);
            let left = if between.key == key { between.sum.size() } else { 0 };
            before = (key, left + u64::from(taken.size));
        }
        Ok(Replaced {
            instrument: taken.instrument,
            side: taken.side,
            price: taken.price,
            size: taken.size,
            refused,
            top_changed: before != (after.key, after.sum.size()),
        })
    }

    /// The best level of a side.
    #[inline(always)]
    fn best(&self, owner: u32) -> Best {
        side(&self.sides, owner).map(|side| side.best).unwrap_or_default()
    }

    /// Adds an order to a side of an instrument that is in range. Says whether the best level changed.
    #[inline(always)]
    fn place(&mut self, id: u64, owner: u32, price: Price, size: u32) -> Result<bool, BookError> {
        if size == 0 {
            return Err(self.counters.refuse(BookError::ZeroSize));
        }
        if !price.is_defined() {
            return Err(self.counters.refuse(BookError::UndefinedPrice));
        }
        match self.orders.table.vacancy_at_home(id) {
            Some(at) if self.orders.arrivals_left() != 0 => self.place_at(at, id, owner, price, size),
            _ => self.place_away(id, owner, price, size),
        }
    }

    /// The same for an order that is here, or finds no room at home.
    #[inline(never)]
    fn place_away(&mut self, id: u64, owner: u32, price: Price, size: u32) -> Result<bool, BookError> {
        let at = match self.orders.table.seek(id) {
            Sought::Vacant(at) if self.orders.arrivals_left() != 0 => at,
            Sought::Found(at) => self.evict(at, id)?,
            Sought::Vacant(_) | Sought::Full => return Err(self.no_room(owner, |room| &mut room.orders_refused)),
        };
        self.place_at(at, id, owner, price, size)
    }

    #[inline(always)]
    fn place_at(&mut self, at: Place, id: u64, owner: u32, price: Price, size: u32) -> Result<bool, BookError> {
        let level = LevelKey { key: key_of(price, owner), owner };
        let Some((home, line)) = self.levels.home_mut(level) else {
            return Err(self.no_room(owner, |room| &mut room.levels_refused));
        };
        let (slot, found) = line.find(level);
        let (handle, sum) = if found {
            match line.add(slot, size) {
                Some(sum) => (handle(home, slot), sum),
                None => return Err(self.at_limit(owner)),
            }
        } else {
            self.join(level, size)?
        };
        let Some(side) = side_mut(&mut self.sides, owner) else {
            return Err(self.counters.refuse(BookError::BadInstrument));
        };
        // An empty side's key is 0, which no key is below.
        let top_changed = level.key >= side.best.key;
        side.best = select_unpredictable(top_changed, Best { key: level.key, sum }, side.best);
        self.orders.put(at, OrderRecord { id, size, level: handle });
        Ok(top_changed)
    }

    /// Makes a level with one order, or adds an order to one that is not at home.
    #[inline(always)]
    fn join(&mut self, level: LevelKey, size: u32) -> Result<(u32, Sum), BookError> {
        let at = match self.levels.vacancy_at_home(level) {
            Some(at) => at,
            None => match self.levels.seek(level) {
                Sought::Vacant(at) => at,
                Sought::Found(at) => {
                    let sum = self.levels.bucket_mut(at.bucket).and_then(|line| line.add(at.slot, size));
                    return sum.map(|sum| (at.handle(), sum)).ok_or_else(|| self.at_limit(level.owner));
                }
                Sought::Full => return Err(self.no_room(level.owner, |room| &mut room.levels_refused)),
            },
        };
        let Some(side) = side_mut(&mut self.sides, level.owner) else {
            return Err(self.counters.refuse(BookError::BadInstrument));
        };
        match side.insert(&mut self.keys, level.key, scale(&self.ticks, level.owner, side)) {
            Ok(()) => {}
            Err(Refused::NoRoom) => return Err(self.no_room(level.owner, |room| &mut room.keys_refused)),
            Err(Refused::AtLimit) => return Err(self.at_limit(level.owner)),
        }
        let sum = Sum::one(size);
        self.levels.put(at, level, sum);
        Ok((at.handle(), sum))
    }

    /// Takes `most`, or what is left, from the live order with this id; `None` where there is none. One whose book was
    /// cleared is not live, though it may still be in the table.
    #[inline(always)]
    fn lessen(&mut self, id: u64, most: u32) -> Option<Change> {
        let (_, line) = self.orders.table.home_mut(id)?;
        let (slot, found) = line.find(id);
        if !(found & OrderLine::distinct(id)) {
            return self.lessen_away(id, most);
        }
        let (left, handle) = line.order(slot);
        let size = most.min(left);
        let (level, sum) = self.levels.lessen(handle, size, size == left)?;
        line.set_size(slot, left - size);
        if size == left {
            self.orders.table.release_at_home();
        }
        Some(self.lessened(handle, level, sum, size, left - size))
    }

    /// The same for an order that is not at home.
    #[inline(never)]
    fn lessen_away(&mut self, id: u64, most: u32) -> Option<Change> {
        let place = self.orders.table.find(id)?;
        let line = self.orders.table.bucket_mut(place.bucket)?;
        let (left, handle) = line.order(place.slot);
        let size = most.min(left);
        let (level, sum) = self.levels.lessen(handle, size, size == left)?;
        line.set_size(place.slot, left - size);
        if size == left {
            self.orders.table.release(place);
        }
        Some(self.lessened(handle, level, sum, size, left - size))
    }

    /// Lets a side follow a level from which something was taken.
    #[inline(always)]
    fn lessened(&mut self, handle: u32, level: LevelKey, sum: Sum, size: u32, remaining: u32) -> Change {
        let mut top_changed = false;
        if let Some(side) = side_mut(&mut self.sides, level.owner) {
            top_changed = side.best.key == level.key;
            side.best.sum = select_unpredictable(top_changed, sum, side.best.sum);
            if sum.is_none() {
                self.level_gone(handle, level, top_changed);
            }
        }
        Change {
            instrument: instrument_of(level.owner),
            side: side_of(level.owner),
            price: price_of(level.key, level.owner),
            size,
            remaining,
            top_changed,
        }
    }

    /// Takes out a level whose last order is gone.
    #[inline(never)]
    fn level_gone(&mut self, handle: u32, level: LevelKey, was_top: bool) {
        self.levels.take(handle, level);
        let LevelKey { key, owner } = level;
        let Some(side) = side_mut(&mut self.sides, owner) else { return };
        let scale = scale(&self.ticks, owner, side);
        side.remove(&mut self.keys, key, scale);
        if was_top {
            let best = |key| {
                let place = self.levels.find(LevelKey { key, owner })?;
                Some(Best { key, sum: self.levels.sum(place) })
            };
            side.best = side.next_best(&mut self.keys, scale).and_then(best).unwrap_or_default();
        }
    }

    /// Makes way for an order whose id is in the table: only one whose book was cleared gives way.
    #[cold]
    #[inline(never)]
    fn evict(&mut self, place: Place, id: u64) -> Result<Place, BookError> {
        match self.orders.order(place) {
            Some(order) if self.levels.level(order.level).is_none() => self.levels.let_go(order.level),
            _ => return Err(self.counters.refuse(BookError::DuplicateOrder)),
        }
        self.orders.take(place);
        self.swept -= 1;
        match self.orders.table.seek(id) {
            Sought::Vacant(place) => Ok(place),
            Sought::Found(_) | Sought::Full => Err(self.counters.refuse(BookError::OutOfCapacity)),
        }
    }

    /// Counts a refusal for want of room, and marks what ran short.
    #[cold]
    #[inline(never)]
    fn no_room(&mut self, owner: u32, short: fn(&mut Room) -> &mut bool) -> BookError {
        *short(&mut self.room) = true;
        self.lacking(owner, BookError::OutOfCapacity)
    }

    /// Counts a refusal of more than a level or a side can have.
    #[cold]
    #[inline(never)]
    fn at_limit(&mut self, owner: u32) -> BookError {
        self.lacking(owner, BookError::AtLimit)
    }

    /// Counts a refusal after which the book lacks an order that the venue has.
    fn lacking(&mut self, owner: u32, error: BookError) -> BookError {
        if let Some(incomplete) = self.incomplete.get_mut(instrument_of(owner) as usize) {
            *incomplete = true;
        }
        self.counters.refuse(error)
    }
}
