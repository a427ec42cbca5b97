//! The exchange simulator.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use barewire_io::affinity;
use barewire_sim::recovery::{Fault, GlimpseServer, RerequestServer, Store, StoreSink};
use barewire_sim::{
    BinaryFileSink, ExchangeConfig, ImpairCounters, ImpairedSink, Length, MulticastLine, MulticastSink, Network, Pace,
    PcapSink, Progress, Report, Session, SessionConfig, Simulator as Sim, SimulatorConfig, Sink, SinkError, Time,
    Truth, Venue,
};
use barewire_types::UnixNanos;
use pyo3::exceptions::{PyIndexError, PyKeyboardInterrupt, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors;
use crate::feed::address;
use crate::impair::{self, Impair};
use crate::listener::{Digests, Findings, Listener};

/// How often a waiting caller looks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(20);
/// The address that packets in a pcap come from.
const SENDER: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::new(10, 0, 0, 1), 26_400);

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Line {
    group: String,
    port: u16,
    interface: Option<String>,
}

/// Bytes of messages that the servers have at hand.
const STORE_BYTES: usize = 256 << 20;

/// A server, and what is wrong with it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Server {
    address: String,
    port: u16,
    fault: String,
    delay_ns: u64,
}

impl Server {
    fn at(&self) -> PyResult<SocketAddrV4> {
        Ok(SocketAddrV4::new(address(&self.address)?, self.port))
    }

    fn fault(&self) -> PyResult<Fault> {
        impair::fault(&self.fault, self.delay_ns)
    }
}

/// The servers that run beside a session, until they are dropped.
#[derive(Default)]
struct Servers {
    rerequest: Option<RerequestServer>,
    glimpse: Option<GlimpseServer>,
}

/// One of several venues.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct VenueConfig {
    number: u8,
    lag_ns: u64,
    instrument_lag_ns: u64,
}

/// The configuration as Python validated it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Config {
    seed: u64,
    instruments: u32,
    live_orders: u32,
    messages: Option<u64>,
    trading_ns: Option<u64>,
    simulated_rate: u64,
    volatility: u32,
    venue: Option<VenueConfig>,
    duration_ns: Option<u64>,
    rate: Option<f64>,
    max_payload: usize,
    messages_per_packet: Option<u16>,
    session: String,
    midnight_ns: u64,
    real_time: bool,
    prepare: bool,
    lines: Vec<Line>,
    ttl: u8,
    different_cuts: bool,
    pcap: Option<std::path::PathBuf>,
    binaryfile: Option<std::path::PathBuf>,
    heartbeat_ns: u64,
    core: Option<usize>,
    impairments: Option<Vec<Impair>>,
    rerequest: Option<Server>,
    glimpse: Option<Server>,
    digest: bool,
}

impl Config {
    fn simulator(&self) -> PyResult<SimulatorConfig> {
        let mut session = [b' '; 10];
        if self.session.len() > session.len() {
            return Err(PyValueError::new_err("session: expected at most 10 characters"));
        }
        session[..self.session.len()].copy_from_slice(self.session.as_bytes());
        let default = ExchangeConfig::default();
        let venue = self.venue.as_ref().map(|&VenueConfig { number, lag_ns, instrument_lag_ns }| Venue {
            number,
            lag_ns,
            instrument_lag_ns,
        });
        let by_messages = self.messages.map_or(Length::Endless, Length::Messages);
        let rate = |per_second: f64| Pace::per_second(per_second as u64);
        Ok(SimulatorConfig {
            exchange: ExchangeConfig {
                seed: self.seed,
                instruments: self.instruments,
                live_orders: self.live_orders,
                length: self.trading_ns.map_or(by_messages, Length::Duration),
                rate: self.simulated_rate,
                volatility: self.volatility,
                // What one venue halts, it would have to halt at all.
                incident_every: if venue.is_some() { 0 } else { default.incident_every },
                venue,
                ..default
            },
            session: SessionConfig {
                session: Session(session),
                b_line: self.lines.len() != 1,
                max_payload: self.max_payload,
                messages_per_packet: self.messages_per_packet,
                different_cuts: self.different_cuts,
                heartbeat_ns: self.heartbeat_ns,
                ..SessionConfig::default()
            },
            pace: self.rate.map_or(Pace::Max, rate),
            time: if self.real_time { Time::Real } else { Time::Simulated },
            midnight: UnixNanos(self.midnight_ns),
            run_for_ns: self.duration_ns,
            prepare: self.prepare,
        })
    }

