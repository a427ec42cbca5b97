//! A slow reference that is obviously right, and a driver that holds [`Books`] against it after every operation.
//!
//! Used by the tests beside it and by the fuzz target `book`.

use barewire_book::{BookError, Books, Capacity, Change, Counters, Level, Order, Replaced, Top};
use barewire_types::{NoPrefetch, Price, Side};
use std::collections::BTreeMap;

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add { instrument: u32, id: u64, side: Side, price: Price, size: u32 },
    Reduce { id: u64, size: u32 },
    Delete { id: u64 },
    Replace { old: u64, new: u64, price: Price, size: u32 },
    Clear { instrument: u32 },
    ClearAll,
    Maintain,
}

impl Op {
    /// Any eight bytes as a call, from spaces so small that everything collides with everything.
    pub fn from_bytes(bytes: [u8; 8]) -> Op {
        let [kind, instrument, new, price, size, scale, ..] = bytes;
        let id = |byte: u8| match byte {
            0..=199 => u64::from(byte % 24),
            200..=220 => u64::MAX - u64::from(byte % 4),
            _ => u64::from(byte) << 56,
        };
        let price = Price(match price {
            0..=239 => i64::from(price % 12) * 100_000 - 300_000,
            240..=244 => i64::MIN + i64::from(price - 240),
            245..=250 => i64::MAX - 1 - i64::from(price - 245),
            _ => i64::MAX,
        });
        let size = match scale {
            0..=200 => u32::from(size),
            201..=230 => u32::from(size) << 24,
            _ => u32::MAX - u32::from(size),
        };
        match kind {
            0..=99 => {
                let side = [Side::Bid, Side::Ask, Side::Bid, Side::Ask, Side::Bid, Side::Ask, Side::Bid, Side::None]
                    [usize::from(kind % 8)];
                Op::Add { instrument: u32::from(instrument % 6), id: id(new), side, price, size }
            }
            100..=149 => Op::Reduce { id: id(new), size },
            150..=199 => Op::Delete { id: id(new) },
            200..=239 => Op::Replace { old: id(new), new: id(instrument), price, size },
            240..=246 => Op::Clear { instrument: u32::from(instrument % 6) },
            247 => Op::ClearAll,
            _ => Op::Maintain,
        }
    }
}

/// What the reference knows of an order.
#[derive(Clone, Copy)]
struct Known {
    instrument: u32,
    side: Side,
    price: Price,
    size: u32,
    time: u64,
}

/// The reference: a map of orders, and everything else worked out from it.
#[derive(Default)]
pub struct Reference {
    instruments: u32,
    orders: BTreeMap<u64, Known>,
    /// Price to size and number of orders; kept beside the orders for speed, and compared with them in [`check_all`].
    levels: BTreeMap<(u32, u8), BTreeMap<i64, (u64, u32)>>,
    time: u64,
    pub counters: Counters,
}

impl Reference {
    fn side(&self, instrument: u32, side: Side) -> Vec<Level> {
        let Some(levels) = self.levels.get(&(instrument, side as u8)) else { return Vec::new() };
        let level = |(&price, &(size, orders)): (&i64, &(u64, u32))| Level { price: Price(price), size, orders };
        match side {
            Side::Bid => levels.iter().rev().map(level).collect(),
            _ => levels.iter().map(level).collect(),
        }
    }

    fn top(&self, instrument: u32) -> Top {
        let best = |side| self.levels.get(&(instrument, side as u8));
        let bid = best(Side::Bid).and_then(|levels| levels.last_key_value());
        let ask = best(Side::Ask).and_then(|levels| levels.first_key_value());
        Top {
            bid_price: bid.map_or(Price::UNDEF, |(&price, _)| Price(price)),
            bid_size: bid.map_or(0, |(_, &(size, _))| size),
            ask_price: ask.map_or(Price::UNDEF, |(&price, _)| Price(price)),
            ask_size: ask.map_or(0, |(_, &(size, _))| size),
        }
    }

    fn orders(&self, instrument: u32) -> Vec<Order> {
        let mut known: Vec<_> = self.orders.iter().filter(|(_, known)| known.instrument == instrument).collect();
        known.sort_by_key(|(_, known)| match known.side {
            Side::Bid => (0, -i128::from(known.price.0), known.time),
            _ => (1, i128::from(known.price.0), known.time),
        });
        known
            .into_iter()
            .map(|(&id, known)| Order { id, side: known.side, price: known.price, size: known.size })
            .collect()
    }

