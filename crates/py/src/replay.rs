//! Files: replayed through the engine, or shown as text.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use barewire_engine::inspect::{InspectConfig, Inspector as Show, Style};
use barewire_engine::nasdaq::{Setup, WHOLE_VENUE};
use barewire_engine::pipeline::Sequencing;
use barewire_engine::replay::{Replay as Run, ReplayConfig};
use barewire_io::capture::{Capture, CaptureError, Compression, Format, Look, SwitchTimes, Watched};
use barewire_line::{RecoveryConfig, Requests, Snapshots};
use barewire_sim::recovery::Fault;
use barewire_sim::{Site, SiteConfig};
use barewire_types::UnixNanos;
use barewire_wire::trailers::Kind;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::block::Block;
use crate::books::{self, Top};
use crate::errors;
use crate::feed::{BookOptions, check_protocol, publish, subscription};
use crate::impair::{self, Impair};
use crate::lines;
use crate::long_call::{self, Slice};
use crate::native::NativeTarget;

/// Text that a call of the inspector gives, in bytes, about.
const CHUNK_BYTES: usize = 64 << 10;

/// Where a file comes from.
#[derive(FromPyObject)]
pub enum Source {
    /// A descriptor.
    Fd(RawFd),
    /// A path.
    Path(std::path::PathBuf),
}

/// The exception that says what a capture's error says.
pub fn capture_error(py: Python<'_>, error: &CaptureError) -> PyErr {
    let message = error.to_string();
    match error {
        // What a signal handler raised while a pipe was waited for.
        CaptureError::Read { error, .. } if let Some(raised) = raised(error) => raised.clone_ref(py),
        CaptureError::Open { error, .. } | CaptureError::Read { error, .. } => errors::os_error(error, &message),
        _ => errors::raise(py, "FormatError", &message, &[]),
    }
}

fn raised(error: &io::Error) -> Option<&PyErr> {
    error.get_ref()?.downcast_ref()
}

/// Opens a capture, its format as given or as found.
pub fn open(py: Python<'_>, source: Source, format: Option<&str>) -> PyResult<Capture> {
    let format = match format {
        None => None,
        Some("pcap") => Some(Format::Pcap),
        Some("pcapng") => Some(Format::PcapNg),
        Some("binaryfile") => Some(Format::BinaryFile),
        Some(other) => {
            let message = format!("unknown format '{other}': expected pcap, pcapng or binaryfile");
            return Err(PyValueError::new_err(message));
        }
    };
    // A pipe may stay quiet for long: Ctrl-C is to end that.
    let look: Look = Box::new(|| Python::attach(|py| py.check_signals()).map_err(io::Error::other));
    let opened = py.detach(|| match source {
        Source::Path(path) => Ok(Capture::open_watched(path, format, look)),
        Source::Fd(fd) => {
            // SAFETY: borrowed for this call only, to be duplicated; a number that is no open descriptor fails there.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            let file = File::from(fd.try_clone_to_owned()?);
            Ok(Capture::from_watched(Box::new(Watched::new(file)?), format, look))
        }
    });
    let opened = opened.map_err(|error: io::Error| errors::os_error(&error, &format!("cannot read: {error}")))?;
    opened.map_err(|error| capture_error(py, &error))
}

/// The network between a capture and the feed, as Python validated it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Way {
    impairments: Vec<Impair>,
    seed: u64,
    /// On how many lines each packet is sent; 0 or 1 for the one that the capture names.
    copies: u8,
    /// The faults of the re-request servers, and of the snapshot servers: name, and how slow it is.
    rerequest: Vec<(String, u64)>,
    glimpse: Vec<(String, u64)>,
}

impl Way {
    fn faults(servers: &[(String, u64)]) -> PyResult<Vec<Fault>> {
        servers.iter().map(|(name, delay_ns)| impair::fault(name, *delay_ns)).collect()
    }

    fn site(&self, py: Python<'_>) -> PyResult<Site> {
        Ok(Site::new(SiteConfig {
            lines: impair::impairments(py, &self.impairments)?,
            rerequest: Self::faults(&self.rerequest)?,
            snapshot: Self::faults(&self.glimpse)?,
            seed: self.seed,
            ..SiteConfig::default()
        }))
    }

    /// What a feed's configuration has by default, with as many servers as there are.
    fn recovery(&self) -> RecoveryConfig {
        let servers = |faults: &[(String, u64)]| u8::try_from(faults.len()).unwrap_or(u8::MAX);
        RecoveryConfig {
            requests: (!self.rerequest.is_empty()).then(|| Requests {
                servers: servers(&self.rerequest),
                max_messages: 1_000,
                per_second: 1_000,
                timeout_ns: 20_000_000,
                attempts: 3,
                give_up_ns: 1_000_000_000,
                max_gap: 50_000,
            }),
            snapshots: (!self.glimpse.is_empty()).then(|| Snapshots {
                servers: servers(&self.glimpse),
                attempts: 3,
                retry_ns: 10_000_000_000,
            }),
        }
    }
}

