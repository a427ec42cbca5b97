//! The ring that the kernel and the feed share, and reading frames where they lie.
//!
//! Specification: the kernel's `Documentation/networking/packet_mmap.rst` and `if_packet.h`. A slot (version 2) or a
//! block of frames (version 3) belongs to the kernel while its status word is 0 and to the feed from `TP_STATUS_USER` on,
//! until the feed writes 0 there. Kernel and feed go round the ring in the same order, so the feed looks at one status
//! word only.
//!
//! SYNC POINT: frame handed over: the kernel writes the status after the frame; read with acquire.
//! SYNC POINT: frame given back: status written with release, so that the kernel's next writes follow the feed's reads.

use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{tpacket_block_desc, tpacket_hdr_v1, tpacket2_hdr, tpacket3_hdr};

use super::Version;
use crate::clock;

/// `struct virtio_net_hdr`, which stands before each frame (`PACKET_VNET_HDR`): flags, kind of run, header length, bytes
/// a datagram, two places.
pub(super) const VNET_LEN: usize = 10;
const VNET_FLAG_NEEDS_CSUM: u8 = 1;
const VNET_FLAG_DATA_VALID: u8 = 2;
const VNET_GSO_UDP_L4: u8 = 5;

/// Whose time a frame's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// The kernel's, taken when the packet arrived, or else when it was put into the ring.
    Kernel,
    /// The card's, by the card's clock.
    Card,
}

impl Stamp {
    #[inline]
    fn of(status: u32) -> Stamp {
        if status & libc::TP_STATUS_TS_RAW_HARDWARE != 0 { Stamp::Card } else { Stamp::Kernel }
    }
}

/// What the kernel says of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// From its Ethernet header on, as far as it fitted.
    pub(super) data: &'a [u8],
    /// Length that it came with, bytes.
    pub(super) original_len: usize,
    /// Whether all of it waits at the socket as well.
    pub(super) copied: bool,
    /// By the clock that `stamp` names.
    pub(super) time: u64,
    pub(super) stamp: Stamp,
    /// The control word of a tag that was taken out of it.
    pub(super) tag: Option<u16>,
    pub(super) vnet: Vnet,
}

/// What its `virtio_net_hdr` says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vnet {
    /// UDP's checksum is known to be right, or not computed yet.
    pub(super) checksum_settled: bool,
    /// Payload bytes of each datagram of a run; 0 for a single one.
    pub(super) segment_bytes: u16,
}

impl Vnet {
    /// Absent bytes say nothing. The kernel writes it in the machine's byte order.
    pub(super) fn of(bytes: Option<&[u8]>) -> Vnet {
        let Some(&[flags, kind, _, _, low, high, ..]) = bytes else { return Vnet::default() };
        Vnet {
            checksum_settled: flags & (VNET_FLAG_NEEDS_CSUM | VNET_FLAG_DATA_VALID) != 0,
            segment_bytes: if kind == VNET_GSO_UDP_L4 { u16::from_ne_bytes([low, high]) } else { 0 },
        }
    }
}

/// How the ring is laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) version: Version,
    /// Version 2: of a slot. Version 3: of a block.
    pub(super) unit_bytes: usize,
    pub(super) units: usize,
}

/// The mapping and the place in it.
#[derive(Debug)]
pub(super) struct Ring {
    map: NonNull<u8>,
    layout: Layout,
    /// The slot or block to look at next.
    unit: usize,
    /// Frames left in the open block, and where in it the next begins. Version 3 only.
    left: u32,
    offset: usize,
    /// Whether the kernel said since the last [`was_losing`](Self::was_losing) that it has dropped.
    losing: bool,
}

