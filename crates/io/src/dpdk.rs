//! Receiving without the kernel: DPDK's poll-mode drivers, of any vendor (doc.dpdk.org, `rte_ethdev.h`).
//!
//! A thin library, which `make dpdk` compiles for the DPDK that is installed, is loaded when the first receiver is opened;
//! without it nothing of DPDK is needed, and opening says what is missing. Each device has its queues polled by the thread
//! that receives, packets are read where the card put them, and their buffers given back once the sink has returned. While
//! packets come there is no system call, except where a driver makes one: the virtual ones over the kernel's sockets do.
//!
//! - **Groups** are joined by the kernel where it has an interface beside the device: virtual devices over an interface,
//!   cards whose driver is shared (Mellanox's). Where it has none, the receiver speaks IGMP itself ([`DpdkOptions::address`]).
//!   It says what it has to in [`Receiver::refresh`] and while nothing comes: who uses the path calls one or the other a few
//!   times a second.
//! - **Times** are the card's where its driver offers them and its clock can be read, else the receiving thread's.
//! - **Waiting**: a poll-mode driver wakes nobody. A blocking receiver naps 50 us at a time and looks.
//! - DPDK's environment belongs to the process and stays until its end. The affinity of the threads that open receivers is
//!   left alone; threads that receive are made known to DPDK, of which a process can have 127.
//!
//! `net_af_packet` shows all that comes by its interface, in copies made by the kernel, and says nothing of what its ring
//! had no room for. Runs of datagrams that a sender on this machine hands over in one piece
//! ([`SendOptions::segmentation`](crate::send::SendOptions)) are longer than a frame there, and malformed.

mod eal;
mod error;
mod igmp;
mod library;
mod open;
mod options;
mod port;
mod times;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use barewire_types::{Prefetch, TsSource};

use crate::Waker;
use crate::clock::monotonic;
use crate::frames::Arrival;
use crate::membership::Membership;
use crate::memory::CachePrefetch;
use crate::nic::{Clocks, UserClock, UserTimes, settle};
use crate::packet::{Packet, Receiver, ReceiverCounters, counters};
use crate::waits::Waits;
pub use error::DpdkError;
pub use library::FILE as LIBRARY_FILE;
use library::RawPacket;
pub use options::{DeviceFor, DeviceReport, DeviceTimes, DpdkOptions, Filter, Joined, Memory};
use port::Port;

/// So many packets ahead of its turn a packet is asked for from memory, whole, as with AF_XDP.
const AHEAD: usize = 4;
const CACHE_LINE: usize = 64;
const LINES_AHEAD: usize = 24;
/// How long a blocking receiver sleeps between two looks.
const NAP: Duration = Duration::from_micros(50);
/// Looks that found nothing between two at what is to be said by IGMP.
const LOOKS: u64 = 4096;
/// Room for a frame that came in several pieces: the longest there is.
const LONGEST: usize = 1 << 16;

counters! {
    /// What this path has counted beside what all paths count.
    DpdkCounters {
        /// Frames that came in several pieces, each put together by a copy.
        pieces,
        /// Times that a driver got no buffer for a frame to come, by the last [`Receiver::refresh`]; frames that are lost
        /// for it are dropped by the device, and counted as such.
        no_buffer,
        /// IGMP queries heard.
        igmp_queries,
        /// IGMP messages sent.
        igmp_reports,
        /// IGMP messages that the device did not take.
        igmp_unsent,
    }
}

/// Receives lines through DPDK.
#[derive(Debug)]
pub struct DpdkReceiver {
    ports: Vec<Port>,
    memberships: Vec<Membership>,
    waits: Waits,
    timeout: Option<Duration>,
    /// What one look brought.
    packets: Box<[RawPacket]>,
    /// Room for one frame that came in several pieces.
    whole: Box<[u8]>,
    clock: UserClock,
    clocks: Clocks,
    counters: ReceiverCounters,
    pieces: u64,
    reports: Vec<DeviceReport>,
}

impl DpdkReceiver {
    /// What each device asked for and got.
    pub fn reports(&self) -> &[DeviceReport] {
        &self.reports
    }

    /// By what the receiving thread takes times itself.
    pub fn user_times(&self) -> UserTimes {
        self.clock.times()
    }

    /// What only this path counts.
    pub fn dpdk_counters(&self) -> DpdkCounters {
        let mut counters = DpdkCounters { pieces: self.pieces, ..DpdkCounters::default() };
        for port in &self.ports {
            port.count(&mut counters);
        }
        counters
    }

