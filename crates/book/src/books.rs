//! The books and the changes that messages make to them.

use crate::error::{BookError, Counters};
use crate::grid::{Best, Scale, Side as BookSide};
use crate::keys::{Keys, Refused};
use crate::levels::{LevelKey, LevelLine, Sum};
use crate::lines::Lines;
use crate::orders::{OrderLine, OrderRecord, Orders};
use crate::room::Room;
use crate::table::{Bucket, Place, Sought, Table, handle, parts};
use alloc::vec::Vec;
use barewire_types::{NoPrefetch, Prefetch, Price, Side};
use core::hint::select_unpredictable;
use core::num::NonZeroU64;
use zerocopy::{transmute_mut, transmute_ref};

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
    /// Where less than `size` is left, all of it is taken, the order is removed, and [`Counters::over_reduced`] counts
    /// it: [`Change::size`] says what was really taken.
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
                *side = BookSide::with_tick(number);
            }
        }
        true
    }

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

    /// Adds an order to a level that is not at home, or makes the level.
    #[inline(never)]
    fn join(&mut self, level: LevelKey, size: u32) -> Result<(u32, Sum), BookError> {
        let LevelKey { key, owner } = level;
        match self.levels.seek(level) {
            Sought::Found(at) => {
                let sum = self.levels.bucket_mut(at.bucket).and_then(|line| line.add(at.slot, size));
                sum.map(|sum| (at.handle(), sum)).ok_or_else(|| self.at_limit(owner))
            }
            Sought::Vacant(at) => {
                let Some(side) = side_mut(&mut self.sides, owner) else {
                    return Err(self.counters.refuse(BookError::BadInstrument));
                };
                match side.insert(&mut self.keys, key, scale(&self.ticks, owner, side)) {
                    Ok(()) => {}
                    Err(Refused::NoRoom) => return Err(self.no_room(owner, |room| &mut room.keys_refused)),
                    Err(Refused::AtLimit) => return Err(self.at_limit(owner)),
                }
                let sum = Sum::one(size);
                self.levels.put(at, level, sum);
                Ok((at.handle(), sum))
            }
            Sought::Full => Err(self.no_room(owner, |room| &mut room.levels_refused)),
        }
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

    /// How keys lie on a side's grid.
    pub(crate) fn scale(&self, owner: u32, side: &BookSide) -> Scale {
        scale(&self.ticks, owner, side)
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

/// The line of a side.
#[inline(always)]
fn side_line(sides: &Lines<u64>, owner: u32) -> Option<&u64> {
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
fn side_mut(sides: &mut Lines<u64>, owner: u32) -> Option<&mut BookSide> {
    let line: &mut [u64; 8] = sides.run_mut(owner.wrapping_sub(2) as usize, 8)?.try_into().ok()?;
    Some(transmute_mut!(line))
}

/// How keys lie on a side's grid.
#[inline(always)]
fn scale(ticks: &[NonZeroU64], owner: u32, side: &BookSide) -> Scale {
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
