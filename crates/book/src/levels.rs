//! Price levels: one sorted array a side, the best level last, in blocks from one pool.
//!
//! Activity is near the top of a book, so a level that comes or goes moves few others. A block holds 4, 8, 16, ...
//! levels and begins with a cache line; what is freed is kept by size and used again, a larger block cut up where no
//! block of the right size is left.

use crate::lines::Lines;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bits of [`Cell::sum`] that count orders; the others sum sizes.
const ORDER_BITS: u32 = 20;
/// The most orders in a level.
pub(crate) const MAX_LEVEL_ORDERS: u32 = (1 << ORDER_BITS) - 1;
/// The largest sum of sizes in a level.
pub(crate) const MAX_LEVEL_SIZE: u64 = u64::MAX >> ORDER_BITS;
/// Levels that are looked at together, and the smallest block.
const WINDOW: usize = 8;
/// Lines at the beginning of the pool that are never handed out: what a side without a block looks at.
const NOBODYS: usize = 2;
/// Block sizes: class `c`, from 1, has `4 << c` levels.
const CLASSES: usize = 14;
/// The most levels on one side of a book: what the head's length can say.
pub(crate) const MAX_SIDE_LEVELS: usize = u16::MAX as usize;

/// One level as it is stored: a quarter of a cache line.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Cell {
    /// The price such that a better one is greater, see [`crate::books::key_of`].
    pub(crate) key: u64,
    /// The sum of the sizes, shifted up, and the number of orders: both change in one addition. 0: no level.
    pub(crate) sum: u64,
}

impl Cell {
    #[inline(always)]
    pub(crate) fn size(self) -> u64 {
        self.sum >> ORDER_BITS
    }

    #[inline(always)]
    pub(crate) fn orders(self) -> u32 {
        self.sum as u32 & MAX_LEVEL_ORDERS
    }
}

/// One order of this size, as a level's sum counts it.
#[inline(always)]
fn one_order(size: u32) -> u64 {
    u64::from(size) << ORDER_BITS | 1
}

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
        if self.class == 0 { 0 } else { 4 << (self.class & 31) }
    }
}

/// Why an order cannot join a level.
pub(crate) enum Refused {
    /// No block is left for a new level.
    NoRoom,
    /// The level's sums would overflow, or the side has as many levels as a side can have.
    AtLimit,
}

pub(crate) struct Levels {
    lines: Lines<Cell>,
    /// Lines from here on were never handed out.
    fresh: usize,
    /// For each class the first line of the first free block, plus 1. Each free block's first key is the next.
    free: [u32; CLASSES + 1],
}

