//! Opening: programs, memory, sockets.

use std::io;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use barewire_types::TsSource;

use super::device::Device;
use super::fragments::Fragments;
use super::options::{
    AfXdpOptions, Attach, Attached, BusyPoll, Got, InterfaceReport, KERNELS_ROOM_BYTES, Transfer, Transferred,
};
use super::program::{Stamp, Take, Taken, assemble};
use super::umem::Umem;
use super::xsk::{self, Xsk};
use super::{AfXdpError, AfXdpReceiver, Interface, Queue};
use crate::bpf::btf::kernel_function;
use crate::bpf::{self, Link};
use crate::capabilities::Capabilities;
use crate::error::{OpenError, Purpose};
use crate::frames::Lines;
use crate::hwstamp::NoHardwareStamps;
use crate::kernel::Mode;
use crate::membership::Membership;
use crate::nic::{Clocks, Hardware, Nics, Stamps, UserClock};
use crate::packet::{LineConfig, ReceiverCounters};
use crate::waits::Waits;

/// What the path takes altogether, so that all that is missing is told at once.
const NEEDS: Capabilities =
    Capabilities::NET_RAW.with(Capabilities::NET_ADMIN).with(Capabilities::PERFMON).with(Capabilities::BPF);

/// Lines that come by one interface, with the ids of their VLANs, 0 for none.
struct Group<'a> {
    device: Device,
    lines: Vec<(u16, &'a LineConfig)>,
}

/// Whom an interface's errors are about: its first line.
struct Context<'a> {
    what: Purpose,
    device: &'a Device,
}

impl Context<'_> {
    fn os(&self, call: &'static str) -> impl Fn(io::Error) -> OpenError {
        let what = self.what;
        move |error| OpenError::Os { what, call, error }
    }

    fn own(&self, error: AfXdpError) -> OpenError {
        OpenError::AfXdp { what: self.what, error }
    }

    fn name(&self) -> String {
        self.device.name.clone()
    }
}

impl AfXdpReceiver {
    /// Joins the lines' groups, attaches a program to each of their interfaces and opens a socket for each receive queue.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the line; nothing stays open or attached.
    pub fn open(lines: &[LineConfig], options: AfXdpOptions) -> Result<AfXdpReceiver, OpenError> {
        AfXdpReceiver::open_stamped(lines, options, by_driver)
    }

    /// The same, with another answer to where stamps come from: tests have no card.
    pub(super) fn open_stamped(
        lines: &[LineConfig],
        options: AfXdpOptions,
        stamps: FindStamps,
    ) -> Result<AfXdpReceiver, OpenError> {
        check(lines, &options)?;
        let Some(first) = lines.first() else { return Err(OpenError::NoLines) };
        let what = Purpose::Line(first.line);
        let memberships = lines.iter().map(Membership::new).collect::<Result<Vec<_>, _>>()?;
        let mut groups: Vec<Group<'_>> = Vec::new();
        for (line, membership) in lines.iter().zip(&memberships) {
            let what = Purpose::Line(line.line);
            let found = Device::under(membership.interface());
            let (device, vlan) =
                found.map_err(|error| OpenError::Os { what, call: "the search for its interface", error })?;
            let tagged = (vlan.or(options.vlan).unwrap_or(0), line);
            match groups.iter_mut().find(|group| group.device.index == device.index) {
                Some(group) => group.lines.push(tagged),
                None => groups.push(Group { device, lines: vec![tagged] }),
            }
        }
        let eventfd = |error| OpenError::Os { what, call: "eventfd", error };
        let never = || Waits::new(Mode::Busy, std::iter::empty());
        let mut receiver = AfXdpReceiver {
            _links: Vec::new(),
            queues: Vec::new(),
            interfaces: Vec::new(),
            memberships,
            batch: u32::try_from(options.batch).unwrap_or(u32::MAX),
            waits: never().map_err(eventfd)?,
            nics: Nics::default(),
            clock: UserClock::calibrated(),
            clocks: Clocks::SYSTEM,
            counters: ReceiverCounters::default(),
            reports: Vec::new(),
        };
        for group in &groups {
            receiver.open_interface(group, &options, stamps)?;
        }
        let source = |report: &InterfaceReport| match (options.trailer_times, report.hardware) {
            (Some(_), _) => TsSource::Capture,
            (None, Hardware::On { .. }) => TsSource::Nic,
            _ => TsSource::User,
        };
        receiver.clocks = Clocks {
            source: receiver.reports.iter().map(source).max_by_key(|source| *source as u8).unwrap_or(TsSource::User),
            nic_bound_ns: receiver.nics.bound_ns(),
            user_bound_ns: receiver.clock.bound_ns(),
        };
        if options.mode == Mode::Blocking {
            let sockets = receiver.queues.iter().map(|queue| queue.socket.fd());
            receiver.waits = Waits::new(options.mode, sockets).map_err(eventfd)?;
        }
        Ok(receiver)
    }

