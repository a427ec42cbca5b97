//! Why AF_XDP could not be opened, where that is AF_XDP's own matter.

use std::fmt;
use std::io;

/// Why packets of an interface cannot come by AF_XDP.
#[derive(Debug)]
#[non_exhaustive]
pub enum AfXdpError {
    /// There is an XDP program on the interface. It is never replaced: it may be a firewall.
    ProgramInTheWay {
        /// The interface.
        interface: String,
        /// EBUSY or EEXIST.
        error: io::Error,
    },
    /// The kernel refused the program that was made for the configuration.
    ProgramRejected {
        /// The interface.
        interface: String,
        /// What the kernel's verifier said; empty where it did not come to that.
        log: String,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The program cannot be attached in the way that was insisted on.
    CannotAttach {
        /// The interface.
        interface: String,
        /// The way.
        way: &'static str,
        /// The driver's reason.
        error: io::Error,
    },
    /// A queue cannot be bound in the way that was insisted on.
    CannotBind {
        /// The interface.
        interface: String,
        /// Number of the receive queue.
        queue: u32,
        /// The way.
        way: &'static str,
        /// The driver's reason.
        error: io::Error,
    },
    /// Another AF_XDP socket has the queue.
    QueueInUse {
        /// The interface.
        interface: String,
        /// Number of the receive queue.
        queue: u32,
        /// EBUSY.
        error: io::Error,
    },
    /// No queue has this number.
    NoSuchQueue {
        /// The interface.
        interface: String,
        /// The number.
        queue: u32,
        /// How many queues there are.
        existing: u32,
    },
    /// The process may not hold so much memory in place.
    MemoryLimit {
        /// The interface.
        interface: String,
        /// How much it was, bytes.
        bytes: u64,
        /// ENOBUFS.
        error: io::Error,
    },
}

impl AfXdpError {
    /// The kernel's reason, where it was the kernel that refused.
    pub(crate) fn os_error(&self) -> Option<&io::Error> {
        match self {
            AfXdpError::ProgramInTheWay { error, .. }
            | AfXdpError::ProgramRejected { error, .. }
            | AfXdpError::CannotAttach { error, .. }
            | AfXdpError::CannotBind { error, .. }
            | AfXdpError::QueueInUse { error, .. }
            | AfXdpError::MemoryLimit { error, .. } => Some(error),
            AfXdpError::NoSuchQueue { .. } => None,
        }
    }
}

impl fmt::Display for AfXdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AfXdpError::ProgramInTheWay { interface, error } => write!(
                f,
                "{interface} has an XDP program already (another feed's, or a firewall), which is not replaced: see which with `ip link show dev \
                 {interface}`, and remove it or choose another receive path ({error})"
            ),
            AfXdpError::ProgramRejected { interface, log, error } => {
                write!(f, "the kernel refused the XDP program for {interface}: {error}")?;
                // The end of the log says what was wrong; all before is how the verifier came there.
                let from = log.trim_end().lines().count().saturating_sub(4);
                log.lines().skip(from).try_for_each(|line| write!(f, "\n  {line}"))
            }
            AfXdpError::CannotAttach { interface, way, error } => {
                write!(f, "{interface} cannot run XDP programs in {way} mode: {error}; let it fall back, or see dmesg")
            }
            AfXdpError::CannotBind { interface, queue, way, error } => {
                write!(f, "queue {queue} of {interface} cannot be bound in {way} mode: {error}; let it fall back")
            }
            AfXdpError::QueueInUse { interface, queue, error } => {
                write!(f, "queue {queue} of {interface} belongs to another AF_XDP socket: stop its owner ({error})")
            }
            AfXdpError::NoSuchQueue { interface, queue, existing } => {
                write!(f, "{interface} has no receive queue {queue}: it has {existing}, numbered from 0")
            }
            AfXdpError::MemoryLimit { interface, bytes, error } => write!(
                f,
                "{bytes} bytes of packet memory for {interface} are more than may be held in place: raise the memlock \
                 limit (ulimit -l), give CAP_IPC_LOCK, or ask for fewer frames ({error})"
            ),
        }
    }
}
