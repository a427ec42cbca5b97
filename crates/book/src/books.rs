//! The books and the changes that messages make to them.

use crate::error::{BookError, Counters};
use crate::levels::{Cell, Levels, Refused, SideRef};
use crate::lines::Lines;
use crate::orders::{NoPlace, Orders, Place, Slot};
use barewire_types::{NoPrefetch, Prefetch, Price, Side};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_mut, transmute_ref};

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

/// A book's head: one cache line.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Head {
    /// The best level of either side, bids first; a sum of 0 where the side is empty.
    pub(crate) tops: [Cell; 2],
    /// The levels of either side.
    pub(crate) sides: [SideRef; 2],
    /// Live orders.
    pub(crate) orders: u32,
    /// Orders that came before this were swept away by [`Books::clear`], even where they are still in the table.
    pub(crate) cleared: u32,
    /// 1 after an order was refused for want of room.
    pub(crate) incomplete: u32,
    pub(crate) unused: u32,
}

/// The order-by-order books of a venue. See the [crate's documentation](crate).
pub struct Books<P: Prefetch = NoPrefetch> {
    pub(crate) heads: Lines<u64>,
    pub(crate) orders: Orders,
    pub(crate) levels: Levels,
    pub(crate) counters: Counters,
    /// The next order's arrival. `maintain` counts anew well before the last number.
    pub(crate) arrival: u32,
    /// Orders in the table that were swept away.
    pub(crate) swept: usize,
    pub(crate) room: crate::room::Room,
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
        let top_changed = self.place(id, instrument << 1 | bit, price, size)?;
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
        let Some((place, slot)) = self.find(id) else {
            return Err(self.counters.refuse(BookError::UnknownOrder));
        };
        let slot = *slot;
        if size > slot.size {
            self.counters.over_reduced = self.counters.over_reduced.saturating_add(1);
        }
        let taken = size.min(slot.size);
        let remaining = slot.size - taken;
        let top_changed = self.lessen(place, &slot, taken);
        Ok(Change {
            instrument: slot.owner >> 1,
            side: side_of(slot.owner),
            price: Price(slot.price),
            size: taken,
            remaining,
            top_changed,
        })
    }

    /// Removes an order.
    ///
    /// # Errors
    /// [`UnknownOrder`](BookError::UnknownOrder), counted, with nothing changed.
    #[inline]
    pub fn delete(&mut self, id: u64) -> Result<Change, BookError> {
        let Some((place, slot)) = self.find(id) else {
            return Err(self.counters.refuse(BookError::UnknownOrder));
        };
        let slot = *slot;
        let top_changed = self.lessen(place, &slot, slot.size);
        Ok(Change {
            instrument: slot.owner >> 1,
            side: side_of(slot.owner),
            price: Price(slot.price),
            size: slot.size,
            remaining: 0,
            top_changed,
        })
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
        let Some((place, slot)) = self.find(old) else {
            return Err(self.counters.refuse(BookError::UnknownOrder));
        };
        let slot = *slot;
        let before = self.best(slot.owner);
        self.lessen(place, &slot, slot.size);
        let refused = self.place(new, slot.owner, price, size).err();
        let after = self.best(slot.owner);
        Ok(Replaced {
            instrument: slot.owner >> 1,
            side: side_of(slot.owner),
            price: Price(slot.price),
            size: slot.size,
            refused,
            top_changed: before.key != after.key || before.size() != after.size(),
        })
    }

    /// Removes every order of one book, which is then complete again. Costs no more than a change: the orders' places
    /// in the table are given back later, by [`Books::maintain`].
    ///
    /// # Errors
    /// [`BadInstrument`](BookError::BadInstrument), counted.
    pub fn clear(&mut self, instrument: u32) -> Result<(), BookError> {
        if instrument >= self.room.instruments {
            return Err(self.counters.refuse(BookError::BadInstrument));
        }
        if let Some(head) = head_mut(&mut self.heads, instrument) {
            for side in core::mem::take(&mut head.sides) {
                self.levels.free(side);
            }
            self.swept += head.orders as usize;
            *head = Head { cleared: self.arrival, ..Head::default() };
        }
        Ok(())
    }

    /// Removes every order of every book: a new session. Every book is then complete again. Touches the whole table.
    pub fn clear_all(&mut self) {
        self.heads.all_mut().fill(0);
        self.orders.clear();
        self.levels.clear();
        self.arrival = 0;
        self.swept = 0;
    }

    /// Stage 1 of looking ahead: asks for the line on which the order with this id is, or would be put.
    #[inline(always)]
    pub fn prefetch_order(&self, id: u64) {
        if let Some(line) = self.orders.home_line(id) {
            self.prefetch.prefetch(line);
        }
    }

    /// Stage 1 of looking ahead: asks for a book's head.
    #[inline(always)]
    pub fn prefetch_instrument(&self, instrument: u32) {
        if let Some([first]) = self.heads.run(instrument as usize, 1) {
            self.prefetch.prefetch(first);
        }
    }

    /// Stage 2 of looking ahead, for an add: asks for the best levels of one side. Reads the book's head.
    #[inline(always)]
    pub fn prefetch_levels(&self, instrument: u32, side: Side) {
        self.prefetch_side(instrument << 1 | u32::from(side == Side::Ask));
    }

    /// Stage 2 of looking ahead, for all that names an order: asks for the best levels of its side. Reads the order
    /// and its book's head.
    #[inline(always)]
    pub fn prefetch_levels_of(&self, id: u64) {
        if let Some(slot) = self.orders.find_at_home(id) {
            self.prefetch_side(slot.owner);
        }
    }

    #[inline(always)]
    fn prefetch_side(&self, owner: u32) {
        if let Some(head) = head(&self.heads, owner >> 1)
            && let Some(cell) = self.levels.best_cell(head.sides[(owner & 1) as usize])
        {
            self.prefetch.prefetch(cell);
        }
    }

    /// Whether the order with this id is live. See *Following a subset* in the [crate's documentation](crate).
    #[inline]
    pub fn contains(&self, id: u64) -> bool {
        self.find(id).is_some()
    }

    /// Live orders of all books.
    pub fn len(&self) -> usize {
        self.orders.len() - self.swept
    }

    /// Whether no order is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What went wrong so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The live order with this id. One that was swept away is not live, though it is still in the table.
    #[inline(always)]
    pub(crate) fn find(&self, id: u64) -> Option<(Place, &Slot)> {
        let (place, slot) = self.orders.find(id)?;
        let head = head(&self.heads, slot.owner >> 1)?;
        (slot.arrival >= head.cleared).then_some((place, slot))
    }

    /// The best level of a side.
    #[inline(always)]
    fn best(&self, owner: u32) -> Cell {
        head(&self.heads, owner >> 1).map_or_else(Cell::default, |head| head.tops[(owner & 1) as usize])
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
        let place = match self.orders.vacancy(id) {
            // The last arrival is nobody's: whoever came after it would be told apart from nobody.
            Ok(_) if self.arrival == u32::MAX => return Err(self.short_of_room(owner, BookError::OutOfCapacity)),
            Ok(place) => place,
            Err(NoPlace::Taken(place)) => self.evict(place, id)?,
            Err(NoPlace::Full) => {
                self.room.orders_refused = true;
                return Err(self.short_of_room(owner, BookError::OutOfCapacity));
            }
        };
        let Some(head) = head_mut(&mut self.heads, owner >> 1) else {
            return Err(self.counters.refuse(BookError::BadInstrument));
        };
        let bit = (owner & 1) as usize;
        match self.levels.add(&mut head.sides[bit], &mut head.tops[bit], key_of(price, owner), size) {
            Ok(top_changed) => {
                head.orders += 1;
                self.orders.put(place, id, price.0, size, owner, self.arrival);
                self.arrival += 1;
                Ok(top_changed)
            }
            Err(Refused::NoRoom) => {
                self.room.levels_refused = true;
                Err(self.short_of_room(owner, BookError::OutOfCapacity))
            }
            Err(Refused::AtLimit) => Err(self.short_of_room(owner, BookError::AtLimit)),
        }
    }

    /// Takes `size`, which is not more than is left, from a live order. Says whether the best level changed.
    #[inline(always)]
    fn lessen(&mut self, place: Place, slot: &Slot, size: u32) -> bool {
        let whole = size == slot.size;
        let Some(head) = head_mut(&mut self.heads, slot.owner >> 1) else { return false };
        let bit = (slot.owner & 1) as usize;
        let key = key_of(Price(slot.price), slot.owner);
        let top_changed = self.levels.take(&mut head.sides[bit], &mut head.tops[bit], key, size, whole);
        head.orders -= u32::from(whole);
        self.orders.set_size(place, slot.size - size);
        top_changed
    }

    /// Makes way for an order whose id is in the table: only one that was swept away gives way.
    #[cold]
    #[inline(never)]
    fn evict(&mut self, place: Place, id: u64) -> Result<Place, BookError> {
        if self.find(id).is_some() {
            return Err(self.counters.refuse(BookError::DuplicateOrder));
        }
        self.orders.set_size(place, 0);
        self.swept -= 1;
        self.orders.vacancy(id).map_err(|_| self.counters.refuse(BookError::OutOfCapacity))
    }

    /// Counts a refusal for want of room, after which the book lacks an order that the venue has.
    #[cold]
    #[inline(never)]
    fn short_of_room(&mut self, owner: u32, error: BookError) -> BookError {
        if let Some(head) = head_mut(&mut self.heads, owner >> 1) {
            head.incomplete = 1;
        }
        self.counters.refuse(error)
    }
}

/// A book's head.
#[inline(always)]
pub(crate) fn head(heads: &Lines<u64>, instrument: u32) -> Option<&Head> {
    let line: &[u64; 8] = heads.run(instrument as usize, 8)?.try_into().ok()?;
    Some(transmute_ref!(line))
}

/// A book's head.
#[inline(always)]
pub(crate) fn head_mut(heads: &mut Lines<u64>, instrument: u32) -> Option<&mut Head> {
    let line: &mut [u64; 8] = heads.run_mut(instrument as usize, 8)?.try_into().ok()?;
    Some(transmute_mut!(line))
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

/// The side that an owner's last bit stands for.
#[inline(always)]
pub(crate) fn side_of(owner: u32) -> Side {
    if owner & 1 == 0 { Side::Bid } else { Side::Ask }
}
