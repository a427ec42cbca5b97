//! The paths behind one face.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use barewire_io::af_xdp::{AfXdpOptions, AfXdpReceiver, Attach};
use barewire_io::dpdk::{DeviceFor, DpdkOptions, DpdkReceiver, LIBRARY_FILE};
use barewire_io::io_uring::{IoUringOptions, IoUringReceiver, SqPoll};
use barewire_io::kernel::{KernelOptions, KernelReceiver, Mode};
use barewire_io::packet_mmap::{Fanout, PacketMmapOptions, PacketMmapReceiver, Version};
use barewire_io::{LineConfig, OpenError, Packet, Receiver, ReceiverCounters, Stamps, TrailerTimes, Waker};
use barewire_types::{TsSource, UnixNanos};

use crate::net::PATIENCE;

/// The paths of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "they name modules too")]
pub enum Path {
    kernel,
    packet_mmap_v2,
    packet_mmap_v3,
    io_uring,
    io_uring_sqpoll,
    af_xdp_native,
    af_xdp_generic,
    dpdk_af_packet,
}
pub use Path::*;

impl Path {
    /// Whether frames are read as they reached the interface.
    pub fn reads_frames(self) -> bool {
        matches!(self, packet_mmap_v2 | packet_mmap_v3 | dpdk_af_packet) || self.is_xdp()
    }

    /// Whether it can be had here: DPDK's library is built by itself. CI builds it.
    pub fn is_built(self) -> bool {
        let missing = self == dpdk_af_packet && !dpdk_options("").library.is_some_and(|path| path.exists());
        assert!(!missing || std::env::var_os("CI").is_none(), "CI builds it: make dpdk");
        if missing {
            eprintln!("skipped: needs `make dpdk`");
        }
        !missing
    }

    /// Whether packets are taken before the kernel's stack has them.
    pub fn is_xdp(self) -> bool {
        matches!(self, af_xdp_native | af_xdp_generic)
    }

    /// By which clock its packets are stamped over virtual interfaces.
    pub fn clock(self) -> TsSource {
        if self.is_xdp() || self == dpdk_af_packet { TsSource::User } else { TsSource::Kernel }
    }
}

/// What a test asks of a path.
#[derive(Clone, Debug)]
pub struct Setup {
    pub mode: Mode,
    pub timestamps: Stamps,
    /// Longest payload that is sure to come whole; `None` for any.
    pub max_datagram: Option<usize>,
    /// The least buffers that the path takes.
    pub tiny: bool,
    pub fanout: Option<Fanout>,
    pub trailer_times: Option<TrailerTimes>,
}

pub const PLAIN: Setup = Setup {
    mode: Mode::Busy,
    timestamps: Stamps::Auto,
    max_datagram: None,
    tiny: false,
    fanout: None,
    trailer_times: None,
};
pub const BLOCKING: Setup = Setup { mode: Mode::Blocking, ..PLAIN };

#[allow(clippy::large_enum_variant, reason = "there are few")]
pub enum Any {
    Kernel(KernelReceiver),
    PacketMmap(PacketMmapReceiver),
    IoUring(IoUringReceiver),
    AfXdp(AfXdpReceiver),
    Dpdk(DpdkReceiver),
}

macro_rules! each {
    ($any:expr, $receiver:ident => $result:expr) => {
        match $any {
            Any::Kernel($receiver) => $result,
            Any::PacketMmap($receiver) => $result,
            Any::IoUring($receiver) => $result,
            Any::AfXdp($receiver) => $result,
            Any::Dpdk($receiver) => $result,
        }
    };
}

