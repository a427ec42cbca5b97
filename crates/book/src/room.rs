//! How much room the books take, and how they get more.

use crate::books::Books;
use crate::error::Counters;
use crate::keys::Keys;
use crate::levels::LevelLine;
use crate::lines::Lines;
use crate::orders::Orders;
use crate::table::{Sought, Table};
use alloc::vec;
use alloc::vec::Vec;
use barewire_types::Prefetch;
use core::fmt;
use core::num::NonZeroU64;
use zerocopy::FromZeros;

/// How much the books are to hold without a need to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Instruments are numbered below this. Does not grow.
    pub instruments: u32,
    /// Live orders of all books.
    pub orders: u32,
    /// Price levels of all books.
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
    /// Orders in the table above which `maintain` makes room for more.
    orders: usize,
    /// Levels in the table above which `maintain` makes room for more.
    levels: usize,
    /// An order found no place since `maintain` was last called.
    pub(crate) orders_refused: bool,
    /// A level found no place since `maintain` was last called.
    pub(crate) levels_refused: bool,
    /// A list found no block since `maintain` was last called.
    pub(crate) keys_refused: bool,
    /// The most that `orders`, `levels` and the lines of the keys may become.
    max: [usize; 3],
}

/// What the hash of [`Books::new`] multiplies by: the golden ratio, which spreads ids that only rise most evenly.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// What prices are usually apart: a cent.
const TICK: NonZeroU64 = NonZeroU64::new(10_000_000).unwrap();
/// Slots for each order that fits before growth, in percent: 16 bytes a slot, and 4 once ids stop rising. The fuller a
/// table the more orders are away from home.
const ORDER_SLOTS_PERCENT: usize = 230;
/// Slots for each level that fits before growth, in percent: 21 bytes a slot.
const LEVEL_SLOTS_PERCENT: usize = 160;
/// The share of slots at which a table is full, in percent: what is between is for what comes in mid-packet.
const FULL_PERCENT: usize = 85;
/// The least that a table is made for.
const LEAST_RECORDS: usize = 64;
/// Keys in the lists for each level of the capacity. A block may be half empty, and the smaller blocks that a list left
/// behind may find no other use: these are four. The rest keeps [`FRESH_SHARE`] free. What is not used is not touched.
const KEYS_PER_LEVEL: usize = 5;
/// The pool of the lists grows when less than this part of it was never handed out.
const FRESH_SHARE: usize = 8;
/// Tables grow up to so many times the capacity that was asked for: whoever sends orders without end gets no more.
const GROWTH_LIMIT: usize = 16;
/// What `clear` left behind is taken out when it is this part of the table: the whole table is read for it.
const SWEEP_SHARE: usize = 8;
/// By how much order ids and prices, in units of 1e-9, usually differ.
const STRIDES: [u64; 7] = [1, 2, 4, 8, 10, 100_000, 10_000_000];
/// The greatest number in a multiplier's continued fraction: see [`spreads`].
const GREATEST_QUOTIENT: u128 = 32;
/// So many ids in a row are spread.
const MOST_IN_A_ROW: u64 = 1 << 30;
/// Arrivals that may come between two calls of `maintain`.
const ARRIVAL_RESERVE: u32 = 1 << 24;

/// How many slots a table has that makes room for more above so many records, and at how many it is full.
fn slots(records: usize, percent: usize) -> Option<(usize, usize)> {
    let slots = records.checked_mul(percent)? / 100;
    Some((slots, slots.checked_mul(FULL_PERCENT)? / 100))
}

/// A table for so many orders.
fn orders_for(records: usize, seed: u64) -> Option<Orders> {
    let (slots, limit) = slots(records, ORDER_SLOTS_PERCENT)?;
    Orders::new(slots, limit, seed)
}

/// A table for so many levels.
fn levels_for(records: usize, seed: u64) -> Option<Table<LevelLine>> {
    let (slots, limit) = slots(records, LEVEL_SLOTS_PERCENT)?;
    Table::new(slots, limit, seed)
}

