//! Which way packets come in. All ways hand the same packets to the same code; this says which, and what was got of what
//! was asked for.

use barewire_io::af_xdp::{AfXdpOptions, AfXdpReceiver};
use barewire_io::dpdk::{DeviceReport, DeviceTimes, DpdkOptions, DpdkReceiver};
use barewire_io::io_uring::{IoUringOptions, IoUringReceiver};
use barewire_io::kernel::{KernelOptions, KernelReceiver, LineReport, Mode, Timestamps};
use barewire_io::packet_mmap::{PacketMmapOptions, PacketMmapReceiver};
use barewire_io::{Hardware, LineConfig, OpenError, Receiver, UserTimes, interfaces};

/// A receive path, and how it is set up.
#[derive(Clone, Debug)]
pub enum ReceivePath {
    /// Sockets, packets in batches.
    Kernel(KernelOptions),
    /// Sockets, through io_uring.
    IoUring(IoUringOptions),
    /// A packet socket's ring.
    PacketMmap(PacketMmapOptions),
    /// AF_XDP.
    AfXdp(AfXdpOptions),
    /// DPDK.
    Dpdk(DpdkOptions),
}

/// What is no reason not to start, and likely not meant: lines whose interface is down.
pub(crate) fn cautions(lines: &[LineConfig], names: &[String]) -> Vec<String> {
    let known = interfaces::list().unwrap_or_default();
    let caution = |line: &LineConfig| {
        let interface = known.iter().find(|known| Some(&known.name) == line.interface.as_ref())?;
        let name = names.get(usize::from(line.line)).map_or("", String::as_str);
        (!interface.is_up()).then(|| format!("line {name}: {} is down: nothing comes before it is up", interface.name))
    };
    lines.iter().filter_map(caution).collect()
}

/// Does something with a receiver of any path.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it. `report` says what was asked for and what was got, one line each.
    fn visit<R: Receiver + Send + 'static>(self, receiver: R, report: Vec<String>) -> Self::Output;
}

