//! The price levels, three to a cache line, found by book, side and price.

use crate::table::{Bucket, Place, Table, parts};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_mut, transmute_ref};

/// Bits of a sum that count orders; the others sum sizes.
const ORDER_BITS: u32 = 20;
/// The most orders in a level.
const MAX_ORDERS: u32 = (1 << ORDER_BITS) - 1;
/// The largest sum of sizes in a level.
const MAX_SIZE: u64 = u64::MAX >> ORDER_BITS;
/// In an owner: the level's book was cleared, and only orders that are still in their table hold on to it.
const CLEARED: u32 = 1 << 31;

/// A level's number of orders and the sum of their sizes in one word: both change in one addition. 0: no level.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub(crate) struct Sum(u64);

impl Sum {
    /// One order of this size.
    #[inline(always)]
    pub(crate) fn one(size: u32) -> Sum {
        Sum(u64::from(size) << ORDER_BITS | 1)
    }

    #[inline(always)]
    pub(crate) fn size(self) -> u64 {
        self.0 >> ORDER_BITS
    }

    #[inline(always)]
    pub(crate) fn orders(self) -> u32 {
        self.0 as u32 & MAX_ORDERS
    }

    #[inline(always)]
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    /// With one order more, unless that is more than a level can have.
    #[inline(always)]
    fn plus_one(self, size: u32) -> Option<Sum> {
        let fits = (self.orders() < MAX_ORDERS) & (self.size() + u64::from(size) <= MAX_SIZE);
        fits.then(|| Sum(self.0 + Sum::one(size).0))
    }

    /// With less of an order, or without it.
    #[inline(always)]
    fn less(self, size: u32, whole: bool) -> Sum {
        Sum(self.0 - (u64::from(size) << ORDER_BITS) - u64::from(whole))
    }
}

/// What a level is found by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct LevelKey {
    /// The price such that a better one is greater, see [`crate::books::key_of`].
    pub(crate) key: u64,
    /// See [`crate::books::owner_of`].
    pub(crate) owner: u32,
}

/// One cache line of levels: 20 bytes each, and the line's count.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct LevelLine {
    keys: [u64; 3],
    sums: [Sum; 3],
    /// 0 in an empty slot.
    owners: [u32; 3],
    passed: u32,
}

impl Bucket for LevelLine {
    type Key = LevelKey;
    const RECORDS: usize = 3;

    #[inline(always)]
    fn of(line: &[u64; 8]) -> &LevelLine {
        transmute_ref!(line)
    }

    #[inline(always)]
    fn of_mut(line: &mut [u64; 8]) -> &mut LevelLine {
        transmute_mut!(line)
    }

    #[inline(always)]
    fn hash(LevelKey { key, owner }: LevelKey, seed: u64) -> u64 {
        let owner = u64::from(owner & !CLEARED).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        (key ^ owner).wrapping_mul(seed)
    }

    #[inline(always)]
    fn distinct(_: LevelKey) -> bool {
        true
    }

    #[inline(always)]
    fn find(&self, LevelKey { key, owner }: LevelKey) -> (usize, bool) {
        // Three flags joined and branched on would become branches that cannot be foreseen; looking again does not.
        let here = |slot: usize| (self.keys[slot] == key) & (self.owners[slot] == owner);
        let slot = (usize::from(here(1)) + 2 * usize::from(here(2))).min(2);
        (slot, here(slot))
    }

    #[inline(always)]
    fn find_any(&self, key: LevelKey) -> (usize, bool) {
        self.find(key)
    }

    #[inline(always)]
    fn key(&self, slot: usize) -> Option<LevelKey> {
        let level = LevelKey { key: *self.keys.get(slot)?, owner: self.owners[slot] };
        if level.owner == 0 { None } else { Some(level) }
    }

    #[inline(always)]
    fn vacancy(&self) -> (usize, bool) {
        let [first, second, _] = self.owners.map(|owner| owner != 0);
        let slot = usize::from(first) + usize::from(first & second);
        (slot, self.owners[slot.min(2)] == 0)
    }

