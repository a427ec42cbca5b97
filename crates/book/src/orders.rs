//! The live orders, four to a cache line, found by id.

use crate::table::{Bucket, Place, Sought, Table};
use alloc::vec::Vec;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, transmute_mut, transmute_ref};

/// In a level's handle: not the handle's, see [`OrderLine::levels`].
const PASSED: u32 = 3 << 30;

/// One cache line of orders, 16 bytes each.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct OrderLine {
    /// The venue's numbers of the orders; 0 in an empty slot, though an order may have that number too.
    ids: [u64; 4],
    /// What is left of each; 0 in an empty slot.
    sizes: [u32; 4],
    /// The handle of the level that each is in, which knows instrument, side and price. The upper two bits of each are,
    /// together, how many orders passed the line on their way from home; they live on in empty slots.
    levels: [u32; 4],
}

/// One order.
#[derive(Clone, Copy)]
pub(crate) struct OrderRecord {
    pub(crate) id: u64,
    pub(crate) size: u32,
    /// The handle of its level.
    pub(crate) level: u32,
}

impl OrderLine {
    /// The level's handle of the order with this id, and whether it is here.
    #[inline(always)]
    pub(crate) fn level_of(&self, id: u64) -> (u32, bool) {
        let (slot, found) = self.find(id);
        (self.levels[slot & 3] & !PASSED, found)
    }

    /// What is left of the order in a slot, and its level's handle.
    #[inline(always)]
    pub(crate) fn order(&self, slot: usize) -> (u32, u32) {
        (self.sizes[slot & 3], self.levels[slot & 3] & !PASSED)
    }

    /// Sets what is left of the order in a slot. 0 empties it, and the table has to be told.
    #[inline(always)]
    pub(crate) fn set_size(&mut self, slot: usize, size: u32) {
        self.sizes[slot & 3] = size;
        if size == 0 {
            self.ids[slot & 3] = 0;
        }
    }
}

impl Bucket for OrderLine {
    type Key = u64;
    const RECORDS: usize = 4;

    #[inline(always)]
    fn of(line: &[u64; 8]) -> &OrderLine {
        transmute_ref!(line)
    }

    #[inline(always)]
    fn of_mut(line: &mut [u64; 8]) -> &mut OrderLine {
        transmute_mut!(line)
    }

    #[inline(always)]
    fn hash(id: u64, seed: u64) -> u64 {
        id.wrapping_mul(seed)
    }

    #[inline(always)]
    fn distinct(id: u64) -> bool {
        id != 0
    }

    #[inline(always)]
    fn find(&self, id: u64) -> (usize, bool) {
        // Four flags joined and branched on would become branches that cannot be foreseen; looking again does not.
        let [_, second, third, fourth] = self.ids.map(|other| usize::from(other == id));
        let slot = second | third << 1 | (fourth << 1 | fourth);
        (slot, self.ids[slot & 3] == id)
    }

    #[inline(always)]
    fn find_any(&self, id: u64) -> (usize, bool) {
        let slot = (0..4).find(|&slot| self.ids[slot] == id && self.sizes[slot] != 0);
        (slot.unwrap_or_default(), slot.is_some())
    }

    #[inline(always)]
    fn key(&self, slot: usize) -> Option<u64> {
        let id = *self.ids.get(slot)?;
        (self.sizes[slot] != 0).then_some(id)
    }

    #[inline(always)]
    fn vacancy(&self) -> (usize, bool) {
        let [first, second, third, _] = self.sizes.map(|size| usize::from(size != 0));
        let slot = first + (first & second) + (first & second & third);
        (slot, self.sizes[slot & 3] == 0)
    }

    #[inline(always)]
    fn passed(&self) -> u32 {
        self.levels.iter().rev().fold(0, |passed, level| passed << 2 | level >> 30)
    }

    #[inline(always)]
    fn unpassed(&self) -> bool {
        (self.levels[0] | self.levels[1] | self.levels[2] | self.levels[3]) & PASSED == 0
    }

    fn set_passed(&mut self, passed: u32) {
        for (slot, level) in self.levels.iter_mut().enumerate() {
            *level = *level & !PASSED | (passed >> (2 * slot)) << 30;
        }
    }
}

pub(crate) struct Orders {
    pub(crate) table: Table<OrderLine>,
    /// By handle: when each order came among all, for time priority; 0 before `next_arrival` began to count. Orders of
    /// the same arrival came in the order of their ids.
    arrivals: Vec<u32>,
    /// 0 as long as ids only rise: nothing needs to be noted then, and no line to be touched for it.
    next_arrival: u32,
    /// The highest id so far.
    highest: u64,
}

impl Orders {
    /// A table with so many slots, full when `limit` of them are occupied; `None` where there is no memory for it.
    pub(crate) fn new(slots: usize, limit: usize, seed: u64) -> Option<Orders> {
        let table = Table::new(slots, limit, seed)?;
        let arrivals = u32::new_vec_zeroed(table.handles()).ok()?;
        Some(Orders { table, arrivals, next_arrival: 0, highest: 0 })
    }

    pub(crate) fn bytes(&self) -> [&[u8]; 2] {
        [self.table.bytes(), self.arrivals.as_bytes()]
    }

    /// Where the order with this id is, and the order.
    #[inline(always)]
    pub(crate) fn find(&self, id: u64) -> Option<(Place, OrderRecord)> {
        let place = self.table.find(id)?;
        Some((place, self.order(place)?))
    }