    /// Takes one batch of one queue.
    #[inline]
    fn drain(&mut self, index: usize, queue: u16, sink: &mut impl FnMut(Packet<'_>)) -> usize {
        let Some(port) = self.ports.get_mut(index) else { return 0 };
        let counters = &mut self.counters;
        let count = port.receive(queue, &mut self.packets);
        if count == 0 {
            counters.empty_polls += 1;
            if counters.empty_polls.is_multiple_of(LOOKS) {
                port.speak(monotonic());
            }
            return 0;
        }
        counters.batches += 1;
        // One reading serves the batch.
        let now = self.clock.now();
        let mut delivered = 0;
        let packets = self.packets.get(..count).unwrap_or(&[]);
        for (n, packet) in packets.iter().enumerate() {
            if let Some(later) = packets.get(n + AHEAD) {
                // SAFETY: the port has them until the next look.
                let later = unsafe { port::bytes(later) };
                later.iter().step_by(CACHE_LINE).take(LINES_AHEAD).for_each(|byte| CachePrefetch.prefetch(byte));
            }
            // SAFETY: as above; the sink cannot keep them.
            let mut frame = unsafe { port::bytes(packet) };
            if packet.flags & RawPacket::PIECES != 0 {
                self.pieces += 1;
                let Some(whole) = port.copy(packet, &mut self.whole) else {
                    counters.truncated += 1;
                    continue;
                };
                frame = whole;
            }
            if port.is_own(frame) {
                counters.other_destination += 1;
                continue;
            }
            let stamp = (packet.flags & RawPacket::TIME != 0).then_some(packet.time);
            let (fit, stamp) = port.stamp(stamp);
            let (ts_recv, ts_source, hardware) = settle(fit, stamp, now, TsSource::User);
            let arrival = Arrival {
                ts_recv,
                ts_source,
                seen: now,
                hardware,
                checksum_settled: packet.flags & RawPacket::CHECKSUM_GOOD != 0 || port.is_unfinished(frame),
                vlan: (packet.flags & RawPacket::VLAN != 0).then_some(packet.vlan_tci & 0xfff).filter(|id| *id != 0),
                segment_bytes: 0,
                original_len: frame.len(),
            };
            delivered += port.lines.deliver(frame, &arrival, counters, sink);
            if igmp::is_igmp(frame) {
                port.hear(frame, monotonic());
            }
        }
        port.release();
        delivered
    }

    #[inline]
    fn drain_all(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> usize {
        let mut delivered = 0;
        for index in 0..self.ports.len() {
            for queue in 0..self.ports.get(index).map_or(0, |port| port.queues) {
                delivered += self.drain(index, queue, sink);
            }
        }
        delivered
    }

    /// Naps and looks until something came, the timeout is over, or somebody ended it.
    fn nap(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let end = self.timeout.map(|timeout| monotonic().saturating_add(timeout.as_nanos() as u64));
        loop {
            let left = end.map_or(NAP, |end| Duration::from_nanos(end.saturating_sub(monotonic())));
            self.waits.set_timeout(Some(left.min(NAP)));
            let ended = self.waits.wait()?;
            let delivered = self.drain_all(sink);
            if delivered > 0 || ended || end.is_some_and(|end| end <= monotonic()) {
                return Ok(delivered);
            }
        }
    }
}

impl Receiver for DpdkReceiver {
    #[inline]
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut delivered = self.drain_all(sink);
        if delivered == 0 && self.waits.blocks() {
            delivered = self.nap(sink)?;
            self.counters.idle_waits += u64::from(delivered == 0);
        }
        Ok(delivered)
    }

    fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Counts what the devices have dropped, compares clocks, and says what is to be said by IGMP. Fails once a kernel's
    /// interface beside a device is gone.
    fn refresh(&mut self) -> io::Result<()> {
        self.clocks.nic_bound_ns = u64::MAX;
        for (n, port) in self.ports.iter_mut().enumerate() {
            port.refresh(&mut self.counters)?;
            let bound = port.bound_ns();
            self.clocks.nic_bound_ns = if n == 0 { bound } else { bound.max(self.clocks.nic_bound_ns) };
        }
        self.clock.refresh(&mut self.counters);
        self.clocks.user_bound_ns = self.clock.bound_ns();
        self.memberships.iter().try_for_each(Membership::check_interface)
    }

    fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    fn watch(&mut self, fd: RawFd) {
        self.waits.watch(fd);
    }

    fn waker(&self) -> Waker {
        self.waits.waker()
    }
}