    fn multicast_lines(&self) -> PyResult<Vec<MulticastLine>> {
        let line = |line: &Line| {
            let to = SocketAddrV4::new(address(&line.group)?, line.port);
            Ok(MulticastLine { to, interface: line.interface.clone(), source: None })
        };
        self.lines.iter().map(line).collect()
    }
}

/// A session that is ready to be sent, and where to.
struct Ready {
    simulator: Sim,
    /// Those that take what the network leaves.
    impaired: Option<ImpairedSink>,
    sinks: Vec<Box<dyn Sink + Send>>,
    core: Option<usize>,
    lines: u8,
    /// Where a listener's findings will be.
    digests: Option<Findings>,
}

/// How it went, and what the network did to each line.
struct Outcome {
    report: Report,
    impaired: Vec<ImpairCounters>,
    digests: Option<Digests>,
}

impl Ready {
    fn run(mut self, stop: &AtomicBool) -> Result<Outcome, SinkError> {
        if let Some(core) = self.core {
            // Checked before; a core that has gone since costs precision, not the session.
            let _ = affinity::pin(core);
        }
        let mut sinks: Vec<&mut dyn Sink> = self.sinks.iter_mut().map(|sink| &mut **sink as &mut dyn Sink).collect();
        sinks.extend(self.impaired.as_mut().map(|sink| sink as &mut dyn Sink));
        let report = self.simulator.run(&mut sinks, stop)?;
        let network = self.impaired.as_ref().map(ImpairedSink::network);
        let impaired = network.map_or_else(Vec::new, |network| (0..self.lines).map(|l| network.counters(l)).collect());
        let found = self.digests.as_ref().map(|digests| digests.lock().unwrap_or_else(PoisonError::into_inner));
        let digests = found.and_then(|found| *found);
        Ok(Outcome { report, impaired, digests })
    }
}

/// An exchange on the wire.
#[pyclass(module = "barewire._core")]
pub struct Simulator {
    /// What is to be run; in a mutex only because Python asks for classes that threads may share.
    ready: Mutex<Option<Ready>>,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Outcome, SinkError>>>,
    servers: Servers,
    /// What is known of the instruments of one of several venues.
    truth: Vec<Truth>,
    /// The process that started the threads: a fork has a copy of the handles, and no threads.
    pid: u32,
}

impl Simulator {
    /// There is nothing to join in a fork; its copy of the handle is left alone. Whether it was so.
    fn let_go_if_forked(&mut self) -> bool {
        let forked = self.is_forked();
        if forked {
            std::mem::forget(self.thread.take());
            std::mem::forget(std::mem::take(&mut self.servers));
        }
        forked
    }

    fn is_forked(&self) -> bool {
        let has_threads = self.thread.is_some() || self.servers.rerequest.is_some() || self.servers.glimpse.is_some();
        has_threads && self.pid != std::process::id()
    }
}

fn forked(py: Python<'_>) -> PyErr {
    let message = "the simulator belongs to the process that started it: stop it there";
    errors::raise(py, "BarewireError", message, &[])
}

fn sink_error(py: Python<'_>, error: &SinkError) -> PyErr {
    errors::from_source(py, "BarewireError", error)
}

fn bind_error(what: &str, at: SocketAddrV4, error: &std::io::Error) -> PyErr {
    errors::os_error(error, &format!("{what} {at}: cannot listen there: {error}"))
}

impl Servers {
    fn open(config: &Config, store: &Arc<Store>) -> PyResult<Servers> {
        let mut servers = Servers::default();
        if let Some(server) = &config.rerequest {
            let at = server.at()?;
            let bound = RerequestServer::bind(at, Arc::clone(store), server.fault()?, config.max_payload);
            servers.rerequest = Some(bound.map_err(|error| bind_error("rerequest", at, &error))?);
        }
        if let Some(server) = &config.glimpse {
            let at = server.at()?;
            let bound = GlimpseServer::bind(at, Arc::clone(store), server.fault()?);
            servers.glimpse = Some(bound.map_err(|error| bind_error("glimpse", at, &error))?);
        }
        Ok(servers)
    }

