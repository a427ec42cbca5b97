//! One side of a book: its best level, and which levels it has.
//!
//! Everything is in one cache line. Levels near the best one are bits of a grid of 256 ticks; a level that comes or
//! goes there flips a bit, and the next best is the highest bit. Levels that are out of the grid, or between its ticks,
//! are in a sorted [list](crate::keys). The tick decides which levels are quick, and nothing else: any price is right
//! with any tick. The grid moves with the best level, and a level is always in one place: a bit if its bit is set, else
//! the list.

use crate::keys::{Keys, List, Refused};
use crate::levels::Sum;
use core::num::NonZeroU64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits in the grid.
const WIDTH: u64 = 256;
/// Where the grid has its best level after it moved: what is above is for better ones to come.
const REST: u64 = 192;
/// The grid moves down when its best level is below this.
const LOW: u64 = 64;

/// The best level of a side.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Best {
    /// See [`crate::books::key_of`]; 0 where the side is empty.
    pub(crate) key: u64,
    /// None where the side is empty.
    pub(crate) sum: Sum,
}

/// One side of a book: a cache line.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Side {
    pub(crate) best: Best,
    /// Bit `i` stands for the level with key `base + i * tick`.
    bits: [u64; 4],
    base: u64,
    /// The levels without a bit. Its spare byte is the side's tick, by number.
    list: List,
}

/// How keys lie on a side's grid.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    /// What two neighbouring bits are apart.
    pub(crate) tick: NonZeroU64,
    /// The key of the price 0, which is on the grid.
    pub(crate) origin: u64,
}

impl Scale {
    /// The base of a grid that has this key, or the one below it, where it rests.
    fn base_for(self, key: u64) -> u64 {
        let past = (i128::from(key) - i128::from(self.origin)).rem_euclid(i128::from(self.tick.get()));
        let key = key.saturating_sub(past as u64);
        key - REST.min(key / self.tick) * self.tick.get()
    }
}

impl Side {
    /// Which of the books' ticks is this side's.
    #[inline(always)]
    pub(crate) fn tick(&self) -> u8 {
        self.list.spare
    }

    /// An empty side with this tick.
    pub(crate) fn with_tick(tick: u8) -> Side {
        Side { list: List::empty(tick), ..Side::default() }
    }

    /// How many levels there are.
    pub(crate) fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum::<usize>() + usize::from(self.list.len)
    }

    /// The bit for a key, if the grid has one.
    #[inline(always)]
    fn bit(&self, key: u64, scale: Scale) -> Option<u64> {
        let distance = key.checked_sub(self.base)?;
        let bit = distance / scale.tick;
        if bit < WIDTH && bit * scale.tick.get() == distance { Some(bit) } else { None }
    }

    #[inline(always)]
    fn is_set(&self, bit: u64) -> bool {
        self.bits[(bit / 64 % 4) as usize] >> (bit % 64) & 1 != 0
    }

    #[inline(always)]
    fn flip(&mut self, bit: u64) {
        self.bits[(bit / 64 % 4) as usize] ^= 1 << (bit % 64);
    }

    /// The key of the highest bit that is set. Bits are only set for keys, so there is no overflow.
    fn highest(&self, scale: Scale) -> Option<u64> {
        let word = (0..self.bits.len()).rfind(|&word| self.bits[word] != 0)?;
        let bit = word as u64 * 64 + u64::from(self.bits[word].ilog2());
        Some(self.base + bit * scale.tick.get())
    }

    /// Adds a level that is not there. A refusal changes nothing that can be seen.
    #[inline(always)]
    pub(crate) fn insert(&mut self, keys: &mut Keys, key: u64, scale: Scale) -> Result<(), Refused> {
        match self.bit(key, scale) {
            Some(bit) => {
                self.flip(bit);
                Ok(())
            }
            None => self.insert_outside(keys, key, scale),
        }
    }

    /// Adds a level for which the grid has no bit.
    #[inline(never)]
    fn insert_outside(&mut self, keys: &mut Keys, key: u64, scale: Scale) -> Result<(), Refused> {
        let above = key.checked_sub(self.base).is_some_and(|distance| distance / scale.tick >= WIDTH);
        if self.best.sum.is_none() || above {
            // The grid moves up to it, if the list takes what falls off below.
            if self.move_to(keys, scale.base_for(key), scale).is_ok()
                && let Some(bit) = self.bit(key, scale)
            {
                self.flip(bit);
                return Ok(());
            }
        }
        keys.insert(&mut self.list, key)
    }

    /// Takes out a level that is there.
    #[inline(always)]
    pub(crate) fn remove(&mut self, keys: &mut Keys, key: u64, scale: Scale) {
        match self.bit(key, scale) {
            Some(bit) if self.is_set(bit) => self.flip(bit),
            _ => keys.remove(&mut self.list, key),
        }
    }

    /// The key of the best level that is left, after the best one was taken out.
    #[inline(always)]
    pub(crate) fn next_best(&mut self, keys: &mut Keys, scale: Scale) -> Option<u64> {
        let low = self.base.saturating_add(LOW.saturating_mul(scale.tick.get()));
        if self.highest(scale).is_none_or(|key| key < low) {
            self.move_down(keys, scale);
        }
        let best = self.highest(scale).max(keys.keys(self.list).last().copied());
        if best.is_none() {
            // Whatever comes next is out of the grid, which then moves there.
            self.base = u64::MAX;
        }
        best
    }

    /// Moves the grid down to the best level that has a bit, or to the best in the list.
    #[inline(never)]
    fn move_down(&mut self, keys: &mut Keys, scale: Scale) {
        if let Some(lead) = self.highest(scale).or(keys.keys(self.list).last().copied()) {
            // What cannot move stays where it is, and is found there.
            let _ = self.move_to(keys, scale.base_for(lead), scale);
        }
    }

    /// Moves the grid. Levels that fall off go to the list, and the list's best ones that now have a bit get it.
    fn move_to(&mut self, keys: &mut Keys, base: u64, scale: Scale) -> Result<(), Refused> {
        let mut moved = Side { bits: [0; 4], base, ..*self };
        for key in self.grid(scale) {
            match moved.bit(key, scale) {
                Some(bit) => moved.flip(bit),
                None => {
                    keys.insert(&mut self.list, key)?;
                    // Each level is in one place, even where the next one does not find room.
                    if let Some(bit) = self.bit(key, scale) {
                        self.flip(bit);
                    }
                }
            }
        }
        moved.list = self.list;
        while let Some(bit) = keys.keys(moved.list).last().and_then(|&key| moved.bit(key, scale)) {
            keys.pop_greatest(&mut moved.list);
            moved.flip(bit);
        }
        *self = moved;
        Ok(())
    }

    /// The keys that have bits, the best first.
    fn grid(self, scale: Scale) -> impl Iterator<Item = u64> {
        let set = (0..WIDTH).rev().filter(move |&bit| self.is_set(bit));
        set.map(move |bit| self.base + bit * scale.tick.get())
    }

    /// The keys of all levels, the best first.
    pub(crate) fn keys(self, keys: &Keys, scale: Scale) -> impl Iterator<Item = u64> {
        let mut list = keys.keys(self.list).iter().rev().copied().peekable();
        let mut grid = self.grid(scale).peekable();
        core::iter::from_fn(move || match (list.peek(), grid.peek()) {
            (Some(in_list), Some(in_grid)) if in_list > in_grid => list.next(),
            (_, Some(_)) => grid.next(),
            _ => list.next(),
        })
    }

    /// Gives back what the side took from the pool.
    pub(crate) fn free(&self, keys: &mut Keys) {
        keys.free(self.list);
    }
}
