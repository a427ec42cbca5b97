//! Why a receive or send path could not be opened.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::af_xdp::AfXdpError;
use crate::capabilities::Capabilities;
use crate::dpdk::DpdkError;
use crate::senders::MAX_ALLOWED;

/// Why a receive or send path could not be opened: each says what was wanted, what was found and what to do.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// No line was given.
    NoLines,
    /// A setting outside its range.
    BadOption {
        /// Name of the setting.
        name: &'static str,
        /// What it was.
        value: u64,
        /// The smallest value allowed.
        min: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// No interface has this name.
    NoSuchInterface {
        /// Whom it was for.
        what: Purpose,
        /// The name.
        interface: String,
        /// The names that there are.
        existing: Vec<String>,
    },
    /// A source was given for an address that is not a multicast group.
    SourceWithoutGroup {
        /// Which line.
        line: u8,
        /// The address.
        address: Ipv4Addr,
        /// The source.
        source: Ipv4Addr,
    },
    /// A source that no packet can come from.
    BadSource {
        /// Which line.
        line: u8,
        /// The source.
        source: Ipv4Addr,
    },
    /// The source is not among the senders that the line hears.
    SourceNotAllowed {
        /// Which line.
        line: u8,
        /// The source.
        source: Ipv4Addr,
    },
    /// More networks to hear than are compared with each packet.
    TooManyAllowed {
        /// Which line.
        line: u8,
        /// How many.
        allowed: usize,
    },
    /// Port 0 was given.
    NoPort {
        /// Which line.
        line: u8,
        /// The address.
        address: Ipv4Addr,
    },
    /// Another socket has this address and port for itself.
    PortInUse {
        /// Which line.
        line: u8,
        /// Address and port.
        address: SocketAddrV4,
        /// EADDRINUSE.
        error: io::Error,
    },
    /// The address is neither a multicast group nor one of this machine's.
    AddressNotLocal {
        /// Whom it was for.
        what: Purpose,
        /// The address.
        address: Ipv4Addr,
        /// The addresses that there are.
        existing: Vec<Ipv4Addr>,
        /// EADDRNOTAVAIL.
        error: io::Error,
    },
    /// The path reads Ethernet frames, and the interface carries others.
    NotEthernet {
        /// Whom it was for.
        what: Purpose,
        /// The interface.
        interface: String,
    },
    /// The process may not do this.
    NotPermitted {
        /// Whom it was for.
        what: Purpose,
        /// What it may not do.
        action: &'static str,
        /// What the path needs for this, and all that comes after it.
        needs: Capabilities,
        /// What of it the process has not.
        missing: Capabilities,
        /// EPERM or EACCES.
        error: io::Error,
    },
    /// The kernel has no io_uring, forbids it, or lacks what the path needs of it.
    NoIoUring {
        /// Whom it was for.
        what: Purpose,
        /// What `kernel.io_uring_disabled` says: 1 forbids it without privilege, 2 to all.
        disabled: Option<u8>,
        /// The kernel's reason.
        error: io::Error,
    },
    /// The kernel refused the membership.
    Join {
        /// Which line.
        line: u8,
        /// The group.
        group: Ipv4Addr,
        /// The only sender to hear, where one was given.
        source: Option<Ipv4Addr>,
        /// The interface, where one was named.
        interface: Option<String>,
        /// The kernel's reason.
        error: io::Error,
    },
    /// AF_XDP's own reasons.
    AfXdp {
        /// Whom it was for.
        what: Purpose,
        /// Which.
        error: AfXdpError,
    },
    /// DPDK's own reasons.
    Dpdk {
        /// Whom it was for.
        what: Purpose,
        /// Which.
        error: DpdkError,
    },
    /// A system call failed for a reason that has no variant of its own.
    Os {
        /// Whom it was for.
        what: Purpose,
        /// The system call, or the socket option.
        call: &'static str,
        /// The kernel's reason.
        error: io::Error,
    },
}

/// For whom a socket was being opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To receive this line.
    Line(u8),
    /// To send.
    Sender,
    /// To ask for retransmissions.
    Requests,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::Line(line) => write!(f, "line {line}"),
            Purpose::Sender => f.write_str("sender"),
            Purpose::Requests => f.write_str("re-requests"),
        }
    }
}

impl OpenError {
    /// [`NotPermitted`](OpenError::NotPermitted), with what is missing found out.
    pub(crate) fn not_permitted(
        what: Purpose,
        action: &'static str,
        needs: Capabilities,
        error: io::Error,
    ) -> OpenError {
        OpenError::NotPermitted { what, action, needs, missing: needs.missing(), error }
    }