    fn insert(&mut self, id: u64, known: Known) {
        let level = self.levels.entry((known.instrument, known.side as u8)).or_default();
        let level = level.entry(known.price.0).or_default();
        level.0 += u64::from(known.size);
        level.1 += 1;
        self.orders.insert(id, Known { time: self.time, ..known });
        self.time += 1;
    }

    fn remove(&mut self, id: u64) -> Known {
        let known = self.orders.remove(&id).expect("known");
        self.lower(known, known.size, 1);
        known
    }

    fn lower(&mut self, known: Known, size: u32, orders: u32) {
        let levels = self.levels.get_mut(&(known.instrument, known.side as u8)).expect("side");
        let level = levels.get_mut(&known.price.0).expect("level");
        level.0 -= u64::from(size);
        level.1 -= orders;
        if *level == (0, 0) {
            levels.remove(&known.price.0);
        }
    }

    /// Why an order cannot be added, in the order in which `Books` looks; room is not this reference's matter.
    fn refusal(&self, id: u64, instrument: u32, side: Side, price: Price, size: u32) -> Option<BookError> {
        let level = || self.levels.get(&(instrument, side as u8)).and_then(|levels| levels.get(&price.0));
        match () {
            () if side == Side::None => Some(BookError::BadSide),
            () if instrument >= self.instruments => Some(BookError::BadInstrument),
            () if size == 0 => Some(BookError::ZeroSize),
            () if price == Price::UNDEF => Some(BookError::UndefinedPrice),
            () if self.orders.contains_key(&id) => Some(BookError::DuplicateOrder),
            () if level()
                .is_some_and(|&(sum, orders)| sum + u64::from(size) > 17_592_186_044_415 || orders == 1_048_575) =>
            {
                Some(BookError::AtLimit)
            }
            () => None,
        }
    }

    fn count(&mut self, error: BookError) -> BookError {
        let counters = &mut self.counters;
        *match error {
            BookError::UnknownOrder => &mut counters.unknown_order,
            BookError::DuplicateOrder => &mut counters.duplicate_order,
            BookError::BadInstrument => &mut counters.bad_instrument,
            BookError::BadSide => &mut counters.bad_side,
            BookError::ZeroSize => &mut counters.zero_size,
            BookError::UndefinedPrice => &mut counters.undefined_price,
            BookError::OutOfCapacity => &mut counters.out_of_capacity,
            BookError::AtLimit => &mut counters.at_limit,
            other => panic!("a kind of refusal that the reference does not know: {other}"),
        } += 1;
        error
    }
}

/// Books and reference, side by side.
pub struct Pair {
    pub books: Books<NoPrefetch>,
    pub reference: Reference,
    capacity: Capacity,
    incomplete: Vec<bool>,
    /// The most levels that each side ever had.
    peaks: BTreeMap<(u32, u8), usize>,
    /// Orders that a clear left in the table, where they may still take room.
    swept: usize,
}

impl Pair {
    /// Books whose instruments have ticks that fit their prices well, badly, or not at all.
    pub fn new(capacity: Capacity, seed: u64) -> Pair {
        let mut books = Books::try_new(capacity, NoPrefetch, seed).expect("memory");
        for instrument in 0..capacity.instruments {
            let tick = [10_000_000, 100_000, 1, 300_000, i64::MAX / 3][instrument as usize % 5];
            assert!(books.set_tick(instrument, Price(tick)));
        }
        Pair {
            books,
            reference: Reference { instruments: capacity.instruments, ..Reference::default() },
            capacity,
            incomplete: vec![false; capacity.instruments as usize],
            peaks: BTreeMap::new(),
            swept: 0,
        }
    }

