//! Readers of rings.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};
use std::time::{Duration, Instant};

use barewire_engine::digest::EventsDigest;
use barewire_io::clock;
use barewire_ring::{Filter, Patience, Read, Reader, RingError, RingRecord, Wait, Watch};
use barewire_types::RecordKind;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::block::Block;
use crate::conflated::Conflated;
use crate::dispatch::Dispatcher;
use crate::errors;
use crate::long_call::{self, Slice};

/// A live producer tells that it is so every 20 ms at the latest.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// Records that are read at a time to be dispatched.
const FEW: usize = 256;

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
    filter: Option<Filter>,
    wait: Wait,
    /// Of what was read, where it was asked for. A record that came too late ends it: what it held is not known.
    digest: Option<EventsDigest>,
}

impl Reading {
    fn read(&mut self, out: &mut [RingRecord]) -> Read {
        let read = match &mut self.filter {
            None => self.reader.read(out),
            Some(filter) => self.reader.read_filtered(filter, out),
        };
        if read.lost > 0 {
            self.digest = None;
        } else if let Some(digest) = &mut self.digest {
            out.iter().take(read.count).for_each(|record| digest.take(&record.record));
        }
        read
    }

    /// Reads until something came, the ring is closed and empty, the reader is `stopped`, or `end`. Without the GIL. `waits_since` is of the slices
    /// before.
    fn read_until(
        &mut self,
        out: &mut [RingRecord],
        end: Instant,
        waits_since: &mut Option<Instant>,
        stopped: &AtomicBool,
    ) -> Slice<Read> {
        let mut patience = match *waits_since {
            Some(since) => Patience::resumed(self.wait, since),
            None => Patience::new(self.wait),
        };
        waits_since.get_or_insert_with(Instant::now);
        loop {
            // Before the read: what was published before the ring was closed is then seen.
            let closed = self.reader.is_closed();
            let read = self.read(out);
            if read.count > 0 || read.lost > 0 {
                return Slice::Done(read);
            }
            if stopped.load(Ordering::Relaxed) || closed && read.passed_over == 0 {
                return Slice::Done(read);
            }
            let late = match read.passed_over {
                0 => patience.pause() && Instant::now() >= end,
                _ => Instant::now() >= end,
            };
            if late {
                return Slice::More;
            }
        }
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
    /// What an event loop waits with; made when first asked for.
    watch: Mutex<Option<Watch>>,
    /// Whether reading is over, by the reader's own wish.
    stopped: AtomicBool,
    name: String,
}

impl Ring {
    /// A reader that is there already.
    pub fn new(reader: Reader) -> Ring {
        let name = reader.name().unwrap_or_default().to_owned();
        let position = AtomicU64::new(reader.position());
        let reading = Reading { reader: reader.clone(), filter: None, wait: Wait::Sleep, digest: None };
        let (reading, telling) = (Mutex::new(reading), RwLock::new(reader));
        Ring { reading, telling, position, watch: Mutex::new(None), stopped: AtomicBool::new(false), name }
    }

    fn telling(&self) -> RwLockReadGuard<'_, Reader> {
        self.telling.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader, for this call alone.
    fn reading(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Reading>> {
        match self.reading.try_lock() {
            Ok(mut reading) => {
                // What the watch passed over need not be read again.
                if let Some(watch) = &*self.watch() {
                    let position = watch.passed(reading.reader.position());
                    reading.reader.go_to(position);
                }
                Ok(reading)
            }
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let message =
                    "another thread is reading with this reader: expected one thread a reader; attach another";
                Err(errors::raise(py, "RingError", message, &[]))
            }
        }
    }

    /// Another reader where this one stands, and what passes it.
    pub fn copy_of_reader(&self, py: Python<'_>) -> PyResult<(Reader, Option<Filter>)> {
        let reading = self.reading(py)?;
        Ok((reading.reader.clone(), reading.filter.clone()))
    }

    fn watch(&self) -> MutexGuard<'_, Option<Watch>> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that was forked makes one of its own.
        watch.take_if(|watch| !watch.is_here());
        watch
    }

