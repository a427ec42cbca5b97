//! Which levels a side of a book has: sorted keys, the best one last, in blocks from one pool.
//!
//! Activity is near the top of a book, so a level that comes or goes moves few others. A block holds 8, 16, 32, ... keys
//! and begins with a cache line; what is freed is kept by size and used again, a larger block cut up wherex
use crate::lines::Lines;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Keys in a cache line.
const LINE_KEYS: usize = 8;
/// Block sizes: class `c`, from 1, has `4 << c` keys.
const CLASSES: usize = 14;
/// The most levels on one side of a book: what [`SideRef::len`] can say.
pub(crate) const MAX_SIDE_LEVELS: usize = u16::MAX as usize;

/// One side of a book: which block, and how much of it.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct SideRef {
    /// First line of the block.
    line: u32,
    /// Levels.
    pub(crate) len: u16,
    /// The block's size class; 0 for no block.
    class: u8,
    unused: u8,
}

impl SideRef {
    #[inline(always)]
    fn capacity(self) -> usize {
        if self.class == 0 { 0 } else { 4 << (self.class & 15) }
    }
}

/// Why a side cannot have one more level.
pub(crate) enum Refused {
    /// No block is left.
    NoRoom,
    /// It has as many as a side can have.
    AtLimit,
}

pub(crate) struct Sides {
    lines: Lines<u64>,
    /// Lines from here on were never handed out.
    fresh: usize,
    /// For each class the first line of the first free block, plus 1. Each free block's first key is the next.
    free: [u32; CLASSES + 1],
}

impl Sides {
    /// A pool of so many cache lines; `None` where there is no memory for it.
    pub(crate) fn new(lines: usize) -> Option<Sides> {
        if lines >= u32::MAX as usize {
            return None;
        }
        Some(Sides { lines: Lines::zeroed(lines)?, fresh: 0, free: [0; CLASSES + 1] })
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

    /// A side's keys, the best last.
    #[inline(always)]
    pub(crate) fn keys(&self, side: SideRef) -> &[u64] {
        self.lines.run(side.line as usize, usize::from(side.len)).unwrap_or_default()
    }

    /// Where a side's best key is, for a prefetch.
    #[inline(always)]
    pub(crate) fn best_key(&self, side: SideRef) -> Option<&u64> {
        self.lines.run(side.line as usize + usize::from(side.len.saturating_sub(1)) / LINE_KEYS, 1)?.first()
    }

    /// Adds a key that a side does not have. A refusal changes nothing.
    #[inline(never)]
    pub(crate) fn insert(&mut self, side: &mut SideRef, key: u64) -> Result<(), Refused> {
        let len = usize::from(side.len);
        if len == side.capacity() {
            self.enlarge(side)?;
        } else if len == MAX_SIDE_LEVELS {
            return Err(Refused::AtLimit);
        }
        let keys = self.lines.run_mut(side.line as usize, len + 1).ok_or(Refused::NoRoom)?;
        let at = len - above(&keys[..len], key);
        keys.copy_within(at..len, at + 1);
        keys[at] = key;
        side.len += 1;
        Ok(())
    }

    /// Takes out a key that a side has. Gives the best that is left.
    #[inline(never)]
    pub(crate) fn remove(&mut self, side: &mut SideRef, key: u64) -> Option<u64> {
        let len = usize::from(side.len);
        let keys = self.lines.run_mut(side.line as usize, len)?;
        let at = len.checked_sub(above(keys, key) + 1)?;
        debug_assert_eq!(keys[at], key, "a level without a key");
        keys.copy_within(at + 1.., at);
        side.len -= 1;
        keys.get(len.checked_sub(2)?).copied()
    }

    /// Moves a full side into a block of twice the size.
    #[cold]
    #[inline(never)]
    fn enlarge(&mut self, side: &mut SideRef) -> Result<(), Refused> {
        let class = side.class + 1;
        let line = self.allocate(usize::from(class)).ok_or(Refused::NoRoom)?;
        let (from, to) = (side.line as usize * LINE_KEYS, line as usize * LINE_KEYS);
        self.lines.all_mut().copy_within(from..from + usize::from(side.len), to);
        self.free(*side);
        *side = SideRef { line, len: side.len, class, unused: 0 };
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

    /// Gives a side's block back.
    pub(crate) fn free(&mut self, side: SideRef) {
        if side.class != 0 {
            self.push(usize::from(side.class), side.line);
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
    pub(crate) fn take_over(&mut self, smaller: &Sides) {
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

/// How many of a side's keys are better than this one.
#[inline(always)]
fn above(keys: &[u64], key: u64) -> usize {
    // How deep in the book cannot be foreseen: a few are counted through at a time instead of branching at each.
    let mut above = 0;
    let (rest, chunks) = keys.as_rchunks::<4>();
    for chunk in chunks.iter().rev() {
        let better = chunk.iter().fold(0, |count, &other| count + usize::from(other > key));
        above += better;
        if better < 4 {
            return above;
        }
    }
    above + rest.iter().filter(|&&other| other > key).count()
}
