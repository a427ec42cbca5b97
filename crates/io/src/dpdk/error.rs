//! Why DPDK could not be had, where that is DPDK's own matter.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::options::Memory;

/// Why packets of a device cannot come by DPDK.
#[derive(Debug)]
#[non_exhaustive]
pub enum DpdkError {
    /// The library that `make dpdk` builds is not there, or cannot be loaded.
    NoLibrary {
        /// The loader's reason; empty where there is no such file.
        why: String,
    },
    /// The library is another version's.
    OtherLibrary {
        /// Where it is.
        path: PathBuf,
        /// What it calls itself; `None` where it is something else.
        found: Option<u32>,
        /// What was expected.
        expected: u32,
    },
    /// DPDK's environment did not begin.
    Eal {
        /// The memory that was asked for.
        memory: Memory,
        /// What it said.
        said: String,
        /// Its reason.
        error: io::Error,
    },
    /// Another receiver of the process began DPDK's environment with other arguments.
    BegunOtherwise,
    /// No device was given for a line.
    NoDevice {
        /// The line's interface.
        interface: Option<String>,
    },
    /// The device's driver would leave things behind on an interface of the kernel's.
    Driver {
        /// The device.
        device: String,
    },
    /// The device has fewer queues.
    NoSuchQueue {
        /// The device.
        device: String,
        /// How many were asked for.
        queues: u16,
        /// How many it has.
        existing: u16,
    },
    /// The device, its port or one of its queues was refused.
    Refused {
        /// The device.
        device: String,
        /// DPDK's function.
        call: String,
        /// What it said.
        said: String,
        /// Its reason.
        error: io::Error,
    },
}

impl DpdkError {
    /// The reason, where it was the system's.
    pub(crate) fn os_error(&self) -> Option<&io::Error> {
        match self {
            DpdkError::Eal { error, .. } | DpdkError::Refused { error, .. } => Some(error),
            _ => None,
        }
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("; DPDK says: {text}") }
}

impl fmt::Display for DpdkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BUILD: &str = "`apt install libdpdk-dev pkg-config` and `make dpdk` in barewire's sources";
        match self {
            DpdkError::NoLibrary { why } if why.is_empty() => {
                write!(f, "DPDK is not built in, there is no libbarewire_dpdk.so: {BUILD} make it, or choose another path")
            }
            DpdkError::NoLibrary { why } => write!(f, "DPDK is not built in, {why}: {BUILD} make it anew"),
            DpdkError::OtherLibrary { path, found, expected } => {
                write!(f, "{} ", path.display())?;
                match found {
                    Some(found) => write!(f, "is of version {found} where {expected} was expected")?,
                    None => f.write_str("is not barewire's")?,
                }
                write!(f, ": {BUILD} make it anew")
            }
            DpdkError::Eal { memory, said: text, error } => {
                write!(f, "DPDK does not begin with {memory}")?;
                match memory {
                    Memory::Huge => f.write_str(": free some (sysctl vm.nr_hugepages=512), or set huge_pages = false")?,
                    Memory::Ordinary { mib, .. } => write!(f, " of {mib} MiB: see receive.dpdk.eal and memory_mib")?,
                }
                write!(f, "{} ({error})", said(text))
            }
            DpdkError::BegunOtherwise => f.write_str(
                "another feed of this process began DPDK with other values of eal, memory_mib or huge_pages: give all \
                 feeds of a process the same",
            ),
            DpdkError::NoDevice { interface: Some(interface) } => write!(
                f,
                "no DPDK device is given for {interface}: give one, as receive.dpdk.device.{interface} = \"0000:03:00.0\" \
                 (dpdk-devbind.py --status shows which there are)"
            ),
            DpdkError::NoDevice { interface: None } => f.write_str(
                "no DPDK device is given for a line without an interface: give it an interface, or give receive.dpdk.device \
                 as one text without {interface}",
            ),
            DpdkError::Driver { device } => write!(
                f,
                "a card, or a virtual device that leaves nothing behind was expected, {device} was found, whose XDP program \
                 stays on the interface: use receive.path = \"af_xdp\""
            ),
            DpdkError::NoSuchQueue { device, queues, existing } => {
                write!(f, "{device} has {existing} receive queues where {queues} were asked for: ask for fewer")
            }
            DpdkError::Refused { device, call, said: text, error } => {
                write!(f, "DPDK cannot use {device}: {call} failed")?;
                match (error.raw_os_error(), call.as_str()) {
                    (Some(libc::EEXIST), _) => f.write_str(": another receiver of this process has it")?,
                    (Some(libc::ENODEV | libc::ENOENT | libc::EINVAL), "rte_dev_probe") => f.write_str(
                        ": it does not exist, or is not bound to a driver of DPDK's (dpdk-devbind.py --status; \
                         docs/receive.md)",
                    )?,
                    (Some(libc::ENOMEM), _) => f.write_str(
                        ": no memory for its buffers: raise memory_mib or vm.nr_hugepages, or ask for fewer descriptors",
                    )?,
                    _ => {}
                }
                write!(f, "{} ({error})", said(text))
            }
        }
    }
}
