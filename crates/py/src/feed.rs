//! A live feed.

use std::net::{Ipv4Addr, SocketAddrV4};

use barewire_book::Capacity;
use barewire_engine::clock::Verdict;
use barewire_engine::live::{Live, LiveConfig, StartError};
use barewire_engine::nasdaq::Setup;
use barewire_engine::pipeline::{MAX_LINES, Sequencing};
use barewire_engine::recovery::{RecoveryConfig, RerequestConfig, SnapshotConfig};
use barewire_engine::venue::{Publish, Subscription};
use barewire_io::{LineConfig, Network};
use barewire_ring::RingConfig;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::books::{self, Top};
use crate::errors;
use crate::lines;
use crate::native::NativeTarget;
use crate::receive::ReceiveOptions;
use crate::ring::{Ring, ring_error};

/// One line, as the configuration has it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Line {
    name: String,
    group: String,
    port: u16,
    interface: Option<String>,
    source: Option<String>,
    allow: Vec<String>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RingOptions {
    name: Option<String>,
    capacity: u32,
    mode: u32,
    group: Option<u32>,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct SequencingOptions {
    hold_us: u64,
    capacity: u32,
    line_timeout_us: u64,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RerequestOptions {
    servers: Vec<String>,
    local: Option<String>,
    max_messages: u16,
    per_second: u32,
    timeout_ns: u64,
    attempts: u8,
    give_up_ns: u64,
    max_gap: u64,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct SnapshotOptions {
    servers: Vec<String>,
    username: String,
    password: String,
    timeout_ns: u64,
    attempts: u8,
    retry_ns: u64,
    max_bytes: usize,
    last_included: bool,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct RecoveryOptions {
    rerequest: Option<RerequestOptions>,
    snapshot: Option<SnapshotOptions>,
}

fn servers(given: &[String]) -> PyResult<Vec<SocketAddrV4>> {
    let server = |text: &String| {
        text.parse().map_err(|_| PyValueError::new_err(format!("expected ADDRESS:PORT of a server, found '{text}'")))
    };
    given.iter().map(server).collect()
}

impl RecoveryOptions {
    fn config(self) -> PyResult<RecoveryConfig> {
        let rerequest = |given: RerequestOptions| {
            PyResult::Ok(RerequestConfig {
                servers: servers(&given.servers)?,
                local: given.local.as_deref().map(address).transpose()?,
                max_messages: given.max_messages,
                per_second: given.per_second,
                timeout_ns: given.timeout_ns,
                attempts: given.attempts,
                give_up_ns: given.give_up_ns,
                max_gap: given.max_gap,
            })
        };
        let snapshot = |given: SnapshotOptions| {
            PyResult::Ok(SnapshotConfig {
                servers: servers(&given.servers)?,
                username: given.username,
                password: given.password,
                timeout_ns: given.timeout_ns,
                attempts: given.attempts,
                retry_ns: given.retry_ns,
                max_bytes: given.max_bytes,
                last_included: given.last_included,
            })
        };
        Ok(RecoveryConfig {
            rerequest: self.rerequest.map(rerequest).transpose()?,
            snapshot: self.snapshot.map(snapshot).transpose()?,
        })
    }
}

/// Room in the books.
#[derive(FromPyObject, Clone, Copy)]
#[pyo3(from_item_all)]
pub struct BookOptions {
    instruments: u32,
    orders: u32,
    levels: u32,
}

impl From<BookOptions> for Capacity {
    fn from(options: BookOptions) -> Capacity {
        Capacity { instruments: options.instruments, orders: options.orders, levels: options.levels }
    }
}

/// The configuration as Python validated it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Config {
    protocol: String,
    publisher_id: u8,
    midnight_ns: u64,
    symbols: Option<Vec<String>>,
    records: Vec<String>,
    receive: ReceiveOptions,
    sequencing: SequencingOptions,
    recovery: RecoveryOptions,
    lines: Vec<Line>,
    ring: RingOptions,
    book: BookOptions,
}

/// Which records are wanted.
pub fn publish(records: &[String]) -> PyResult<Publish> {
    let mut publish = Publish { mbo: false, bbo: false };
    for kind in records {
        match kind.as_str() {
            "mbo" => publish.mbo = true,
            "bbo" => publish.bbo = true,
            other => return Err(PyValueError::new_err(format!("expected 'mbo' or 'bbo', found '{other}'"))),
        }
    }
    Ok(publish)
}

/// Which instruments are wanted.
pub fn subscription(symbols: Option<Vec<String>>) -> Subscription {
    match symbols {
        None => Subscription::All,
        Some(symbols) => Subscription::Symbols(symbols.into_iter().map(String::into_bytes).collect()),
    }
}

/// The protocols that feeds and replays speak; anything else is an error that lists them.
pub fn check_protocol(py: Python<'_>, name: &str) -> PyResult<&'static barewire_wire::ProtocolSpec> {
    barewire_engine::inspect::protocol(name).map_err(|known| {
        let message = format!("unknown protocol '{name}': expected {}", known.join(" or "));
        let (name, known) = match (name.into_pyobject(py), known.into_pyobject(py)) {
            (Ok(name), Ok(known)) => (name.into_any().unbind(), known.into_any().unbind()),
            _ => return PyValueError::new_err(message),
        };
        errors::raise(py, "ProtocolError", &message, &[("protocol", name), ("known", known)])
    })
}

/// An IPv4 address.
pub fn address(text: &str) -> PyResult<Ipv4Addr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("expected an IPv4 address, found '{text}'")))
}

/// A host's address, or a network as ADDRESS/BITS.
fn network(text: &str) -> PyResult<Network> {
    let (first, bits) = text.split_once('/').unwrap_or((text, "32"));
    let wrong = || PyValueError::new_err(format!("expected an IPv4 network, found '{text}'"));
    bits.parse().ok().and_then(|bits| Network::new(address(first).ok()?, bits)).ok_or_else(wrong)
}

impl Config {
    fn live(self, py: Python<'_>) -> PyResult<LiveConfig> {
        check_protocol(py, &self.protocol)?;
        let mut lines = Vec::with_capacity(self.lines.len());
        if self.lines.len() > MAX_LINES {
            let found = self.lines.len();
            return Err(PyValueError::new_err(format!("lines: expected at most {MAX_LINES}, found {found}")));
        }
        for (number, line) in (0..).zip(&self.lines) {
            lines.push(LineConfig {
                group: address(&line.group)?,
                port: line.port,
                interface: line.interface.clone(),
                source: line.source.as_deref().map(address).transpose()?,
                allow: line.allow.iter().map(|text| network(text)).collect::<PyResult<_>>()?,
                line: number,
            });
        }
        Ok(LiveConfig {
            lines,
            line_names: self.lines.iter().map(|line| line.name.clone()).collect(),
            core: self.receive.core,
            drop_capabilities: self.receive.drop_capabilities,
            receive: self.receive.path()?,
            sequencing: Sequencing {
                hold_ns: self.sequencing.hold_us.saturating_mul(1_000),
                capacity: self.sequencing.capacity,
                line_timeout_ns: self.sequencing.line_timeout_us.saturating_mul(1_000),
                ..Sequencing::default()
            },
            recovery: self.recovery.config()?,
            ring: RingConfig {
                name: self.ring.name,
                capacity: self.ring.capacity,
                mode: self.ring.mode,
                group: self.ring.group,
                ..RingConfig::default()
            },
            setup: Setup {
                publisher_id: self.publisher_id,
                midnight_ns: self.midnight_ns,
                subscription: subscription(self.symbols),
                publish: publish(&self.records)?,
                capacity: self.book.into(),
            },
        })
    }
}

/// A feed thread: receive, sequence, book, publish.
#[pyclass(module = "barewire._core")]
pub struct Feed {
    config: LiveConfig,
    live: Option<Live>,
    /// What the thread calls. After `live`, so that it is there for as long as the thread.
    native: Option<Py<NativeTarget>>,
    /// The process that started the thread: a fork has a copy of the handle, and no thread.
    pid: u32,
}

impl Feed {
    fn live(&self, py: Python<'_>) -> PyResult<&Live> {
        if self.is_forked() {
            let message = "the feed belongs to the process that started it: in another one, attach to its ring by name";
            return Err(errors::raise(py, "FeedError", message, &[]));
        }
        self.live.as_ref().ok_or_else(|| PyRuntimeError::new_err("the feed was not started: call start() first"))
    }

    fn is_forked(&self) -> bool {
        self.live.is_some() && self.pid != std::process::id()
    }

    /// Asks the books, without the GIL: the feed thread answers between two batches.
    fn with<R: Send + 'static>(
        &mut self,
        py: Python<'_>,
        ask: impl FnOnce(&barewire_engine::live::Books) -> R + Send + 'static,
    ) -> PyResult<R> {
        self.live(py)?;
        let live = self.live.as_mut();
        py.detach(|| live.and_then(|live| live.with(ask))).ok_or_else(dead)
    }
}

