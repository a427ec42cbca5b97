//! The live orders, three to a cache line, found by id.

use crate::table::{BUCKET_RECORDS, Bucket, Place, Table, first, fold, which};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_mut, transmute_ref};

/// One cache line of orders: 20 bytes each, and the line's count.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct OrderLine {
    /// The venue's numbers of the orders; 0 in an empty slot, though an order may have that number too.
    ids: [u64; BUCKET_RECORDS],
    /// What is left of each; 0 in an empty slot.
    sizes: [u32; BUCKET_RECORDS],
    /// The handle of the level that each is in, which knows instrument, side and price.
    levels: [u32; BUCKET_RECORDS],
    /// When each came among all orders, for time priority.
    arrivals: [u32; BUCKET_RECORDS],
    passed: u32,
}

/// One order.
#[derive(Clone, Copy)]
pub(crate) struct OrderRecord {
    pub(crate) id: u64,
    pub(crate) size: u32,
    pub(crate) level: u32,
    pub(crate) arrival: u32,
}

impl Bucket for OrderLine {
    type Key = u64;

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
        fold(id ^ seed, 0x9E37_79B9_7F4A_7C15)
    }

    #[inline(always)]
    fn distinct(id: u64) -> bool {
        id != 0
    }

    #[inline(always)]
    fn find(&self, id: u64) -> (usize, bool) {
        // Three flags joined and branched on would become three branches that cannot be foreseen; looking again does not.
        let slot = which(self.ids.map(|other| other == id));
        (slot, self.ids[slot.min(2)] == id)
    }

    #[inline(always)]
    fn find_any(&self, id: u64) -> (usize, bool) {
        let here = |slot: usize| (self.ids[slot] == id) & (self.sizes[slot] != 0);
        let here = [here(0), here(1), here(2)];
        (which(here), here.contains(&true))
    }

    #[inline(always)]
    fn key(&self, slot: usize) -> Option<u64> {
        let id = *self.ids.get(slot)?;
        (self.sizes[slot] != 0).then_some(id)
    }

    #[inline(always)]
    fn vacancy(&self) -> (usize, bool) {
        let slot = first(self.sizes.map(|size| size == 0));
        (slot, self.sizes[slot.min(2)] == 0)
    }

    #[inline(always)]
    fn passed(&self) -> u32 {
        self.passed
    }

    #[inline(always)]
    fn passed_mut(&mut self) -> &mut u32 {
        &mut self.passed
    }
}

impl OrderLine {
    /// The level's handle of the order with this id, and whether it is here.
    #[inline(always)]
    pub(crate) fn level_of(&self, id: u64) -> (u32, bool) {
        let (slot, found) = self.find(id);
        (self.levels[slot.min(2)], found)
    }
}

impl Table<OrderLine> {
    /// The order at an occupied place.
    #[inline(always)]
    pub(crate) fn order(&self, place: Place) -> Option<OrderRecord> {
        let line = self.bucket(place.bucket)?;
        let slot = place.slot;
        Some(OrderRecord {
            id: *line.ids.get(slot)?,
            size: line.sizes[slot],
            level: line.levels[slot],
            arrival: line.arrivals[slot],
        })
    }

    /// Puts an order at a vacant place.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: Place, order: OrderRecord) {
        if let Some(line) = self.bucket_mut(place.bucket)
            && let Some(id) = line.ids.get_mut(place.slot)
        {
            *id = order.id;
            line.sizes[place.slot] = order.size;
            line.levels[place.slot] = order.level;
            line.arrivals[place.slot] = order.arrival;
            self.claim(place);
        }
    }

    /// Sets what is left of an order: 0 takes it out.
    #[inline(always)]
    pub(crate) fn set_size(&mut self, place: Place, size: u32) {
        if let Some(line) = self.bucket_mut(place.bucket)
            && let Some(left) = line.sizes.get_mut(place.slot)
        {
            *left = size;
            if size == 0 {
                line.ids[place.slot] = 0;
                self.release(place);
            }
        }
    }

    /// Gives the order at an occupied place another level's handle.
    pub(crate) fn set_level(&mut self, place: Place, level: u32) {
        if let Some(of) = self.bucket_mut(place.bucket).and_then(|line| line.levels.get_mut(place.slot)) {
            *of = level;
        }
    }

    /// Gives the order at an occupied place another arrival.
    pub(crate) fn set_arrival(&mut self, place: Place, arrival: u32) {
        if let Some(of) = self.bucket_mut(place.bucket).and_then(|line| line.arrivals.get_mut(place.slot)) {
            *of = arrival;
        }
    }

    /// Every order, in no particular order.
    pub(crate) fn orders(&self) -> impl Iterator<Item = OrderRecord> {
        self.places().filter_map(|place| self.order(place))
    }
}
