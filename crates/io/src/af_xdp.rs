//! Receiving past the kernel's network stack: AF_XDP (`linux/if_xdp.h`, the kernel's `Documentation/networking/af_xdp.rst`).
//!
//! An XDP program, made for the lines and attached to each of their interfaces, takes the lines' packets before the stack
//! sees them and lets everything else pass. One socket for each receive queue gets them, in memory that kernel and
//! process share: where the driver can, the card writes there itself (zero-copy), else the kernel copies. Packets are
//! handed to the sink where they lie; their frames go back to the kernel when the sink has returned. While packets come,
//! a busy receiver makes no system call.
//!
//! Each step down is reported: [`InterfaceReport`] says what was asked for, what was got, and why.
//!
//! The program is bound to the receiver: it is gone when the receiver is dropped or the process ends, however it ends. (A
//! child that was forked from the process and lives on without exec keeps the program of a parent that was killed.) A
//! program that is there already is never replaced.
//!
//! - A line that names a VLAN's interface (`eth0.100`) is received on the interface below it, natively where that can, by
//!   its tag. A card that takes tags off before XDP sees them must be told not to (`ethtool -K eth0 rxvlan off`).
//! - Frames of more than 1,792 bytes (3,840 where frames are 4,096 bytes) do not fit and are dropped by the kernel.
//! - In generic mode, which is for tests and for interfaces that can no better, senders on this machine must not send
//!   runs of datagrams in one piece ([`SendOptions::segmentation`](crate::send::SendOptions)).
//!
//! Needs Linux 5.11, and CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF while it is opened.

pub(crate) mod checksum;
mod device;
mod error;
mod fragments;
mod open;
mod options;
mod program;
mod ring;
#[cfg(test)]
mod stamped;
mod umem;
mod xsk;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use barewire_types::{Prefetch, TsSource};

use crate::bpf::Link;
use crate::frames::{Arrival, Lines};
use crate::membership::Membership;
use crate::memory::CachePrefetch;
use crate::nic::{Clocks, Nics, UserClock, UserTimes, Verdict, settle};
use crate::packet::{Packet, Receiver, ReceiverCounters};
use crate::waits::Waits;
use crate::{Waker, interfaces};
pub use error::AfXdpError;
use fragments::Fragments;
pub use options::{
    AfXdpOptions, Attach, Attached, BusyPoll, Got, InterfaceReport, QueueStatistics, Transfer, Transferred,
};
use ring::{FillRing, ReceiveRing};
pub use umem::Pages;
use umem::Umem;
use xsk::Xsk;

/// So many packets ahead of its turn a packet is asked for from memory, whole: its checksum is summed up, its messages are
/// read, and the frames of a queue are more than caches hold. (Seen: 1,400 bytes summed up in 70 ns instead of 230.)
const AHEAD: u32 = 4;
const CACHE_LINE: usize = 64;
/// The most of its cache lines: those of the longest packet that most networks carry.
const LINES_AHEAD: usize = 24;

/// A receive queue: its socket, rings, and what the kernel last said of it.
#[derive(Debug)]
struct Queue {
    // The rings are unmapped before the socket is closed.
    receive: ReceiveRing,
    fill: FillRing,
    socket: Xsk,
    /// Which of the receiver's interfaces it belongs to.
    interface: usize,
    number: u32,
    /// Drops already counted.
    drops_seen: u64,
    /// Whether the driver does its receive work when it is called.
    busy_poll: bool,
}

/// An interface: its program, and whom its packets are for.
#[derive(Debug)]
struct Interface {
    name: String,
    /// By VLAN id, 0 for none.
    lines: Vec<(u16, Lines)>,
    umem: Umem,
    /// Which of the cards' clocks stamps are by that stand in front of frames; `None` where none do.
    nic: Option<usize>,
    fragments: Fragments,
}

impl Interface {
    /// The lines that a frame can be for. The program let it come, so its VLAN is one of theirs.
    #[inline]
    fn lines_for(&self, frame: &[u8]) -> Option<&Lines> {
        if let [(_, lines)] = self.lines.as_slice() {
            return Some(lines);
        }
        let vlan = match frame.get(12..16) {
            Some([0x81, 0x00, high, low] | [0x88, 0xa8, high, low]) => u16::from_be_bytes([high & 0x0f, *low]),
            _ => 0,
        };
        self.lines.iter().find(|(id, _)| *id == vlan).map(|(_, lines)| lines)
    }
}

/// Receives lines through AF_XDP sockets.
#[derive(Debug)]
pub struct AfXdpReceiver {
    /// The programs' attachments. First, so that they are dropped first: from then on the kernel's stack has the traffic.
    _links: Vec<Link>,
    queues: Vec<Queue>,
    interfaces: Vec<Interface>,
    memberships: Vec<Membership>,
    batch: u32,
    waits: Waits,
    nics: Nics,
    clock: UserClock,
    clocks: Clocks,
    counters: ReceiverCounters,
    reports: Vec<InterfaceReport>,
}

impl AfXdpReceiver {
    /// What each interface asked for and got.
    pub fn reports(&self) -> &[InterfaceReport] {
        &self.reports
    }

    /// By what the receiving thread takes times itself.
    pub fn user_times(&self) -> UserTimes {
        self.clock.times()
    }