    fn open_interface(
        &mut self,
        group: &Group<'_>,
        options: &AfXdpOptions,
        stamps: FindStamps,
    ) -> Result<(), OpenError> {
        let what = group.lines.first().map_or(Purpose::Line(0), |(_, line)| Purpose::Line(line.line));
        let context = Context { what, device: &group.device };
        if !group.device.is_ethernet(what)? {
            return Err(OpenError::NotEthernet { what, interface: context.name() });
        }
        let existing_queues = group.device.queues(what)?;
        let numbers = queues(&context, options, existing_queues)?;
        let frames = frames(options, numbers.len());
        let mtu_bytes = group.device.mtu(what)?;
        let frame_bytes = match options.frame_bytes {
            Some(bytes) => bytes,
            None => frame_bytes(mtu_bytes),
        };

        // The program comes first and passes everything until there are sockets in its map.
        let map = bpf::socket_map(existing_queues).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => OpenError::not_permitted(what, "make BPF maps", NEEDS, error),
            _ => context.os("BPF_MAP_CREATE")(error),
        })?;
        let (stamp, mut hardware) = stamps(&mut self.nics, &context.device.name, options.timestamps);
        let stamp = stamp.filter(|_| options.attach != Attach::Generic);
        let (link, attach, stamped) =
            attach(&context, &group.lines, options.attach, &map, stamp.map(|(_, stamp)| stamp))?;
        if matches!(hardware, Hardware::On { .. }) && !stamped {
            hardware = Hardware::Unavailable(NoHardwareStamps::NoXdpMetadata);
        }
        let nic = stamp.map(|(nic, _)| nic).filter(|_| stamped);
        let copies_only = attach.got == Attached::Generic;

        let fragments = Fragments::of(what, group.device.index, group.lines.iter().map(|(_, line)| *line))?;
        let umem =
            Umem::new(numbers.len() * frames as usize, frame_bytes, options.huge_pages).map_err(context.os("mmap"))?;
        let mut queues: Vec<Queue> = Vec::with_capacity(numbers.len());
        let mut transfer = None;
        for (n, number) in numbers.iter().enumerate() {
            let (socket, receive, mut fill) = match queues.first() {
                None => {
                    let (opened, got) = first(&context, &umem, *number, frames, options.transfer, copies_only)?;
                    transfer = Some(got);
                    opened
                }
                Some(first) => further(&context, &first.socket, *number, frames)?,
            };
            let base = n as u64 * u64::from(frames);
            for frame in 0..frames {
                // SAFETY: each frame is of this queue alone and is handed over for the first time.
                unsafe { fill.put(frame, (base + u64::from(frame)) * u64::from(frame_bytes)) };
            }
            fill.publish(frames);
            let interface = self.interfaces.len();
            queues.push(Queue { receive, fill, socket, interface, number: *number, drops_seen: 0, busy_poll: false });
        }
        let busy_poll = options.busy_poll.map(|asked| busy_poll(&mut queues, asked));
        for queue in &queues {
            bpf::put_socket(&map, queue.number, queue.socket.fd()).map_err(context.os("BPF_MAP_UPDATE_ELEM"))?;
            // A driver that sleeps until it is called has to see the first frames.
            if queue.fill.needs_wakeup() {
                queue.socket.wake_driver().map_err(context.os("recvfrom"))?;
            }
        }

        let mut vlans: Vec<u16> = group.lines.iter().map(|(vlan, _)| *vlan).collect();
        vlans.sort_unstable();
        vlans.dedup();
        let lines_of = |id: u16| {
            let lines = group.lines.iter().filter(|(vlan, _)| *vlan == id).map(|(_, line)| *line);
            (id, Lines::new(lines, (id != 0).then_some(id)).with_trailer_times(options.trailer_times))
        };
        self.reports.push(InterfaceReport {
            interface: context.name(),
            lines: group.lines.iter().map(|(_, line)| line.line).collect(),
            vlans: vlans.clone(),
            attach,
            transfer: transfer.unwrap_or(Got { asked: options.transfer, got: Transferred::Copy, why: None }),
            queues: numbers,
            existing_queues,
            frames,
            frame_bytes,
            mtu_bytes,
            pages: umem.pages(),
            hardware,
            busy_poll,
        });
        let lines = vlans.into_iter().map(lines_of).collect();
        self.interfaces.push(Interface { name: context.name(), lines, umem, nic, fragments });
        self.queues.append(&mut queues);
        self._links.push(link);
        Ok(())
    }
}