    /// Does one thing to both, and compares what they say.
    pub fn apply(&mut self, op: Op) {
        self.look_ahead(op);
        match op {
            Op::Add { instrument, id, side, price, size } => {
                let before = self.reference.top(instrument);
                let got = self.books.add(instrument, id, side, price, size);
                let want = match self.want(id, instrument, side, price, size, got.err()) {
                    Some(error) => Err(error),
                    None => {
                        self.reference.insert(id, Known { instrument, side, price, size, time: 0 });
                        let top_changed = before != self.reference.top(instrument);
                        Ok(Change { instrument, side, price, size, remaining: size, top_changed })
                    }
                };
                assert_eq!(got, want, "{op:?}");
                self.check(instrument);
            }
            Op::Reduce { id, size } => {
                let got = self.books.reduce(id, size);
                if size == 0 {
                    assert_eq!(got, Err(self.reference.count(BookError::ZeroSize)), "{op:?}");
                    return;
                }
                let want = self.lower(id, size);
                assert_eq!(got, want, "{op:?}");
            }
            Op::Delete { id } => {
                let left = self.reference.orders.get(&id).map_or(1, |known| known.size);
                let got = self.books.delete(id);
                let want = self.lower(id, left);
                assert_eq!(got, want, "{op:?}");
            }
            Op::Replace { old, new, price, size } => {
                let known = self.reference.orders.get(&old).copied();
                let got = self.books.replace(old, new, price, size);
                let Some(known) = known else {
                    assert_eq!(got, Err(self.reference.count(BookError::UnknownOrder)), "{op:?}");
                    return;
                };
                let Known { instrument, side, .. } = known;
                let before = self.reference.top(instrument);
                self.reference.remove(old);
                let refused = self.want(new, instrument, side, price, size, got.ok().and_then(|got| got.refused));
                if refused.is_none() {
                    self.reference.insert(new, Known { price, size, ..known });
                }
                let top_changed = before != self.reference.top(instrument);
                let want = Replaced { instrument, side, price: known.price, size: known.size, refused, top_changed };
                assert_eq!(got, Ok(want), "{op:?}");
                self.check(instrument);
            }
            Op::Clear { instrument } => {
                let got = self.books.clear(instrument);
                if instrument >= self.capacity.instruments {
                    assert_eq!(got, Err(self.reference.count(BookError::BadInstrument)));
                    return;
                }
                assert_eq!(got, Ok(()));
                self.swept += self.reference.orders.values().filter(|known| known.instrument == instrument).count();
                self.reference.orders.retain(|_, known| known.instrument != instrument);
                self.reference.levels.retain(|&(of, _), _| of != instrument);
                self.incomplete[instrument as usize] = false;
                self.check(instrument);
            }
            Op::ClearAll => {
                self.books.clear_all();
                self.reference.orders.clear();
                self.swept = 0;
                self.reference.levels.clear();
                self.incomplete.fill(false);
                self.check_all();
            }
            Op::Maintain => {
                let before = self.books.digest();
                self.books.maintain();
                assert_eq!(before, self.books.digest(), "maintenance changes no book");
                self.reference.counters.grown = self.books.counters().grown;
                assert_eq!(self.books.counters().growth_failed, 0);
                self.check_all();
            }
        }
    }

    /// Looking ahead is allowed for anything, and changes nothing.
    fn look_ahead(&self, op: Op) {
        let books = &self.books;
        match op {
            Op::Add { instrument, id, side, price, .. } => {
                books.prefetch_order(id);
                books.prefetch_instrument(instrument);
                books.prefetch_level(true, instrument, side, price);
                books.prefetch_levels_of(id);
            }
            Op::Reduce { id, size } => books.prefetch_level(false, size, Side::None, Price(id as i64)),
            Op::Delete { id } | Op::Replace { old: id, .. } => books.prefetch_levels_of(id),
            Op::Clear { instrument } => books.prefetch_instrument(!instrument),
            Op::ClearAll | Op::Maintain => {}
        }
    }

    fn lower(&mut self, id: u64, size: u32) -> Result<Change, BookError> {
        let Some(known) = self.reference.orders.get(&id).copied() else {
            return Err(self.reference.count(BookError::UnknownOrder));
        };
        let Known { instrument, side, price, .. } = known;
        let before = self.reference.top(instrument);
        if size > known.size {
            self.reference.counters.over_reduced += 1;
        }
        let taken = size.min(known.size);
        let remaining = known.size - taken;
        if remaining == 0 {
            self.reference.remove(id);
        } else {
            self.reference.lower(known, taken, 0);
            self.reference.orders.get_mut(&id).expect("known").size = remaining;
        }
        let top_changed = before != self.reference.top(instrument);
        self.check(instrument);
        Ok(Change { instrument, side, price, size: taken, remaining, top_changed })
    }

    /// The refusal that an add is due, counted. For want of room only when more than the capacity is in use.
    fn want(
        &mut self,
        id: u64,
        instrument: u32,
        side: Side,
        price: Price,
        size: u32,
        got: Option<BookError>,
    ) -> Option<BookError> {
        let mut due = self.reference.refusal(id, instrument, side, price, size);
        if got == Some(BookError::OutOfCapacity) && matches!(due, None | Some(BookError::AtLimit)) {
            let levels: usize = self.peaks.values().sum();
            assert!(
                self.reference.orders.len() + self.swept >= self.capacity.orders as usize
                    || levels >= self.capacity.levels as usize,
                "refused for want of room, and there is room"
            );
            due = got;
        }
        if let Some(BookError::OutOfCapacity | BookError::AtLimit) = due {
            self.incomplete[instrument as usize] = true;
        }
        due.map(|error| self.reference.count(error))
    }