impl Feed {
    /// There is nothing to stop in a fork; its copy of the handle is left alone.
    fn let_go_if_forked(&mut self) {
        if self.is_forked() {
            std::mem::forget(self.live.take());
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.let_go_if_forked();
    }
}

fn dead() -> PyErr {
    PyRuntimeError::new_err("the feed thread has died: stop() says of what")
}

/// The message with a line's name where the engine, which knows their numbers alone, tells one of those.
fn with_names(message: &str, names: &[String]) -> String {
    let named = || {
        let (number, rest) = message.strip_prefix("line ")?.split_once(':')?;
        Some(format!("line {}:{rest}", names.get(number.parse::<usize>().ok()?)?))
    };
    named().unwrap_or_else(|| message.to_owned())
}

fn start_error(py: Python<'_>, error: &StartError, names: &[String]) -> PyErr {
    let message = with_names(&error.to_string(), names);
    match error {
        StartError::Ring(error) => ring_error(py, error),
        StartError::Open(open) => match open.os_error() {
            Some(os) => errors::os_error(os, &message),
            None => errors::raise(py, "FeedError", &message, &[]),
        },
        StartError::Services(services) => errors::from_source(py, "FeedError", services),
        _ => errors::raise(py, "FeedError", &message, &[]),
    }
}

#[pymethods]
impl Feed {
    #[new]
    fn new(py: Python<'_>, config: Config) -> PyResult<Feed> {
        Ok(Feed { config: config.live(py)?, live: None, native: None, pid: std::process::id() })
    }

