//! The rings between kernel and process (`linux/if_xdp.h`), and all atomics of this path.
//!
//! A ring has one producer and one consumer, each with a 32-bit index that only ever grows and wraps; an entry lies at its
//! index modulo the ring's size. Of the rings used here, the kernel produces the receive ring and this process consumes
//! it; this process produces the fill ring, with frames for the kernel to write packets into, and the kernel consumes it.

use std::io;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where a packet lies: the kernel's `xdp_desc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Of the packet's first byte, from the start of the UMEM.
    pub(super) address: u64,
    /// Bytes.
    pub(super) len: u32,
    pub(super) options: u32,
}

/// Memory that a ring lies in.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the mapping alone, as far as this process is concerned.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(socket: RawFd, len: usize, offset: u64) -> io::Result<Mapping> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping overlaps nothing.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, socket, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { base, len })
    }

    /// `count` items of type `T` from an offset on.
    fn at<T>(&self, offset: u64, count: usize) -> io::Result<NonNull<T>> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidData)?;
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        if end.is_none_or(|end| end > self.len) || !offset.is_multiple_of(align_of::<T>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: the offset lies within the mapping.
        Ok(unsafe { self.base.add(offset) }.cast())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made in `new` with this length; the ring that pointed into it goes with it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// One ring: indices, flags and entries of type `T`.
///
/// The pointers lead into `memory`, which is mapped as long as the ring lives, and are aligned and in bounds for what they
/// point to. `T` is integers without padding, so that whatever lies there is a value.
#[derive(Debug)]
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// Entries, less one; their number is a power of two.
    mask: u32,
    /// This side's own index: the next entry that it reads or writes.
    next: u32,
    _memory: Option<Mapping>,
}