    /// Compares everything that can be asked cheaply of one book.
    fn check(&mut self, instrument: u32) {
        for side in [Side::Bid, Side::Ask] {
            let peak = self.peaks.entry((instrument, side as u8)).or_default();
            *peak = self.reference.side(instrument, side).len().max(*peak);
        }
        let (books, reference) = (&self.books, &self.reference);
        assert_eq!(books.len(), reference.orders.len());
        assert_eq!(*books.counters(), reference.counters);
        assert_eq!(books.top(instrument), reference.top(instrument));
        let mut out = [Level::EMPTY; 16];
        for side in [Side::Bid, Side::Ask] {
            let want = reference.side(instrument, side);
            let count = books.depth(instrument, side, &mut out);
            assert_eq!(count, want.len().min(16));
            assert_eq!(out[..count], want[..count]);
            assert_eq!(books.level_count(instrument, side), want.len());
        }
        if let Some(&incomplete) = self.incomplete.get(instrument as usize) {
            assert_eq!(books.is_incomplete(instrument), incomplete);
        }
    }

    /// Compares everything.
    pub fn check_all(&mut self) {
        for instrument in 0..self.capacity.instruments {
            self.check(instrument);
        }
        let (books, reference) = (&self.books, &self.reference);
        let mut built: BTreeMap<(u32, u8), BTreeMap<i64, (u64, u32)>> = BTreeMap::new();
        for (&id, known) in &reference.orders {
            assert!(books.contains(id));
            let order = Order { id, side: known.side, price: known.price, size: known.size };
            assert_eq!(books.order(id), Some((known.instrument, order)));
            let level = built.entry((known.instrument, known.side as u8)).or_default();
            let level = level.entry(known.price.0).or_default();
            *level = (level.0 + u64::from(known.size), level.1 + 1);
        }
        assert!(reference.levels.iter().all(|(key, levels)| built.get(key).unwrap_or(&BTreeMap::new()) == levels));
        for instrument in 0..self.capacity.instruments {
            let orders: Vec<Order> = books.orders(instrument).collect();
            assert_eq!(orders, reference.orders(instrument));
            assert_eq!(books.order_count(instrument), orders.len());
            for side in [Side::Bid, Side::Ask] {
                let want = reference.side(instrument, side);
                let mut out = vec![Level::EMPTY; want.len() + 1];
                assert_eq!(books.depth(instrument, side, &mut out), want.len());
                assert_eq!(out[..want.len()], want);
            }
        }
        assert_eq!(books.digest(), self.digest());
    }

    /// The digest as its documentation has it, from the reference.
    fn digest(&self) -> u128 {
        let mut words = Vec::new();
        for (number, instrument, side) in
            (0..self.capacity.instruments).flat_map(|i| [(2 * i, i, Side::Bid), (2 * i + 1, i, Side::Ask)])
        {
            let levels = self.reference.side(instrument, side);
            if levels.is_empty() {
                continue;
            }
            words.extend([u64::from(number), levels.len() as u64]);
            for level in levels {
                words.extend([level.price.0 as u64, level.size, u64::from(level.orders)]);
            }
        }
        for instrument in 0..self.capacity.instruments {
            for order in self.reference.orders(instrument) {
                let number = 2 * instrument + u32::from(order.side == Side::Ask);
                words.extend([order.id, u64::from(number), order.price.0 as u64, u64::from(order.size)]);
            }
        }
        words.push(self.reference.orders.len() as u64);
        words.iter().flat_map(|word| word.to_le_bytes()).fold(0x6c62272e07bb014262b821756295c58d, |hash, byte| {
            (hash ^ u128::from(byte)).wrapping_mul((1 << 88) + 0x13b)
        })
    }
}

/// Runs any bytes as calls: the body of the fuzz target, and of a property test.
pub fn run(bytes: &[u8]) {
    let (records, _) = bytes.as_chunks::<8>();
    let capacity = Capacity { instruments: 5, orders: 8, levels: 8 };
    let mut pair = Pair::new(capacity, records.len() as u64);
    for &record in records {
        pair.apply(Op::from_bytes(record));
    }
    pair.check_all();
}
