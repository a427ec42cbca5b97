//! The memory that packets lie in: frames of one size, side by side.
//!
//! A frame is at any time the kernel's (in the fill ring, or with the driver) or the process's (in the receive ring, or
//! in the sink's hands). Packets are read where the kernel, or the card, has put them.

use std::io;
use std::ptr::{self, NonNull};
use std::slice;

use crate::memory::{self, HugePages};

/// On what pages the packets' memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pages {
    /// Huge pages that were set aside (`vm.nr_hugepages`).
    Huge,
    /// The kernel was advised to use huge pages, and does where it has any.
    Advised,
    /// Normal ones.
    Normal,
}

/// Frames of one size, for all queues of one interface.
#[derive(Debug)]
pub(super) struct Umem {
    base: NonNull<u8>,
    mapped: usize,
    /// Bytes that are frames; the rest fills the last huge page.
    len: u64,
    frame_bytes: u32,
    pages: Pages,
}

// SAFETY: the memory belongs to the UMEM alone, as far as this process is concerned.
unsafe impl Send for Umem {}

fn map(len: usize, huge: bool) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | if huge { libc::MAP_HUGETLB | libc::MAP_HUGE_2MB } else { 0 };
    // SAFETY: a new private mapping overlaps nothing.
    let base = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

impl Umem {
    /// Memory for so many frames; `frame_bytes` is a power of two.
    pub(super) fn new(frames: usize, frame_bytes: u32, huge: bool) -> io::Result<Umem> {
        const HUGE_BYTES: usize = 2 << 20;
        let len = frames.checked_mul(frame_bytes as usize).ok_or(io::ErrorKind::OutOfMemory)?;
        let rounded = len.next_multiple_of(HUGE_BYTES);
        if huge && let Ok(base) = map(rounded, true) {
            let umem = Umem { base, mapped: rounded, len: len as u64, frame_bytes, pages: Pages::Huge };
            // Set-aside pages are counted when they are mapped, and can be gone all the same when they are touched: for
            // another node's cores, by a container's limit, or since they are just being given back.
            if umem.populate().is_ok() {
                return Ok(umem);
            }
        }
        let mut umem = Umem { base: map(len, false)?, mapped: len, len: len as u64, frame_bytes, pages: Pages::Normal };
        if huge {
            // SAFETY: the mapping is readable for its length, holds zeros, and nobody writes to it yet.
            let memory = unsafe { slice::from_raw_parts(umem.base.as_ptr(), len) };
            if let Ok(HugePages::Advised(_)) = memory::advise_huge(memory) {
                umem.pages = Pages::Advised;
            }
        }
        Ok(umem)
    }

    /// Has the kernel put pages behind all of it. Kernels before 5.14 cannot be asked.
    fn populate(&self) -> io::Result<()> {
        // SAFETY: the mapping is this one's, for its whole length; nothing but zeros is written.
        match unsafe { libc::madvise(self.base.as_ptr().cast(), self.mapped, libc::MADV_POPULATE_WRITE) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
                error => Err(error),
            },
        }
    }

    pub(super) fn pages(&self) -> Pages {
        self.pages
    }

    /// What the kernel is told of the memory.
    pub(super) fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.base.as_ptr().expose_provenance() as u64,
            len: self.len,
            chunk_size: self.frame_bytes,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// The start of the frame that an address lies in.
    #[inline]
    pub(super) fn frame_of(&self, address: u64) -> u64 {
        address & !u64::from(self.frame_bytes - 1)
    }

    /// The bytes at an address; `None` where they do not lie within the memory.
    ///
    /// # Safety
    ///
    /// The frames that they lie in are the process's and stay so as long as the bytes are in use.
    #[inline]
    pub(super) unsafe fn bytes(&self, address: u64, len: u32) -> Option<&[u8]> {
        let end = address.checked_add(u64::from(len))?;
        if end > self.len {
            return None;
        }
        // SAFETY: just checked to lie within the mapping, which is longer than no usize; initialised by the kernel, as
        // zeros first. Nobody writes there: the caller's promise.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr().add(address as usize), len as usize) })
    }
}

impl Umem {
    /// The stamp that the program wrote in front of a frame's bytes, which is gone afterwards, so that it is never taken
    /// for the next packet's; `None` for none.
    ///
    /// # Safety
    ///
    /// The frame is the process's, and nobody reads the eight bytes before `address`.
    #[inline]
    pub(super) unsafe fn take_stamp(&self, address: u64) -> Option<u64> {
        let at =
            address.checked_sub(8).filter(|at| self.frame_of(*at) == self.frame_of(address) && address <= self.len)?;
        // SAFETY: just checked to lie within one frame of the mapping; nobody else reads or writes there: the caller's
        // promise, and the kernel's, whose frame it is not.
        let stamp = unsafe { self.base.as_ptr().add(at as usize).cast::<u64>() };
        // SAFETY: as above; the bytes are initialised, and aligned or not.
        let found = unsafe { stamp.read_unaligned() };
        // SAFETY: as above.
        unsafe { stamp.write_unaligned(0) };
        (found != 0).then_some(found)
    }
}

impl Drop for Umem {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length, and no slice of it outlives the UMEM. A kernel that still writes to the
        // frames writes to pages that it holds itself.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_taken_once_and_from_within_its_frame() {
        let umem = Umem::new(2, 2048, false).unwrap();
        // SAFETY: the memory was handed to no kernel, and the bytes lie within it.
        unsafe { umem.base.as_ptr().add(2048 + 248).cast::<u64>().write_unaligned(77) };
        // SAFETY: as above, and nothing is read meanwhile.
        let take = |address| unsafe { umem.take_stamp(address) };
        assert_eq!([2048 + 256, 2048 + 256].map(take), [Some(77), None]);
        assert_eq!([0, 7, 2048, 4096 + 256, u64::MAX].map(take), [None; 5]);
    }

    #[test]
    fn bytes_lie_within_the_memory_or_are_none() {
        let umem = Umem::new(3, 2048, true).unwrap();
        assert_eq!(umem.registration().len, 3 * 2048);
        // SAFETY: the memory was handed to no kernel.
        let bytes = |address, len| unsafe { umem.bytes(address, len) }.map(<[u8]>::len);
        assert_eq!(bytes(256, 100), Some(100));
        assert_eq!(bytes(2 * 2048, 2048), Some(2048));
        assert_eq!(bytes(2 * 2048 + 1, 2048), None);
        assert_eq!(bytes(u64::MAX, 1), None);
        assert_eq!([256, 2047, 2048, 4097].map(|address| umem.frame_of(address)), [0, 0, 2048, 4096]);
    }
}
