//! Opening the packet sockets and their rings.

use std::io;

use barewire_types::TsSource;

use super::filter;
use super::ring::{Layout, Ring, VNET_LEN};
use super::{
    Fanout, FanoutMode, InterfaceReport, PacketMmapCounters, PacketMmapOptions, PacketMmapReceiver, Tap, Version,
};
use crate::capabilities::Capabilities;
use crate::error::{OpenError, Purpose};
use crate::frames::Lines;
use crate::hwstamp::NoHardwareStamps;
use crate::interfaces;
use crate::kernel::{Timestamps, ask_for_times};
use crate::membership::{Membership, attach_filter};
use crate::nic::{Clocks, Hardware, Nics, UserClock};
use crate::packet::{LineConfig, ReceiverCounters};
use crate::socket::{Buffer, Socket, check};
use crate::waits::Waits;

/// As many lines as a `u8` tells apart; the filter has room for them.
const MAX_LINES: usize = 1 << 8;
/// The longest frame: an IPv4 packet, its Ethernet header, and room to spare.
const LONGEST_FRAME: usize = (1 << 16) + 64;
/// What the kernel takes a version 2 ring's memory in, where a slot is no larger.
const V2_BLOCK_BYTES: usize = 1 << 16;

impl PacketMmapReceiver {
    /// Joins the lines' groups and opens one packet socket with a ring for each interface that they come by.
    ///
    /// A line without an interface comes by the one that the routing table names for its group, or that has its address.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing stays open.
    pub fn open(lines: &[LineConfig], options: PacketMmapOptions) -> Result<PacketMmapReceiver, OpenError> {
        let in_range = |name, value: usize, min: usize, max: usize| match value {
            _ if (min..=max).contains(&value) => Ok(()),
            _ => Err(OpenError::BadOption { name, value: value as u64, min: min as u64, max: max as u64 }),
        };
        let Some(first) = lines.first() else { return Err(OpenError::NoLines) };
        in_range("lines", lines.len(), 1, MAX_LINES)?;
        in_range("batch", options.batch, 1, 1024)?;
        in_range("ring_bytes", options.ring_bytes, 1 << 16, 1 << 31)?;
        in_range("slot_bytes", options.slot_bytes, 256, 1 << 17)?;
        in_range("block_bytes", options.block_bytes, 1 << 17, 1 << 24)?;
        if let Version::V3 { block_timeout_ms } = options.version {
            in_range("block_timeout_ms", usize::from(block_timeout_ms), 1, 1000)?;
        }
        let memberships: Vec<Membership> = lines.iter().map(Membership::new).collect::<Result<_, _>>()?;
        let mut by_interface: Vec<(u32, Vec<&LineConfig>)> = Vec::new();
        for (line, membership) in lines.iter().zip(&memberships) {
            let index = membership.interface();
            match by_interface.iter_mut().find(|(known, _)| *known == index) {
                Some((_, lines)) => lines.push(line),
                None => by_interface.push((index, vec![line])),
            }
        }
        let (mut taps, mut reports, mut nics) = (Vec::new(), Vec::new(), Nics::default());
        for (nth, (interface, lines)) in by_interface.iter().enumerate() {
            let (tap, report) = open_tap(*interface, lines, nth as u16, &options, &mut nics)?;
            taps.push(tap);
            reports.push(report);
        }
        let waits = Waits::new(options.mode, taps.iter().map(|tap| tap.socket.fd()));
        let waits = waits.map_err(|error| OpenError::Os { what: Purpose::Line(first.line), call: "eventfd", error })?;
        let of = |report: &InterfaceReport| match (options.trailer_times, report.hardware, report.timestamps) {
            (Some(_), _, _) => TsSource::Capture,
            (None, Hardware::On { .. }, _) => TsSource::Nic,
            (None, _, Timestamps::User) => TsSource::User,
            _ => TsSource::Kernel,
        };
        let source = reports.iter().map(of).max_by_key(|source| *source as u8).unwrap_or(TsSource::None);
        // The ring has one time for each frame: beside a card's, the thread takes its own.
        let own =
            source == TsSource::User || reports.iter().any(|report| matches!(report.hardware, Hardware::On { .. }));
        let clock = if own { UserClock::calibrated() } else { UserClock::system() };
        let clocks = Clocks { source, nic_bound_ns: nics.bound_ns(), user_bound_ns: clock.bound_ns() };
        Ok(PacketMmapReceiver {
            taps,
            memberships,
            waits,
            batch: options.batch,
            timestamps: options.timestamps.by_kernel(),
            nics,
            clock,
            clocks,
            version: options.version,
            long: vec![0; VNET_LEN + LONGEST_FRAME].into(),
            counters: ReceiverCounters::default(),
            own: PacketMmapCounters::default(),
            reports,
        })
    }
}

