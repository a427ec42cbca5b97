//! Sorted lists of keys, the greatest last, in blocks from one pool.
//!
//! They hold what is out of the way: the levels of a side that its [grid](crate::grid) has no bit for. A block holds 8,
//! 16, 32, ... keys and begins with a cache line; what is freed is kept by size and used again, a larger block cut up
//! where no block of the right size is left.

use crate::lines::Lines;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Keys in a cache line.
const LINE_KEYS: usize = 8;
/// Block sizes: class `c`, from 1, has `4 << c` keys.
const CLASSES: usize = 14;
/// The most keys in a list: what its length can say.
pub(crate) const MAX_KEYS: usize = u16::MAX as usize;

/// One list: which block, and how much of it.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct List {
    /// First line of the block.
    line: u32,
    /// Keys.
    pub(crate) len: u16,
    /// The block's size class; 0 for no block.
    class: u8,
    /// Not the list's: the [grid](crate::grid) has a use for it.
    pub(crate) spare: u8,
}

impl List {
    /// A list without keys and without a block.
    pub(crate) fn empty(spare: u8) -> List {
        List { spare, ..List::default() }
    }

    #[inline(always)]
    fn capacity(self) -> usize {
        if self.class == 0 { 0 } else { 4 << (self.class & 15) }
    }
}

/// Why a list cannot have one more key.
pub(crate) enum Refused {
    /// No block is left.
    NoRoom,
    /// It has as many as a list can have.
    AtLimit,
}

pub(crate) struct Keys {
    lines: Lines<u64>,
    /// Lines from here on were never handed out.
    fresh: usize,
    /// For each class the first line of the first free block, plus 1. Each free block's first key is the next.
    free: [u32; CLASSES + 1],
}

impl Keys {
    /// A pool of so many cache lines; `None` where there is no memory for it.
    pub(crate) fn new(lines: usize) -> Option<Keys> {
        if lines >= u32::MAX as usize {
            return None;
        }
        Some(Keys { lines: Lines::zeroed(lines)?, fresh: 0, free: [0; CLASSES + 1] })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.lines.bytes()
    }

    /// Lines in the pool.
    pub(crate) fn count(&self) -> usize {
        self.lines.count()
    }

    /// Lines that were never handed out.
    pub(crate) fn fresh(&self) -> usize {
        self.lines.count() - self.fresh
    }

    /// A list's keys, the greatest last.
    #[inline(always)]
    pub(crate) fn keys(&self, list: List) -> &[u64] {
        self.lines.run(list.line as usize, usize::from(list.len)).unwrap_or_default()
    }

    /// Adds a key that a list does not have. A refusal changes nothing.
    pub(crate) fn insert(&mut self, list: &mut List, key: u64) -> Result<(), Refused> {
        let len = usize::from(list.len);
        if len == list.capacity() {
            self.enlarge(list)?;
        } else if len == MAX_KEYS {
            return Err(Refused::AtLimit);
        }
        let keys = self.lines.run_mut(list.line as usize, len + 1).ok_or(Refused::NoRoom)?;
        let at = position(&keys[..len], key);
        keys.copy_within(at..len, at + 1);
        keys[at] = key;
        list.len += 1;
        Ok(())
    }

    /// Takes out a key, if a list has it.
    pub(crate) fn remove(&mut self, list: &mut List, key: u64) {
        let Some(keys) = self.lines.run_mut(list.line as usize, usize::from(list.len)) else { return };
        let at = position(keys, key);
        if keys.get(at) == Some(&key) {
            keys.copy_within(at + 1.., at);
            list.len -= 1;
        }
    }

    /// Takes out the greatest key.
    pub(crate) fn pop_greatest(&mut self, list: &mut List) {
        list.len = list.len.saturating_sub(1);
    }

