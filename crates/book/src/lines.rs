//! Big tables in whole cache lines.
//!
//! A table is taken from the system zeroed and is not touched here, so its owner can still ask for huge pages
//! ([`Books::regions`](crate::Books::regions)). An allocation with an alignment of 64 would be cleared by hand, which
//! touches it; so the table is taken with a smaller alignment and one line more, and begins at the first boundary.

use alloc::vec::Vec;
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Bytes in a cache line.
pub(crate) const LINE_BYTES: usize = 64;

/// A table of cache lines, each made of cells of type `C`, whose size divides 64.
pub(crate) struct Lines<C> {
    cells: Vec<C>,
    /// Cells before the first boundary.
    skip: usize,
    /// Lines in the table.
    count: usize,
}

impl<C: FromZeros + IntoBytes + Immutable> Lines<C> {
    /// Cells in a line.
    pub(crate) const PER_LINE: usize = LINE_BYTES / size_of::<C>();

    /// A table of `count` zeroed lines, or `None` where the system has no memory for it.
    pub(crate) fn zeroed(count: usize) -> Option<Lines<C>> {
        const { assert!(LINE_BYTES.is_multiple_of(size_of::<C>())) };
        let cells = C::new_vec_zeroed(count.checked_add(1)?.checked_mul(Self::PER_LINE)?).ok()?;
        let past = cells.as_ptr().addr() % LINE_BYTES;
        // Where the allocator aligns to less than a cell the table straddles lines: slower, and still right.
        let skip = if past == 0 { 0 } else { (LINE_BYTES - past) / size_of::<C>() };
        Some(Lines { cells, skip, count })
    }

    /// Lines in the table.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// `cells` cells from the beginning of line `first` on; `None` past the end.
    #[inline(always)]
    pub(crate) fn run(&self, first: usize, cells: usize) -> Option<&[C]> {
        let at = self.skip + first * Self::PER_LINE;
        self.cells.get(at..at + cells)
    }

    /// `cells` cells from the beginning of line `first` on; `None` past the end.
    #[inline(always)]
    pub(crate) fn run_mut(&mut self, first: usize, cells: usize) -> Option<&mut [C]> {
        let at = self.skip + first * Self::PER_LINE;
        self.cells.get_mut(at..at + cells)
    }

    /// Every cell of every line.
    pub(crate) fn all(&self) -> &[C] {
        self.run(0, self.count * Self::PER_LINE).unwrap_or_default()
    }

    /// Every cell of every line.
    pub(crate) fn all_mut(&mut self) -> &mut [C] {
        self.run_mut(0, self.count * Self::PER_LINE).unwrap_or_default()
    }

    /// The whole allocation.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.cells.as_slice().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines begin at boundaries, whatever the allocator gives, and end where they should.
    #[test]
    fn lines_are_lines() {
        for count in [0, 1, 2, 3, 100, 100_000] {
            let mut lines = Lines::<u64>::zeroed(count).unwrap();
            assert_eq!(lines.all().as_ptr().addr() % LINE_BYTES, 0);
            assert_eq!((lines.count(), lines.all().len(), lines.all_mut().len()), (count, 8 * count, 8 * count));
            assert!(lines.run(count, 16).is_none());
        }
    }
}
