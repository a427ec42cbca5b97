//! A hash table whose buckets are cache lines of three or four records each.
//!
//! A record lives in its *home* bucket, or, where that is full, in the first bucket behind it that has room. Every
//! bucket counts the records that passed it on their way from home, so a search ends at the first bucket that nobody
//! passed: nearly always at home. Taking a record out is emptying its slot and counting back along the same way.
//! Nothing ever moves, nothing is left behind, and no way is longer than [`MAX_PROBES`] lines, whatever the keys are.

use crate::lines::Lines;
use core::marker::PhantomData;

/// The most buckets between a record and its home, itself included.
///
/// With honest keys and a table that is 85% full, ways are shorter than this by a wide margin.
const MAX_PROBES: usize = 64;

/// The most buckets in a table: 17 GB of them. Leaves a handle's two upper bits free.
const MAX_BUCKETS: usize = 1 << 28;

/// One cache line of records.
pub(crate) trait Bucket {
    /// What a record is found by.
    type Key: Copy;
    /// Records in a bucket: at most four, as a [handle](Place::handle) has two bits for the slot.
    const RECORDS: usize;
    /// A cache line, read as a bucket.
    fn of(line: &[u64; 8]) -> &Self;
    /// A cache line, read as a bucket.
    fn of_mut(line: &mut [u64; 8]) -> &mut Self;
    /// A number that is as good as any for a key, as far as its upper bits go. The seed is odd.
    fn hash(key: Self::Key, seed: u64) -> u64;
    /// Whether [`Bucket::find`] can be trusted to find this key: not where an empty slot looks as if it had it.
    fn distinct(key: Self::Key) -> bool;
    /// In which slot the record with this key is, and whether it is here at all. Quick, for distinct keys.
    fn find(&self, key: Self::Key) -> (usize, bool);
    /// The same for any key.
    fn find_any(&self, key: Self::Key) -> (usize, bool);
    /// The key of an occupied slot.
    fn key(&self, slot: usize) -> Option<Self::Key>;
    /// An empty slot, and whether there is one.
    fn vacancy(&self) -> (usize, bool);
    /// How many records passed this bucket on their way from home.
    fn passed(&self) -> u32;
    /// Whether none did.
    fn unpassed(&self) -> bool;
    /// Sets how many records passed this bucket on their way from home: less than [`MAX_PROBES`] buckets hold.
    fn set_passed(&mut self, passed: u32);
}

/// Where a record is, or could be put. Good until the table is made anew.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) bucket: usize,
    pub(crate) slot: usize,
    home: usize,
}

impl Place {
    /// The place as a number that leads back to its bucket and slot.
    #[inline(always)]
    pub(crate) fn handle(self) -> u32 {
        handle(self.bucket, self.slot)
    }
}

/// What a search for a record, or for room for it, comes to.
pub(crate) enum Sought {
    /// It is here.
    Found(Place),
    /// It is not here, and could be put here.
    Vacant(Place),
    /// It is not here, and there is no room for it.
    Full,
}

pub(crate) struct Table<B> {
    lines: Lines<u64>,
    /// Makes homes hard to foresee for whoever chooses the keys.
    seed: u64,
    /// Occupied slots.
    len: usize,
    /// Occupied slots at which the table is full.
    limit: usize,
    bucket: PhantomData<B>,
}