impl Levels {
    /// A pool of so many cache lines, four levels each; `None` where there is no memory for it.
    pub(crate) fn new(lines: usize) -> Option<Levels> {
        if lines < NOBODYS || lines >= u32::MAX as usize {
            return None;
        }
        Some(Levels { lines: Lines::zeroed(lines)?, fresh: NOBODYS, free: [0; CLASSES + 1] })
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

    /// A side's levels, the best last.
    #[inline(always)]
    pub(crate) fn side(&self, side: SideRef) -> &[Cell] {
        self.lines.run(side.line as usize, usize::from(side.len)).unwrap_or_default()
    }

    /// The best level's cell, for a prefetch.
    #[inline(always)]
    pub(crate) fn best_cell(&self, side: SideRef) -> Option<&Cell> {
        self.lines.run(side.line as usize, usize::from(side.len))?.last()
    }

    /// Adds an order to a level, which is made if it is not there. `top` follows the best level.
    /// Says whether the best level changed. A refusal changes nothing.
    #[inline(always)]
    pub(crate) fn add(&mut self, side: &mut SideRef, top: &mut Cell, key: u64, size: u32) -> Result<bool, Refused> {
        let len = usize::from(side.len);
        let cells = self.lines.run_mut(side.line as usize, len.max(WINDOW)).ok_or(Refused::NoRoom)?;
        let above = above(cells, len, key);
        if let Some(cell) = cells.get_mut(len.wrapping_sub(above + 1)).filter(|cell| cell.key == key) {
            let sum = cell.sum;
            if (sum as u32 & MAX_LEVEL_ORDERS == MAX_LEVEL_ORDERS)
                | ((sum >> ORDER_BITS) + u64::from(size) > MAX_LEVEL_SIZE)
            {
                return Err(Refused::AtLimit);
            }
            cell.sum = sum + one_order(size);
        } else {
            let at = len - above;
            if len >= side.capacity() {
                self.enlarge(side)?;
            } else if len == MAX_SIDE_LEVELS {
                return Err(Refused::AtLimit);
            }
            let cells = self.lines.run_mut(side.line as usize, len + 1).ok_or(Refused::NoRoom)?;
            cells.copy_within(at..len, at + 1);
            cells[at] = Cell { key, sum: one_order(size) };
            side.len += 1;
        }
        self.follow(*side, top);
        Ok(above == 0)
    }

    /// Takes `size` from a level, and with `whole` an order too. `top` follows the best level.
    /// Says whether the best level changed.
    #[inline(always)]
    pub(crate) fn take(&mut self, side: &mut SideRef, top: &mut Cell, key: u64, size: u32, whole: bool) -> bool {
        let len = usize::from(side.len);
        let Some(cells) = self.lines.run_mut(side.line as usize, len.max(WINDOW)) else { return false };
        let above = above(cells, len, key);
        let at = len.wrapping_sub(above + 1);
        let Some(cell) = cells.get_mut(at) else { return false };
        debug_assert_eq!(cell.key, key, "an order without a level");
        cell.sum -= (u64::from(size) << ORDER_BITS) + u64::from(whole);
        if cell.sum == 0 {
            cells.copy_within(at + 1..len, at);
            if let Some(last) = cells.get_mut(len - 1) {
                *last = Cell::default();
            }
            side.len -= 1;
        }
        self.follow(*side, top);
        above == 0
    }

    /// Lets a top follow its side's best level.
    #[inline(always)]
    fn follow(&self, side: SideRef, top: &mut Cell) {
        // In an empty side the first cell is no level.
        if let Some([best]) = self.lines.run_at(side.line as usize, usize::from(side.len).max(1) - 1) {
            *top = *best;
        }
    }

    /// Moves a full side into a block of twice the size.
    #[cold]
    #[inline(never)]
    fn enlarge(&mut self, side: &mut SideRef) -> Result<(), Refused> {
        let len = usize::from(side.len);
        let class = side.class + 1;
        let line = self.allocate(usize::from(class)).ok_or(Refused::NoRoom)?;
        let (from, to) = (side.line as usize * Lines::<Cell>::PER_LINE, line as usize * Lines::<Cell>::PER_LINE);
        let cells = self.lines.all_mut();
        cells.copy_within(from..from + len, to);
        if let Some(rest) = cells.get_mut(to + len..to + (4 << class)) {
            rest.fill(Cell::default());
        }
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
        *head = self.lines.run(line as usize, 1)?.first()?.key as u32;
        Some(line)
    }

    fn push(&mut self, class: usize, line: u32) {
        if let (Some(head), Some([first])) = (self.free.get_mut(class), self.lines.run_mut(line as usize, 1)) {
            first.key = u64::from(*head);
            *head = line + 1;
        }
    }

    /// Forgets every block.
    pub(crate) fn clear(&mut self) {
        // Blocks are handed out zeroed.
        self.lines.all_mut().fill(Cell::default());
        self.fresh = NOBODYS;
        self.free = [0; CLASSES + 1];
    }

    /// The same blocks at the beginning of a larger pool; `None` where there is no memory for it.
    pub(crate) fn moved_to(&self, mut larger: Levels) -> Option<Levels> {
        let used = self.fresh * Lines::<Cell>::PER_LINE;
        larger.lines.all_mut().get_mut(..used)?.copy_from_slice(self.lines.all().get(..used)?);
        larger.fresh = self.fresh;
        larger.free = self.free;
        Some(larger)
    }
}

/// Lines in a block of this class.
const fn lines_of(class: usize) -> usize {
    (4 << class) / Lines::<Cell>::PER_LINE
}

/// How many of a side's levels are better than this key. `cells` are the side's and, up to a window, those behind it,
/// which are zeroed and no levels.
#[inline(always)]
fn above(cells: &[Cell], len: usize, key: u64) -> usize {
    // How deep in the book cannot be foreseen, so the window is counted through without a branch.
    let from = len.max(WINDOW) - WINDOW;
    let Some(window) = cells.get(from..).and_then(|cells| cells.first_chunk::<WINDOW>()) else { return 0 };
    let above: usize = window.iter().map(|cell| usize::from(cell.key > key)).sum();
    if above < WINDOW || from == 0 {
        return above;
    }
    above_deep(cells, from, key)
}

/// The same for a key that is below the window.
#[inline(never)]
fn above_deep(cells: &[Cell], from: usize, key: u64) -> usize {
    WINDOW + from - cells.get(..from).unwrap_or_default().partition_point(|cell| cell.key <= key)
}
