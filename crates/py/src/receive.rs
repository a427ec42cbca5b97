//! The receive path, as the configuration has it.

use std::net::AddrParseError;

use barewire_engine::receive::ReceivePath;
use barewire_io::af_xdp::{AfXdpOptions, Attach, BusyPoll, Transfer};
use barewire_io::dpdk::{DeviceFor, DpdkOptions};
use barewire_io::io_uring::{IoUringOptions, SqPoll};
use barewire_io::kernel::{KernelOptions, Mode};
use barewire_io::packet_mmap::{Fanout, FanoutMode, PacketMmapOptions, Version};
use barewire_io::{Stamps, TrailerTimes};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct IoUring {
    buffers: usize,
    sqpoll_idle_ms: Option<u32>,
    sqpoll_core: Option<u32>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct PacketMmap {
    ring_bytes: usize,
    slot_bytes: usize,
    block_timeout_ms: Option<u16>,
    fanout_group: Option<u16>,
    fanout_mode: String,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct AfXdp {
    attach: String,
    transfer: String,
    queues: Option<Vec<u32>>,
    frames: Option<u32>,
    huge_pages: bool,
    busy_poll_budget: u32,
    vlan: Option<u16>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Dpdk {
    /// Interface, or none for all that have no device of their own; device.
    devices: Vec<(Option<String>, String)>,
    library: Option<String>,
    eal: Vec<String>,
    memory_mib: Option<u32>,
    huge_pages: bool,
    queues: u16,
    descriptors: u16,
    burst: usize,
    frame_bytes: Option<u32>,
    vlan: Option<u16>,
    address: Option<String>,
}

/// The `[receive]` table.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct ReceiveOptions {
    path: String,
    mode: String,
    pub core: Option<usize>,
    pub drop_capabilities: bool,
    rcvbuf_bytes: usize,
    busy_poll_us: u32,
    timestamps: String,
    switch_times: Option<String>,
    io_uring: IoUring,
    packet_mmap: PacketMmap,
    af_xdp: AfXdp,
    dpdk: Dpdk,
}

fn unknown<T>(key: &str, found: &str) -> PyResult<T> {
    Err(PyValueError::new_err(format!("receive.{key}: unknown value '{found}'")))
}

fn wrong_address(error: AddrParseError) -> PyErr {
    PyValueError::new_err(format!("receive.dpdk.address: {error}"))
}

impl ReceiveOptions {
    /// The path that it asks for.
    pub fn path(self) -> PyResult<ReceivePath> {
        let mode = if self.mode == "blocking" { Mode::Blocking } else { Mode::Busy };
        let rcvbuf_bytes = Some(self.rcvbuf_bytes);
        let timestamps = match self.timestamps.as_str() {
            "auto" => Stamps::Auto,
            "hardware" => Stamps::Hardware,
            "kernel" => Stamps::Kernel,
            "user" => Stamps::User,
            other => return unknown("timestamps", other),
        };
        let busy_poll_us = Some(self.busy_poll_us).filter(|us| *us > 0);
        let trailer_times = match self.switch_times.as_deref() {
            None => None,
            Some("metamako") => Some(TrailerTimes::Metamako),
            Some("exablaze") => Some(TrailerTimes::Exablaze),
            Some(other) => return unknown("switch_times", other),
        };
        Ok(match self.path.as_str() {
            "kernel" => ReceivePath::Kernel(KernelOptions {
                mode,
                rcvbuf_bytes,
                timestamps,
                busy_poll_us,
                ..KernelOptions::default()
            }),
            "io_uring" => ReceivePath::IoUring(IoUringOptions {
                mode,
                rcvbuf_bytes,
                timestamps,
                buffers: self.io_uring.buffers,
                sqpoll: self.io_uring.sqpoll_idle_ms.map(|idle_ms| SqPoll { idle_ms, cpu: self.io_uring.sqpoll_core }),
                ..IoUringOptions::default()
            }),
            "packet_mmap" => {
                let options = self.packet_mmap;
                let fanout = |group| {
                    let mode = match options.fanout_mode.as_str() {
                        "hash" => FanoutMode::Hash,
                        "round-robin" => FanoutMode::RoundRobin,
                        "cpu" => FanoutMode::Cpu,
                        "rollover" => FanoutMode::Rollover,
                        "random" => FanoutMode::Random,
                        "queue" => FanoutMode::Queue,
                        other => return unknown("packet_mmap.fanout_mode", other),
                    };
                    Ok(Fanout { group, mode, rollover: false, defragment: false })
                };
                ReceivePath::PacketMmap(PacketMmapOptions {
                    mode,
                    timestamps,
                    version: options
                        .block_timeout_ms
                        .map_or(Version::V2, |block_timeout_ms| Version::V3 { block_timeout_ms }),
                    ring_bytes: options.ring_bytes,
                    slot_bytes: options.slot_bytes,
                    fanout: options.fanout_group.map(fanout).transpose()?,
                    trailer_times,
                    ..PacketMmapOptions::default()
                })
            }
            "af_xdp" => ReceivePath::AfXdp(AfXdpOptions {
                mode,
                attach: match self.af_xdp.attach.as_str() {
                    "auto" => Attach::PreferNative,
                    "native" => Attach::Native,
                    "generic" => Attach::Generic,
                    other => return unknown("af_xdp.attach", other),
                },
                transfer: match self.af_xdp.transfer.as_str() {
                    "auto" => Transfer::PreferZeroCopy,
                    "zero-copy" => Transfer::ZeroCopy,
                    "copy" => Transfer::Copy,
                    other => return unknown("af_xdp.transfer", other),
                },
                queues: self.af_xdp.queues,
                frames: self.af_xdp.frames,
                huge_pages: self.af_xdp.huge_pages,
                busy_poll: busy_poll_us.map(|us| BusyPoll { us, budget: self.af_xdp.busy_poll_budget }),
                vlan: self.af_xdp.vlan,
                timestamps,
                trailer_times,
                ..AfXdpOptions::default()
            }),
            "dpdk" => {
                let options = self.dpdk;
                let device = |(interface, device)| DeviceFor { interface, device };
                ReceivePath::Dpdk(DpdkOptions {
                    mode,
                    devices: options.devices.into_iter().map(device).collect(),
                    library: options.library.map(Into::into),
                    eal: options.eal,
                    memory_mib: options.memory_mib,
                    huge_pages: options.huge_pages,
                    queues: options.queues,
                    descriptors: options.descriptors,
                    batch: options.burst,
                    frame_bytes: options.frame_bytes,
                    vlan: options.vlan,
                    address: options.address.map(|text| text.parse()).transpose().map_err(wrong_address)?,
                    timestamps,
                    trailer_times,
                })
            }
            other => return unknown("path", other),
        })
    }
}
