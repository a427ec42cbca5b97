//! Readers of rings.

use std::time::{Duration, Instant};

use barewire_io::clock;
use barewire_ring::{Reader, RingError};
use pyo3::prelude::*;

use crate::block::Block;
use crate::errors;
use crate::long_call::{self, Slice};

/// A live producer tells that it is so every millisecond.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// Looks at the ring before the reader begins to sleep between them: some tens of microseconds.
const SPINS: u32 = 2_000;
/// Sleep between two looks at a ring that was quiet for longer.
const NAP: Duration = Duration::from_micros(50);

/// The exception that says what a ring's error says.
pub fn ring_error(py: Python<'_>, error: &RingError) -> PyErr {
    match error.errno() {
        Some(errno) => errors::os_error(&std::io::Error::from_raw_os_error(errno), &error.to_string()),
        None => errors::raise(py, "RingError", &error.to_string(), &[]),
    }
}

/// A reader of one broadcast ring.
#[pyclass(module = "barewire._core")]
pub struct Ring {
    reader: Reader,
    name: String,
}

impl Ring {
    /// A reader that is there already.
    pub fn new(reader: Reader) -> Ring {
        let name = reader.name().unwrap_or_default().to_owned();
        Ring { reader, name }
    }
}

#[pymethods]
impl Ring {
    /// Attaches to a ring by its name, at its newest record.
    #[staticmethod]
    fn attach(py: Python<'_>, name: &str) -> PyResult<Ring> {
        let reader = Reader::attach(name).map_err(|error| ring_error(py, &error))?;
        Ok(Ring { reader, name: name.to_owned() })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn capacity(&self) -> u32 {
        self.reader.info().capacity
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.reader.info().epoch
    }

    #[getter]
    fn position(&self) -> u64 {
        self.reader.position()
    }

    #[getter]
    fn published(&self) -> u64 {
        self.reader.published()
    }

    /// Reads records into a buffer; waits up to `timeout_ns` for the first.
    fn read_into(&mut self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout_ns: u64) -> PyResult<(usize, u64)> {
        let mut block = Block::new(buffer)?;
        let reader = &mut self.reader;
        let first = reader.read(block.records());
        if first.count > 0 || first.lost > 0 || timeout_ns == 0 {
            return Ok((first.count, first.lost));
        }
        let deadline = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
        let read = long_call::run(py, deadline, |end| {
            let mut spins = 0;
            loop {
                let read = reader.read(block.records());
                if read.count > 0 || read.lost > 0 {
                    return Slice::Done((read.count, read.lost));
                }
                if reader.is_closed() {
                    // What was published before it closed may have come since we looked.
                    let read = reader.read(block.records());
                    return Slice::Done((read.count, read.lost));
                }
                if spins < SPINS {
                    spins += 1;
                    std::hint::spin_loop();
                } else if Instant::now() < end {
                    std::thread::sleep(NAP);
                } else {
                    return Slice::More;
                }
            }
        })?;
        Ok(read.unwrap_or((0, 0)))
    }

    fn seek_oldest(&mut self) {
        self.reader.seek_oldest();
    }

    fn seek_newest(&mut self) {
        self.reader.seek_newest();
    }

    /// Records between the reader and the producer.
    fn lag(&self) -> u64 {
        self.reader.lag()
    }

    /// How the producer is: "alive", "stale", "dead", "closed" or "restarted".
    fn producer_state(&self) -> &'static str {
        self.reader.producer_state(clock::now(), STALE_AFTER).name()
    }

    /// Attaches to the ring that took the name over.
    fn reattach(&mut self, py: Python<'_>) -> PyResult<()> {
        self.reader.reattach().map_err(|error| ring_error(py, &error))
    }

    /// (instrument_id, symbol) of every instrument from the `first`-th on, in the order of announcement.
    #[pyo3(signature = (first = 0))]
    fn directory(&self, first: u32) -> Vec<(u32, String)> {
        let text = |symbol: &[u8]| symbol.iter().copied().map(char::from).collect();
        self.reader.instruments_from(first).map(|i| (i.instrument_id, text(i.symbol()))).collect()
    }

    /// Name and value of every statistic.
    fn stats(&self) -> Vec<(String, u64)> {
        self.reader.stat_names().into_iter().zip(self.reader.stats()).collect()
    }
}
