//! The buffers that `recvmmsg` writes, and reading them.
//!
//! One batch serves all lines, since a batch is handed over before the next is taken. A payload's buffer begins `STRIDE`
//! bytes after the one before it: room for the longest datagram there is, in pages that stay untouched, and unbacked,
//! unless such datagrams come. The stride is no multiple of 4,096 or of 65,536, so that the buffers' first lines, which
//! hold all that most feeds send, spread over the cache's sets instead of pushing each other out.

use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::slice;

use barewire_types::UnixNanos;

use crate::clock;

/// Room for a time (64 bytes) and a count of drops (24), with some to spare, aligned as a cmsghdr must be.
const CONTROL_WORDS: usize = 16;

/// What the kernel writes beside one payload.
#[repr(C)]
struct Slot {
    payload: libc::iovec,
    name: libc::sockaddr_in,
    control: [u64; CONTROL_WORDS],
}

/// One received message.
pub(crate) struct Message<'a> {
    /// The payload; `None` where it was longer than the buffer.
    pub(crate) payload: Option<&'a [u8]>,
    pub(crate) src: SocketAddrV4,
    /// The kernel's receive time.
    pub(crate) time: Option<UnixNanos>,
    /// The card's receive time, by the card's clock, nanoseconds.
    pub(crate) hardware: Option<u64>,
    /// The socket's drops up to this message, modulo 2^32, where there have been any.
    pub(crate) drops: Option<u32>,
}

/// Buffers for a batch of messages.
///
/// The headers point to the slots and the slots to the payloads. Slots and payloads are only ever reached through the raw
/// pointers below, never through a reference to the whole, so the kernel's writes meet no live reference.
pub(crate) struct Batch {
    headers: Box<[libc::mmsghdr]>,
    slots: NonNull<Slot>,
    payloads: NonNull<u8>,
    mapped: usize,
    /// How many headers the last call has written to.
    used: usize,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("messages", &self.headers.len())
            .field("bytes", &self.mapped)
            .finish_non_exhaustive()
    }
}

// SAFETY: the pointers are to memory that the batch alone owns.
unsafe impl Send for Batch {}

/// Bytes from one payload buffer to the next.
fn stride(max_datagram: usize) -> usize {
    const LINE: usize = 64;
    let stride = max_datagram.next_multiple_of(LINE);
    // Small buffers lie side by side; large ones are put 88 lines past a multiple of 64 KiB.
    if stride <= 4096 { stride | LINE } else { stride.next_multiple_of(65_536) + 88 * LINE }
}