    /// The order at an occupied place.
    #[inline(always)]
    pub(crate) fn order(&self, place: Place) -> Option<OrderRecord> {
        let line = self.table.bucket(place.bucket)?;
        let slot = place.slot & 3;
        Some(OrderRecord { id: line.ids[slot], size: line.sizes[slot], level: line.levels[slot] & !PASSED })
    }

    /// Puts an order at a vacant place, behind all others in time.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: Place, order: OrderRecord) {
        self.write(place, order);
        if (self.next_arrival == 0) & (order.id >= self.highest) {
            self.highest = order.id;
        } else {
            self.note_arrival(place);
        }
    }

    #[inline(always)]
    fn write(&mut self, place: Place, order: OrderRecord) {
        if let Some(line) = self.table.bucket_mut(place.bucket) {
            let slot = place.slot & 3;
            line.ids[slot] = order.id;
            line.sizes[slot] = order.size;
            line.levels[slot] = line.levels[slot] & PASSED | order.level;
            self.table.claim(place);
        }
    }

    /// Notes that an order came last.
    fn note_arrival(&mut self, place: Place) {
        self.next_arrival = self.next_arrival.max(1);
        if let Some(arrival) = self.arrivals.get_mut(place.handle() as usize) {
            *arrival = self.next_arrival;
        }
        self.next_arrival = self.next_arrival.saturating_add(1);
    }

    /// How many more arrivals can be told apart.
    #[inline(always)]
    pub(crate) fn arrivals_left(&self) -> u32 {
        u32::MAX - self.next_arrival
    }

    /// Numbers the arrivals of all orders from 1 on.
    pub(crate) fn count_arrivals_anew(&mut self) {
        let mut places: Vec<_> = self.iter().map(|(place, order)| (self.arrival(place), order.id, place)).collect();
        places.sort_unstable_by_key(|&(arrival, id, _)| (arrival, id));
        self.next_arrival = 1;
        for (_, _, place) in places {
            self.note_arrival(place);
        }
    }

    /// Takes an order out.
    pub(crate) fn take(&mut self, place: Place) {
        if let Some(line) = self.table.bucket_mut(place.bucket) {
            line.set_size(place.slot, 0);
            self.table.release(place);
        }
    }

    /// Gives the order at an occupied place another level's handle.
    pub(crate) fn set_level(&mut self, place: Place, handle: u32) {
        if let Some(line) = self.table.bucket_mut(place.bucket) {
            let level = &mut line.levels[place.slot & 3];
            *level = *level & PASSED | handle;
        }
    }

    /// When the order at an occupied place came: to be compared together with its id.
    pub(crate) fn arrival(&self, place: Place) -> u32 {
        self.arrivals.get(place.handle() as usize).copied().unwrap_or_default()
    }

    /// Every order with its place, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, OrderRecord)> {
        self.table.places().filter_map(|place| Some((place, self.order(place)?)))
    }

    /// Puts all orders of another table into this one, which is empty; `None` where there is no room.
    pub(crate) fn take_over(&mut self, other: &Orders) -> Option<()> {
        for (from, order) in other.iter() {
            let Sought::Vacant(place) = self.table.seek(order.id) else { return None };
            self.write(place, order);
            if other.next_arrival != 0 {
                *self.arrivals.get_mut(place.handle() as usize)? = other.arrival(from);
            }
        }
        self.next_arrival = other.next_arrival;
        self.highest = other.highest;
        Some(())
    }

    /// Takes every order out.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        if self.next_arrival != 0 {
            self.arrivals.fill(0);
        }
        self.next_arrival = 0;
        self.highest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(orders: &mut Orders, id: u64) {
        let Sought::Vacant(place) = orders.table.seek(id) else { panic!("no room for {id}") };
        orders.put(place, OrderRecord { id, size: 1, level: 0 });
    }

    fn in_time(orders: &Orders) -> Vec<u64> {
        let mut all: Vec<_> = orders.iter().map(|(place, order)| (orders.arrival(place), order.id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// As long as ids rise no arrival is written; from the first that does not, all are told apart, before and after
    /// they are counted anew and the table is moved.
    #[test]
    fn arrivals() {
        let mut orders = Orders::new(400, 300, 1).unwrap();
        for id in [3, 4, 10] {
            add(&mut orders, id);
        }
        assert!(orders.arrivals.iter().all(|&arrival| arrival == 0));
        for id in [7, 20, 1, 21] {
            add(&mut orders, id);
        }
        let want = [3, 4, 10, 7, 20, 1, 21];
        assert_eq!(in_time(&orders), want);
        orders.next_arrival = u32::MAX - 1;
        add(&mut orders, 2);
        assert_eq!(orders.arrivals_left(), 0);
        orders.count_arrivals_anew();
        assert_eq!(orders.arrivals_left(), u32::MAX - 9);
        add(&mut orders, 0);
        let mut moved = Orders::new(800, 600, 5).unwrap();
        moved.take_over(&orders).unwrap();
        add(&mut moved, 5);
        assert_eq!(in_time(&moved), [3, 4, 10, 7, 20, 1, 21, 2, 0, 5]);
        moved.clear();
        add(&mut moved, 9);
        assert!(moved.arrivals.iter().all(|&arrival| arrival == 0));
    }
}