impl<P: Prefetch> Books<P> {
    /// Empty books. Takes all memory that they need up to this capacity, and does not touch it.
    ///
    /// # Panics
    /// Where the system has no memory; [`Books::try_new`] says so instead.
    pub fn new(capacity: Capacity, prefetch: P) -> Books<P> {
        match Books::try_new(capacity, prefetch, 0) {
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
        // An owner has a bit for the side, one for levels of cleared books, and is never 0.
        let instruments = capacity.instruments.min((u32::MAX >> 2) - 1);
        let multiplier = if seed == 0 { GOLDEN } else { next_seed(seed) };
        let orders = (capacity.orders as usize).max(LEAST_RECORDS);
        let levels = (capacity.levels as usize).max(LEAST_RECORDS);
        let keys = levels.saturating_mul(KEYS_PER_LEVEL);
        let key_lines = keys.div_ceil(Lines::<u64>::PER_LINE).saturating_add(3 * instruments as usize);
        let mut ticks = Vec::with_capacity(usize::from(u8::MAX) + 1);
        ticks.push(TICK);
        Ok(Books {
            sides: Lines::zeroed(2 * instruments as usize).ok_or(OutOfMemory)?,
            orders: orders_for(orders, multiplier).ok_or(OutOfMemory)?,
            levels: levels_for(levels, multiplier).ok_or(OutOfMemory)?,
            keys: Keys::new(key_lines).ok_or(OutOfMemory)?,
            ticks,
            incomplete: vec![false; instruments as usize],
            counters: Counters::default(),
            swept: 0,
            room: Room {
                instruments,
                orders,
                levels,
                orders_refused: false,
                levels_refused: false,
                keys_refused: false,
                max: [orders, levels, key_lines].map(|most| most.saturating_mul(GROWTH_LIMIT)),
            },
            prefetch,
        })
    }

    /// The big tables, for an owner that wants huge pages: before the first change nothing has touched them.
    pub fn regions(&self) -> impl Iterator<Item = &[u8]> {
        let [orders, arrivals] = self.orders.bytes();
        [orders, arrivals, self.levels.bytes(), self.keys.bytes(), self.sides.bytes()].into_iter()
    }

    /// Makes room where it runs short, and gives back what [`Books::clear`] left behind; says whether it did anything.
    /// To be called between packets: when there is nothing to do it costs a few instructions.
    ///
    /// The only place that allocates after construction, and it stops the world: a full table moves to one half as
    /// large again (tens of milliseconds for a million orders), each counted in [`Counters::grown`]. No table grows
    /// beyond 16 times the capacity of construction. Where the system has no memory all stays as it is, and
    /// [`Counters::growth_failed`] counts it.
    #[inline]
    pub fn maintain(&mut self) -> bool {
        self.maintain_with(|_| ())
    }

    /// [`Books::maintain`], showing every new table to its owner before it is touched, as [`Books::regions`] does.
    #[inline]
    pub fn maintain_with(&mut self, untouched: impl FnMut(&[u8])) -> bool {
        let room = &self.room;
        let orders = self.orders.table.len() > room.orders || room.orders_refused;
        let levels = self.levels.len() > room.levels || room.levels_refused;
        let keys = self.keys.fresh() < self.keys.count() / FRESH_SHARE || room.keys_refused;
        let sweep = self.swept > room.orders / SWEEP_SHARE;
        let arrivals = self.orders.arrivals_left() < ARRIVAL_RESERVE;
        if !(orders | levels | keys | sweep | arrivals) {
            return false;
        }
        self.make_room(untouched)
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, mut untouched: impl FnMut(&[u8])) -> bool {
        let mut done = self.swept != 0;
        if done {
            self.sweep();
        }
        if self.orders.arrivals_left() < ARRIVAL_RESERVE {
            self.orders.count_arrivals_anew();
            done = true;
        }
        let refused = core::mem::take(&mut self.room.orders_refused);
        if let Some(records) = more(self.room.orders, self.orders.table.len(), self.room.max[0], refused) {
            let moved = self.moved_orders(records, &mut untouched);
            if let Some(moved) = self.counted(moved) {
                self.orders = moved;
                self.room.orders = records;
            }
            done = true;
        }
        let refused = core::mem::take(&mut self.room.levels_refused);
        if let Some(records) = more(self.room.levels, self.levels.len(), self.room.max[1], refused) {
            let moved = self.moved_levels(records, &mut untouched);
            if let Some(moved) = self.counted(moved) {
                self.levels = moved;
                self.room.levels = records;
            }
            done = true;
        }
        let refused = core::mem::take(&mut self.room.keys_refused);
        let lines = self.keys.count();
        if lines < self.room.max[2] && (refused || self.keys.fresh() < lines / FRESH_SHARE) {
            let moved = Keys::new((lines + lines / 2 + 64).min(self.room.max[2])).map(|mut larger| {
                untouched(larger.bytes());
                larger.take_over(&self.keys);
                larger
            });
            if let Some(moved) = self.counted(moved) {
                self.keys = moved;
            }
            done = true;
        }
        done
    }

    /// Counts a growth, and hands it on.
    fn counted<T>(&mut self, moved: Option<T>) -> Option<T> {
        let counter = if moved.is_some() { &mut self.counters.grown } else { &mut self.counters.growth_failed };
        *counter = counter.saturating_add(1);
        moved
    }

    /// All orders in a table for so many; with another seed, in case the old one was guessed.
    fn moved_orders(&self, records: usize, untouched: &mut impl FnMut(&[u8])) -> Option<Orders> {
        let mut moved = orders_for(records, next_seed(self.orders.table.seed()))?;
        moved.bytes().into_iter().for_each(untouched);
        moved.take_over(&self.orders)?;
        Some(moved)
    }

    /// All levels in a table for so many, with the orders' handles to them; nothing is changed where that fails. Levels
    /// of cleared books must have been swept away.
    fn moved_levels(&mut self, records: usize, untouched: &mut impl FnMut(&[u8])) -> Option<Table<LevelLine>> {
        let mut moved = levels_for(records, next_seed(self.levels.seed()))?;
        untouched(moved.bytes());
        let mut handles = u32::new_vec_zeroed(self.levels.handles()).ok()?;
        for (old, level, sum) in self.levels.levels() {
            let Sought::Vacant(place) = moved.seek(level) else { return None };
            moved.put(place, level, sum);
            *handles.get_mut(old.handle() as usize)? = place.handle();
        }
        for handle in 0..self.orders.table.handles() {
            let Some(place) = self.orders.table.occupied(handle) else { continue };
            let level = self.orders.order(place).and_then(|order| handles.get(order.level as usize));
            if let Some(&level) = level {
                self.orders.set_level(place, level);
            }
        }
        Some(moved)
    }

    /// Takes the orders of cleared books out of the table.
    fn sweep(&mut self) {
        for handle in 0..self.orders.table.handles() {
            let Some(place) = self.orders.table.occupied(handle) else { continue };
            let Some(order) = self.orders.order(place) else { continue };
            if self.levels.level(order.level).is_none() {
                self.orders.take(place);
                self.levels.let_go(order.level);
            }
        }
        self.swept = 0;
    }
}

/// For how many records a table that holds `len` and was made for `room` is to be made anew; `None` for not at all.
/// Where ways became too long in a table that is not full, another seed is all that is wanted.
fn more(room: usize, len: usize, max: usize, refused: bool) -> Option<usize> {
    match len > room {
        true if room < max => Some((room + room / 2).min(max)),
        false if refused => Some(room),
        _ => None,
    }
}

/// Another multiplier for a hash, which spreads what ids and prices usually are.
fn next_seed(seed: u64) -> u64 {
    let mut mixed = seed;
    // One in a few hundred does. That all of very many would not, is not to be; then one is as good as another.
    for _ in 0..1 << 16 {
        mixed = scramble(mixed);
        if STRIDES.iter().all(|stride| spreads(mixed | 1, *stride)) {
            break;
        }
    }
    mixed
}

/// splitmix64: every bit depends on every bit of the last.
fn scramble(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(GOLDEN);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Whether numbers that rise by `stride`, times a multiplier, are spread evenly over 64 bits, however many they are.
///
/// They are as evenly as the fraction `multiplier * stride / 2^64` is far from every fraction with a small denominator
/// (Weyl; Kuipers and Niederreiter, "Uniform Distribution of Sequences", 1974, chapter 2, section 3): as the
/// numbers of its continued fraction are small. The golden ratio has only ones. A multiplier taken at random has a
/// great one among the first few now and then, and then thousands of ids in a row want the same few buckets.
fn spreads(multiplier: u64, stride: u64) -> bool {
    let (mut numerator, mut denominator) = (1 << 64, u128::from(multiplier.wrapping_mul(stride)));
    let mut reached: u64 = 1;
    while reached < MOST_IN_A_ROW && denominator != 0 {
        let quotient = numerator / denominator;
        if quotient > GREATEST_QUOTIENT {
            return false;
        }
        (numerator, denominator) = (denominator, numerator % denominator);
        reached = reached.saturating_mul(quotient as u64);
    }
    reached >= MOST_IN_A_ROW
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_types::{Price, Side};

    /// Orders at prices and with numbers as venues give them find room under any seed, in tables of which they fill a part.
    #[test]
    fn no_seed_refuses_what_venues_send() {
        for seed in 1..20_000 {
            let capacity = Capacity { instruments: 16, orders: 4_096, levels: 4_096 };
            let mut books = Books::try_new(capacity, barewire_types::NoPrefetch, scramble(seed)).unwrap();
            let stride = [1, 2, 8, 10][seed as usize % 4];
            for n in 0..480 {
                let (instrument, level) = (n as u32 % 16, n / 16);
                let side = if level % 2 == 0 { Side::Bid } else { Side::Ask };
                let price = Price(10_000_000 * (2_000 * i64::from(instrument + 1) + level));
                let added = books.add(instrument, (1 << 40) + n as u64 * stride, side, price, 1);
                assert!(added.is_ok(), "seed {seed}: order {n} with numbers {stride} apart: {added:?}");
            }
        }
    }
}