fn open_tap(
    interface: u32,
    lines: &[&LineConfig],
    nth: u16,
    options: &PacketMmapOptions,
    nics: &mut Nics,
) -> Result<(Tap, InterfaceReport), OpenError> {
    let what = Purpose::Line(lines.first().map_or(0, |line| line.line));
    // Protocol 0: nothing comes in before all is set up and the socket is bound.
    let socket = Socket::of(what, libc::AF_PACKET, libc::SOCK_RAW).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => OpenError::not_permitted(what, "open a packet socket", Capabilities::NET_RAW, error),
        _ => OpenError::Os { what, call: "socket(AF_PACKET)", error },
    })?;
    let program = filter::program(lines.iter().copied());
    attach_filter(&socket, &program)?;
    let version = match options.version {
        Version::V2 => libc::tpacket_versions::TPACKET_V2,
        Version::V3 { .. } => libc::tpacket_versions::TPACKET_V3,
    };
    socket.require(libc::SOL_PACKET, libc::PACKET_VERSION, version as libc::c_int, "PACKET_VERSION")?;
    // Says of each frame whether its checksum is good, and whether it holds a run of datagrams.
    socket.require(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1, "PACKET_VNET_HDR")?;
    if options.version == Version::V2 {
        // A frame longer than its slot is queued at the socket too.
        socket.require(libc::SOL_PACKET, libc::PACKET_COPY_THRESH, 1, "PACKET_COPY_THRESH")?;
        socket.set_buffer(Buffer::Receive, Some(options.rcvbuf_bytes))?;
    }
    // The ring always has times. Asking for them makes the kernel take them when the packet arrives, not when it is
    // copied into the ring.
    let timestamps = if options.timestamps.by_kernel() { ask_for_times(&socket)? } else { Timestamps::User };
    let layout = give_ring(&socket, options).map_err(|error| socket.os("PACKET_RX_RING", error))?;
    let ring = Ring::map(socket.fd(), layout).map_err(|error| socket.os("mmap", error))?;
    bind(&socket, interface).map_err(|error| socket.os("bind", error))?;
    let existing = interfaces::list().unwrap_or_default();
    let name = existing.iter().find(|known| known.index == interface).map(|known| known.name.clone());
    let name = name.unwrap_or_default();
    match hardware(&socket).map_err(|error| socket.os("getsockname", error))? {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => {}
        _ => return Err(OpenError::NotEthernet { what, interface: name }),
    }
    let (mut nic, mut stamps) = nics.add(Some(&name), options.timestamps);
    let raw = libc::SOF_TIMESTAMPING_RAW_HARDWARE as libc::c_int;
    if nic.is_some() && socket.set(libc::SOL_PACKET, libc::PACKET_TIMESTAMP, raw).is_err() {
        (nic, stamps) = (None, Hardware::Unavailable(NoHardwareStamps::SocketRefused));
    }
    let fanout_group = match options.fanout {
        None => None,
        Some(fanout) => {
            let group = fanout.group.wrapping_add(nth);
            join_fanout(&socket, fanout, group)?;
            Some(group)
        }
    };
    let report = InterfaceReport {
        interface: name,
        lines: lines.iter().map(|line| line.line).collect(),
        ring_asked_bytes: options.ring_bytes,
        ring_bytes: layout.unit_bytes * layout.units,
        slots: layout.units,
        filter_len: program.len(),
        timestamps,
        hardware: stamps,
        fanout_group,
    };
    Ok((
        Tap {
            socket,
            ring,
            lines: Lines::new(lines.iter().copied(), None).with_trailer_times(options.trailer_times),
            nic,
        },
        report,
    ))
}

