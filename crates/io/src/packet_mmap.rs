//! Receiving through packet sockets' rings (`AF_PACKET`, `PACKET_RX_RING`): no system call for a packet, no card or driver
//! needed that knows of it. CAP_NET_RAW is.
//!
//! Each interface has one packet socket and one ring in memory that is shared with the kernel. A filter generated from
//! the lines lets only their packets in, and they are read where the kernel put them. The group's membership is kept by
//! a socket of its own that receives nothing.
//!
//! What reaches the ring is what reached the interface, so a few things differ from sockets. What this machine sends
//! itself is seen on the loopback, once, and on no other interface. Fragments are counted, not put together (unless
//! [`Fanout::defragment`] is asked for). Packets from a wrong source are counted one by one. A run of datagrams that the
//! kernel carries in one piece is cut up here; before Linux 6.2 the kernel drops such runs instead, and counts one packet
//! for each.
//!
//! Version 2 of the ring hands over frame by frame, and is the default. Version 3 packs frames into blocks and hands over
//! blocks, when they are full or have been open for [`Version::V3::block_timeout_ms`]: less memory for small packets, half
//! a millisecond and more of latency.

mod filter;
mod open;
mod ring;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use barewire_types::{TsSource, UnixNanos};

use crate::Waker;
use crate::frames::{Arrival, Lines, TrailerTimes};
use crate::kernel::{Mode, Timestamps};
use crate::membership::Membership;
use crate::nic::{Clocks, Hardware, Nics, Stamps, UserClock, UserTimes, settle};
use crate::packet::{Packet, Receiver, ReceiverCounters, counters};
use crate::socket::{Socket, check};
use crate::waits::Waits;
use ring::{Ring, Stamp, VNET_LEN, Vnet};

/// Which version of the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// `TPACKET_V2`: slots of one length, handed over one by one.
    #[default]
    V2,
    /// `TPACKET_V3`: blocks of frames.
    V3 {
        /// Milliseconds after which a block is handed over although it is not full: 1 to 1,000.
        block_timeout_ms: u16,
    },
}

/// By what the kernel deals packets out to the members of a fanout group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FanoutMode {
    /// A hash over addresses and ports: a line stays with one member.
    Hash,
    /// In turns.
    RoundRobin,
    /// The core that the packet came in on.
    Cpu,
    /// The first member until its ring is full, then the next.
    Rollover,
    /// At random.
    Random,
    /// The card's queue.
    Queue,
}

/// Sharing an interface's packets with other receivers, of this process or another.
///
/// All members must ask for the same. Each interface of a receiver is a group of its own: `group` for the first that its
/// lines name, the next number for the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// Number of the group, within the network namespace.
    pub group: u16,
    /// By what packets are dealt out.
    pub mode: FanoutMode,
    /// Whether a member whose ring is full passes packets on to the next.
    pub rollover: bool,
    /// Whether the kernel puts fragments together first.
    pub defragment: bool,
}

/// How to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketMmapOptions {
    /// How to wait.
    pub mode: Mode,
    /// Which version of the ring.
    pub version: Version,
    /// Ring to ask for, bytes an interface: 65,536 to 2 GiB. The kernel takes this memory at once.
    pub ring_bytes: usize,
    /// Version 2: bytes of a slot, rounded up to a power of two: 256 to 131,072. Longer frames are taken by a system call
    /// each. 2,048 fits all that comes in packets of 1,500 bytes; some 80 are not for the frame.
    pub slot_bytes: usize,
    /// Version 3: bytes of a block, rounded up to a power of two: 131,072 to 16 MiB.
    pub block_bytes: usize,
    /// Kernel buffer to ask for, bytes an interface, in which frames longer than a slot wait.
    pub rcvbuf_bytes: usize,
    /// Which clock is to say when packets arrive.
    pub timestamps: Stamps,
    /// Most frames of one interface that one call takes: 1 to 1,024.
    pub batch: usize,
    /// Shares the packets with other receivers.
    pub fanout: Option<Fanout>,
    /// Capture switch whose trailers say when packets came; those without one keep the time that they have otherwise.
    pub trailer_times: Option<TrailerTimes>,
}