    /// Moves a full list into a block of twice the size.
    #[cold]
    #[inline(never)]
    fn enlarge(&mut self, list: &mut List) -> Result<(), Refused> {
        let class = list.class + 1;
        let line = self.allocate(usize::from(class)).ok_or(Refused::NoRoom)?;
        let (from, to) = (list.line as usize * LINE_KEYS, line as usize * LINE_KEYS);
        self.lines.all_mut().copy_within(from..from + usize::from(list.len), to);
        self.free(*list);
        *list = List { line, len: list.len, class, spare: list.spare };
        Ok(())
    }

    /// A block of this class: a freed one, a fresh one, or a piece of a larger freed one.
    fn allocate(&mut self, class: usize) -> Option<u32> {
        if let Some(line) = self.pop(class) {
            return Some(line);
        }
        let lines = lines_of(class);
        if self.fresh() >= lines {
            self.fresh += lines;
            return u32::try_from(self.fresh - lines).ok();
        }
        let (larger, line) = (class + 1..=CLASSES).find_map(|larger| Some((larger, self.pop(larger)?)))?;
        for half in class..larger {
            self.push(half, line + lines_of(half) as u32);
        }
        Some(line)
    }

    /// Gives a list's block back.
    pub(crate) fn free(&mut self, list: List) {
        if list.class != 0 {
            self.push(usize::from(list.class), list.line);
        }
    }

    fn pop(&mut self, class: usize) -> Option<u32> {
        let head = self.free.get_mut(class)?;
        let line = head.checked_sub(1)?;
        *head = *self.lines.run(line as usize, 1)?.first()? as u32;
        Some(line)
    }

    fn push(&mut self, class: usize, line: u32) {
        if let (Some(head), Some([first])) = (self.free.get_mut(class), self.lines.run_mut(line as usize, 1)) {
            *first = u64::from(*head);
            *head = line + 1;
        }
    }

    /// Forgets every block.
    pub(crate) fn clear(&mut self) {
        self.fresh = 0;
        self.free = [0; CLASSES + 1];
    }

    /// Takes over the blocks of a smaller pool.
    pub(crate) fn take_over(&mut self, smaller: &Keys) {
        let used = smaller.fresh * LINE_KEYS;
        if let (Some(to), Some(from)) = (self.lines.all_mut().get_mut(..used), smaller.lines.all().get(..used)) {
            to.copy_from_slice(from);
            self.fresh = smaller.fresh;
            self.free = smaller.free;
        }
    }
}

/// Lines in a block of this class.
const fn lines_of(class: usize) -> usize {
    (4 << class) / LINE_KEYS
}

/// Where a key is, or would have to be put.
fn position(keys: &[u64], key: u64) -> usize {
    // Most of what happens, happens near the greatest: the last few are counted through without a branch.
    match keys.split_last_chunk::<8>() {
        Some((rest, last)) if rest.last().is_none_or(|&other| other < key) => {
            rest.len() + last.iter().map(|&other| usize::from(other < key)).sum::<usize>()
        }
        _ => keys.partition_point(|&other| other < key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool that was handed out is used again to the last line: a large block cut up for small lists.
    #[test]
    fn blocks_are_cut_up() {
        // A list of 32 keys takes blocks of 1, 2 and 4 lines on its way.
        let mut keys = Keys::new(7).unwrap();
        let mut large = List::default();
        for key in 0..32 {
            assert!(keys.insert(&mut large, key * 7 % 32).is_ok());
        }
        assert!(keys.keys(large).iter().copied().eq(0..32));
        assert!(matches!(keys.insert(&mut large, 32), Err(Refused::NoRoom)));
        keys.free(large);
        let mut small = [List::default(); 7];
        for (number, list) in (0..).zip(&mut small) {
            for key in 0..8 {
                assert!(keys.insert(list, 100 * number + key).is_ok());
            }
        }
        assert!(matches!(keys.insert(&mut List::default(), 1), Err(Refused::NoRoom)));
        for (number, &list) in (0..).zip(&small) {
            assert!(keys.keys(list).iter().copied().eq(100 * number..100 * number + 8));
        }
    }
}
