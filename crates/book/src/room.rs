//! How much room the books take, and how they get more.

use crate::books::{Books, head, head_mut};
use crate::error::Counters;
use crate::levels::Levels;
use crate::lines::Lines;
use crate::orders::{BUCKET_ORDERS, NoPlace, Orders};
use alloc::vec::Vec;
use barewire_types::Prefetch;
use core::fmt;

/// How much the books are to hold without a need to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Instruments are numbered below this. Does not grow.
    pub instruments: u32,
    /// Live orders of all books.
    pub orders: u32,
    /// Price levels of all books, every side at its fullest: a side keeps its room until its book is cleared.
    pub levels: u32,
}

/// The system had no memory for books of the wanted capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for books of the wanted capacity")
    }
}

impl core::error::Error for OutOfMemory {}

/// What the books have room for.
pub(crate) struct Room {
    /// Instruments are below this.
    pub(crate) instruments: u32,
    /// Orders in the table at which `maintain` makes room for more.
    pub(crate) orders: usize,
    /// An order found no place since `maintain` was last called.
    pub(crate) orders_refused: bool,
    /// A level found no block since `maintain` was last called.
    pub(crate) levels_refused: bool,
    /// The most that `orders` may become.
    max_orders: usize,
    /// The most lines that the pool of levels may become.
    max_level_lines: usize,
}

/// The seed of [`Books::new`]: the first digits of pi.
const SEED: u64 = 0x243F_6A88_85A3_08D3;
/// Slots for each order that fits before growth, in percent.
const SLOTS_PERCENT: usize = 150;
/// The share of slots at which the table is full, in percent: what is between is for orders that come in mid-packet.
const FULL_PERCENT: usize = 85;
/// Level cells for each level of the capacity. A block may be half empty, and the smaller blocks that a side left behind
/// may find no other use: these are four. The rest keeps [`FRESH_SHARE`] free. What is not used is not touched.
const CELLS_PER_LEVEL: usize = 5;
/// The pool of levels grows when less than this part of it was never handed out.
const FRESH_SHARE: usize = 8;
/// Tables grow up to so many times the capacity that was asked for: whoever sends orders without end gets no more.
const GROWTH_LIMIT: usize = 16;
/// What `clear` left behind is taken out when it is this part of the table: the whole table is read for it.
const SWEEP_SHARE: usize = 8;
/// Arrivals that may come between two calls of `maintain`.
const ARRIVAL_RESERVE: u32 = 1 << 24;

impl Room {
    fn table(orders: usize, seed: u64) -> Option<Orders> {
        let slots = orders.max(64).checked_mul(SLOTS_PERCENT)? / 100;
        Orders::new(slots.div_ceil(BUCKET_ORDERS), slots.checked_mul(FULL_PERCENT)? / 100, seed)
    }
}

impl<P: Prefetch> Books<P> {
    /// Empty books. Takes all memory that they need up to this capacity, and does not touch it.
    ///
    /// # Panics
    /// Where the system has no memory; [`Books::try_new`] says so instead.
    pub fn new(capacity: Capacity, prefetch: P) -> Books<P> {
        match Books::try_new(capacity, prefetch, SEED) {
            Ok(books) => books,
            Err(error) => panic!("{error}"),
        }
    }

    /// Empty books, with a seed that decides where in the table an order's id leads to. Where ids may be chosen to do
    /// harm the seed should be hard to guess; no ids can do more harm than long ways (64 lines at most) and early
    /// refusals. No result depends on it.
    ///
    /// # Errors
    /// The system has no memory for this capacity.
    pub fn try_new(capacity: Capacity, prefetch: P, seed: u64) -> Result<Books<P>, OutOfMemory> {
        // The last bit of an owner is its side.
        let instruments = capacity.instruments.min(u32::MAX >> 1);
        let orders = (capacity.orders as usize).max(64);
        let cells = (capacity.levels as usize).saturating_mul(CELLS_PER_LEVEL);
        let level_lines = cells.div_ceil(Lines::<[u64; 2]>::PER_LINE).saturating_add(5 * instruments as usize + 2);
        let max_orders = orders.saturating_mul(GROWTH_LIMIT);
        let max_level_lines = level_lines.saturating_mul(GROWTH_LIMIT);
        Ok(Books {
            heads: Lines::zeroed(instruments as usize).ok_or(OutOfMemory)?,
            orders: Room::table(orders, seed).ok_or(OutOfMemory)?,
            levels: Levels::new(level_lines).ok_or(OutOfMemory)?,
            counters: Counters::default(),
            arrival: 0,
            swept: 0,
            room: Room {
                instruments,
                orders,
                orders_refused: false,
                levels_refused: false,
                max_orders,
                max_level_lines,
            },
            prefetch,
        })
    }