impl Default for PacketMmapOptions {
    fn default() -> Self {
        PacketMmapOptions {
            mode: Mode::Busy,
            version: Version::V2,
            ring_bytes: 64 << 20,
            slot_bytes: 2048,
            block_bytes: 256 << 10,
            rcvbuf_bytes: 4 << 20,
            timestamps: Stamps::Auto,
            batch: 64,
            fanout: None,
            trailer_times: None,
        }
    }
}

/// What an interface asked for and what it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceReport {
    /// Its name.
    pub interface: String,
    /// Numbers of the lines that come by it.
    pub lines: Vec<u8>,
    /// Ring asked for, bytes.
    pub ring_asked_bytes: usize,
    /// Ring got, bytes. Less than asked for: the kernel had no more memory in pieces large enough.
    pub ring_bytes: usize,
    /// Frames (version 2) or blocks (version 3) that fit into it.
    pub slots: usize,
    /// Instructions of its filter.
    pub filter_len: usize,
    /// Where its receive times come from, packets with hardware times aside.
    pub timestamps: Timestamps,
    /// Whether its packets carry hardware times, as of the opening.
    pub hardware: Hardware,
    /// The number of its fanout group.
    pub fanout_group: Option<u16>,
}

counters! {
    /// What this path has counted beside what all paths count.
    PacketMmapCounters {
        /// Frames longer than a slot, each taken by a system call.
        long_frames,
        /// Times that an interface was seen to have gone down.
        link_downs,
        /// Times that version 3's queue stood still since all blocks were full.
        freezes,
    }
}

/// One interface's socket and ring.
#[derive(Debug)]
struct Tap {
    socket: Socket,
    ring: Ring,
    lines: Lines,
    /// Which of the cards' clocks its stamps are by, where it has any.
    nic: Option<usize>,
}

/// Receives lines through packet sockets' rings.
#[derive(Debug)]
pub struct PacketMmapReceiver {
    taps: Vec<Tap>,
    memberships: Vec<Membership>,
    waits: Waits,
    batch: usize,
    timestamps: bool,
    nics: Nics,
    clock: UserClock,
    clocks: Clocks,
    version: Version,
    /// Room for one frame longer than a slot, its `virtio_net_hdr` before it.
    long: Box<[u8]>,
    counters: ReceiverCounters,
    own: PacketMmapCounters,
    reports: Vec<InterfaceReport>,
}

impl PacketMmapReceiver {
    /// What each interface asked for and got, in the order in which the lines name them.
    pub fn reports(&self) -> &[InterfaceReport] {
        &self.reports
    }

    /// By what the receiving thread takes times itself.
    pub fn user_times(&self) -> UserTimes {
        self.clock.times()
    }

    /// What only this path counts.
    pub fn packet_mmap_counters(&self) -> PacketMmapCounters {
        self.own
    }

    /// Takes one batch of one interface.
    #[inline]
    fn drain(&mut self, index: usize, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let Some(tap) = self.taps.get_mut(index) else { return Ok(0) };
        let (mut taken, mut delivered) = (0, 0);
        let mut user_time = UnixNanos::ABSENT;
        let fit = self.nics.fit(tap.nic);
        while taken < self.batch {
            let Some(frame) = tap.ring.peek() else { break };
            taken += 1;
            let (mut data, mut vnet) = (frame.data, frame.vnet);
            if frame.copied
                && let Some(len) = take_long(tap.socket.fd(), &mut self.long)
            {
                self.own.long_frames += 1;
                let (before, whole) = self.long.split_at_checked(VNET_LEN).unwrap_or_default();
                (data, vnet) = (whole.get(..len).unwrap_or(&[]), Vnet::of(Some(before)));
            }
            let (seen, source) = if self.timestamps && frame.stamp == Stamp::Kernel {
                (UnixNanos(frame.time), TsSource::Kernel)
            } else {
                // One reading serves the batch, as with sockets.
                if user_time == UnixNanos::ABSENT {
                    user_time = self.clock.now();
                }
                (user_time, TsSource::User)
            };
            let stamp = Some(frame.time).filter(|_| frame.stamp == Stamp::Card);
            let (ts_recv, ts_source, hardware) = settle(fit.as_ref(), stamp, seen, source);
            let arrival = Arrival {
                ts_recv,
                ts_source,
                seen,
                hardware,
                checksum_settled: vnet.checksum_settled,
                vlan: frame.tag.map(|control| control & 0xfff).filter(|id| *id != 0),
                segment_bytes: vnet.segment_bytes,
                original_len: frame.original_len,
            };
            delivered += tap.lines.deliver(data, &arrival, &mut self.counters, sink);
            tap.ring.advance();
        }
        if taken == 0 {
            self.counters.empty_polls += 1;
            return Ok(0);
        }
        self.counters.batches += 1;
        if tap.ring.was_losing() {
            self.count_drops(index)?;
        }
        Ok(delivered)
    }

