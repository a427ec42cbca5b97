//! The table of live orders: a hash table whose buckets are cache lines of two orders each.
//!
//! An order lives in its *home* bucket, or, where that is full, in the first bucket behind it that has room. Every
//! bucket counts the orders that passed it on their way from home, so a search ends at the first bucket that nobody
//! passed: nearly always at home. Removing an order is clearing its slot and counting back along the same way. Nothing
//! ever moves, nothing is left behind, and no way is longer than [`MAX_PROBES`] lines whatever the ids are.

use crate::lines::Lines;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, transmute_mut, transmute_ref};

/// The most buckets between an order and its home, itself included.
///
/// With honest ids and a table that is 85% full, ways are shorter than this by a wide margin.
pub(crate) const MAX_PROBES: usize = 64;

/// Orders in a bucket.
pub(crate) const BUCKET_ORDERS: usize = 2;

/// One order: half a cache line.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Slot {
    /// The venue's number of the order.
    pub(crate) id: u64,
    /// Price in units of 1e-9.
    pub(crate) price: i64,
    /// What is left; 0 in an empty slot.
    pub(crate) size: u32,
    /// Instrument * 2, plus 1 for an ask.
    pub(crate) owner: u32,
    /// When it came among all orders, for time priority.
    pub(crate) arrival: u32,
    /// In a bucket's first slot: how many orders passed this bucket on their way from home. Lives on in empty slots.
    passed: u32,
}

/// One cache line of orders.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Bucket {
    slots: [Slot; BUCKET_ORDERS],
}

impl Bucket {
    /// In which slot the order with this id is, and whether it is here at all. Which of the two cannot be foreseen, so
    /// it is computed without a branch.
    #[inline(always)]
    fn find(&self, id: u64) -> (usize, bool) {
        let [first, second] = &self.slots;
        let in_first = (first.id == id) & (first.size != 0);
        let in_second = (second.id == id) & (second.size != 0);
        (usize::from(in_second), in_first | in_second)
    }
}

/// Where an order is, or could be put. Good until the table changes.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    bucket: usize,
    slot: usize,
    home: usize,
}

/// Why an order cannot be put anywhere.
pub(crate) enum NoPlace {
    /// Its id is here.
    Taken(Place),
    /// There is no room.
    Full,
}

pub(crate) struct Orders {
    lines: Lines<u64>,
    /// Makes homes unpredictable to whoever chooses the ids.
    seed: u64,
    /// Occupied slots.
    len: usize,
    /// Occupied slots at which the table is full.
    limit: usize,
}

impl Orders {
    /// A table in which `limit` orders find room, in `buckets` cache lines; `None` where there is no memory for it.
    pub(crate) fn new(buckets: usize, limit: usize, seed: u64) -> Option<Orders> {
        if buckets > u32::MAX as usize {
            return None;
        }
        Some(Orders { lines: Lines::zeroed(buckets.max(1))?, seed, len: 0, limit })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.lines.bytes()
    }

    #[inline(always)]
    fn bucket(&self, index: usize) -> Option<&Bucket> {
        let line: &[u64; 8] = self.lines.run(index, 8)?.try_into().ok()?;
        Some(transmute_ref!(line))
    }

    #[inline(always)]
    fn bucket_mut(&mut self, index: usize) -> Option<&mut Bucket> {
        let line: &mut [u64; 8] = self.lines.run_mut(index, 8)?.try_into().ok()?;
        Some(transmute_mut!(line))
    }

    /// The bucket in which an order with this id is looked for first.
    #[inline(always)]
    fn home(&self, id: u64) -> usize {
        // The folded product of wyhash: every bit of the id reaches every bit of the hash.
        let product = u128::from(id ^ self.seed) * 0x9E37_79B9_7F4A_7C15;
        let hash = (product >> 64) as u64 ^ product as u64;
        ((u128::from(hash) * self.lines.count() as u128) >> 64) as usize
    }