// SAFETY: the mapping is owned by the ring alone, and nothing about it is tied to a thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring of a socket that has been given one of this layout.
    pub(super) fn map(socket: RawFd, layout: Layout) -> io::Result<Ring> {
        let len = layout.unit_bytes * layout.units;
        // SAFETY: a new shared mapping overlaps nothing.
        let map = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, socket, 0)
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let Some(map) = NonNull::new(map.cast()) else { return Err(io::ErrorKind::OutOfMemory.into()) };
        Ok(Ring { map, layout, unit: 0, left: 0, offset: 0, losing: false })
    }

    /// Where the current slot or block begins.
    #[inline]
    fn base(&self) -> *mut u8 {
        // SAFETY: `unit` is below `units`, so this lies within the mapping.
        unsafe { self.map.as_ptr().add(self.unit * self.layout.unit_bytes) }
    }

    /// The status word of the current slot or block.
    #[inline]
    fn status(&self) -> &AtomicU32 {
        let at = match self.layout.version {
            Version::V2 => offset_of!(tpacket2_hdr, tp_status),
            Version::V3 { .. } => offset_of!(tpacket_block_desc, hdr) + offset_of!(tpacket_hdr_v1, block_status),
        };
        // SAFETY: slots and blocks begin at multiples of 16 in a mapping that begins at a page, and are longer than
        // their headers, so the word is aligned and within the mapping, which lives as long as `self`. Kernel and feed
        // both reach it as one word only.
        unsafe { AtomicU32::from_ptr(self.base().add(at).cast()) }
    }

    /// The next frame, if the kernel has handed one over. It stays the feed's until [`advance`](Self::advance).
    #[inline]
    pub(super) fn peek(&mut self) -> Option<Frame<'_>> {
        match self.layout.version {
            Version::V2 => self.peek_slot(),
            Version::V3 { .. } => self.peek_in_block(),
        }
    }

    #[inline]
    fn peek_slot(&mut self) -> Option<Frame<'_>> {
        // SYNC POINT: frame handed over.
        let status = self.status().load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.losing |= status & libc::TP_STATUS_LOSING != 0;
        // SAFETY: the slot is longer than the header and aligned for it, and the kernel, which wrote it, leaves it alone
        // while its status says that it is the feed's.
        let header = unsafe { &*self.base().cast::<tpacket2_hdr>() };
        let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some(header.tp_vlan_tci);
        let (data, vnet) = self.cut(0, header.tp_mac, header.tp_snaplen);
        Some(Frame {
            data,
            original_len: header.tp_len as usize,
            copied: status & libc::TP_STATUS_COPY != 0,
            time: time(header.tp_sec, header.tp_nsec),
            stamp: Stamp::of(status),
            tag,
            vnet,
        })
    }

    #[inline]
    fn peek_in_block(&mut self) -> Option<Frame<'_>> {
        loop {
            while self.left == 0 {
                // SYNC POINT: frame handed over.
                let status = self.status().load(Ordering::Acquire);
                if status & libc::TP_STATUS_USER == 0 {
                    return None;
                }
                self.losing |= status & libc::TP_STATUS_LOSING != 0;
                // SAFETY: the block is longer than its header and aligned for it, and the kernel leaves it alone while
                // its status says that it is the feed's. The union has one member.
                let header = unsafe { (*self.base().cast::<tpacket_block_desc>()).hdr.bh1 };
                (self.left, self.offset) = (header.num_pkts, header.offset_to_first_pkt as usize);
                if self.left == 0 {
                    self.give_back();
                }
            }
            let within =
                self.offset.checked_add(size_of::<tpacket3_hdr>()).is_some_and(|end| end <= self.layout.unit_bytes);
            if !within || !self.offset.is_multiple_of(align_of::<tpacket3_hdr>()) {
                // No kernel writes that.
                self.left = 0;
                self.give_back();
                continue;
            }
            // SAFETY: checked above to lie within the block and to be aligned; as the block's header, it is the feed's.
            let header = unsafe { &*self.base().add(self.offset).cast::<tpacket3_hdr>() };
            if header.tp_status & libc::TP_STATUS_USER == 0 {
                // The kernel took the room, but could not describe the run of datagrams in the frame, and counted it as
                // dropped.
                self.advance();
                continue;
            }
            let tag = (header.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(header.hv1.tp_vlan_tci as u16);
            let (data, vnet) = self.cut(self.offset, header.tp_mac, header.tp_snaplen);
            return Some(Frame {
                data,
                original_len: header.tp_len as usize,
                copied: false,
                time: time(header.tp_sec, header.tp_nsec),
                stamp: Stamp::of(header.tp_status),
                tag,
                vnet,
            });
        }
    }

    /// The frame whose header lies `at` so many bytes into the current slot or block; nothing where its lengths lie.
    #[inline]
    fn cut(&self, at: usize, mac: u16, snaplen: u32) -> (&[u8], Vnet) {
        // SAFETY: the slot or block lies within the mapping, and the kernel leaves it alone while it is the feed's. The
        // status word is written through a shared reference to an atomic, and only when no slice is left.
        let unit = unsafe { slice::from_raw_parts(self.base().cast_const(), self.layout.unit_bytes) };
        let from = at + usize::from(mac);
        let data = unit.get(from..from + snaplen as usize).unwrap_or(&[]);
        (data, Vnet::of(from.checked_sub(VNET_LEN).and_then(|vnet| unit.get(vnet..from))))
    }

    /// Gives the current frame back, where the version gives frames back one by one, and goes to the next.
    #[inline]
    pub(super) fn advance(&mut self) {
        if let Version::V3 { .. } = self.layout.version {
            self.left = self.left.saturating_sub(1);
            if self.left > 0 {
                // SAFETY: a frame was peeked at this offset, so its header lies within the block and is aligned.
                let next = unsafe { (*self.base().add(self.offset).cast::<tpacket3_hdr>()).tp_next_offset };
                self.offset += next as usize;
                return;
            }
        }
        self.give_back();
    }

    /// Gives the current slot or block back, and goes to the next.
    #[inline]
    fn give_back(&mut self) {
        // SYNC POINT: frame given back.
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.unit = if self.unit + 1 == self.layout.units { 0 } else { self.unit + 1 };
    }

    /// Whether the kernel has said that it dropped packets, since the last call.
    #[inline]
    pub(super) fn was_losing(&mut self) -> bool {
        std::mem::take(&mut self.losing)
    }
}

#[inline]
fn time(seconds: u32, nanos: u32) -> u64 {
    clock::nanos(libc::timespec { tv_sec: seconds.into(), tv_nsec: nanos.into() })
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nothing refers to it any more.
        unsafe { libc::munmap(self.map.as_ptr().cast(), self.layout.unit_bytes * self.layout.units) };
    }
}