    /// The big tables, for an owner that wants huge pages: before the first change nothing has touched them.
    pub fn regions(&self) -> impl Iterator<Item = &[u8]> {
        [self.orders.bytes(), self.levels.bytes(), self.heads.bytes()].into_iter()
    }

    /// Makes room where it runs short, and gives back what [`Books::clear`] left behind; says whether it did anything.
    /// To be called between packets: when there is nothing to do it costs a few instructions.
    ///
    /// The only place that allocates after construction, and it stops the world: a full order table moves to one half
    /// as large again (tens of milliseconds for a million orders), a pool of levels to a larger one (a few), each
    /// counted in [`Counters::grown`]. No table grows beyond 16 times the capacity of construction. Where the system has no memory all stays as it is, and
    /// [`Counters::growth_failed`] counts it.
    #[inline]
    pub fn maintain(&mut self) -> bool {
        self.maintain_with(|_| ())
    }

    /// [`Books::maintain`], showing every new table to its owner before it is touched, as [`Books::regions`] does.
    #[inline]
    pub fn maintain_with(&mut self, untouched: impl FnMut(&[u8])) -> bool {
        let room = &self.room;
        let orders = match self.orders.len() > room.orders {
            true => room.orders < room.max_orders,
            false => room.orders_refused,
        };
        let levels = (room.levels_refused || self.levels.fresh() < self.levels.count() / FRESH_SHARE)
            && self.levels.count() < room.max_level_lines;
        let sweep = self.swept > room.orders / SWEEP_SHARE;
        let arrivals = self.arrival >= u32::MAX - ARRIVAL_RESERVE;
        if !(orders || levels || sweep || arrivals) {
            return false;
        }
        if sweep || arrivals {
            self.sweep();
        }
        if arrivals {
            self.count_arrivals_anew();
        }
        self.make_room(orders, levels, untouched);
        true
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, orders: bool, levels: bool, mut untouched: impl FnMut(&[u8])) {
        if orders {
            self.room.orders_refused = false;
            // Where ways became too long in a table that is not full, another seed is all that is wanted.
            let full = self.orders.len() > self.room.orders;
            let more = if full { self.room.orders + self.room.orders / 2 } else { self.room.orders };
            let more = more.min(self.room.max_orders);
            let moved = self.moved_orders(more, &mut untouched);
            self.count_growth(moved.is_some());
            if let Some(moved) = moved {
                self.orders = moved;
                self.room.orders = more;
            }
        }
        if levels {
            self.room.levels_refused = false;
            let more = self.levels.count() + self.levels.count() / 2 + 64;
            let moved = Levels::new(more.min(self.room.max_level_lines)).and_then(|larger| {
                untouched(larger.bytes());
                self.levels.moved_to(larger)
            });
            self.count_growth(moved.is_some());
            if let Some(moved) = moved {
                self.levels = moved;
            }
        }
    }

    fn count_growth(&mut self, worked: bool) {
        let counter = if worked { &mut self.counters.grown } else { &mut self.counters.growth_failed };
        *counter = counter.saturating_add(1);
    }

    /// All orders in a table with room for `orders`; with another seed, in case the old one was guessed.
    fn moved_orders(&self, orders: usize, untouched: &mut impl FnMut(&[u8])) -> Option<Orders> {
        let mut moved = Room::table(orders, self.orders.seed().wrapping_mul(6_364_136_223_846_793_005) ^ 0x5851_F42D)?;
        untouched(moved.bytes());
        for slot in self.orders.iter() {
            match moved.vacancy(slot.id) {
                Ok(place) => moved.put(place, slot.id, slot.price, slot.size, slot.owner, slot.arrival),
                Err(NoPlace::Taken(_) | NoPlace::Full) => return None,
            }
        }
        Some(moved)
    }

    /// Takes the orders of cleared books out of the table.
    #[cold]
    #[inline(never)]
    fn sweep(&mut self) {
        let stale = |slot: &&crate::orders::Slot| {
            head(&self.heads, slot.owner >> 1).is_none_or(|head| slot.arrival < head.cleared)
        };
        let ids: Vec<u64> = self.orders.iter().filter(stale).map(|slot| slot.id).collect();
        for id in ids {
            if let Some((place, _)) = self.orders.find(id) {
                self.orders.set_size(place, 0);
            }
        }
        self.swept = 0;
    }

    /// Numbers the arrivals of all live orders from 0 on, after a sweep.
    #[cold]
    #[inline(never)]
    fn count_arrivals_anew(&mut self) {
        let mut slots: Vec<_> = self.orders.iter_mut().collect();
        slots.sort_unstable_by_key(|slot| (slot.arrival, slot.id));
        let mut next = 0;
        for slot in slots {
            slot.arrival = next;
            next += 1;
        }
        self.arrival = next;
        for instrument in 0..self.room.instruments {
            if let Some(head) = head_mut(&mut self.heads, instrument) {
                head.cleared = 0;
            }
        }
    }
}