    /// What they did, by name; `None` for one that is not there.
    fn report(&self, row: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = row.py();
        let rerequest = self.rerequest.as_ref().map(|server| {
            let all = server.counters();
            let counters = all.requests;
            let row = PyDict::new(py);
            row.set_item("requests", counters.requests)?;
            row.set_item("answered", counters.answered)?;
            row.set_item("messages", counters.messages)?;
            row.set_item("unavailable", counters.unavailable)?;
            row.set_item("other_session", counters.other_session)?;
            row.set_item("empty", counters.empty)?;
            row.set_item("malformed", counters.malformed)?;
            row.set_item("withheld", counters.withheld)?;
            row.set_item("refused", all.refused)?;
            row.set_item("send_errors", all.send_errors)?;
            row.set_item("dropped", all.dropped)?;
            PyResult::Ok(row)
        });
        row.set_item("rerequest", rerequest.transpose()?)?;
        let glimpse = self.glimpse.as_ref().map(|server| {
            let counters = server.counters();
            let row = PyDict::new(py);
            row.set_item("connections", counters.connections)?;
            row.set_item("refused", counters.refused)?;
            row.set_item("served", counters.served)?;
            row.set_item("rejected", counters.rejected)?;
            row.set_item("malformed", counters.malformed)?;
            row.set_item("timed_out", counters.timed_out)?;
            row.set_item("left", counters.left)?;
            row.set_item("snapshots", counters.snapshots)?;
            row.set_item("snapshot_ms", counters.snapshot_ns as f64 / 1e6)?;
            row.set_item("messages", counters.messages)?;
            PyResult::Ok(row)
        });
        row.set_item("glimpse", glimpse.transpose()?)
    }
}

fn report<'py>(py: Python<'py>, outcome: &Outcome, servers: &Servers) -> PyResult<Bound<'py, PyDict>> {
    let Outcome { report, impaired, digests } = outcome;
    let row = PyDict::new(py);
    row.set_item("messages", report.messages)?;
    row.set_item("seconds", report.elapsed_ns as f64 / 1e9)?;
    row.set_item("messages_per_second", report.messages_per_second())?;
    row.set_item("packets_a", report.a.packets)?;
    row.set_item("packets_b", report.b.packets)?;
    row.set_item("bytes_a", report.a.bytes)?;
    row.set_item("bytes_b", report.b.bytes)?;
    row.set_item("heartbeats", report.heartbeats)?;
    row.set_item("late_packets", report.late_packets)?;
    row.set_item("max_late_us", report.max_late_ns as f64 / 1e3)?;
    row.set_item("send_errors", report.send_errors)?;
    row.set_item("unsent", report.unsent)?;
    row.set_item("live_orders", report.live_orders)?;
    row.set_item("stopped", report.stopped)?;
    let impaired = impaired.iter().map(|line| impair::counters(py, line)).collect::<PyResult<Vec<_>>>()?;
    row.set_item("impaired", if impaired.is_empty() { None } else { Some(impaired) })?;
    servers.report(&row)?;
    let digests = digests.map(|digests| {
        let row = PyDict::new(py);
        row.set_item("events", format!("{:032x}", digests.events))?;
        row.set_item("books", format!("{:032x}", digests.books))?;
        row.set_item("messages_missing", digests.missing)?;
        PyResult::Ok(row)
    });
    row.set_item("digests", digests.transpose()?)?;
    Ok(row)
}

#[pymethods]
impl Simulator {
    #[new]
    fn new(py: Python<'_>, config: Config) -> PyResult<Simulator> {
        let simulator = Sim::new(config.simulator()?)
            .map_err(|error| errors::raise(py, "ConfigError", &format!("simulator: {error}"), &[]))?;
        if let Some(core) = config.core
            && !affinity::allowed().is_ok_and(|cores| cores.contains(&core))
        {
            let message = format!("core: expected a core that this process may use, found {core}");
            return Err(errors::raise(py, "ConfigError", &message, &[]));
        }
        let lines = config.multicast_lines()?;
        // What a network may impair, and what knows the session as it was sent.
        let mut wire: Vec<Box<dyn Sink + Send>> = Vec::new();
        let mut sinks: Vec<Box<dyn Sink + Send>> = Vec::new();
        let mut servers = Servers::default();
        if config.rerequest.is_some() || config.glimpse.is_some() {
            let store = Arc::new(Store::new(STORE_BYTES));
            servers = Servers::open(&config, &store)?;
            sinks.push(Box::new(StoreSink(store)));
        }
        if let Some((a, rest)) = lines.split_first() {
            let sink = MulticastSink::open(a, rest.first(), config.ttl)
                .map_err(|error| errors::from_source(py, "BarewireError", &error))?;
            wire.push(Box::new(sink));
        }
        if let Some(path) = &config.pcap {
            let group = |n: u8| SocketAddrV4::new(std::net::Ipv4Addr::new(239, 255, 64, n), 26_477);
            let line = |n: usize| lines.get(n).map(|line| line.to);
            let a = line(0).unwrap_or(group(1));
            let b = line(1).or_else(|| lines.is_empty().then_some(group(2)));
            wire.push(Box::new(PcapSink::create(path, SENDER, a, b).map_err(|error| sink_error(py, &error))?));
        }
        if let Some(path) = &config.binaryfile {
            sinks.push(Box::new(BinaryFileSink::create(path).map_err(|error| sink_error(py, &error))?));
        }
        let mut digests = None;
        if config.digest {
            let (listener, found) = Listener::new(config.midnight_ns)
                .map_err(|error| pyo3::exceptions::PyMemoryError::new_err(error.to_string()))?;
            wire.push(Box::new(listener));
            digests = Some(found);
        }
        let progress = simulator.progress();
        let mut impaired = None;
        match &config.impairments {
            Some(impairments) => {
                let network = Network::new(&impair::impairments(py, impairments)?, config.seed);
                impaired = Some(ImpairedSink::new(network, wire));
            }
            None => sinks.append(&mut wire),
        }
        let lines = if lines.len() == 1 { 1 } else { 2 };
        let truth = simulator.exchange().truth();
        let ready = Ready { simulator, impaired, sinks, core: config.core, lines, digests };
        Ok(Simulator {
            ready: Mutex::new(Some(ready)),
            progress,
            stop: Arc::default(),
            thread: None,
            servers,
            truth,
            pid: std::process::id(),
        })
    }

