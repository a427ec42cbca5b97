//! `bench latency`, `rate`, `burst`, `sustain` and `drain`: single runs; which are made, and what they add up to, Python says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use barewire_engine::bench::latency::{
    self, Cores, FlowBuilder, Latency, Network, Path, RunConfig, RunError, RunResult, Samples, Sender,
};
use barewire_engine::receive::ReceivePath;
use barewire_io::af_xdp::AfXdpOptions;
use barewire_io::io_uring::IoUringOptions;
use barewire_io::kernel::KernelOptions;
use barewire_io::packet_mmap::PacketMmapOptions;
use barewire_sim::{Exchange, ExchangeConfig, Length, MAX_MESSAGE_LEN};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors;

/// How often a run looks for Ctrl-C: a thread that wakes takes a core from one that is measured.
const LOOK: Duration = Duration::from_millis(50);
/// Points of a distribution.
const POINTS: i32 = 120;

/// Order flow and a network, for run after run.
#[pyclass(module = "barewire._core")]
pub struct LatencyBench {
    bench: latency::LatencyBench,
}

/// A frame of AF_XDP's memory.
const FRAME_BYTES: usize = 2048;

/// A path with so much memory for packets that wait. Sockets are asked for half of it: the kernel takes twice what it is
/// asked for.
fn path(name: &str, buffer_bytes: usize) -> PyResult<Path> {
    let rcvbuf_bytes = Some(buffer_bytes / 2);
    Ok(Path::Feed(match name {
        "legacy" => return Ok(Path::Legacy),
        "legacy_tcp" => return Ok(Path::LegacyTcp),
        "kernel" => ReceivePath::Kernel(KernelOptions { rcvbuf_bytes, ..KernelOptions::default() }),
        "io_uring" => ReceivePath::IoUring(IoUringOptions { rcvbuf_bytes, ..IoUringOptions::default() }),
        "packet_mmap" => {
            ReceivePath::PacketMmap(PacketMmapOptions { ring_bytes: buffer_bytes, ..PacketMmapOptions::default() })
        }
        "af_xdp" => {
            let frames = Some(u32::try_from(buffer_bytes / FRAME_BYTES).unwrap_or(u32::MAX));
            ReceivePath::AfXdp(AfXdpOptions { frames, ..AfXdpOptions::default() })
        }
        other => return Err(PyValueError::new_err(format!("unknown path '{other}'"))),
    }))
}

fn sender(name: &str) -> PyResult<Sender> {
    let known = [Sender::Udp, Sender::Program];
    let found = known.into_iter().find(|sender| sender.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("unknown sender '{name}'")))
}

fn raise(py: Python<'_>, error: &RunError) -> PyErr {
    match error {
        RunError::Memory => PyMemoryError::new_err(error.to_string()),
        RunError::Open(open) => errors::from_source(py, "BarewireError", open),
        RunError::Io(io) => errors::os_error(io, &io.to_string()),
        RunError::Pin(_) => PyValueError::new_err(error.to_string()),
        _ => errors::raise(py, "BarewireError", &error.to_string(), &[]),
    }
}

#[pymethods]
impl LatencyBench {
    #[new]
    #[pyo3(signature = (*, messages, instruments, live_orders))]
    fn new(py: Python<'_>, messages: u64, instruments: u32, live_orders: u32) -> PyResult<Self> {
        let length = Length::Messages(messages);
        let config = ExchangeConfig { instruments, live_orders, length, ..ExchangeConfig::default() };
        let mut exchange = Exchange::new(config).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(py.detach(|| {
            let (mut flow, mut buffer) = (FlowBuilder::default(), [0; MAX_MESSAGE_LEN]);
            while let Some(message) = exchange.next(&mut buffer) {
                flow.push(message);
            }
            LatencyBench { bench: latency::LatencyBench::new(flow.finish(), Network::new()) }
        }))
    }

    /// Why there is only the loopback interface; `None` where there are namespaces.
    fn loopback_because(&self) -> Option<String> {
        match self.bench.network() {
            Network::Loopback { why } => Some(why.clone()),
            _ => None,
        }
    }

    /// Why a path cannot be opened here; `None` where it can.
    fn refusal(&self, py: Python<'_>, name: &str, buffer_bytes: usize) -> PyResult<Option<String>> {
        let Path::Feed(path) = path(name, buffer_bytes)? else { return Ok(None) };
        Ok(py.detach(|| self.bench.check(&path)).err().map(|error| error.to_string()))
    }