    #[inline(always)]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.lines.count() { 0 } else { bucket + 1 }
    }

    /// The line that a search for this id begins with.
    #[inline(always)]
    pub(crate) fn home_line(&self, id: u64) -> Option<&u64> {
        self.lines.run(self.home(id), 1)?.first()
    }

    /// The order with this id.
    #[inline(always)]
    pub(crate) fn find(&self, id: u64) -> Option<(Place, &Slot)> {
        let home = self.home(id);
        let bucket = self.bucket(home)?;
        let (slot, found) = bucket.find(id);
        if found {
            return Some((Place { bucket: home, slot, home }, &bucket.slots[slot]));
        }
        if bucket.slots[0].passed == 0 {
            return None;
        }
        self.find_away(home, id)
    }

    /// The order with this id, which is not at home.
    #[inline(never)]
    fn find_away(&self, home: usize, id: u64) -> Option<(Place, &Slot)> {
        let mut at = home;
        for _ in 1..MAX_PROBES {
            at = self.after(at);
            let bucket = self.bucket(at)?;
            let (slot, found) = bucket.find(id);
            if found {
                return Some((Place { bucket: at, slot, home }, &bucket.slots[slot]));
            }
            if bucket.slots[0].passed == 0 {
                return None;
            }
        }
        None
    }

    /// The order with this id if it is at home, where nearly all are. Looks at one line.
    #[inline(always)]
    pub(crate) fn find_at_home(&self, id: u64) -> Option<&Slot> {
        let bucket = self.bucket(self.home(id))?;
        let (slot, found) = bucket.find(id);
        if found { Some(&bucket.slots[slot]) } else { None }
    }

    /// Where an order with this id can be put.
    #[inline(always)]
    pub(crate) fn vacancy(&self, id: u64) -> Result<Place, NoPlace> {
        let home = self.home(id);
        let bucket = self.bucket(home).ok_or(NoPlace::Full)?;
        let [first, second] = &bucket.slots;
        let (_, taken) = bucket.find(id);
        let full = (first.size != 0) & (second.size != 0);
        if !(taken | full | (first.passed != 0) | (self.len >= self.limit)) {
            return Ok(Place { bucket: home, slot: usize::from(first.size != 0), home });
        }
        self.vacancy_away(home, id)
    }

    /// Where an order with this id can be put, which may be away from home.
    #[inline(never)]
    fn vacancy_away(&self, home: usize, id: u64) -> Result<Place, NoPlace> {
        let mut at = home;
        let mut vacancy = None;
        for _ in 0..MAX_PROBES {
            let bucket = self.bucket(at).ok_or(NoPlace::Full)?;
            let (slot, found) = bucket.find(id);
            if found {
                return Err(NoPlace::Taken(Place { bucket: at, slot, home }));
            }
            let slot = usize::from(bucket.slots[0].size != 0);
            if vacancy.is_none() && bucket.slots[slot].size == 0 {
                vacancy = Some(Place { bucket: at, slot, home });
            }
            if bucket.slots[0].passed == 0 && vacancy.is_some() {
                break;
            }
            at = self.after(at);
        }
        vacancy.filter(|_| self.len < self.limit).ok_or(NoPlace::Full)
    }

    /// Puts an order where [`Orders::vacancy`] said.
    #[inline(always)]
    pub(crate) fn put(&mut self, place: Place, id: u64, price: i64, size: u32, owner: u32, arrival: u32) {
        if place.bucket != place.home {
            self.walk(place, 1);
        }
        if let Some(bucket) = self.bucket_mut(place.bucket) {
            let slot = &mut bucket.slots[place.slot & 1];
            slot.id = id;
            slot.price = price;
            slot.size = size;
            slot.owner = owner;
            slot.arrival = arrival;
            self.len += 1;
        }
    }

    /// Sets what is left of an order: 0 takes it out.
    #[inline(always)]
    pub(crate) fn set_size(&mut self, place: Place, size: u32) {
        if let Some(bucket) = self.bucket_mut(place.bucket) {
            bucket.slots[place.slot & 1].size = size;
        }
        self.len -= usize::from(size == 0);
        if (place.bucket != place.home) & (size == 0) {
            self.walk(place, u32::MAX);
        }
    }

    /// Counts up, or down by adding -1, the buckets that an order passes between its home and its place.
    #[inline(never)]
    fn walk(&mut self, place: Place, count: u32) {
        let mut at = place.home;
        while at != place.bucket {
            let next = self.after(at);
            let Some(bucket) = self.bucket_mut(at) else { return };
            bucket.slots[0].passed = bucket.slots[0].passed.wrapping_add(count);
            at = next;
        }
    }

    /// Every order, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Slot> {
        let (lines, _) = self.lines.all().as_chunks::<8>();
        lines
            .iter()
            .flat_map(|line| {
                let bucket: &Bucket = transmute_ref!(line);
                bucket.slots.iter()
            })
            .filter(|slot| slot.size != 0)
    }

    /// Every order, to be given another arrival.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        let (lines, _) = self.lines.all_mut().as_chunks_mut::<8>();
        lines
            .iter_mut()
            .flat_map(|line| {
                let bucket: &mut Bucket = transmute_mut!(line);
                bucket.slots.iter_mut()
            })
            .filter(|slot| slot.size != 0)
    }

    /// Takes every order out.
    pub(crate) fn clear(&mut self) {
        self.lines.all_mut().fill(0);
        self.len = 0;
    }
}