    /// Sends the session and reports; Ctrl-C ends it in due form.
    fn run<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.start(py)?;
        let mut interrupted = None;
        while self.running() {
            py.detach(|| std::thread::sleep(LOOK));
            if let Err(error) = py.check_signals() {
                self.stop.store(true, Ordering::Relaxed);
                interrupted = Some(error);
            }
        }
        let report = self.stop(py)?;
        match interrupted {
            Some(error) if !error.is_instance_of::<PyKeyboardInterrupt>(py) => Err(error),
            _ => Ok(report),
        }
    }

    /// Sends the session on a thread of its own.
    fn start(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.let_go_if_forked() {
            return Err(forked(py));
        }
        let ready = self
            .ready
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("the simulator was started already"))?;
        let stop = Arc::clone(&self.stop);
        let thread = std::thread::Builder::new().name("barewire-sim".to_owned()).spawn(move || ready.run(&stop))?;
        self.thread = Some(thread);
        self.pid = std::process::id();
        Ok(())
    }

    /// Ends the session, closes the servers and reports.
    fn stop<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        if self.let_go_if_forked() {
            return Err(forked(py));
        }
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| PyRuntimeError::new_err("the simulator is not running"))?;
        let ended = py.detach(|| thread.join());
        let ended = ended.map_err(|_| PyRuntimeError::new_err("simulator: panicked; please report this"))?;
        let outcome = ended.map_err(|error| sink_error(py, &error))?;
        let report = report(py, &outcome, &self.servers)?;
        let servers = std::mem::take(&mut self.servers);
        py.detach(|| drop(servers));
        Ok(report)
    }

    #[getter]
    fn running(&self) -> bool {
        !self.is_forked() && self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// What is known of each instrument of one of several venues.
    fn truth<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let row = |truth: &Truth| {
            let row = PyDict::new(py);
            row.set_item("symbol", String::from_utf8_lossy(&truth.symbol).trim_end())?;
            row.set_item("usual", truth.usual)?;
            row.set_item("beta", truth.beta)?;
            row.set_item("sector_beta", truth.sector_beta)?;
            row.set_item("sector", truth.sector)?;
            row.set_item("own", truth.own)?;
            row.set_item("lag_ns", truth.lag_ns)?;
            Ok(row)
        };
        self.truth.iter().map(row).collect()
    }

    /// How far an instrument's price has moved at each of these times (u64), as parts of the usual price (f64).
    fn moved<'py>(&mut self, py: Python<'py>, place: usize, times: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let truth = self.truth.get_mut(place).ok_or_else(|| PyIndexError::new_err("no such instrument"))?;
        let (times, _) = times.as_chunks();
        let moves: Vec<u8> = times.iter().flat_map(|ns| truth.moved(u64::from_le_bytes(*ns)).to_le_bytes()).collect();
        Ok(PyBytes::new(py, &moves))
    }

    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let row = PyDict::new(py);
        row.set_item("messages", self.progress.messages())?;
        row.set_item("packets", self.progress.packets())?;
        Ok(row)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.let_go_if_forked();
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it ended with was for `stop` to say.
            let _ = thread.join();
        }
    }
}