    /// Opens the lines and the ring, and starts the thread; it calls `native` for every event.
    #[pyo3(signature = (native = None))]
    fn start(&mut self, py: Python<'_>, native: Option<Py<NativeTarget>>) -> PyResult<()> {
        if self.live.is_some() {
            return Err(PyRuntimeError::new_err("the feed was started already; make a new one to start again"));
        }
        let config = self.config.clone();
        let called = native.as_ref().map(|native| native.get().take(py)).transpose()?;
        let live = py
            .detach(|| Live::start_calling(config, called))
            .map_err(|error| start_error(py, &error, &self.config.line_names))?;
        self.live = Some(live);
        self.native = native;
        self.pid = std::process::id();
        Ok(())
    }

    /// Stops the thread; raises what it had died of, if it had. Does nothing the second time.
    fn stop(&mut self, py: Python<'_>) -> PyResult<()> {
        self.let_go_if_forked();
        let Some(live) = &mut self.live else { return Ok(()) };
        py.detach(|| live.stop()).map_err(|error| errors::os_error(&error, &format!("the feed thread died: {error}")))
    }

    #[getter]
    fn running(&self) -> bool {
        !self.is_forked() && self.live.as_ref().is_some_and(Live::is_running)
    }

    #[getter]
    fn ended(&self) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.counters().any(|(name, value)| name == "session_ended" && value == 1))
    }

    #[getter]
    fn ring_name(&self) -> Option<&str> {
        self.config.ring.name.as_deref()
    }

    #[getter]
    fn receive_report(&self) -> Vec<String> {
        self.live.as_ref().map_or_else(Vec::new, |live| live.report().to_vec())
    }

    /// A new reader, at the oldest record that the ring still holds.
    fn reader(&self, py: Python<'_>) -> PyResult<Ring> {
        Ok(Ring::new(self.live(py)?.reader()))
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, u64)>> {
        Ok(self.live(py)?.counters().collect())
    }

    /// What came on each line; asked of the feed thread, which answers between two batches.
    fn lines<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.live(py)?;
        let live = self.live.as_mut();
        let found = py.detach(|| live.and_then(Live::lines)).ok_or_else(dead)?;
        lines::rows(py, &found)
    }

    /// Says how the system's clock is. Without a feed that runs, nothing.
    #[pyo3(signature = (verdict, bound_ns))]
    fn judge_clock(&self, verdict: &str, bound_ns: Option<u64>) -> PyResult<()> {
        let known = Verdict::ALL.into_iter().find(|known| known.name() == verdict);
        let verdict =
            known.ok_or_else(|| PyValueError::new_err(format!("judge_clock: unknown verdict '{verdict}'")))?;
        if let Some(live) = &self.live {
            live.judge_clock(verdict, bound_ns);
        }
        Ok(())
    }

    /// A fingerprint of all books: 32 hexadecimal digits, equal for equal books.
    fn digest(&mut self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |feed| format!("{:032x}", feed.books().digest()))
    }

    fn directory(&mut self, py: Python<'_>) -> PyResult<Vec<(u32, String)>> {
        self.with(py, books::directory)
    }

    fn top(&mut self, py: Python<'_>, instrument_id: u32) -> PyResult<Option<Top>> {
        self.with(py, move |feed| books::top(feed, instrument_id))
    }

    fn depth(&mut self, py: Python<'_>, instrument_id: u32, levels: usize) -> PyResult<(Vec<u8>, Vec<u8>)> {
        self.with(py, move |feed| books::depth(feed, instrument_id, levels))
    }

    fn orders(&mut self, py: Python<'_>, instrument_id: u32) -> PyResult<Vec<u8>> {
        self.with(py, move |feed| books::orders(feed, instrument_id))
    }
}
