//! Readers of rings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use barewire_engine::digest::EventsDigest;
use barewire_io::clock;
use barewire_ring::{Read, Reader, RingError, RingRecord};
use pyo3::prelude::*;

use crate::block::Block;
use crate::errors;
use crate::long_call::{self, Slice};

/// A live producer tells that it is so every 20 ms at the latest.
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

/// What belongs to the thread that reads.
struct Reading {
    reader: Reader,
    /// Of what was read, where it was asked for. A record that came too late ends it: what it held is not known.
    digest: Option<EventsDigest>,
}

impl Reading {
    fn read(&mut self, out: &mut [RingRecord]) -> Read {
        let read = self.reader.read(out);
        if read.lost > 0 {
            self.digest = None;
        } else if let Some(digest) = &mut self.digest {
            out.iter().take(read.count).for_each(|record| digest.take(&record.record));
        }
        read
    }
}

/// A reader of one broadcast ring.
///
/// One thread reads at a time; what the ring tells of itself (directory, statistics, state) any thread may ask meanwhile.
#[pyclass(module = "barewire._core", frozen)]
pub struct Ring {
    /// Where reading goes on. Held while a thread reads, or waits to.
    reading: Mutex<Reading>,
    /// For everything else; replaced when the reader attaches anew.
    telling: RwLock<Reader>,
    /// As of the last read.
    position: AtomicU64,
    name: String,
}

impl Ring {
    /// A reader that is there already.
    pub fn new(reader: Reader) -> Ring {
        let name = reader.name().unwrap_or_default().to_owned();
        let position = AtomicU64::new(reader.position());
        let reading = Reading { reader: reader.clone(), digest: None };
        Ring { reading: Mutex::new(reading), telling: RwLock::new(reader), position, name }
    }

    fn telling(&self) -> RwLockReadGuard<'_, Reader> {
        self.telling.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader, for this call alone.
    fn reading(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Reading>> {
        match self.reading.try_lock() {
            Ok(reader) => Ok(reader),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let message =
                    "another thread is reading with this reader: expected one thread a reader; attach another";
                Err(errors::raise(py, "RingError", message, &[]))
            }
        }
    }

    fn moved(&self, reader: &Reader) {
        self.position.store(reader.position(), Ordering::Relaxed);
    }
}

#[pymethods]
impl Ring {
    /// Attaches to a ring by its name, at its newest record.
    #[staticmethod]
    fn attach(py: Python<'_>, name: &str) -> PyResult<Ring> {
        let reader = Reader::attach(name).map_err(|error| ring_error(py, &error))?;
        Ok(Ring { name: name.to_owned(), ..Ring::new(reader) })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn capacity(&self) -> u32 {
        self.telling().info().capacity
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.telling().info().epoch
    }

    #[getter]
    fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    #[getter]
    fn published(&self) -> u64 {
        self.telling().published()
    }

    /// Reads records into a buffer; waits up to `timeout_ns` for the first.
    fn read_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>, timeout_ns: u64) -> PyResult<(usize, u64)> {
        let mut block = Block::new(buffer)?;
        let mut reading = self.reading(py)?;
        let reading = &mut *reading;
        let first = reading.read(block.records());
        self.moved(&reading.reader);
        if first.count > 0 || first.lost > 0 || timeout_ns == 0 {
            return Ok((first.count, first.lost));
        }
        let deadline = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
        let read = long_call::run(py, deadline, |end| {
            let mut spins = 0;
            loop {
                let read = reading.read(block.records());
                if read.count > 0 || read.lost > 0 {
                    return Slice::Done((read.count, read.lost));
                }
                if reading.reader.is_closed() {
                    // What was published before it closed may have come since we looked.
                    let read = reading.read(block.records());
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
        });
        self.moved(&reading.reader);
        Ok(read?.unwrap_or((0, 0)))
    }

    fn seek_oldest(&self, py: Python<'_>) -> PyResult<()> {
        let reader = &mut self.reading(py)?.reader;
        reader.seek_oldest();
        self.moved(reader);
        Ok(())
    }

    fn seek_newest(&self, py: Python<'_>) -> PyResult<()> {
        let reader = &mut self.reading(py)?.reader;
        reader.seek_newest();
        self.moved(reader);
        Ok(())
    }

    /// Begins a digest of the events that are read from here on.
    fn digest_events(&self, py: Python<'_>) -> PyResult<()> {
        self.reading(py)?.digest = Some(EventsDigest::default());
        Ok(())
    }

    /// The digest so far: 32 hexadecimal digits; `None` where none was begun, or a record was read too late.
    fn events_digest(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.reading(py)?.digest.map(|digest| format!("{:032x}", digest.value())))
    }

    /// Records between the reader and the producer.
    fn lag(&self) -> u64 {
        self.telling().published().saturating_sub(self.position())
    }

    /// How the producer is: "alive", "stale", "dead", "closed" or "restarted".
    fn producer_state(&self) -> &'static str {
        self.telling().producer_state(clock::now(), STALE_AFTER).name()
    }

    /// Attaches to the ring that took the name over.
    fn reattach(&self, py: Python<'_>) -> PyResult<()> {
        let reader = &mut self.reading(py)?.reader;
        reader.reattach().map_err(|error| ring_error(py, &error))?;
        *self.telling.write().unwrap_or_else(PoisonError::into_inner) = reader.clone();
        self.moved(reader);
        Ok(())
    }

    /// (instrument_id, symbol) of every instrument from the `first`-th on, in the order of announcement.
    #[pyo3(signature = (first = 0))]
    fn directory(&self, first: u32) -> Vec<(u32, String)> {
        let text = |symbol: &[u8]| symbol.iter().copied().map(char::from).collect();
        self.telling().instruments_from(first).map(|i| (i.instrument_id, text(i.symbol()))).collect()
    }

    /// Name and value of every statistic.
    fn stats(&self) -> Vec<(String, u64)> {
        let reader = self.telling();
        reader.stat_names().into_iter().zip(reader.stats()).collect()
    }
}