fn check(lines: &[LineConfig], options: &AfXdpOptions) -> Result<(), OpenError> {
    let in_range = |name, value: u64, min: u64, max: u64| match value {
        _ if (min..=max).contains(&value) => Ok(()),
        _ => Err(OpenError::BadOption { name, value, min, max }),
    };
    in_range("batch", options.batch as u64, 1, 1024)?;
    if !lines.is_empty() {
        // So that every jump in the program is short enough.
        in_range("lines", lines.len() as u64, 1, 4096)?;
    }
    if let Some(frames) = options.frames {
        in_range("frames", frames.into(), 64, 1 << 20)?;
    }
    if let Some(bytes) = options.frame_bytes.filter(|bytes| ![2048, 4096].contains(bytes)) {
        return Err(OpenError::BadOption { name: "frame_bytes", value: bytes.into(), min: 2048, max: 4096 });
    }
    if let Some(vlan) = options.vlan {
        in_range("vlan", vlan.into(), 1, 4094)?;
    }
    if let Some(queues) = &options.queues {
        in_range("queues", queues.len() as u64, 1, 1 << 16)?;
    }
    Ok(())
}

fn queues(context: &Context<'_>, options: &AfXdpOptions, existing: u32) -> Result<Vec<u32>, OpenError> {
    let Some(asked) = &options.queues else { return Ok((0..existing).collect()) };
    let mut queues = asked.clone();
    queues.sort_unstable();
    queues.dedup();
    match queues.iter().find(|queue| **queue >= existing) {
        None => Ok(queues),
        Some(queue) => Err(context.own(AfXdpError::NoSuchQueue { interface: context.name(), queue: *queue, existing })),
    }
}

/// Frames of one queue. The kernel keeps notes of every frame for every queue, so many queues get fewer each.
fn frames(options: &AfXdpOptions, queues: usize) -> u32 {
    let default = (65_536 / queues.max(1)).clamp(1_024, 16_384) as u32;
    options.frames.unwrap_or(default).next_power_of_two()
}

/// The smallest frames that hold the interface's packets with Ethernet's header and a tag, behind the 256 bytes that the
/// kernel keeps.
fn frame_bytes(mtu: u32) -> u32 {
    if mtu.saturating_add(18 + KERNELS_ROOM_BYTES) <= 2048 { 2048 } else { 4096 }
}

/// Says for an interface which card's clock its stamps are by and where they come from, where there are any, and what is
/// told of it.
pub(super) type FindStamps = fn(&mut Nics, &str, Stamps) -> (Option<(usize, Stamp)>, Hardware);

fn by_driver(nics: &mut Nics, interface: &str, asked: Stamps) -> (Option<(usize, Stamp)>, Hardware) {
    const RX_TIMESTAMP: &str = "bpf_xdp_metadata_rx_timestamp";
    match nics.add(Some(interface), asked) {
        (Some(nic), hardware) => match kernel_function(RX_TIMESTAMP) {
            Ok(function) => (Some((nic, Stamp::Driver(function))), hardware),
            Err(_) => (None, hardware),
        },
        (None, hardware) => (None, hardware),
    }
}