    fn moved(&self, reader: &Reader) {
        self.position.store(reader.position(), Ordering::Relaxed);
    }

    /// Records from `position` on were read and then not needed: they are there for whoever reads next. Not where somebody has
    /// gone elsewhere from `left_at` in the meantime.
    fn go_back(&self, py: Python<'_>, left_at: u64, position: u64) -> PyResult<()> {
        let mut reading = self.reading(py)?;
        if reading.reader.position() == left_at {
            reading.reader.go_to(position);
            reading.digest = None; // it has them already
            self.moved(&reading.reader);
        }
        Ok(())
    }
}

#[pymethods]
impl Ring {
    /// Attaches to a ring by its name, at its newest record.
    #[staticmethod]
    #[pyo3(signature = (name, owner = None))]
    fn attach(py: Python<'_>, name: &str, owner: Option<u32>) -> PyResult<Ring> {
        let attached = match owner {
            Some(owner) => Reader::attach_owned(name, owner),
            None => Reader::attach(name),
        };
        let reader = attached.map_err(|error| ring_error(py, &error))?;
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
        if self.stopped() {
            return Ok((0, 0));
        }
        let mut reading = self.reading(py)?;
        let reading = &mut *reading;
        let first = reading.read(block.records());
        self.moved(&reading.reader);
        if first.count > 0 || first.lost > 0 || (timeout_ns == 0 && first.passed_over == 0) {
            return Ok((first.count, first.lost));
        }
        let deadline = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
        let mut since = None;
        let read = long_call::run(py, deadline, |end| {
            if timeout_ns == 0 {
                // What is there already, however much of it the filter keeps back; within reason, under a fast producer.
                let mut read = reading.read(block.records());
                for _ in 0..reading.reader.info().capacity {
                    if read.count > 0 || read.lost > 0 || read.passed_over == 0 {
                        break;
                    }
                    read = reading.read(block.records());
                }
                return Slice::Done(read);
            }
            reading.read_until(block.records(), end, &mut since, &self.stopped)
        });
        self.moved(&reading.reader);
        Ok(read?.map_or((0, 0), |read| (read.count, read.lost)))
    }