/// Whose receive times to take out of a capture's frames; `None` for the capture's own.
fn switch_times(name: &str) -> PyResult<Option<SwitchTimes>> {
    match name {
        "capture" => Ok(None),
        "auto" => Ok(Some(SwitchTimes::Auto)),
        _ => match Kind::ALL.iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(Some(SwitchTimes::Of(*kind))),
            None => Err(PyValueError::new_err(format!("timestamps: unknown source '{name}'"))),
        },
    }
}

/// Messages that can be held while a snapshot is fetched.
const HELD_DURING_SNAPSHOT: u32 = 1 << 20;

/// Runs a file through the same engine as a live feed, in the caller's thread.
#[pyclass(module = "barewire._core")]
pub struct Replay {
    run: Mutex<Run>,
    /// What it calls. After `run`, so that it is there for as long as that.
    _native: Option<Py<NativeTarget>>,
    at_end: bool,
}

/// What a mutex holds. Python asks for classes that threads may share; these are used through `&mut` alone, so no mutex is
/// ever waited for, and what a panic left behind is still a file that can be closed.
fn inside<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl Replay {
    fn run(&mut self) -> &mut Run {
        inside(&mut self.run)
    }
}

#[pymethods]
impl Replay {
    #[new]
    #[pyo3(signature = (source, *, protocol, format = None, midnight_ns = None, records, symbols = None, pace = None,
        book = None, group = None, port = None, hold_us = None, timestamps = None, way = None, digest = false, native = None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments on the Python side")]
    fn new(
        py: Python<'_>,
        source: Source,
        protocol: &str,
        format: Option<&str>,
        midnight_ns: Option<u64>,
        records: Vec<String>,
        symbols: Option<Vec<String>>,
        pace: Option<f64>,
        book: Option<BookOptions>,
        group: Option<&str>,
        port: Option<u16>,
        hold_us: Option<u64>,
        timestamps: Option<&str>,
        way: Option<Way>,
        digest: bool,
        native: Option<Py<NativeTarget>>,
    ) -> PyResult<Replay> {
        check_protocol(py, protocol)?;
        if pace.is_some_and(|pace| !(pace.is_finite() && pace > 0.0)) {
            return Err(PyValueError::new_err("pace: expected a number above 0"));
        }
        let group = group
            .map(|text| text.parse::<Ipv4Addr>())
            .transpose()
            .map_err(|_| PyValueError::new_err("group: expected an IPv4 address"))?;
        let mut sequencing = Sequencing { from_file: true, ..Sequencing::default() };
        sequencing.hold_ns = hold_us.map_or(sequencing.hold_ns, |us| us.saturating_mul(1_000));
        if let Some(way) = &way {
            let recovery = way.recovery();
            if recovery.snapshots.is_some() {
                sequencing.capacity = HELD_DURING_SNAPSHOT;
            }
            sequencing.recovery = recovery;
        }
        let site = way.as_ref().map(|way| way.site(py)).transpose()?;
        let capture = open(py, source, format)?;
        let config = ReplayConfig {
            setup: Setup {
                publisher_id: 0,
                midnight_ns: midnight_ns.unwrap_or(0),
                subscription: subscription(symbols),
                publish: publish(&records)?,
                capacity: book.map_or(WHOLE_VENUE, Into::into),
            },
            sequencing,
            pace,
            group,
            port,
            switch_times: timestamps.map(switch_times).transpose()?.flatten(),
        };
        let mut run = py.detach(|| Run::new(capture, config)).map_err(|error| capture_error(py, &error))?;
        if let Some(site) = site {
            run.send_over(Box::new(site), way.map_or(1, |way| way.copies));
        }
        if digest {
            run.digest_events();
        }
        if let Some(native) = &native {
            run.call(native.get().take(py)?);
        }
        Ok(Replay { run: Mutex::new(run), _native: native, at_end: false })
    }

    #[getter]
    fn first_packet_time(&mut self) -> Option<u64> {
        Some(self.run().first_packet_time()).filter(|ts| *ts != UnixNanos::ABSENT).map(|ts| ts.0)
    }

    fn set_midnight(&mut self, midnight_ns: u64) {
        self.run().set_midnight(midnight_ns);
    }