impl<B: Bucket> Table<B> {
    /// A table with so many slots, full when `limit` of them are occupied; `None` where there is no memory for it.
    pub(crate) fn new(slots: usize, limit: usize, seed: u64) -> Option<Table<B>> {
        let buckets = slots.div_ceil(B::RECORDS).max(1);
        if buckets > MAX_BUCKETS {
            return None;
        }
        Some(Table { lines: Lines::zeroed(buckets)?, seed: seed | 1, len: 0, limit, bucket: PhantomData })
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All handles are below this.
    pub(crate) fn handles(&self) -> usize {
        self.lines.count() << 2
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.lines.bytes()
    }

    #[inline(always)]
    pub(crate) fn bucket(&self, index: usize) -> Option<&B> {
        Some(B::of(self.lines.run(index, 8)?.try_into().ok()?))
    }

    #[inline(always)]
    pub(crate) fn bucket_mut(&mut self, index: usize) -> Option<&mut B> {
        Some(B::of_mut(self.lines.run_mut(index, 8)?.try_into().ok()?))
    }

    /// The line of a bucket, for a prefetch.
    #[inline(always)]
    pub(crate) fn line(&self, bucket: usize) -> Option<&u64> {
        self.lines.run(bucket, 1)?.first()
    }

    /// The bucket in which a record is looked for first.
    #[inline(always)]
    pub(crate) fn home(&self, key: B::Key) -> usize {
        ((u128::from(B::hash(key, self.seed)) * self.lines.count() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.lines.count() { 0 } else { bucket + 1 }
    }

    /// The home of a record, where nearly all are.
    #[inline(always)]
    pub(crate) fn home_mut(&mut self, key: B::Key) -> Option<(usize, &mut B)> {
        let home = self.home(key);
        Some((home, self.bucket_mut(home)?))
    }

    /// The record with this key.
    #[inline(always)]
    pub(crate) fn find(&self, key: B::Key) -> Option<Place> {
        let home = self.home(key);
        let bucket = self.bucket(home)?;
        let (slot, found) = bucket.find(key);
        if found & B::distinct(key) {
            return Some(Place { bucket: home, slot, home });
        }
        if bucket.unpassed() & B::distinct(key) {
            return None;
        }
        self.find_away(home, key)
    }

    #[inline(never)]
    fn find_away(&self, home: usize, key: B::Key) -> Option<Place> {
        let mut at = home;
        for _ in 0..MAX_PROBES {
            let bucket = self.bucket(at)?;
            let (slot, found) = bucket.find_any(key);
            if found {
                return Some(Place { bucket: at, slot, home });
            }
            if bucket.unpassed() {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Where a record with this key can be put, if that is at home and the record is known to be nowhere.
    #[inline(always)]
    pub(crate) fn vacancy_at_home(&self, key: B::Key) -> Option<Place> {
        let home = self.home(key);
        let bucket = self.bucket(home)?;
        let (_, found) = bucket.find(key);
        let (slot, vacant) = bucket.vacancy();
        let known = !found & vacant & bucket.unpassed() & (self.len < self.limit) & B::distinct(key);
        if known { Some(Place { bucket: home, slot, home }) } else { None }
    }

    /// The record with this key, or where it can be put.
    #[inline(never)]
    pub(crate) fn seek(&self, key: B::Key) -> Sought {
        let home = self.home(key);
        let mut at = home;
        let mut vacancy = None;
        for _ in 0..MAX_PROBES {
            let Some(bucket) = self.bucket(at) else { break };
            let (slot, found) = bucket.find_any(key);
            if found {
                return Sought::Found(Place { bucket: at, slot, home });
            }
            let (slot, vacant) = bucket.vacancy();
            if vacant && vacancy.is_none() {
                vacancy = Some(Place { bucket: at, slot, home });
            }
            if bucket.unpassed() && vacancy.is_some() {
                break;
            }
            at = self.after(at);
        }
        match vacancy {
            Some(place) if self.len < self.limit => Sought::Vacant(place),
            _ => Sought::Full,
        }
    }

    /// Counts a record in, which its owner writes to a vacant place.
    #[inline(always)]
    pub(crate) fn claim(&mut self, place: Place) {
        self.len += 1;
        if place.bucket != place.home {
            self.walk(place, 1);
        }
    }

    /// Counts a record out, which its owner has emptied, and which was at home.
    #[inline(always)]
    pub(crate) fn release_at_home(&mut self) {
        self.len -= 1;
    }

    /// Counts a record out, which its owner has emptied.
    #[inline(always)]
    pub(crate) fn release(&mut self, place: Place) {
        self.len -= 1;
        if place.bucket != place.home {
            self.walk(place, u32::MAX);
        }
    }

    /// Counts up, or down by adding -1, the buckets that a record passes between its home and its place.
    #[cold]
    #[inline(never)]
    fn walk(&mut self, place: Place, count: u32) {
        let mut at = place.home;
        while at != place.bucket {
            let next = self.after(at);
            let Some(bucket) = self.bucket_mut(at) else { return };
            bucket.set_passed(bucket.passed().wrapping_add(count));
            at = next;
        }
    }

    /// The place of a record with this key, given where it is.
    #[inline(always)]
    pub(crate) fn place_of(&self, handle: u32, key: B::Key) -> Place {
        let (bucket, slot) = parts(handle);
        Place { bucket, slot, home: self.home(key) }
    }

    /// The place of the record with this handle, if there is one.
    pub(crate) fn occupied(&self, handle: usize) -> Option<Place> {
        let (bucket, slot) = parts(u32::try_from(handle).ok()?);
        Some(Place { bucket, slot, home: self.home(self.bucket(bucket)?.key(slot)?) })
    }

    /// The places of all records, in no particular order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.handles()).filter_map(|handle| self.occupied(handle))
    }

    /// Takes every record out.
    pub(crate) fn clear(&mut self) {
        self.lines.all_mut().fill(0);
        self.len = 0;
    }
}

/// A bucket and a slot as one number.
#[inline(always)]
pub(crate) fn handle(bucket: usize, slot: usize) -> u32 {
    (bucket << 2 | slot) as u32
}

/// The bucket and the slot that a handle leads to.
#[inline(always)]
pub(crate) fn parts(handle: u32) -> (usize, usize) {
    ((handle >> 2) as usize, (handle & 3) as usize)
}
