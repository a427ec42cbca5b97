//! What is asked of the path, and what was got.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use crate::frames::TrailerTimes;
use crate::kernel::Mode;
use crate::nic::Stamps;

/// Which device a line comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFor {
    /// Of lines with this [interface](crate::LineConfig::interface); `None` for all that have no device of their own.
    pub interface: Option<String>,
    /// The device, as DPDK has it: `0000:03:00.0`, or a virtual one with its arguments, `net_af_packet,iface=eth0`. A virtual
    /// one without a number gets one. `{interface}` stands for the line's interface.
    pub device: String,
}

/// How to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DpdkOptions {
    /// How to wait. A poll-mode driver wakes nobody: a blocking receiver naps for 50 us at a time and looks.
    pub mode: Mode,
    /// Which device each line comes by.
    pub devices: Vec<DeviceFor>,
    /// The library that `make dpdk` builds; `None` looks beside this code, then where the system has its libraries.
    pub library: Option<PathBuf>,
    /// Further arguments of DPDK's environment. All receivers of a process share one: they must ask for the same.
    pub eal: Vec<String>,
    /// Memory for all receivers of the process, MiB: 16 to 65,536. `None` takes 256 of ordinary pages; of huge pages what is
    /// needed.
    pub memory_mib: Option<u32>,
    /// Whether to use huge pages where any are free. Without them a card needs an IOMMU.
    pub huge_pages: bool,
    /// Receive queues of each device: 1 to 64. With several the card deals packets out by a hash over addresses and ports.
    pub queues: u16,
    /// Frames that a queue holds: 64 to 32,768. Devices may have limits of their own.
    pub descriptors: u16,
    /// Most frames of one queue that one call takes: 1 to 1,024.
    pub batch: usize,
    /// Longest frame that is expected, bytes: 64 to 16,384. `None` for what the device is set to (its MTU).
    pub frame_bytes: Option<u32>,
    /// Id of the VLAN that packets are tagged with.
    pub vlan: Option<u16>,
    /// The address that group memberships are reported from, where no kernel does it. `None` for 0.0.0.0, as RFC 3376 lets
    /// hosts without an address do.
    pub address: Option<Ipv4Addr>,
    /// Which clock is to say when packets arrive.
    pub timestamps: Stamps,
    /// Capture switch whose trailers say when packets came; those without one keep the time that they have otherwise.
    pub trailer_times: Option<TrailerTimes>,
}

impl Default for DpdkOptions {
    fn default() -> Self {
        DpdkOptions {
            mode: Mode::Busy,
            devices: Vec::new(),
            library: None,
            eal: Vec::new(),
            memory_mib: None,
            huge_pages: true,
            queues: 1,
            descriptors: 2048,
            batch: 64,
            frame_bytes: None,
            vlan: None,
            address: None,
            timestamps: Stamps::Auto,
            trailer_times: None,
        }
    }
}

/// Where packets lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// In huge pages.
    Huge,
    /// In ordinary pages.
    Ordinary {
        /// How much was set aside, MiB.
        mib: u32,
        /// Whether huge pages were asked for and none was free.
        for_want: bool,
    },
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Memory::Huge => f.write_str("huge pages"),
            Memory::Ordinary { for_want: false, .. } => f.write_str("ordinary pages"),
            Memory::Ordinary { for_want: true, .. } => f.write_str("ordinary pages, since no huge page is free"),
        }
    }
}

/// Who sees to it that the network sends the groups here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The kernel, which has an interface beside the device.
    Kernel {
        /// Its name.
        interface: String,
    },
    /// The receiver itself, by IGMP.
    Itself {
        /// From this address.
        address: Ipv4Addr,
    },
    /// Nobody: the device does not send, or no line has a group.
    Nobody,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Joined::Kernel { interface } => write!(f, "groups joined by the kernel on {interface}"),
            Joined::Itself { address } => write!(f, "groups joined by the feed itself, from {address}"),
            Joined::Nobody => f.write_str("no group joined"),
        }
    }
}

/// Which frames the device lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Those to the lines' groups.
    Groups,
    /// Those to any group.
    AllMulticast,
    /// All.
    Everything,
    /// What it lets in anyway: it has no filter to set.
    Unset,
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Filter::Groups => "the device lets in the lines' groups",
            Filter::AllMulticast => "the device lets in all multicast",
            Filter::Everything => "the device lets in everything",
            Filter::Unset => "the device has no filter of its own",
        })
    }
}

/// Whether packets carry the device's own times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTimes {
    /// Not asked for, or the driver offers none and they need not be.
    Off,
    /// They do.
    On {
        /// How far off its times were at the start, nanoseconds either way.
        bound_ns: u64,
    },
    /// Asked for, and the driver offers none.
    NotOffered,
    /// The driver stamps packets by a clock that it does not let read, so that nothing can be known of it.
    NoClock,
}

impl fmt::Display for DeviceTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceTimes::Off => f.write_str("no hardware stamps asked for"),
            DeviceTimes::On { bound_ns } => write!(f, "receive times by the card (within {bound_ns} ns)"),
            DeviceTimes::NotOffered => f.write_str("the driver has no hardware stamps"),
            DeviceTimes::NoClock => f.write_str("the card's stamps are of a clock that its driver cannot read"),
        }
    }
}

/// What a device asked for and what it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// The device, as DPDK has it.
    pub device: String,
    /// Numbers of the lines that come by it.
    pub lines: Vec<u8>,
    /// Its driver.
    pub driver: String,
    /// DPDK's version.
    pub dpdk: String,
    /// Receive queues.
    pub queues: u16,
    /// Frames that a queue holds.
    pub descriptors: u16,
    /// How many were asked for.
    pub descriptors_asked: u16,
    /// Longest frame that fits into one piece, bytes.
    pub frame_bytes: u32,
    /// Where packets lie.
    pub memory: Memory,
    /// Whether the device verifies UDP's checksums.
    pub checksums: bool,
    /// Who joined the groups.
    pub joined: Joined,
    /// Which frames the device lets in.
    pub filter: Filter,
    /// Whether packets carry the device's own times.
    pub times: DeviceTimes,
}