impl Any {
    pub fn try_open(path: Path, lines: &[LineConfig], setup: &Setup) -> Result<Any, OpenError> {
        let Setup { mode, timestamps, max_datagram, tiny, fanout, trailer_times } = setup.clone();
        Ok(match path {
            kernel => {
                let plain = KernelOptions::default();
                let rcvbuf_bytes = if tiny { Some(4096) } else { plain.rcvbuf_bytes };
                let max_datagram = max_datagram.unwrap_or(plain.max_datagram);
                let options = KernelOptions { mode, timestamps, max_datagram, rcvbuf_bytes, ..plain };
                Any::Kernel(KernelReceiver::open(lines, options)?)
            }
            packet_mmap_v2 | packet_mmap_v3 => {
                let mut options =
                    PacketMmapOptions { mode, timestamps, fanout, trailer_times, ..PacketMmapOptions::default() };
                if path == packet_mmap_v3 {
                    options.version = Version::V3 { block_timeout_ms: 1 };
                }
                if tiny {
                    (options.ring_bytes, options.block_bytes) = (1 << 16, 1 << 17);
                }
                if max_datagram.is_some() {
                    (options.slot_bytes, options.rcvbuf_bytes) = (256, 1);
                }
                Any::PacketMmap(PacketMmapReceiver::open(lines, options)?)
            }
            io_uring | io_uring_sqpoll => {
                let mut options = IoUringOptions { mode, timestamps, ..IoUringOptions::default() };
                if path == io_uring_sqpoll {
                    options.sqpoll = Some(SqPoll { idle_ms: 10, cpu: None });
                }
                if tiny {
                    (options.rcvbuf_bytes, options.buffers) = (Some(4096), 2);
                }
                options.max_datagram = max_datagram.unwrap_or(options.max_datagram);
                Any::IoUring(IoUringReceiver::open(lines, options)?)
            }
            af_xdp_native | af_xdp_generic => {
                let attach = if path == af_xdp_native { Attach::PreferNative } else { Attach::Generic };
                // Little memory: many tests run at once.
                let frames = Some(if tiny { 64 } else { 2048 });
                let options = AfXdpOptions { mode, attach, frames, trailer_times, ..AfXdpOptions::default() };
                Any::AfXdp(AfXdpReceiver::open(lines, options)?)
            }
            dpdk_af_packet => {
                let options = DpdkOptions { mode, trailer_times, ..dpdk_options("net_af_packet,iface={interface}") };
                Any::Dpdk(DpdkReceiver::open(lines, options)?)
            }
        })
    }

    pub fn open(path: Path, lines: &[LineConfig], setup: &Setup) -> Any {
        Any::try_open(path, lines, setup).unwrap_or_else(|error| panic!("{path:?}: {error}"))
    }

    pub fn try_receive(&mut self, mut sink: impl FnMut(Packet<'_>)) -> std::io::Result<usize> {
        each!(self, receiver => receiver.receive(&mut sink))
    }

    pub fn receive(&mut self, sink: impl FnMut(Packet<'_>)) -> usize {
        self.try_receive(sink).unwrap()
    }

    pub fn try_refresh(&mut self) -> std::io::Result<()> {
        each!(self, receiver => receiver.refresh())
    }

    pub fn counters(&self) -> ReceiverCounters {
        each!(self, receiver => receiver.counters())
    }

    pub fn refresh(&mut self) {
        self.try_refresh().unwrap();
    }

    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        each!(self, receiver => receiver.set_timeout(timeout));
    }

    pub fn watch(&mut self, fd: i32) {
        each!(self, receiver => receiver.watch(fd));
    }

    pub fn waker(&self) -> Waker {
        each!(self, receiver => receiver.waker())
    }

    /// Receives until so many packets came, and fails when they do not.
    pub fn take(&mut self, count: usize) -> Vec<Kept> {
        let begun = Instant::now();
        let mut kept = Vec::new();
        while kept.len() < count {
            self.receive(|packet| kept.push(Kept::of(packet)));
            assert!(begun.elapsed() < PATIENCE, "{} of {count}: {:?}", kept.len(), self.counters());
        }
        kept
    }

    /// Receives until the counters say so, and fails when they do not.
    pub fn until(&mut self, done: impl Fn(&ReceiverCounters) -> bool) -> Vec<Kept> {
        let begun = Instant::now();
        let mut kept = Vec::new();
        loop {
            self.receive(|packet| kept.push(Kept::of(packet)));
            self.refresh();
            if done(&self.counters()) {
                return kept;
            }
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.counters());
        }
    }
}

/// One device for all lines, the library that `make dpdk` builds, and ordinary memory for all tests.
pub fn dpdk_options(device: &str) -> DpdkOptions {
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/dpdk/");
    DpdkOptions {
        devices: vec![DeviceFor { interface: None, device: device.into() }],
        library: Some(format!("{library}{LIBRARY_FILE}").into()),
        huge_pages: false,
        descriptors: 512,
        ..DpdkOptions::default()
    }
}

/// A packet, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub line: u8,
    pub payload: Vec<u8>,
    pub ts_recv: UnixNanos,
    pub ts_source: TsSource,
    pub src: SocketAddrV4,
}

impl Kept {
    pub fn of(packet: Packet<'_>) -> Kept {
        let Packet { line, payload, ts_recv, ts_source, src, .. } = packet;
        Kept { line, payload: payload.to_vec(), ts_recv, ts_source, src }
    }
}

/// Packets that ended anywhere.
pub fn all(counters: &ReceiverCounters) -> u64 {
    let ReceiverCounters { packets, kernel_drops, truncated, wrong_source, .. } = *counters;
    let ReceiverCounters { other_destination, not_udp, fragments, malformed, .. } = *counters;
    packets + kernel_drops + truncated + wrong_source + other_destination + not_udp + fragments + malformed
}
