//! The buffers that the kernel puts messages into, and the ring by which they go back to it.
//!
//! Specification: io_uring_register_buf_ring(3), io_uring_prep_recvmsg_multishot(3). The kernel takes buffers at the
//! ring's head, which it keeps to itself, and finds them up to the tail, which the feed moves on.
//!
//! SYNC POINT: buffer given back: the entry is written before the tail, which is stored with release; the kernel loads the
//! tail with acquire.

use std::io;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use ::io_uring::types::BufRingEntry;

/// Bytes before the payload: the kernel's own header (16), the sender's address (16), and room for control messages.
pub(super) const HEADERS_LEN: usize = 128;
/// Room for control messages: a time takes 64 bytes, a count of drops 24.
pub(super) const CONTROL_LEN: usize = HEADERS_LEN - 16 - size_of::<libc::sockaddr_in>();

/// One mapping: the ring, then the buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    map: NonNull<u8>,
    mapped: usize,
    /// Where the first buffer begins.
    first: usize,
    stride: usize,
    /// Bytes of a buffer.
    len: usize,
    /// A power of two.
    count: u16,
    tail: u16,
}

// SAFETY: the mapping is owned by this alone, and nothing about it is tied to a thread.
unsafe impl Send for Buffers {}

impl Buffers {
    /// The most that the kernel takes.
    pub(super) const MAX: usize = 1 << 15;

    /// `count` buffers, a power of two up to [`MAX`](Self::MAX), for payloads of up to `max_datagram` bytes. All of them
    /// are in the ring.
    ///
    /// As with sockets' buffers, memory is used for what comes, not for what could; and the stride is no multiple of a
    /// page, so that the buffers' beginnings spread over the cache's sets.
    pub(super) fn new(count: u16, max_datagram: usize) -> io::Result<Buffers> {
        const LINE: usize = 64;
        let len = HEADERS_LEN + max_datagram;
        let stride = len.next_multiple_of(LINE) | LINE;
        let first = (usize::from(count) * size_of::<BufRingEntry>()).next_multiple_of(4096);
        let mapped = first + usize::from(count) * stride;
        // SAFETY: a new private mapping overlaps nothing.
        let map = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(ptr::null_mut(), mapped, protection, flags, -1, 0)
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(map) = NonNull::new(map.cast()) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let mut buffers = Buffers { map, mapped, first, stride, len, count, tail: 0 };
        (0..count).for_each(|id| buffers.give_back(id));
        Ok(buffers)
    }

    /// Where the ring begins, for the kernel.
    pub(super) fn ring(&self) -> u64 {
        self.map.as_ptr() as u64
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    /// Where a buffer begins; it must be one.
    #[inline]
    fn buffer(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count);
        // SAFETY: buffers lie side by side behind `first`, and this one is below `count`.
        unsafe { self.map.as_ptr().add(self.first + usize::from(id) * self.stride) }
    }

    /// What the kernel wrote into a buffer that it has handed over; nothing of one that is none.
    ///
    /// # Safety
    ///
    /// The buffer has been handed over by the kernel, and is not given back as long as the bytes are used.
    #[inline]
    pub(super) unsafe fn written(&self, id: u16, len: usize) -> &[u8] {
        if id >= self.count {
            return &[];
        }
        // SAFETY: so many bytes lie within the buffer; the mapping began as zeros, so all of them are initialised; the
        // kernel does not write to a buffer that it has handed over.
        unsafe { slice::from_raw_parts(self.buffer(id).cast_const(), len.min(self.len)) }
    }

    /// Lets the kernel use a buffer again.
    #[inline]
    pub(super) fn give_back(&mut self, id: u16) {
        if id >= self.count {
            return;
        }
        let ring = self.map.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the mapping begins with `count` entries, a power of two. The kernel reads only entries before the tail,
        // and this one lies behind it: there are never more than `count` buffers in the ring. The tail lies in a part of
        // the first entry that the three setters leave alone; it is aligned, and reached as one word by both sides.
        unsafe {
            let entry = &mut *ring.add(usize::from(self.tail & (self.count - 1)));
            entry.set_addr(self.buffer(id) as u64);
            entry.set_len(self.len as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            // SYNC POINT: buffer given back.
            AtomicU16::from_ptr(BufRingEntry::tail(ring).cast_mut()).store(self.tail, Ordering::Release);
        }
    }

    /// Gives the memory back but keeps the addresses for good, for a ring whose requests could not be seen to end: what
    /// the kernel may still write finds nothing, rather than somebody else's memory.
    pub(super) fn abandon(&mut self) {
        // SAFETY: replaces this mapping only, which nobody reads any more.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
            libc::mmap(self.map.as_ptr().cast(), self.mapped, libc::PROT_NONE, flags, -1, 0);
        }
        self.mapped = 0;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.mapped > 0 {
            // SAFETY: mapped in `new` with this length, and nothing refers to it: no request is in flight.
            unsafe { libc::munmap(self.map.as_ptr().cast(), self.mapped) };
        }
    }
}