    /// Calls back for records as they come, for `timeout_ns`; returns early where the ring is closed and empty. Whether
    /// anything came.
    fn dispatch(&self, py: Python<'_>, dispatcher: &Dispatcher, timeout_ns: u64) -> PyResult<bool> {
        let mut block = [RingRecord::ZERO; FEW];
        let now = Instant::now();
        let deadline = now.checked_add(Duration::from_nanos(timeout_ns)).unwrap_or(now);
        let mut any = false;
        while !self.stopped() {
            let mut reading = self.reading(py)?;
            let first = reading.read(&mut block);
            let read = if first.count > 0 || first.lost > 0 {
                Some(first)
            } else {
                let (reading, block, mut since) = (&mut *reading, &mut block, None);
                long_call::run(py, Some(deadline), |end| reading.read_until(block, end, &mut since, &self.stopped))?
            };
            self.moved(&reading.reader);
            let (announced, left_at) = (reading.reader.instrument_count(), reading.reader.position());
            // A callback may read, too.
            drop(reading);
            let Some(read) = read.filter(|read| read.count > 0 || read.lost > 0) else { return Ok(any) };
            any = true;
            dispatcher.refresh(announced.into());
            let mut records = block[..read.count].iter();
            let told = dispatcher.lose(py, read.lost);
            if let Err(error) = told.and_then(|()| records.try_for_each(|record| dispatcher.deliver(py, record))) {
                if let Some(next) = records.next() {
                    // Another thread that reads by now goes on where it is; what the callback raised is to be told.
                    let _ = self.go_back(py, left_at, next.ring_sequence);
                }
                return Err(error);
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(any)
    }

    /// Ends reading: a wait in another thread returns, and nothing is read any more.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What passes: kinds by number, sides by letter, instruments by symbol and number; `None`: all.
    fn set_filter(
        &self,
        py: Python<'_>,
        kinds: Option<Vec<u8>>,
        sides: Option<Vec<u8>>,
        symbols: Option<Vec<Vec<u8>>>,
        ids: Option<Vec<u32>>,
    ) -> PyResult<()> {
        let mut filter = Filter::default();
        if let Some(kinds) = kinds {
            let known = [RecordKind::Mbo, RecordKind::Bbo, RecordKind::Gap, RecordKind::Status];
            let of = |number: u8| known.into_iter().find(|kind| *kind as u8 == number);
            let kinds: Option<Vec<_>> = kinds.into_iter().map(of).collect();
            filter =
                filter.kinds(&kinds.ok_or_else(|| PyValueError::new_err("kinds: expected numbers of record kinds"))?);
        }
        if let Some(sides) = sides {
            filter = filter.sides(&sides);
        }
        if symbols.is_some() || ids.is_some() {
            filter = filter.symbols(symbols.unwrap_or_default()).ids(ids.unwrap_or_default());
        }
        self.reading(py)?.filter = Some(filter);
        // It would look for what passed before.
        drop(self.watch().take());
        Ok(())
    }

    /// Whether to spin rather than sleep while waiting.
    fn set_busy(&self, py: Python<'_>, busy: bool) -> PyResult<()> {
        self.reading(py)?.wait = if busy { Wait::Busy } else { Wait::Sleep };
        Ok(())
    }

    /// A thread that reads on from here and keeps the latest quote of each instrument.
    fn conflate(&self, py: Python<'_>) -> PyResult<Conflated> {
        let reading = self.reading(py)?;
        Conflated::new(reading.reader.clone(), reading.filter.clone().unwrap_or_default(), reading.wait)
    }

    /// A descriptor that is readable after `arm`, once there is something to read or the ring is closed.
    fn watch_fd(&self, py: Python<'_>) -> PyResult<i32> {
        let filter = self.reading(py)?.filter.clone();
        let mut watch = self.watch();
        if watch.is_none() {
            let made = Watch::new(&self.telling(), filter, Wait::Sleep);
            *watch =
                Some(made.map_err(|error| errors::os_error(&error, &format!("could not watch the ring: {error}")))?);
        }
        Ok(watch.as_ref().map_or(-1, |watch| watch.as_fd().as_raw_fd()))
    }

    /// Begins to watch for the next record.
    fn arm(&self) {
        if let Some(watch) = &*self.watch() {
            watch.arm(self.position());
        }
    }

    /// Makes the descriptor unreadable again.
    fn clear(&self) {
        if let Some(watch) = &*self.watch() {
            watch.clear();
        }
    }

    /// Ends the watching thread.
    fn unwatch(&self) {
        // Joined here, not in a destructor; it never waits for the GIL.
        drop(self.watch().take());
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

    /// Whether the producer has said that nothing more will come. Makes no system call.
    #[getter]
    fn closed(&self) -> bool {
        self.telling().is_closed()
    }

    /// How the producer is: "alive", "stale", "dead", "closed" or "restarted".
    fn producer_state(&self) -> &'static str {
        self.telling().producer_state(clock::now(), STALE_AFTER).name()
    }

    /// Attaches to the ring that took the name over, at its oldest record; `false` where it is still the same ring.
    fn reattach(&self, py: Python<'_>) -> PyResult<bool> {
        let reading = &mut *self.reading(py)?;
        let mut reader = reading.reader.clone();
        reader.reattach().map_err(|error| ring_error(py, &error))?;
        if reader.info().epoch == reading.reader.info().epoch {
            return Ok(false);
        }
        if let Some(filter) = &mut reading.filter {
            filter.forget();
        }
        // Of the ring that was left. Who waits with it makes another.
        drop(self.watch().take());
        *self.telling.write().unwrap_or_else(PoisonError::into_inner) = reader.clone();
        self.moved(&reader);
        reading.reader = reader;
        Ok(true)
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
