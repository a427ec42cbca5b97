//! Opening the sockets.

use std::io;
use std::net::Ipv4Addr;

use barewire_types::TsSource;

use super::{Batch, KernelOptions, KernelReceiver, Line, LineReport, Timestamps, address, source_of};
use crate::capabilities::Capabilities;
use crate::error::{OpenError, Purpose};
use crate::hwstamp::NoHardwareStamps;
use crate::interfaces::{Presence, local_addresses};
use crate::nic::{Clocks, Hardware, Nics, UserClock};
use crate::packet::{LineConfig, ReceiverCounters};
use crate::senders::{MAX_ALLOWED, Senders};
use crate::socket::{Buffer, Socket, in_addr, interface_index};
use crate::waits::Waits;

impl KernelReceiver {
    /// Opens one socket a line and joins its group.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the line; nothing stays open.
    pub fn open(lines: &[LineConfig], options: KernelOptions) -> Result<KernelReceiver, OpenError> {
        let in_range = |name, value: usize, max: usize| match value {
            1.. if value <= max => Ok(()),
            _ => Err(OpenError::BadOption { name, value: value as u64, min: 1, max: max as u64 }),
        };
        in_range("batch", options.batch, 1024)?;
        in_range("max_datagram", options.max_datagram, usize::from(u16::MAX))?;
        let Some(first) = lines.first() else { return Err(OpenError::NoLines) };
        let what = Purpose::Line(first.line);
        let mut nics = Nics::default();
        let (lines, reports): (Vec<Line>, Vec<LineReport>) =
            lines.iter().map(|config| open_line(config, &options, &mut nics)).collect::<Result<_, _>>()?;
        let waits = Waits::new(options.mode, lines.iter().map(|line| line.socket.fd()));
        let waits = waits.map_err(|error| OpenError::Os { what, call: "eventfd", error })?;
        let batch = Batch::new(options.batch, options.max_datagram).map_err(|error| OpenError::Os {
            what,
            call: "mmap",
            error,
        })?;
        let (timestamps, counters) = (options.timestamps.by_kernel(), ReceiverCounters::default());
        let (clock, clocks) = clocks(&reports, &nics);
        Ok(KernelReceiver { lines, batch, waits, timestamps, nics, clock, clocks, counters, reports })
    }
}

/// The thread's own clock, where these lines need it, and what is told of clocks.
pub(crate) fn clocks(reports: &[LineReport], nics: &Nics) -> (UserClock, Clocks) {
    let source = source_of(reports);
    let clock = if source == TsSource::User { UserClock::calibrated() } else { UserClock::system() };
    let clocks = Clocks { source, nic_bound_ns: nics.bound_ns(), user_bound_ns: clock.bound_ns() };
    (clock, clocks)
}

pub(crate) fn open_line(
    config: &LineConfig,
    options: &KernelOptions,
    nics: &mut Nics,
) -> Result<(Line, LineReport), OpenError> {
    let what = Purpose::Line(config.line);
    check_line(config)?;
    let interface = match &config.interface {
        Some(name) => Some(interface_index(what, name)?),
        None => None,
    };
    let socket = Socket::open(what)?;
    let multicast = config.group.is_multicast();
    if multicast {
        // Several processes may listen to a group. To a unicast address they may not: the last would take it all.
        socket.require(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1, "SO_REUSEADDR")?;
        socket.require(libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, 0, "IP_MULTICAST_ALL")?;
    } else if let Some(name) = &config.interface {
        bind_to_device(&socket, what, name)?;
    }
    socket.require(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1, "SO_RXQ_OVFL")?;
    let rcvbuf_bytes = socket.set_buffer(Buffer::Receive, options.rcvbuf_bytes)?;
    if let Some(us) = options.busy_poll_us {
        let us = libc::c_int::try_from(us).unwrap_or(libc::c_int::MAX);
        socket.set(libc::SOL_SOCKET, libc::SO_BUSY_POLL, us).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => OpenError::not_permitted(what, "set SO_BUSY_POLL", Capabilities::NET_ADMIN, error),
            _ => socket.os("SO_BUSY_POLL", error),
        })?;
    }
    let timestamps = if options.timestamps.by_kernel() { ask_for_times(&socket)? } else { Timestamps::User };
    let (mut nic, mut hardware) = nics.add(config.interface.as_deref(), options.timestamps);
    if nic.is_some() && ask_for_hardware_times(&socket).is_err() {
        (nic, hardware) = (None, Hardware::Unavailable(NoHardwareStamps::SocketRefused));
    }
    bind(&socket, config)?;
    if multicast {
        join(&socket, config, interface)?;
    }
    let report =
        LineReport { line: config.line, rcvbuf_asked_bytes: options.rcvbuf_bytes, rcvbuf_bytes, timestamps, hardware };
    let presence = config.interface.as_ref().zip(interface).map(|(name, index)| Presence::new(index, name));
    let line = Line { socket, number: config.line, senders: Senders::of(config), presence, drops_seen: 0, nic };
    Ok((line, report))
}