fn attach(
    context: &Context<'_>,
    lines: &[(u16, &LineConfig)],
    asked: Attach,
    map: &OwnedFd,
    stamp: Option<Stamp>,
) -> Result<(Link, Got<Attach, Attached>, bool), OpenError> {
    use std::os::fd::AsRawFd;
    let what = context.what;
    let takes: Vec<Take> =
        lines.iter().map(|(vlan, line)| Take { vlan: *vlan, group: line.group, port: line.port }).collect();
    if let Some(stamp) = stamp {
        // Where kernel or driver refuse, or another program is in the way, it goes on as without stamps, and says why.
        let code = assemble(&takes, Taken::Redirect(map.as_raw_fd(), Some(stamp)));
        let index = context.device.index;
        if let Ok(program) = bpf::load_device_program(&code, index)
            && let Ok(link) = Link::attach(&program, index, bpf::NATIVE)
        {
            return Ok((link, Got { asked, got: Attached::Native, why: None }, true));
        }
    }
    let code = assemble(&takes, Taken::Redirect(map.as_raw_fd(), None));
    let program = bpf::load_program(&code).map_err(|(error, log)| match error.raw_os_error() {
        Some(libc::EPERM) => OpenError::not_permitted(what, "load XDP programs", NEEDS, error),
        // What the verifier says to those who may load programs, and may not have them add to pointers.
        Some(libc::EACCES) if Capabilities::PERFMON.is_missing() => {
            OpenError::not_permitted(what, "load this XDP program", NEEDS, error)
        }
        _ => context.own(AfXdpError::ProgramRejected { interface: context.name(), log, error }),
    })?;
    let refused = |way: &'static str, error: io::Error| match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => {
            context.own(AfXdpError::ProgramInTheWay { interface: context.name(), error })
        }
        Some(libc::EPERM) => OpenError::not_permitted(what, "attach XDP programs", NEEDS, error),
        _ => context.own(AfXdpError::CannotAttach { interface: context.name(), way, error }),
    };
    let mut why = None;
    if asked != Attach::Generic {
        match Link::attach(&program, context.device.index, bpf::NATIVE) {
            Ok(link) => return Ok((link, Got { asked, got: Attached::Native, why: None }, false)),
            Err(error) => match refused("native", error) {
                // The driver cannot, or not as the interface is set up just now (packet length, queues).
                OpenError::AfXdp { error: AfXdpError::CannotAttach { error, .. }, .. }
                    if asked == Attach::PreferNative =>
                {
                    why = Some(format!("the driver refuses it: {error}"));
                }
                other => return Err(other),
            },
        }
    }
    let link = Link::attach(&program, context.device.index, bpf::GENERIC).map_err(|error| refused("generic", error))?;
    Ok((link, Got { asked, got: Attached::Generic, why }, false))
}

type Opened = (Xsk, super::ReceiveRing, super::FillRing);

fn socket(context: &Context<'_>, frames: u32, umem: Option<&Umem>) -> Result<Opened, OpenError> {
    let what = context.what;
    let socket = Xsk::open().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => OpenError::not_permitted(what, "open AF_XDP sockets", NEEDS, error),
        _ => context.os("socket(AF_XDP)")(error),
    })?;
    if let Some(umem) = umem {
        let memory = umem.registration();
        socket.register(memory).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOBUFS) => {
                context.own(AfXdpError::MemoryLimit { interface: context.name(), bytes: memory.len, error })
            }
            _ => context.os("XDP_UMEM_REG")(error),
        })?;
    }
    let (receive, fill) = socket.rings(frames).map_err(context.os("the making of AF_XDP rings"))?;
    Ok((socket, receive, fill))
}

/// Binds; waits a little for a socket that was closed just now, since the kernel lets go of its queue later.
fn bind(
    context: &Context<'_>,
    socket: &Xsk,
    queue: u32,
    flags: u16,
    shared: Option<&Xsk>,
) -> Result<(), (io::Error, OpenError)> {
    let mut tries = 100;
    loop {
        let Err(error) = socket.bind(context.device.index, queue, flags, shared.map(Xsk::fd)) else { return Ok(()) };
        let busy = error.raw_os_error() == Some(libc::EBUSY);
        if busy && tries > 0 {
            tries -= 1;
            thread::sleep(Duration::from_millis(10));
            continue;
        }
        let again = io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
        let interface = context.name();
        let own = match busy {
            true => AfXdpError::QueueInUse { interface, queue, error },
            false => {
                let way = if flags & xsk::ZERO_COPY != 0 { "zero-copy" } else { "copy" };
                AfXdpError::CannotBind { interface, queue, way, error }
            }
        };
        return Err((again, context.own(own)));
    }
}