impl Batch {
    /// Buffers for `count` messages of up to `max_datagram` bytes.
    pub(crate) fn new(count: usize, max_datagram: usize) -> io::Result<Batch> {
        let stride = stride(max_datagram);
        let mapped = count * stride;
        // SAFETY: a new private mapping overlaps nothing.
        let memory = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapped,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(payloads) = NonNull::new(memory.cast::<u8>()) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        let slots: Box<[Slot]> = (0..count)
            .map(|index| Slot {
                payload: libc::iovec {
                    iov_base: payloads.as_ptr().wrapping_add(index * stride).cast(),
                    iov_len: max_datagram,
                },
                // SAFETY: a sockaddr_in is integers, for which zero is a value.
                name: unsafe { mem::zeroed() },
                control: [0; CONTROL_WORDS],
            })
            .collect();
        let slots = NonNull::from(Box::leak(slots)).cast::<Slot>();
        let headers = (0..count)
            .map(|index| {
                // SAFETY: the index is within the slots.
                let slot = unsafe { slots.as_ptr().add(index) };
                // SAFETY: an mmsghdr is integers and pointers, for which zero is a value.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                // SAFETY: `slot` is valid; only addresses are taken.
                unsafe {
                    header.msg_hdr.msg_name = (&raw mut (*slot).name).cast();
                    header.msg_hdr.msg_iov = &raw mut (*slot).payload;
                    header.msg_hdr.msg_control = (&raw mut (*slot).control).cast();
                }
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Ok(Batch { headers, slots, payloads, mapped, used: count })
    }

    /// Takes what the socket has, up to the batch's size, without waiting.
    #[inline]
    pub(crate) fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        for header in self.headers.iter_mut().take(self.used) {
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        }
        self.used = 0;
        let count = self.headers.len() as libc::c_uint;
        // SAFETY: every header points to a name, a control buffer and a payload buffer that are writable for the lengths
        // they give, and that no reference is held to: `messages` borrows the batch.
        let received = unsafe {
            libc::recvmmsg(socket, self.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, ptr::null_mut())
        };
        match usize::try_from(received) {
            Ok(received) => {
                self.used = received;
                Ok(received)
            }
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Takes one message, waiting for it as long as the socket waits (`recvmsg`).
    pub(crate) fn receive_one(&mut self, socket: RawFd) -> io::Result<usize> {
        self.used = 0;
        let Some(header) = self.headers.first_mut() else { return Ok(0) };
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
        // SAFETY: as in `receive`, of the first header alone.
        let received = unsafe { libc::recvmsg(socket, &mut header.msg_hdr, 0) };
        let Ok(received) = libc::c_uint::try_from(received) else { return Err(io::Error::last_os_error()) };
        header.msg_len = received;
        self.used = 1;
        Ok(1)
    }

    /// The messages that the last [`receive`](Self::receive) or [`receive_one`](Self::receive_one) took.
    #[inline]
    pub(crate) fn messages(&self, received: usize) -> impl Iterator<Item = Message<'_>> {
        self.headers.iter().take(received.min(self.used)).map(|header| {
            // SAFETY: the kernel filled this header, its slot and its payload by the last `receive`, and cannot write
            // there again while `self` is borrowed. Without MSG_TRUNC in the call, `msg_len` is what it wrote.
            unsafe { message(header) }
        })
    }
}

/// # Safety
///
/// The header, and what it points to, was filled by a `recvmmsg` that was not called with MSG_TRUNC, and stays untouched
/// as long as the message lives.
#[inline]
unsafe fn message(header: &libc::mmsghdr) -> Message<'_> {
    let head = &header.msg_hdr;
    // SAFETY: the caller's promise; the name is a sockaddr_in in its slot.
    let name = unsafe { &*head.msg_name.cast::<libc::sockaddr_in>() };
    let mut message = Message {
        payload: None,
        src: SocketAddrV4::new(Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)), u16::from_be(name.sin_port)),
        time: None,
        hardware: None,
        drops: None,
    };
    if head.msg_flags & libc::MSG_TRUNC == 0 {
        // SAFETY: the caller's promise; so many bytes of the buffer were written.
        message.payload = Some(unsafe {
            slice::from_raw_parts((*head.msg_iov).iov_base.cast::<u8>().cast_const(), header.msg_len as usize)
        });
    }
    // SAFETY: the control buffer is aligned and filled by the kernel, and `msg_controllen` says how far.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(head) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null or a whole header within the buffer.
    while let Some(entry) = unsafe { control.as_ref() } {
        // SAFETY: the data follows its header; it is copied out, whatever its alignment, as the type that the kernel
        // documents for this kind of entry.
        unsafe {
            let data = libc::CMSG_DATA(control);
            match (entry.cmsg_level, entry.cmsg_type) {
                // Three times: the software one, one that is no longer used, the card's own.
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                    let [software, _, hardware] = ptr::read_unaligned(data.cast::<[libc::timespec; 3]>());
                    let (software, hardware) = (clock::nanos(software), clock::nanos(hardware));
                    message.time = (software != 0).then_some(UnixNanos(software));
                    message.hardware = (hardware != 0).then_some(hardware);
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = clock::nanos(ptr::read_unaligned(data.cast::<libc::timespec>()));
                    message.time = (time != 0).then_some(UnixNanos(time));
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    message.drops = Some(ptr::read_unaligned(data.cast::<u32>()));
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(head, control);
        }
    }
    message
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: both were made in `new` with these lengths, and nothing refers to them once the batch goes.
        unsafe {
            libc::munmap(self.payloads.as_ptr().cast(), self.mapped);
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(self.slots.as_ptr(), self.headers.len())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A control message of the kernel's, as CMSG_DATA expects it.
    fn control(level: libc::c_int, kind: libc::c_int, words: &[u64], out: &mut Vec<u64>) {
        out.push((2 + words.len() as u64) * 8);
        out.push(u64::from(level as u32) | u64::from(kind as u32) << 32);
        out.extend(words);
    }

    /// What the kernel would write, written by hand: no card here stamps anything.
    #[test]
    #[cfg(all(target_pointer_width = "64", target_endian = "little"))]
    fn the_cards_time_is_the_third() {
        let times = |software, hardware| [software, 5, 0, 0, hardware, 7];
        for (kind, words, time, hardware) in [
            (libc::SCM_TIMESTAMPING, times(3, 4), Some(3_000_000_005), Some(4_000_000_007)),
            (libc::SCM_TIMESTAMPING, [3, 5, 0, 0, 0, 0], Some(3_000_000_005), None),
            (libc::SCM_TIMESTAMPING, [0, 0, 0, 0, 4, 7], None, Some(4_000_000_007)),
            (libc::SCM_TIMESTAMPING, [0; 6], None, None),
            (libc::SCM_TIMESTAMPNS, times(3, 4), Some(3_000_000_005), None),
        ] {
            let mut batch = Batch::new(2, 100).unwrap();
            let mut bytes = Vec::new();
            control(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &[9], &mut bytes);
            control(libc::SOL_SOCKET, kind, &words, &mut bytes);
            let header = &mut batch.headers[0];
            header.msg_len = 0;
            header.msg_hdr.msg_controllen = (bytes.len() * 8) as _;
            // SAFETY: the control buffer holds 16 words, and no reference to it lives.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), header.msg_hdr.msg_control.cast(), bytes.len()) };
            let message = batch.messages(1).next().unwrap();
            assert_eq!((message.time.map(|time| time.0), message.hardware, message.drops), (time, hardware, Some(9)));
        }
    }
}