/// Refuses what the kernel would take, or would refuse without saying why.
pub(crate) fn check_line(config: &LineConfig) -> Result<(), OpenError> {
    let line = config.line;
    if config.port == 0 {
        return Err(OpenError::NoPort { line, address: config.group });
    }
    if config.allow.len() > MAX_ALLOWED {
        return Err(OpenError::TooManyAllowed { line, allowed: config.allow.len() });
    }
    let Some(source) = config.source else { return Ok(()) };
    if !config.group.is_multicast() {
        return Err(OpenError::SourceWithoutGroup { line, address: config.group, source });
    }
    if source.is_multicast() || source.is_unspecified() || source.is_broadcast() {
        return Err(OpenError::BadSource { line, source });
    }
    if !config.allow.is_empty() && !config.allow.iter().any(|network| network.contains(source)) {
        return Err(OpenError::SourceNotAllowed { line, source });
    }
    Ok(())
}

pub(crate) fn bind_to_device(socket: &Socket, what: Purpose, name: &str) -> Result<(), OpenError> {
    let mut device = [0u8; libc::IFNAMSIZ];
    // The name was found among the interfaces, so it is short enough.
    device.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)).for_each(|(to, from)| *to = from);
    socket.set(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => OpenError::not_permitted(what, "bind to one interface", Capabilities::NET_RAW, error),
        _ => socket.os("SO_BINDTODEVICE", error),
    })
}

pub(crate) fn ask_for_times(socket: &Socket) -> Result<Timestamps, OpenError> {
    let software = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    if socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, software).is_ok() {
        return Ok(Timestamps::Timestamping);
    }
    socket.require(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS")?;
    Ok(Timestamps::TimestampNs)
}

/// Asks for the card's times beside the kernel's.
fn ask_for_hardware_times(socket: &Socket) -> io::Result<()> {
    let software = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
    let hardware = libc::SOF_TIMESTAMPING_RX_HARDWARE | libc::SOF_TIMESTAMPING_RAW_HARDWARE;
    socket.set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, software | hardware)
}

pub(crate) fn bind(socket: &Socket, config: &LineConfig) -> Result<(), OpenError> {
    let (line, what) = (config.line, Purpose::Line(config.line));
    socket.bind(address(config)).map_err(|error| match error.raw_os_error() {
        Some(libc::EADDRINUSE) => OpenError::PortInUse { line, address: address(config), error },
        Some(libc::EADDRNOTAVAIL) => {
            OpenError::AddressNotLocal { what, address: config.group, existing: local_addresses(), error }
        }
        Some(libc::EACCES) => {
            OpenError::not_permitted(what, "bind to a port below 1024", Capabilities::NET_BIND_SERVICE, error)
        }
        _ => socket.os("bind", error),
    })
}

pub(crate) fn join(socket: &Socket, config: &LineConfig, interface: Option<u32>) -> Result<(), OpenError> {
    let refused = |error: io::Error| OpenError::Join {
        line: config.line,
        group: config.group,
        source: config.source,
        interface: config.interface.clone(),
        error,
    };
    let index = interface.unwrap_or(0);
    match config.source {
        None => {
            let request = libc::ip_mreqn {
                imr_multiaddr: in_addr(config.group),
                imr_address: in_addr(Ipv4Addr::UNSPECIFIED),
                imr_ifindex: libc::c_int::try_from(index).unwrap_or(0),
            };
            socket.set(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, request).map_err(refused)
        }
        Some(source) => join_source(socket, config.group, source, index).map_err(refused),
    }
}

/// Joins by the interface's number: `IP_ADD_SOURCE_MEMBERSHIP` takes an address of it instead, which an interface may
/// lack or share.
fn join_source(socket: &Socket, group: Ipv4Addr, source: Ipv4Addr, interface: u32) -> io::Result<()> {
    const MCAST_JOIN_SOURCE_GROUP: libc::c_int = 46;
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct GroupSourceRequest {
        interface: u32,
        group: libc::sockaddr_storage,
        source: libc::sockaddr_storage,
    }
    let storage = |address: Ipv4Addr| {
        // SAFETY: a sockaddr_storage is integers, for which zero is a value.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let name = crate::socket::sockaddr(std::net::SocketAddrV4::new(address, 0));
        // SAFETY: a sockaddr_storage is as large and as aligned as any socket address.
        unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(name) };
        storage
    };
    let request = GroupSourceRequest { interface, group: storage(group), source: storage(source) };
    socket.set(libc::IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, request)
}