/// The interface's first socket, which brings the memory and settles how packets come into it.
fn first(
    context: &Context<'_>,
    umem: &Umem,
    queue: u32,
    frames: u32,
    asked: Transfer,
    copies_only: bool,
) -> Result<(Opened, Got<Transfer, Transferred>), OpenError> {
    let mut why = None;
    match asked {
        Transfer::Copy => {}
        Transfer::PreferZeroCopy if copies_only => why = Some("generic XDP always copies".to_owned()),
        Transfer::ZeroCopy if copies_only => {
            let error = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            let (interface, way) = (context.name(), "zero-copy");
            return Err(context.own(AfXdpError::CannotBind { interface, queue, way, error }));
        }
        Transfer::PreferZeroCopy | Transfer::ZeroCopy => {
            let opened = socket(context, frames, Some(umem))?;
            match bind(context, &opened.0, queue, xsk::ZERO_COPY | xsk::USE_NEED_WAKEUP, None) {
                Ok(()) => return Ok((opened, Got { asked, got: Transferred::ZeroCopy, why: None })),
                Err((error, refusal)) => {
                    let in_use = error.raw_os_error() == Some(libc::EBUSY);
                    if asked == Transfer::ZeroCopy || in_use {
                        return Err(refusal);
                    }
                    why = Some(format!("the driver refuses it: {error}"));
                }
            }
        }
    }
    // A socket that could not be bound is not bound in another way: a fresh one leaves no doubt of what it holds.
    let opened = socket(context, frames, Some(umem))?;
    bind(context, &opened.0, queue, xsk::COPY | xsk::USE_NEED_WAKEUP, None).map_err(|(_, refusal)| refusal)?;
    Ok((opened, Got { asked, got: Transferred::Copy, why }))
}

/// A socket for another queue of the interface: the first one's memory, and the first one's way.
fn further(context: &Context<'_>, first: &Xsk, queue: u32, frames: u32) -> Result<Opened, OpenError> {
    let opened = socket(context, frames, None)?;
    bind(context, &opened.0, queue, xsk::SHARED_UMEM, Some(first)).map_err(|(_, refusal)| refusal)?;
    Ok(opened)
}

fn busy_poll(queues: &mut [Queue], asked: BusyPoll) -> Result<BusyPoll, String> {
    for queue in queues.iter() {
        queue.socket.prefer_busy_poll(asked).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => format!("it needs CAP_NET_ADMIN ({error})"),
            _ => error.to_string(),
        })?;
    }
    queues.iter_mut().for_each(|queue| queue.busy_poll = true);
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        let with = |change: fn(&mut AfXdpOptions)| {
            let mut options = AfXdpOptions::default();
            change(&mut options);
            match AfXdpReceiver::open(&[], options) {
                Err(OpenError::BadOption { name, .. }) => name,
                Err(OpenError::NoLines) => "",
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(with(|_| {}), "");
        assert_eq!(with(|options| options.batch = 0), "batch");
        assert_eq!(with(|options| options.batch = 1025), "batch");
        assert_eq!(with(|options| options.frames = Some(63)), "frames");
        assert_eq!(with(|options| options.frame_bytes = Some(3000)), "frame_bytes");
        assert_eq!(with(|options| options.vlan = Some(4095)), "vlan");
        assert_eq!(with(|options| options.queues = Some(vec![])), "queues");
    }

    #[test]
    fn frames_fit_packets_and_their_number_the_queues() {
        assert_eq!([1_500, 1_774, 1_775, 9_000].map(frame_bytes), [2048, 2048, 4096, 4096]);
        let options = AfXdpOptions::default();
        assert_eq!([1, 4, 8, 63, 1_000].map(|queues| frames(&options, queues)), [16_384, 16_384, 8_192, 2_048, 1_024]);
        assert_eq!(frames(&AfXdpOptions { frames: Some(65), ..options }, 1), 128);
    }
}
