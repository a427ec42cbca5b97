//! A device's port, as a receiver has it.

use std::ffi::c_int;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::process;
use std::slice;
use std::sync::{Mutex, PoisonError};

use super::DpdkCounters;
use super::eal;
use super::igmp::Speaker;
use super::library::{Library, PortStatistics, RawPacket, RawPort, error};
use super::times::DeviceClock;
use crate::af_xdp::checksum;
use crate::clock::correlation::Fit;
use crate::clock::monotonic;
use crate::frames::Lines;
use crate::packet::ReceiverCounters;

/// A port that was started. It is stopped, and its device given back, when this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    library: &'static Library,
    raw: RawPort,
    pub(super) queues: u16,
    pub(super) lines: Lines,
    /// Speaks IGMP, where no kernel does.
    pub(super) speaker: Option<Speaker>,
    /// The device's clock, where packets carry its times.
    pub(super) clock: Option<DeviceClock>,
    /// Whether the kernel has an interface beside it, over which its own senders' frames may come.
    pub(super) beside_kernel: bool,
    /// The interface's own address, where its driver also shows what it sends.
    pub(super) own: Option<[u8; 6]>,
    /// The interface's, where its driver would share packets with another receiver on it.
    pub(super) claim: Option<Claim>,
    seen: PortStatistics,
    unsent: u64,
    /// A process that was forked from this one has a copy, and must not stop the device.
    owner: u32,
}

/// Interfaces by namespace and number that this process's receivers have by `net_af_packet`. Its sockets on one interface
/// are a fanout group for each process: a second receiver would take packets from the first.
static CLAIMED: Mutex<Vec<(u64, u32)>> = Mutex::new(Vec::new());

/// An interface of this process's; it is free when this is dropped.
#[derive(Debug)]
pub(super) struct Claim((u64, u32));

impl Claim {
    /// `None` where another receiver has it.
    pub(super) fn of(interface: u32) -> Option<Claim> {
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
        let key = (namespace, interface);
        let mut claimed = CLAIMED.lock().unwrap_or_else(PoisonError::into_inner);
        if claimed.contains(&key) {
            return None;
        }
        claimed.push(key);
        Some(Claim(key))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.lock().unwrap_or_else(PoisonError::into_inner).retain(|key| *key != self.0);
    }
}

// SAFETY: DPDK lets any thread use a port, one at a time, and a value is with one thread at a time.
unsafe impl Send for Port {}

/// # Safety
///
/// The packet is of its port's last look.
#[inline]
pub(super) unsafe fn bytes<'a>(packet: &RawPacket) -> &'a [u8] {
    // SAFETY: the driver put so many bytes there; nobody else changes them until they are given back.
    unsafe { slice::from_raw_parts(packet.data, packet.len as usize) }
}

impl Port {
    /// # Safety
    ///
    /// `raw` is a port that the library has opened, for this value alone.
    pub(super) unsafe fn new(library: &'static Library, raw: RawPort, queues: u16, lines: Lines) -> Port {
        Port {
            library,
            raw,
            queues,
            lines,
            speaker: None,
            clock: None,
            beside_kernel: false,
            own: None,
            claim: None,
            seen: PortStatistics::default(),
            unsent: 0,
            owner: process::id(),
        }
    }

    /// Takes what is there; returns how many.
    #[inline]
    pub(super) fn receive(&mut self, queue: u16, into: &mut [RawPacket]) -> usize {
        // SAFETY: the port is open, the queue one of its, and `into` writable for so many.
        let count = unsafe { (self.library.receive)(self.raw, queue, into.as_mut_ptr(), into.len() as u32) };
        count as usize
    }

    /// Gives the last look's packets back.
    #[inline]
    pub(super) fn release(&mut self) {
        // SAFETY: the port is open.
        unsafe { (self.library.release)(self.raw) }
    }