    /// The kernel's reason, where it was the kernel that refused.
    pub fn os_error(&self) -> Option<&io::Error> {
        match self {
            OpenError::PortInUse { error, .. }
            | OpenError::AddressNotLocal { error, .. }
            | OpenError::NotPermitted { error, .. }
            | OpenError::NoIoUring { error, .. }
            | OpenError::Join { error, .. }
            | OpenError::Os { error, .. } => Some(error),
            OpenError::AfXdp { error, .. } => error.os_error(),
            OpenError::Dpdk { error, .. } => error.os_error(),
            _ => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NoLines => f.write_str("no line to receive: give at least one group and port"),
            OpenError::BadOption { name, value, min, max } => {
                write!(f, "{name} is {value}: expected {min} to {max}")
            }
            OpenError::NoSuchInterface { what, interface, existing } => {
                write!(f, "{what}: no interface {interface:?}: this machine has {}", existing.join(", "))
            }
            OpenError::SourceWithoutGroup { line, address, source } => write!(
                f,
                "line {line}: source {source} given for {address}, which is not a multicast group: leave the source \
                 out, or give a group in 224.0.0.0 to 239.255.255.255"
            ),
            OpenError::BadSource { line, source } => {
                write!(f, "line {line}: {source} cannot be a sender: expected the address of one host")
            }
            OpenError::SourceNotAllowed { line, source } => write!(
                f,
                "line {line}: source {source} is not among the allowed senders, so that nothing would be heard: add it, \
                 or leave one of the two out"
            ),
            OpenError::TooManyAllowed { line, allowed } => write!(
                f,
                "line {line}: {allowed} allowed senders: expected at most {MAX_ALLOWED}; write neighbours as one network"
            ),
            OpenError::NoPort { line, address } => {
                write!(f, "line {line}: port 0 given for {address}: expected 1 to 65535")
            }
            OpenError::PortInUse { line, address, .. } => write!(
                f,
                "line {line}: {address} is in use by another socket that does not share it: stop its owner (ss -ulpn \
                 shows it) or choose another port"
            ),
            OpenError::AddressNotLocal { what, address, existing, .. } => {
                write!(f, "{what}: {address} is neither a multicast group nor an address of this machine: it has")?;
                existing.iter().try_for_each(|address| write!(f, " {address}"))
            }
            OpenError::NotEthernet { what, interface } => write!(
                f,
                "{what}: {interface} carries no Ethernet frames, which this path reads: use the kernel path there"
            ),
            OpenError::NotPermitted { what, action, needs, missing, error } => {
                write!(f, "{what}: not permitted to {action}")?;
                if missing.is_empty() {
                    return write!(
                        f,
                        ": the process has {needs}, but a sandbox (a container's seccomp profile, a user namespace) \
                         forbids it ({error})"
                    );
                }
                let names = missing.to_string();
                let verb = if names.contains(" and ") { "are" } else { "is" };
                let (plain, unit) = (names.to_lowercase().replace(" and ", ","), names.replace(" and ", " "));
                let program = std::env::current_exe();
                let program = program.as_ref().map_or("PROGRAM".into(), |path| path.to_string_lossy());
                write!(
                    f,
                    ": {names} {verb} missing: grant with AmbientCapabilities={unit} in the service's unit, or `sudo \
                     setcap {plain}+ep {program}` ({error})"
                )
            }
            OpenError::NoIoUring { what, disabled, error } => {
                write!(f, "{what}: ")?;
                match (error.raw_os_error(), disabled) {
                    (Some(libc::EPERM | libc::EACCES), Some(mode @ 1..)) => write!(
                        f,
                        "io_uring is forbidden: set the sysctl kernel.io_uring_disabled, which is {mode}, to 0, or use \
                         the kernel path"
                    ),
                    (Some(libc::EPERM | libc::EACCES), _) => f.write_str(
                        "io_uring is forbidden, most likely by a container's seccomp profile: allow io_uring_setup, \
                         io_uring_enter and io_uring_register, or use the kernel path",
                    ),
                    (Some(libc::ENOSYS), _) => f.write_str("this kernel has no io_uring: use the kernel path"),
                    (Some(libc::EINVAL), _) => f.write_str(
                        "this kernel's io_uring is too old, Linux 6.1 has what is needed: use the kernel path",
                    ),
                    (Some(libc::ENOMEM), _) => {
                        f.write_str("no memory for io_uring: ask for fewer buffers, or raise the memlock limit")
                    }
                    _ => f.write_str("io_uring failed"),
                }?;
                write!(f, " ({error})")
            }
            OpenError::Join { line, group, source, interface, error } => {
                write!(f, "line {line}: cannot join {group}")?;
                if let Some(source) = source {
                    write!(f, " from {source}")?;
                }
                match interface {
                    Some(interface) => write!(f, " on {interface}")?,
                    None => f.write_str(" on the interface that the routing table names")?,
                }
                match (error.raw_os_error(), interface) {
                    (Some(libc::ENODEV), None) => f.write_str(": no route leads to it: name an interface"),
                    (Some(libc::ENOBUFS), _) => write!(
                        f,
                        ": the kernel's limit is reached: raise net.ipv4.igmp_max_memberships or net.ipv4.igmp_max_msf \
                         ({error})"
                    ),
                    _ => write!(f, ": {error}"),
                }
            }
            OpenError::AfXdp { what, error } => write!(f, "{what}: {error}"),
            OpenError::Dpdk { what, error } => write!(f, "{what}: {error}"),
            OpenError::Os { what, call, error } => write!(f, "{what}: {call} failed: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.os_error().map(|error| error as &(dyn std::error::Error + 'static))
    }
}
