//! What can be asked for, and what was got.

use std::fmt;

use super::Pages;
use crate::frames::TrailerTimes;
use crate::kernel::Mode;
use crate::nic::{Hardware, Stamps};

/// What the kernel keeps of each frame in front of the packet, bytes (XDP_PACKET_HEADROOM).
pub(super) const KERNELS_ROOM_BYTES: u32 = 256;

/// Where the program is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attach {
    /// In the driver where it can, else in the kernel's stack.
    #[default]
    PreferNative,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's stack: slow, and works on every interface.
    Generic,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the kernel's stack.
    Generic,
}

/// How packets are to come into the process's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transfer {
    /// By the card itself where the driver can, else copied by the kernel.
    #[default]
    PreferZeroCopy,
    /// By the card itself, or not at all.
    ZeroCopy,
    /// Copied by the kernel.
    Copy,
}

/// How packets come into the process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transferred {
    /// By the card itself.
    ZeroCopy,
    /// Copied by the kernel.
    Copy,
}

/// The driver's receive work done by the feed's own thread (`SO_PREFER_BUSY_POLL`), a system call for each look that
/// finds nothing. Takes effect where interrupts are put off: `napi_defer_hard_irqs` and `gro_flush_timeout` of the
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// Microseconds for which it is preferred after each look (`SO_BUSY_POLL`).
    pub us: u32,
    /// Most packets that one look takes from the card (`SO_BUSY_POLL_BUDGET`).
    pub budget: u32,
}

/// How to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfXdpOptions {
    /// How to wait.
    pub mode: Mode,
    /// Where the program is to run.
    pub attach: Attach,
    /// How packets are to come into memory.
    pub transfer: Transfer,
    /// Receive queues of each interface to take packets from; `None` for all. What comes by others, the kernel's stack
    /// gets.
    pub queues: Option<Vec<u32>>,
    /// Packets that one queue holds, 64 to 1,048,576; rounded up to a power of two. `None` for 16,384, and less with more
    /// than four queues. (The kernel's own notes on them grow with frames times queues times queues.)
    pub frames: Option<u32>,
    /// Bytes a frame: 2,048 or 4,096, of which 256 are the kernel's; `None` for what the interface's packets need.
    pub frame_bytes: Option<u32>,
    /// Whether to look for huge pages.
    pub huge_pages: bool,
    /// Most packets of one queue that one call takes: 1 to 1,024.
    pub batch: usize,
    /// Whether the feed's thread is to do the driver's receive work.
    pub busy_poll: Option<BusyPoll>,
    /// Id of the VLAN that packets of the lines are tagged with, 1 to 4,094, where their interface is not a VLAN's own.
    pub vlan: Option<u16>,
    /// Which clock is to say when packets arrive. The kernel stamps nothing that comes this way.
    pub timestamps: Stamps,
    /// Capture switch whose trailers say when packets came; those without one keep the time that they have otherwise.
    pub trailer_times: Option<TrailerTimes>,
}

impl Default for AfXdpOptions {
    fn default() -> Self {
        AfXdpOptions {
            mode: Mode::Busy,
            attach: Attach::PreferNative,
            transfer: Transfer::PreferZeroCopy,
            queues: None,
            frames: None,
            frame_bytes: None,
            huge_pages: true,
            batch: 64,
            busy_poll: None,
            vlan: None,
            timestamps: Stamps::Auto,
            trailer_times: None,
        }
    }
}

/// What was asked for, and what was got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got<A, G> {
    /// What was asked for.
    pub asked: A,
    /// What was got.
    pub got: G,
    /// Why it was not the best of what was asked for; `None` where it was.
    pub why: Option<String>,
}

impl fmt::Display for Got<Attach, Attached> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = match self.got {
            Attached::Native => "native XDP",
            Attached::Generic => "generic XDP",
        };
        match &self.why {
            None => f.write_str(got),
            Some(why) => write!(f, "{got}, native asked for: {why}"),
        }
    }
}

impl fmt::Display for Got<Transfer, Transferred> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = match self.got {
            Transferred::ZeroCopy => "zero-copy",
            Transferred::Copy => "copy",
        };
        match &self.why {
            None => f.write_str(got),
            Some(why) => write!(f, "{got}, zero-copy asked for: {why}"),
        }
    }
}

/// What an interface asked for and got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceReport {
    /// The interface that the program is attached to.
    pub interface: String,
    /// Numbers of the lines that come by it.
    pub lines: Vec<u8>,
    /// Ids of the VLANs that they are tagged with; 0 stands for none.
    pub vlans: Vec<u16>,
    /// Where the program runs.
    pub attach: Got<Attach, Attached>,
    /// How packets come into memory.
    pub transfer: Got<Transfer, Transferred>,
    /// Receive queues that packets are taken from.
    pub queues: Vec<u32>,
    /// How many receive queues the interface has.
    pub existing_queues: u32,
    /// Packets that one queue holds.
    pub frames: u32,
    /// Bytes a frame.
    pub frame_bytes: u32,
    /// The longest IP packet that the interface takes, bytes. What [`fits`](Self::fits) no frame is dropped and counted.
    pub mtu_bytes: u32,
    /// On what pages the frames lie.
    pub pages: Pages,
    /// Whether packets carry hardware times, as of the opening.
    pub hardware: Hardware,
    /// Whether the feed's thread does the driver's receive work, where it was asked to; with the reason where not.
    pub busy_poll: Option<Result<BusyPoll, String>>,
}

impl InterfaceReport {
    /// The longest IP packet that a frame holds, bytes: behind the room that the kernel keeps, an Ethernet header and a tag.
    pub fn fits(&self) -> u32 {
        self.frame_bytes.saturating_sub(KERNELS_ROOM_BYTES + 18)
    }
}

/// What the kernel counts at one queue's socket (XDP_STATISTICS).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStatistics {
    /// Packets dropped since they were longer than a frame, or, when copied, since no frame was free.
    pub rx_dropped: u64,
    /// Packets dropped since the receive ring was full.
    pub rx_ring_full: u64,
    /// How often a frame was wanted and the fill ring was empty. When packets are copied, each of these is also in
    /// `rx_dropped`; with zero-copy a driver wants frames ahead of packets, and may ask in vain without loss.
    pub rx_fill_ring_empty_descs: u64,
}

impl QueueStatistics {
    /// Packets that were dropped, each counted once.
    pub fn drops(&self) -> u64 {
        self.rx_dropped.saturating_add(self.rx_ring_full)
    }
}