    /// Puts a frame together that came in pieces; `None` where there is no room for it.
    #[cold]
    pub(super) fn copy<'a>(&self, packet: &RawPacket, into: &'a mut [u8]) -> Option<&'a [u8]> {
        // SAFETY: the packet is of the last look, and `into` writable for its length.
        let len = unsafe { (self.library.copy)(packet, into.as_mut_ptr(), into.len() as u32) };
        if len == 0 { None } else { into.get(..len as usize) }
    }

    /// How the device's times become times of day, and the stamp as that takes it.
    #[inline]
    pub(super) fn stamp(&self, stamp: Option<u64>) -> (Option<&Fit>, Option<u64>) {
        match &self.clock {
            None => (None, None),
            Some(clock) => (clock.line(), stamp.map(|ticks| clock.stamp(ticks))),
        }
    }

    /// Whether this machine has sent the frame by the port's interface.
    #[inline]
    pub(super) fn is_own(&self, frame: &[u8]) -> bool {
        self.own.is_some_and(|own| frame.get(6..12) == Some(&own))
    }

    #[inline]
    pub(super) fn is_unfinished(&self, frame: &[u8]) -> bool {
        self.beside_kernel && checksum::is_unfinished(frame)
    }

    /// How far the device's times may be off; 2^64-1 where it has none.
    pub(super) fn bound_ns(&self) -> u64 {
        self.clock.as_ref().map_or(u64::MAX, DeviceClock::bound_ns)
    }

    pub(super) fn listen(&self, addresses: &[[u8; 6]], may_be_promiscuous: bool) -> c_int {
        let count = addresses.len() as u32;
        // SAFETY: the port is open, the addresses readable.
        unsafe { (self.library.listen)(self.raw, addresses.as_ptr(), count, i32::from(may_be_promiscuous)) }
    }

    /// Takes note of a frame that holds IGMP.
    #[cold]
    pub(super) fn hear(&mut self, frame: &[u8], now: u64) {
        if let Some(speaker) = &mut self.speaker {
            speaker.hear(frame, now);
        }
    }

    /// Says by IGMP what is due.
    pub(super) fn speak(&mut self, now: u64) {
        if self.speaker.as_ref().is_some_and(|speaker| speaker.is_due(now)) {
            self.with_speaker(|speaker, send| speaker.work(now, send));
        }
    }

    pub(super) fn with_speaker(&mut self, say: impl FnOnce(&mut Speaker, &mut dyn FnMut(&[u8]))) {
        let (library, raw, unsent) = (self.library, self.raw, &mut self.unsent);
        if let Some(speaker) = &mut self.speaker {
            say(speaker, &mut |frame: &[u8]| {
                // SAFETY: the port is open, the frame readable.
                let sent = unsafe { (library.send)(raw, frame.as_ptr(), frame.len() as u32) };
                *unsent += u64::from(sent != 0);
            });
        }
    }

    pub(super) fn count(&self, counters: &mut DpdkCounters) {
        counters.no_buffer += self.seen.no_buffer;
        if let Some(speaker) = &self.speaker {
            counters.igmp_queries += speaker.queries;
            counters.igmp_reports += speaker.reports - self.unsent;
            counters.igmp_unsent += self.unsent;
        }
    }

    /// The device's clock at this moment.
    pub(super) fn read_clock(library: &Library, raw: RawPort) -> io::Result<u64> {
        let mut ticks = 0;
        // SAFETY: the port is open, `ticks` writable.
        match unsafe { (library.clock)(raw, &raw mut ticks) } {
            0 => Ok(ticks),
            code => Err(error(code)),
        }
    }

    /// Measures the device's clock.
    pub(super) fn measure(&mut self) -> io::Result<()> {
        let (library, raw) = (self.library, self.raw);
        self.clock = Some(DeviceClock::measure(|| Port::read_clock(library, raw))?);
        Ok(())
    }

    pub(super) fn refresh(&mut self, counters: &mut ReceiverCounters) -> io::Result<()> {
        let mut now = PortStatistics::default();
        // SAFETY: the port is open, `now` writable.
        match unsafe { (self.library.statistics)(self.raw, &raw mut now) } {
            0 => {}
            code => return Err(error(code)),
        }
        let PortStatistics { missed, damaged, .. } = self.seen;
        counters.kernel_drops += now.missed.saturating_sub(missed);
        counters.malformed += now.damaged.saturating_sub(damaged);
        self.seen = now;
        let (library, raw) = (self.library, self.raw);
        if let Some(clock) = &mut self.clock {
            clock.refresh(|| Port::read_clock(library, raw), counters);
        }
        self.speak(monotonic());
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if self.owner != process::id() {
            return;
        }
        self.with_speaker(|speaker, send| speaker.end(monotonic(), send));
        let _lock = eal::lock();
        // SAFETY: the port was opened for this value alone; nobody opens or closes another one meanwhile.
        unsafe { (self.library.close)(self.raw) }
    }
}