    /// Fills the buffer with records as far as they go; 0 at the end of the file, or when `max_messages` gave none.
    #[pyo3(signature = (buffer, max_messages = None))]
    fn read_into(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>, max_messages: Option<u64>) -> PyResult<usize> {
        let mut block = Block::new(buffer)?;
        let run = inside(&mut self.run);
        let step = long_call::run(py, None, |until| match run.read(block.records(), max_messages, until) {
            Ok(step) if step.records > 0 || step.at_end || max_messages.is_some() => Slice::Done(Ok(step)),
            Ok(_) => Slice::More,
            Err(error) => Slice::Done(Err(error)),
        })?;
        let Some(step) = step else { return Ok(0) };
        let step = step.map_err(|error| capture_error(py, &error))?;
        self.at_end = step.at_end;
        Ok(step.records)
    }

    #[getter]
    fn at_end(&self) -> bool {
        self.at_end
    }

    #[getter]
    fn messages_read(&mut self) -> u64 {
        self.run().messages()
    }

    #[getter]
    fn bytes_read(&mut self) -> u64 {
        self.run().progress().read
    }

    #[getter]
    fn bytes_total(&mut self) -> Option<u64> {
        self.run().progress().total
    }

    /// "pcap", "pcapng" or "binaryfile", with "+gzip" or "+zstd".
    #[getter]
    fn format(&mut self) -> String {
        let capture = self.run().capture();
        match capture.compression() {
            Compression::None => capture.format().name().to_owned(),
            compression => format!("{}+{}", capture.format(), compression),
        }
    }

    #[getter]
    fn warnings(&mut self) -> Vec<String> {
        self.run().warnings()
    }

    fn stats(&mut self) -> Vec<(&'static str, u64)> {
        self.run().counters().iter().collect()
    }

    fn directory(&mut self) -> Vec<(u32, String)> {
        books::directory(self.run().books())
    }

    fn top(&mut self, instrument_id: u32) -> Option<Top> {
        books::top(self.run().books(), instrument_id)
    }

    fn depth(&mut self, instrument_id: u32, levels: usize) -> (Vec<u8>, Vec<u8>) {
        books::depth(self.run().books(), instrument_id, levels)
    }

    fn orders(&mut self, instrument_id: u32) -> Vec<u8> {
        books::orders(self.run().books(), instrument_id)
    }

    /// A fingerprint of all books: 32 hexadecimal digits, equal for equal books.
    fn digest(&mut self) -> String {
        format!("{:032x}", self.run().books().books().digest())
    }

    /// The same of all events read so far, in their order; `None` where it was not asked for.
    fn events_digest(&mut self) -> Option<String> {
        self.run().events_digest().map(|digest| format!("{digest:032x}"))
    }

    fn lines<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        lines::rows(py, &self.run().lines())
    }
}

/// Messages of a file as text.
#[pyclass(module = "barewire._core")]
pub struct Inspector {
    show: Mutex<Show>,
    more: bool,
    /// Why reading cannot go on; raised when everything before it was handed out.
    failed: Option<CaptureError>,
}

#[pymethods]
impl Inspector {
    #[new]
    #[pyo3(signature = (source, *, protocol, format = None, json, types = None, limit = None))]
    fn new(
        py: Python<'_>,
        source: Source,
        protocol: &str,
        format: Option<&str>,
        json: bool,
        types: Option<&str>,
        limit: Option<u64>,
    ) -> PyResult<Inspector> {
        let config = InspectConfig {
            protocol: check_protocol(py, protocol)?,
            style: if json { Style::Json } else { Style::Line },
            types: types.unwrap_or_default().as_bytes().to_vec(),
            limit,
        };
        let show = Show::new(open(py, source, format)?, config);
        Ok(Inspector { show: Mutex::new(show), more: true, failed: None })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// A chunk of whole lines.
    fn __next__(&mut self, py: Python<'_>) -> PyResult<Option<String>> {
        let Inspector { show, more, failed } = self;
        let show = inside(show);
        let mut out = Vec::with_capacity(CHUNK_BYTES + 1024);
        if *more && failed.is_none() {
            long_call::run(py, None, |until| {
                match show.show(&mut out, CHUNK_BYTES, until) {
                    Ok(is_more) => *more = is_more,
                    Err(error) => *failed = Some(error),
                }
                if out.is_empty() && *more && failed.is_none() { Slice::More } else { Slice::Done(()) }
            })?;
        }
        if out.is_empty()
            && let Some(error) = failed.take()
        {
            return Err(capture_error(py, &error));
        }
        Ok(if out.is_empty() { None } else { Some(String::from_utf8_lossy(&out).into_owned()) })
    }

    #[getter]
    fn warnings(&mut self) -> Vec<String> {
        inside(&mut self.show).warnings()
    }
}