    /// Adds what the kernel has dropped at an interface's ring since it was last asked.
    fn count_drops(&mut self, index: usize) -> io::Result<()> {
        let Some(tap) = self.taps.get(index) else { return Ok(()) };
        let mut stats = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
        let mut len = match self.version {
            Version::V2 => size_of::<libc::tpacket_stats>(),
            Version::V3 { .. } => size_of::<libc::tpacket_stats_v3>(),
        } as libc::socklen_t;
        let pointer = (&raw mut stats).cast();
        // SAFETY: `stats` is writable for `len` bytes. Version 2's structure is the beginning of version 3's.
        check(unsafe {
            libc::getsockopt(tap.socket.fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, pointer, &mut len)
        })?;
        self.counters.kernel_drops += u64::from(stats.tp_drops);
        self.own.freezes += u64::from(stats.tp_freeze_q_cnt);
        Ok(())
    }

    fn check_interfaces(&self) -> io::Result<()> {
        self.memberships.iter().try_for_each(Membership::check_interface)
    }

    /// Takes note of an error that waits at an interface's socket: it has gone down, which may pass, or for good.
    fn check_link(&mut self, index: usize) -> io::Result<()> {
        let Some(tap) = self.taps.get(index) else { return Ok(()) };
        match tap.socket.get(libc::SO_ERROR)? {
            0 => Ok(()),
            libc::ENETDOWN => {
                self.own.link_downs += 1;
                self.check_interfaces()
            }
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

/// Takes a frame that did not fit into its slot from the socket, and returns its length; `None` if it is not there.
#[cold]
fn take_long(socket: RawFd, into: &mut [u8]) -> Option<usize> {
    // Once more after an error that waited at the socket: reading it has removed it.
    for _ in 0..2 {
        // SAFETY: `into` is writable for its length.
        let got = unsafe { libc::recv(socket, into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
        match usize::try_from(got) {
            Ok(got) => return got.checked_sub(VNET_LEN),
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    None
}

impl Receiver for PacketMmapReceiver {
    #[inline]
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut delivered = 0;
        if !self.waits.blocks() {
            for index in 0..self.taps.len() {
                delivered += self.drain(index, sink)?;
            }
            return Ok(delivered);
        }
        if self.waits.wait()? {
            for index in 0..self.taps.len() {
                let found = self.waits.found(index);
                if found & libc::POLLERR != 0 {
                    self.check_link(index)?;
                }
                if found & libc::POLLIN != 0 {
                    delivered += self.drain(index, sink)?;
                }
            }
        }
        self.counters.idle_waits += u64::from(delivered == 0);
        Ok(delivered)
    }

    fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn clocks(&self) -> Clocks {
        self.clocks
    }

    fn refresh(&mut self) -> io::Result<()> {
        for index in 0..self.taps.len() {
            self.count_drops(index)?;
            self.check_link(index)?;
        }
        self.clocks.refresh(&mut self.nics, &mut self.clock, &mut self.counters);
        self.check_interfaces()
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.waits.set_timeout(timeout);
    }

    fn watch(&mut self, fd: RawFd) {
        self.waits.watch(fd);
    }

    fn waker(&self) -> Waker {
        self.waits.waker()
    }
}