    #[inline(always)]
    fn passed(&self) -> u32 {
        self.passed
    }

    #[inline(always)]
    fn unpassed(&self) -> bool {
        self.passed == 0
    }

    fn set_passed(&mut self, passed: u32) {
        self.passed = passed;
    }
}

impl LevelLine {
    /// Adds an order to a level. `None`, with nothing changed, where it would be more than a level can have.
    #[inline(always)]
    pub(crate) fn add(&mut self, slot: usize, size: u32) -> Option<Sum> {
        let sum = self.sums.get_mut(slot)?;
        *sum = sum.plus_one(size)?;
        Some(*sum)
    }
}

impl Table<LevelLine> {
    /// The level that an order's handle leads to; `None` where its book was cleared.
    #[inline(always)]
    pub(crate) fn level(&self, handle: u32) -> Option<LevelKey> {
        let (bucket, slot) = parts(handle);
        let line = self.bucket(bucket)?;
        let owner = *line.owners.get(slot)?;
        if owner & CLEARED == 0 { Some(LevelKey { key: line.keys[slot], owner }) } else { None }
    }

    /// The sum of a level.
    #[inline(always)]
    pub(crate) fn sum(&self, place: Place) -> Sum {
        self.bucket(place.bucket).and_then(|line| line.sums.get(place.slot)).copied().unwrap_or_default()
    }

    /// Makes a level with one order at a vacant place.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: Place, LevelKey { key, owner }: LevelKey, sum: Sum) {
        if let Some(line) = self.bucket_mut(place.bucket)
            && let Some(of) = line.sums.get_mut(place.slot)
        {
            *of = sum;
            line.keys[place.slot] = key;
            line.owners[place.slot] = owner;
            self.claim(place);
        }
    }

    /// Takes size from a level, and with `whole` an order too. `None`, with nothing changed, where its book was
    /// cleared. A level without orders is to be [taken out](Self::take).
    #[inline(always)]
    pub(crate) fn lessen(&mut self, handle: u32, size: u32, whole: bool) -> Option<(LevelKey, Sum)> {
        let (bucket, slot) = parts(handle);
        let line = self.bucket_mut(bucket)?;
        let owner = *line.owners.get(slot)?;
        if owner & CLEARED != 0 {
            return None;
        }
        line.sums[slot] = line.sums[slot].less(size, whole);
        Some((LevelKey { key: line.keys[slot], owner }, line.sums[slot]))
    }

    /// Counts out a level whose sum has become none.
    #[inline(always)]
    pub(crate) fn take(&mut self, handle: u32, level: LevelKey) {
        let (bucket, slot) = parts(handle);
        if let Some(owner) = self.bucket_mut(bucket).and_then(|line| line.owners.get_mut(slot)) {
            *owner = 0;
        }
        self.release(self.place_of(handle, level));
    }

    /// Marks a level as cleared: it is not found any more, and stays until its orders have let go of it.
    pub(crate) fn clear_level(&mut self, place: Place) {
        if let Some(line) = self.bucket_mut(place.bucket)
            && let Some(owner) = line.owners.get_mut(place.slot)
        {
            *owner |= CLEARED;
            line.sums[place.slot] = Sum(u64::from(line.sums[place.slot].orders()));
        }
    }

    /// Lets one order of a cleared level go.
    pub(crate) fn let_go(&mut self, handle: u32) {
        let (bucket, slot) = parts(handle);
        let Some(line) = self.bucket_mut(bucket) else { return };
        let Some(level) = line.key(slot) else { return };
        line.sums[slot] = line.sums[slot].less(0, true);
        if line.sums[slot].is_none() {
            self.take(handle, level);
        }
    }

    /// Every level, with its place, in no particular order.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (Place, LevelKey, Sum)> {
        self.places().filter_map(|place| Some((place, self.bucket(place.bucket)?.key(place.slot)?, self.sum(place))))
    }
}