// SAFETY: the pointers lead into memory that the ring alone uses in this process.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Copy> Ring<T> {
    /// Maps a socket's ring of so many entries, a power of two.
    fn map(socket: RawFd, offsets: &libc::xdp_ring_offset, entries: u32, page_offset: u64) -> io::Result<Ring<T>> {
        if !entries.is_power_of_two() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let count = entries as usize;
        let bytes = (count * size_of::<T>()).saturating_add(usize::try_from(offsets.desc).unwrap_or(usize::MAX));
        let memory = Mapping::new(socket, bytes, page_offset)?;
        Ok(Ring {
            producer: memory.at(offsets.producer, 1)?,
            consumer: memory.at(offsets.consumer, 1)?,
            flags: memory.at(offsets.flags, 1)?,
            entries: memory.at(offsets.desc, count)?,
            mask: entries - 1,
            next: 0,
            _memory: Some(memory),
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: see the type; both sides access the index atomically only.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: see the type; both sides access the index atomically only.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> &AtomicU32 {
        // SAFETY: see the type; both sides access the flags atomically only.
        unsafe { self.flags.as_ref() }
    }

    /// The entry so many behind the next one.
    fn entry(&self, ahead: u32) -> *mut T {
        let index = self.next.wrapping_add(ahead) & self.mask;
        // SAFETY: the mask keeps the index within the entries.
        unsafe { self.entries.as_ptr().add(index as usize) }
    }
}

/// The ring by which packets come.
#[derive(Debug)]
pub(super) struct ReceiveRing(Ring<Descriptor>);

impl ReceiveRing {
    pub(super) fn map(socket: RawFd, offsets: &libc::xdp_ring_offset, entries: u32) -> io::Result<ReceiveRing> {
        Ring::map(socket, offsets, entries, libc::XDP_PGOFF_RX_RING as u64).map(ReceiveRing)
    }

    /// How many packets there are to read, at most `most`.
    #[inline]
    pub(super) fn available(&self, most: u32) -> u32 {
        // SYNC POINT: received. Acquire; its other half is the kernel's release store of the producer index, after it
        // has written the packets' bytes and their entries.
        let produced = self.0.producer().load(Ordering::Acquire);
        produced.wrapping_sub(self.0.next).min(most)
    }

    /// The packet so many behind the next one.
    ///
    /// # Safety
    ///
    /// `ahead` is below what [`available`](Self::available) returned since the last [`release`](Self::release).
    #[inline]
    pub(super) unsafe fn get(&self, ahead: u32) -> Descriptor {
        // SAFETY: the pointer is to an entry, and any bytes are one. By the caller's promise the kernel has produced it,
        // and it writes there again only once it was consumed.
        unsafe { self.0.entry(ahead).read() }
    }

    /// Gives so many entries back.
    #[inline]
    pub(super) fn release(&mut self, count: u32) {
        self.0.next = self.0.next.wrapping_add(count);
        // SYNC POINT: consumed. Release; its other half is the kernel's acquire load of the consumer index, before it
        // writes to these entries again.
        self.0.consumer().store(self.0.next, Ordering::Release);
    }
}

/// The ring by which the kernel gets frames.
///
/// It is never full when a frame is handed back, so nobody asks: it has an entry for each of its queue's frames, the
/// kernel reads entries in order, and it reads one before it fills the frame. Of n frames, k handed over and r received
/// back, the process holds the one that it hands over as number k: k - r < n, so the entry of number k - n, whose place
/// number k takes, is among the first r, which the kernel has read.
#[derive(Debug)]
pub(super) struct FillRing(Ring<u64>);

impl FillRing {
    pub(super) fn map(socket: RawFd, offsets: &libc::xdp_ring_offset, entries: u32) -> io::Result<FillRing> {
        Ring::map(socket, offsets, entries, libc::XDP_UMEM_PGOFF_FILL_RING).map(FillRing)
    }

    /// Notes the address of a frame, so many behind the next one. The kernel does not see it yet.
    ///
    /// # Safety
    ///
    /// The frame is the process's: it has come by the receive ring since it was last handed over, or never was.
    #[inline]
    pub(super) unsafe fn put(&mut self, ahead: u32, address: u64) {
        // SAFETY: the pointer is to an entry. It is this process's to write until `publish`, since by the argument above
        // the kernel has read what stood there, and `available`'s acquire has shown so.
        unsafe { self.0.entry(ahead).write(address) };
    }

    /// Hands the next so many entries over.
    #[inline]
    pub(super) fn publish(&mut self, count: u32) {
        self.0.next = self.0.next.wrapping_add(count);
        // SYNC POINT: filled. Release; its other half is the kernel's acquire load of the producer index, before it
        // reads the entries and writes to the frames. What the process read from the frames it has read by then.
        self.0.producer().store(self.0.next, Ordering::Release);
    }

    /// Whether the driver sleeps until it is called (XDP_RING_NEED_WAKEUP).
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        const NEED_WAKEUP: u32 = 1;
        // Relaxed: a stale value costs one more look.
        self.0.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    /// A ring's memory, which its two sides point into.
    struct Shared<T> {
        producer: AtomicU32,
        consumer: AtomicU32,
        flags: AtomicU32,
        entries: Box<[UnsafeCell<T>]>,
    }

    // SAFETY: the two sides keep to the protocol that is under test.
    unsafe impl<T: Send> Sync for Shared<T> {}

    impl<T: Copy + Default> Shared<T> {
        fn new(entries: u32, start: u32) -> Shared<T> {
            Shared {
                producer: start.into(),
                consumer: start.into(),
                flags: 0.into(),
                entries: (0..entries).map(|_| UnsafeCell::default()).collect(),
            }
        }

        fn side(&self) -> Ring<T> {
            Ring {
                producer: NonNull::from(&self.producer),
                consumer: NonNull::from(&self.consumer),
                flags: NonNull::from(&self.flags),
                entries: NonNull::new(self.entries.as_ptr().cast_mut().cast()).unwrap(),
                mask: self.entries.len() as u32 - 1,
                next: self.consumer.load(Ordering::Relaxed),
                _memory: None,
            }
        }
    }

    /// Frames go round between a kernel, which is a thread here, and the process: none is lost, none is in two places,
    /// and what one side wrote into it the other reads; over the end of the indices, and with the kernel at times out of
    /// frames, at times without packets.
    #[test]
    fn frames_go_round() {
        const FRAMES: u32 = 8;
        const PACKETS: u32 = if cfg!(miri) { 200 } else { 200_000 };
        let start = u32::MAX - PACKETS / 2;
        let (receive, fill) = (Shared::<Descriptor>::new(FRAMES, start), Shared::<u64>::new(FRAMES, start));
        let frames: Vec<AtomicU32> = (0..FRAMES).map(|_| AtomicU32::new(0)).collect();
        let (mut ours, mut fills) = (ReceiveRing(receive.side()), FillRing(fill.side()));
        // SAFETY: no frame was handed over yet.
        (0..FRAMES).for_each(|n| unsafe { fills.put(n, u64::from(n)) });
        fills.publish(FRAMES);
        std::thread::scope(|scope| {
            let kernel = scope.spawn(|| {
                // The kernel's halves of the protocol.
                let (mut rx, mut fq) = (receive.side(), fill.side());
                for packet in 1..=PACKETS {
                    while fq.producer().load(Ordering::Acquire) == fq.next {
                        std::thread::yield_now();
                    }
                    // SAFETY: the entry was produced.
                    let frame = unsafe { fq.entry(0).read() };
                    // The frame is the kernel's: the process has let go of what it read there.
                    assert_eq!(frames[frame as usize].swap(packet, Ordering::Relaxed) & 1 << 31, 0);
                    // SAFETY: there are as many entries as frames.
                    unsafe { rx.entry(0).write(Descriptor { address: frame, len: packet, options: 0 }) };
                    rx.next = rx.next.wrapping_add(1);
                    rx.producer().store(rx.next, Ordering::Release);
                    fq.next = fq.next.wrapping_add(1);
                    fq.consumer().store(fq.next, Ordering::Release);
                }
            });
            let mut expected = 1;
            while expected <= PACKETS {
                let count = ours.available(3);
                if count == 0 {
                    assert!(!kernel.is_finished() || ours.available(1) > 0, "the kernel gave up");
                    std::thread::yield_now();
                }
                for n in 0..count {
                    // SAFETY: n is below what was available.
                    let descriptor = unsafe { ours.get(n) };
                    let frame = &frames[descriptor.address as usize];
                    assert_eq!(descriptor.len, expected);
                    assert_eq!(frame.load(Ordering::Relaxed), expected);
                    // In use, then not.
                    frame.store(expected | 1 << 31, Ordering::Relaxed);
                    frame.store(expected, Ordering::Relaxed);
                    // SAFETY: the frame just came.
                    unsafe { fills.put(n, descriptor.address) };
                    expected += 1;
                }
                fills.publish(count);
                ours.release(count);
            }
        });
        assert_eq!(ours.available(100), 0);
    }

    #[test]
    fn a_driver_asks_to_be_woken_by_a_flag() {
        let fill = Shared::<u64>::new(4, 0);
        let ring = FillRing(fill.side());
        assert!(!ring.needs_wakeup());
        fill.flags.store(1, Ordering::Relaxed);
        assert!(ring.needs_wakeup());
    }
}