/// Asks for the ring, and for half as much as long as there is no memory for it.
fn give_ring(socket: &Socket, options: &PacketMmapOptions) -> io::Result<Layout> {
    let mut bytes = options.ring_bytes;
    loop {
        let layout = match options.version {
            Version::V2 => {
                let unit_bytes = options.slot_bytes.next_power_of_two();
                let block_bytes = unit_bytes.max(V2_BLOCK_BYTES);
                let blocks = (bytes / block_bytes).max(1);
                Layout { version: options.version, unit_bytes, units: blocks * (block_bytes / unit_bytes) }
            }
            Version::V3 { .. } => {
                let unit_bytes = options.block_bytes.next_power_of_two();
                // With a single block, what comes while it is being read would be lost.
                Layout { version: options.version, unit_bytes, units: (bytes / unit_bytes).max(2) }
            }
        };
        match ask_for_ring(socket, layout) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && bytes > 2 * V2_BLOCK_BYTES => bytes /= 2,
            result => return result.map(|()| layout),
        }
    }
}

fn ask_for_ring(socket: &Socket, layout: Layout) -> io::Result<()> {
    // The kernel's integers; all of these were checked to be at most 2^31.
    let int = |value: usize| value as libc::c_uint;
    match layout.version {
        Version::V2 => {
            let block_bytes = layout.unit_bytes.max(V2_BLOCK_BYTES);
            let request = libc::tpacket_req {
                tp_block_size: int(block_bytes),
                tp_block_nr: int(layout.units / (block_bytes / layout.unit_bytes)),
                tp_frame_size: int(layout.unit_bytes),
                tp_frame_nr: int(layout.units),
            };
            socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, request)
        }
        Version::V3 { block_timeout_ms } => {
            // Frames have no fixed length here, but the kernel wants a number that fits.
            const NOMINAL_FRAME: usize = 2048;
            let request = libc::tpacket_req3 {
                tp_block_size: int(layout.unit_bytes),
                tp_block_nr: int(layout.units),
                tp_frame_size: int(NOMINAL_FRAME),
                tp_frame_nr: int(layout.units * (layout.unit_bytes / NOMINAL_FRAME)),
                tp_retire_blk_tov: block_timeout_ms.into(),
                tp_sizeof_priv: 0,
                tp_feature_req_word: 0,
            };
            socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, request)
        }
    }
}

/// From now on IPv4 frames come in. A socket for one protocol sees what the kernel's own IPv4 sees, after tags are taken
/// out, and nothing that leaves.
fn bind(socket: &Socket, interface: u32) -> io::Result<()> {
    // SAFETY: a sockaddr_ll is integers, for which zero is a value.
    let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    name.sll_family = libc::AF_PACKET as libc::sa_family_t;
    name.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    name.sll_ifindex = interface as libc::c_int;
    // SAFETY: `name` is readable for the length given.
    check(unsafe { libc::bind(socket.fd(), (&raw const name).cast(), size_of_val(&name) as libc::socklen_t) })
}

/// What kind of link the interface that a socket is bound to is: `ARPHRD_ETHER` and the like.
fn hardware(socket: &Socket) -> io::Result<u16> {
    // SAFETY: a sockaddr_ll is integers, for which zero is a value.
    let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = size_of_val(&name) as libc::socklen_t;
    // SAFETY: `name` is writable for `len` bytes.
    check(unsafe { libc::getsockname(socket.fd(), (&raw mut name).cast(), &mut len) })?;
    Ok(name.sll_hatype)
}

fn join_fanout(socket: &Socket, fanout: Fanout, group: u16) -> Result<(), OpenError> {
    let mode = match fanout.mode {
        FanoutMode::Hash => libc::PACKET_FANOUT_HASH,
        FanoutMode::RoundRobin => libc::PACKET_FANOUT_LB,
        FanoutMode::Cpu => libc::PACKET_FANOUT_CPU,
        FanoutMode::Rollover => libc::PACKET_FANOUT_ROLLOVER,
        FanoutMode::Random => libc::PACKET_FANOUT_RND,
        FanoutMode::Queue => libc::PACKET_FANOUT_QM,
    };
    let flag = |asked, bits| if asked { bits } else { 0 };
    let flags = flag(fanout.rollover, libc::PACKET_FANOUT_FLAG_ROLLOVER)
        | flag(fanout.defragment, libc::PACKET_FANOUT_FLAG_DEFRAG);
    let word = u32::from(group) | (mode | flags) << 16;
    socket.require(libc::SOL_PACKET, libc::PACKET_FANOUT, word, "PACKET_FANOUT")
}