    /// The kernel's own counts, by interface and queue. A system call a queue.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn statistics(&self) -> io::Result<Vec<(&str, u32, QueueStatistics)>> {
        let of = |queue: &Queue| {
            let name = self.interfaces.get(queue.interface).map_or("", |interface| interface.name.as_str());
            queue.socket.statistics().map(|statistics| (name, queue.number, statistics))
        };
        self.queues.iter().map(of).collect()
    }

    /// Takes one batch of one queue.
    #[inline]
    fn drain(&mut self, index: usize, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let Some(queue) = self.queues.get_mut(index) else { return Ok(0) };
        let Some(interface) = self.interfaces.get(queue.interface) else { return Ok(0) };
        let counters = &mut self.counters;
        let count = queue.receive.available(self.batch);
        if count == 0 {
            counters.empty_polls += 1;
            if queue.busy_poll || queue.fill.needs_wakeup() {
                queue.socket.wake_driver()?;
            }
            return Ok(0);
        }
        counters.batches += 1;
        // One reading serves the batch.
        let now = self.clock.now();
        let fit = self.nics.fit(interface.nic);
        let mut delivered = 0;
        for n in 0..count {
            // SAFETY: n is below what was available, and nothing is released before the loop has ended.
            let descriptor = unsafe { queue.receive.get(n) };
            // SAFETY: the frame has just come, and is noted once; the kernel sees it after the loop.
            unsafe { queue.fill.put(n, interface.umem.frame_of(descriptor.address)) };
            if n + AHEAD < count {
                // SAFETY: n + AHEAD is below what was available.
                let later = unsafe { queue.receive.get(n + AHEAD) };
                // SAFETY: that frame is the process's, too.
                if let Some(later) = unsafe { interface.umem.bytes(later.address, later.len) } {
                    later.iter().step_by(CACHE_LINE).take(LINES_AHEAD).for_each(|byte| CachePrefetch.prefetch(byte));
                }
            }
            // SAFETY: the frame is the process's until `publish`, behind the loop; the sink cannot keep its bytes.
            let frame = unsafe { interface.umem.bytes(descriptor.address, descriptor.len) };
            let Some((frame, lines)) = frame.and_then(|frame| Some((frame, interface.lines_for(frame)?))) else {
                counters.malformed += 1;
                continue;
            };
            let (ts_recv, ts_source, hardware) = match &fit {
                None => (now, TsSource::User, Verdict::NotAsked),
                Some(fit) => {
                    // SAFETY: the frame is the process's, and its bytes in `frame` begin behind the stamp.
                    let stamp = unsafe { interface.umem.take_stamp(descriptor.address) };
                    settle(Some(fit), stamp, now, TsSource::User)
                }
            };
            let arrival = Arrival {
                ts_recv,
                ts_source,
                seen: now,
                hardware,
                checksum_settled: checksum::is_unfinished(frame),
                vlan: None,
                segment_bytes: 0,
                original_len: frame.len(),
            };
            delivered += lines.deliver(frame, &arrival, counters, sink);
        }
        queue.fill.publish(count);
        queue.receive.release(count);
        if queue.fill.needs_wakeup() {
            queue.socket.wake_driver()?;
        }
        Ok(delivered)
    }

    fn drain_all(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut delivered = 0;
        for index in 0..self.queues.len() {
            delivered += self.drain(index, sink)?;
        }
        Ok(delivered)
    }

    /// Whether the interfaces are still there: a socket keeps an error when its own is taken away, and does not end a wait
    /// for it.
    fn check_interfaces(&self) -> io::Result<()> {
        self.queues.iter().try_for_each(|queue| match queue.socket.pending_error() {
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {
                let name = self.interfaces.get(queue.interface).map_or("", |interface| interface.name.as_str());
                Err(interfaces::gone(name))
            }
            result => result,
        })
    }
}

impl Receiver for AfXdpReceiver {
    /// A blocking receiver waits only when nothing is there.
    #[inline]
    fn receive(&mut self, sink: &mut impl FnMut(Packet<'_>)) -> io::Result<usize> {
        let mut delivered = self.drain_all(sink)?;
        if delivered == 0 && self.waits.blocks() {
            if self.waits.wait()? {
                delivered = self.drain_all(sink)?;
            }
            if delivered == 0 {
                self.counters.idle_waits += 1;
                self.check_interfaces()?;
            }
        }
        Ok(delivered)
    }

    fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// Counts what the kernel has dropped at the sockets. With zero-copy, a card that is given no frames drops packets
    /// before any socket's count: its own statistics tell (`ethtool -S`). Fails once an interface is gone.
    fn refresh(&mut self) -> io::Result<()> {
        for queue in &mut self.queues {
            let drops = queue.socket.statistics()?.drops();
            self.counters.kernel_drops += drops.saturating_sub(queue.drops_seen);
            queue.drops_seen = drops;
        }
        for interface in &self.interfaces {
            self.counters.fragments += interface.fragments.take_count()?;
        }
        self.clocks.refresh(&mut self.nics, &mut self.clock, &mut self.counters);
        self.check_interfaces()?;
        // A VLAN's interface can go while the one below it stays.
        self.memberships.iter().try_for_each(Membership::check_interface)
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