impl ReceivePath {
    /// The path's name, as configurations have it.
    pub const fn name(&self) -> &'static str {
        match self {
            ReceivePath::Kernel(_) => "kernel",
            ReceivePath::IoUring(_) => "io_uring",
            ReceivePath::PacketMmap(_) => "packet_mmap",
            ReceivePath::AfXdp(_) => "af_xdp",
            ReceivePath::Dpdk(_) => "dpdk",
        }
    }

    /// Whether the path sleeps when there is nothing.
    pub const fn waits(&self) -> bool {
        let mode = match self {
            ReceivePath::Kernel(options) => options.mode,
            ReceivePath::IoUring(options) => options.mode,
            ReceivePath::PacketMmap(options) => options.mode,
            ReceivePath::AfXdp(options) => options.mode,
            ReceivePath::Dpdk(options) => options.mode,
        };
        matches!(mode, Mode::Blocking)
    }

    /// Opens the path for these lines; their names are for the report.
    ///
    /// # Errors
    ///
    /// Why it could not be opened.
    pub fn open<V: Visitor>(self, lines: &[LineConfig], names: &[String], visitor: V) -> Result<V::Output, OpenError> {
        let name = |line: u8| names.get(usize::from(line)).map_or_else(|| line.to_string(), Clone::clone);
        let of = |lines: &[u8]| lines.iter().map(|line| name(*line)).collect::<Vec<_>>().join(", ");
        Ok(match self {
            ReceivePath::Kernel(options) => {
                let receiver = KernelReceiver::open(lines, options)?;
                let report = receiver
                    .reports()
                    .iter()
                    .map(|report| socket(report, &name(report.line), receiver.user_times()))
                    .collect();
                visitor.visit(receiver, report)
            }
            ReceivePath::IoUring(options) => {
                let receiver = IoUringReceiver::open(lines, options)?;
                let report = receiver
                    .reports()
                    .iter()
                    .map(|report| socket(report, &name(report.line), receiver.user_times()))
                    .collect();
                visitor.visit(receiver, report)
            }
            ReceivePath::PacketMmap(options) => {
                let receiver = PacketMmapReceiver::open(lines, options)?;
                let report = receiver.reports().iter().map(|report| {
                    let (got, asked) = (report.ring_bytes, report.ring_asked_bytes);
                    let ring = if got < asked {
                        format!("{got} bytes where {asked} were asked for")
                    } else {
                        format!("{got} bytes")
                    };
                    format!(
                        "lines {} on {}: ring of {ring}; {}",
                        of(&report.lines),
                        report.interface,
                        times(report.timestamps, report.hardware, receiver.user_times())
                    )
                });
                let report = report.collect();
                visitor.visit(receiver, report)
            }
            ReceivePath::AfXdp(options) => {
                let receiver = AfXdpReceiver::open(lines, options)?;
                let report = receiver.reports().iter().map(|report| {
                    let queues = format!("{} of {} queues", report.queues.len(), report.existing_queues);
                    let busy = match &report.busy_poll {
                        None => String::new(),
                        Some(Ok(poll)) => format!("; the feed's thread polls the driver, {} us", poll.us),
                        Some(Err(why)) => format!("; the feed's thread does not poll the driver: {why}"),
                    };
                    let (most, fits) = (report.mtu_bytes, report.fits());
                    let long = match most > fits {
                        true => format!("; packets of {most} bytes may come, those of more than {fits} are dropped"),
                        false => String::new(),
                    };
                    format!(
                        "lines {} on {}: {}; {}; {queues}, {} frames each; {}{busy}{long}",
                        of(&report.lines),
                        report.interface,
                        report.attach,
                        report.transfer,
                        report.frames,
                        times(Timestamps::User, report.hardware, receiver.user_times())
                    )
                });
                let report = report.collect();
                visitor.visit(receiver, report)
            }
            ReceivePath::Dpdk(options) => {
                let naps = options.mode == Mode::Blocking;
                let receiver = DpdkReceiver::open(lines, options)?;
                let of_device = |report: &DeviceReport| {
                    format!("lines {} on {}", of(&report.lines), device(report, naps, receiver.user_times()))
                };
                let report = receiver.reports().iter().map(of_device).collect();
                visitor.visit(receiver, report)
            }
        })
    }
}

fn device(report: &DeviceReport, naps: bool, user: UserTimes) -> String {
    let DeviceReport { device, driver, dpdk, memory, joined, filter, queues, descriptors, .. } = report;
    let frames = match report.descriptors_asked {
        asked if asked > *descriptors => format!("{descriptors} frames where {asked} were asked for"),
        _ => format!("{descriptors} frames"),
    };
    let times = match report.times {
        DeviceTimes::Off => user.to_string(),
        DeviceTimes::On { .. } => report.times.to_string(),
        _ => format!("{user}; {}", report.times),
    };
    let naps = if naps { "; naps of 50 us, since the driver wakes nobody" } else { "" };
    format!("{device}: {driver}, {dpdk}; {memory}; {queues} queues, {frames} each; {joined}; {filter}; {times}{naps}")
}

fn socket(report: &LineReport, line: &str, user: UserTimes) -> String {
    let buffer = match report.rcvbuf_asked_bytes {
        Some(asked) if report.rcvbuf_bytes < asked => format!(
            "receive buffer {} bytes where {asked} were asked for (raise net.core.rmem_max, or grant CAP_NET_ADMIN)",
            report.rcvbuf_bytes
        ),
        _ => format!("receive buffer {} bytes", report.rcvbuf_bytes),
    };
    format!("line {line}: {buffer}; {}", times(report.timestamps, report.hardware, user))
}

/// Whose receive times packets carry, and what else was asked for.
fn times(timestamps: Timestamps, hardware: Hardware, user: UserTimes) -> String {
    let own = match timestamps {
        Timestamps::User => user.to_string(),
        _ => "receive times by the kernel".to_owned(),
    };
    match hardware {
        Hardware::Off => own,
        Hardware::On { .. } => hardware.to_string(),
        Hardware::Unavailable(why) => format!("{own}; {why}"),
    }
}