    /// Why no program can send here; `None` where one can.
    fn no_program(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.bench.check_program()).err().map(|error| error.to_string())
    }

    #[expect(clippy::too_many_arguments, reason = "named ones, in Python")]
    #[pyo3(signature = (name, *, sender_name, buffer_bytes, rate, messages_per_packet, duration_ns, every_message, cores))]
    fn run<'py>(
        &mut self,
        py: Python<'py>,
        name: &str,
        sender_name: &str,
        buffer_bytes: usize,
        rate: f64,
        messages_per_packet: u16,
        duration_ns: u64,
        every_message: bool,
        cores: [Option<usize>; 3],
    ) -> PyResult<Bound<'py, PyDict>> {
        let [sending, receiver, strategy] = cores;
        let config = RunConfig {
            path: path(name, buffer_bytes)?,
            sender: sender(sender_name)?,
            rcvbuf_bytes: buffer_bytes / 2,
            rate,
            messages_per_packet,
            duration_ns,
            samples: if every_message { Samples::Messages } else { Samples::Packets },
            cores: Cores { sender: sending, receiver, strategy },
        };
        let bench = &mut self.bench;
        described(py, &config, &interruptible(py, |stop| bench.run(&config, stop))?)
    }

    /// Fills a path's queue with so many packets and empties it: packets sent, packets taken, ns.
    #[pyo3(signature = (name, *, sender_name, buffer_bytes, packets, messages_per_packet, cores))]
    #[expect(clippy::too_many_arguments, reason = "named ones, in Python")]
    fn drain(
        &mut self,
        py: Python<'_>,
        name: &str,
        sender_name: &str,
        buffer_bytes: usize,
        packets: u32,
        messages_per_packet: u16,
        cores: [Option<usize>; 3],
    ) -> PyResult<(u64, u64, u64)> {
        let [sending, receiver, strategy] = cores;
        let config = RunConfig {
            path: path(name, buffer_bytes)?,
            sender: sender(sender_name)?,
            rcvbuf_bytes: buffer_bytes / 2,
            rate: 1.0,
            messages_per_packet,
            duration_ns: 0,
            samples: Samples::Packets,
            cores: Cores { sender: sending, receiver, strategy },
        };
        let bench = &mut self.bench;
        let drained = interruptible(py, |stop| bench.drain(&config, packets, stop))?;
        Ok((drained.sent, drained.taken, drained.elapsed_ns))
    }
}

/// Runs something beside a look for Ctrl-C now and then, which stops it.
fn interruptible<T: Send>(py: Python<'_>, run: impl FnOnce(&AtomicBool) -> Result<T, RunError> + Send) -> PyResult<T> {
    let stop = AtomicBool::new(false);
    let mut interrupted = Ok(());
    let result = thread::scope(|scope| {
        let run = scope.spawn(|| run(&stop));
        while !run.is_finished() {
            py.detach(|| thread::sleep(LOOK));
            if let Err(error) = py.check_signals() {
                stop.store(true, Ordering::Relaxed);
                interrupted = Err(error);
                break;
            }
        }
        py.detach(|| run.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    interrupted?;
    result.map_err(|error| raise(py, &error))
}

fn us(ns: f64) -> f64 {
    ns / 1e3
}

/// `prefix` + mean_us, stddev_us, ...
fn distribution(row: &Bound<'_, PyDict>, prefix: &str, latency: &Latency) -> PyResult<()> {
    let (mean, deviation) = latency.mean_and_deviation();
    let (trimmed_mean, trimmed_deviation) = latency.trimmed();
    for (name, ns) in [
        ("mean_us", mean),
        ("stddev_us", deviation),
        ("trimmed_mean_us", trimmed_mean),
        ("trimmed_stddev_us", trimmed_deviation),
        ("p50_us", latency.quantile(0.5) as f64),
        ("p90_us", latency.quantile(0.9) as f64),
        ("p99_us", latency.quantile(0.99) as f64),
        ("p999_us", latency.quantile(0.999) as f64),
        ("max_us", latency.max() as f64),
    ] {
        row.set_item(format!("{prefix}{name}"), us(ns))?;
    }
    Ok(())
}

fn described<'py>(py: Python<'py>, config: &RunConfig, result: &RunResult) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    let (sent, latency) = (result.sent, &result.latency);
    let elapsed_ns = sent.elapsed_ns.max(1) as f64;
    distribution(&row, "", latency)?;
    distribution(&row, "due_", &result.from_due)?;
    let sender = if matches!(config.path, Path::LegacyTcp) { "tcp" } else { config.sender.name() };
    row.set_item("sender", sender)?;
    row.set_item("packets_together", result.group)?;
    row.set_item("samples", latency.samples())?;
    row.set_item("sent", sent.messages)?;
    row.set_item("received", result.received)?;
    row.set_item("lost", result.lost + result.unseen)?;
    row.set_item("handoff_refused_packets", result.refused)?;
    row.set_item("packets", sent.packets)?;
    row.set_item("messages_per_packet", sent.messages as f64 / sent.packets.max(1) as f64)?;
    row.set_item("offered_msgs_per_s", config.rate)?;
    row.set_item("rate_msgs_per_s", sent.messages as f64 * 1e9 / elapsed_ns)?;
    row.set_item("late_packets", sent.late_packets)?;
    row.set_item("max_late_us", us(sent.max_late_ns as f64))?;
    row.set_item("send_refusals", sent.refusals)?;
    let sender_stolen = sent.stolen_ns as f64 / elapsed_ns;
    row.set_item("sender_stolen_pct", 100.0 * sender_stolen)?;
    row.set_item("receiver_stolen_pct", result.receiver_stolen.map(|share| 100.0 * share))?;
    row.set_item("stolen_pct", 100.0 * sender_stolen.max(result.receiver_stolen.unwrap_or(0.0)))?;
    row.set_item("setup", &result.report)?;
    // Shares of samples above, from all to one in the number of samples, evenly on a logarithmic scale.
    let decades = (latency.samples().max(1) as f64).log10();
    let points = (0..=POINTS).map(|step| {
        let above = 10f64.powf(-decades * f64::from(step) / f64::from(POINTS));
        (above, us(latency.quantile(1.0 - above) as f64))
    });
    row.set_item("ccdf", points.collect::<Vec<_>>())?;
    Ok(row)
}
