//! Several feeds as one stream.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use barewire_engine::align::rows::{LEG_WORDS, Leg, On, ROW_WORDS, Row, Rows};
use barewire_engine::align::{self as engine, Aligned, Config, Key, Merge, Placed, Released, Time};
use barewire_io::clock;
use barewire_ring::{Filter, Patience, Reader, RingRecord, Wait};
use barewire_types::Layout;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::block::Block;
use crate::errors;
use crate::long_call::{self, Slice};
use crate::ring::Ring;
use crate::tables;

/// Records that are read of an input at a time.
const CHUNK: usize = 2048;
/// Records that rows are made of at a time.
const PART: usize = 256;

/// An input that is a ring.
struct Attached {
    reader: Reader,
    filter: Option<Filter>,
    /// Where its page of statistics says when the last packet came, what is held, and that nothing is delivered.
    progress: Option<[usize; 3]>,
    /// Where it says how far its clock may be off, and what it said last.
    bound: Option<usize>,
    bound_ns: Option<u64>,
    /// Whether the producer had closed the ring before it was last read, and nothing was there.
    drained: bool,
    /// Whether nobody will write any more: what is there is read, and then the input has ended.
    finishing: bool,
}

impl Attached {
    fn new(reader: Reader, filter: Option<Filter>) -> Attached {
        let names = reader.stat_names();
        let at = |name: &str| names.iter().position(|known| known == name);
        let progress = || Some([at("last_packet_time")?, at("messages_held")?, at("suspended")?]);
        let (progress, bound) = (progress(), at("clock_bound_ns"));
        Attached { reader, filter, progress, bound, bound_ns: None, drained: false, finishing: false }
    }

    /// When the last packet came, where all that came before is published.
    fn progress(&self) -> Option<u64> {
        let [last, held, suspended] = self.progress?;
        let stat = |index| self.reader.stat(index);
        (stat(held) == Some(0) && stat(suspended) == Some(0)).then(|| stat(last))?
    }
}

struct Inner {
    merge: Merge,
    rings: Vec<Option<Attached>>,
    chunk: Vec<RingRecord>,
    part: Vec<Aligned>,
    wait: Wait,
}

/// What a release gave, as Python gets it: records or rows, the input that lost records just before (-1: none), how many.
type Given = (usize, i64, u64);

impl Inner {
    /// Reads what the rings have; first those of which little is queued, then, where none of these has anything, the
    /// others. Whether anything was read.
    fn read(&mut self, now: u64) -> Result<bool, engine::NoTime> {
        let mut any = false;
        for is_full in [false, true] {
            for number in 0..self.rings.len() {
                if (self.merge.queued(number) >= CHUNK) == is_full {
                    any |= self.read_one(number, now)?;
                }
            }
            if any {
                break;
            }
        }
        Ok(any)
    }

    fn read_one(&mut self, number: usize, now: u64) -> Result<bool, engine::NoTime> {
        let Inner { merge, rings, chunk, .. } = self;
        let Some(ring) = rings.get_mut(number).and_then(Option::as_mut) else { return Ok(false) };
        if merge.is_ended(number) {
            return Ok(false);
        }
        // Before the read: what was published before either was said is then seen.
        let (closed, progress) = (ring.reader.is_closed(), ring.progress());
        let read = match &mut ring.filter {
            None => ring.reader.read(chunk),
            Some(filter) => ring.reader.read_filtered(filter, chunk),
        };
        let has_more = read.count == chunk.len() || read.passed_over > 0;
        let any = read.count > 0 || read.lost > 0;
        let records = chunk.get(..read.count).unwrap_or_default();
        merge.push(number, records, read.lost, now, has_more)?;
        if !has_more && let Some(at) = progress {
            merge.progress(number, at);
        }
        ring.drained = closed && !any && !has_more;
        if ring.finishing && !any && !has_more {
            merge.end(number);
        }
        Ok(any || has_more)
    }

    /// Hands out what need not be held, as records or as rows.
    fn release(&mut self, now: u64, rows: Option<&Mutex<Legs>>, block: &mut Blocks, goes_on: bool) -> Option<Given> {
        let Released { count, lost } = match (rows, block) {
            (None, Blocks::Records(block)) => self.merge.release(now, block.records(), goes_on),
            (Some(legs), Blocks::Words(block)) => {
                let mut legs = lock(legs);
                self.inform(&mut legs);
                rows_of(&mut self.merge, &mut self.part, &mut legs.rows, now, block.records(), goes_on)
            }
            _ => Released::default(),
        };
        let (input, lost) = lost.map_or((-1, 0), |(input, lost)| (input as i64, lost));
        (count > 0 || lost > 0).then_some((count, input, lost))
    }

    /// Tells rows what is said beside the records: instruments that were announced, and clocks' bounds.
    fn inform(&mut self, legs: &mut Legs) {
        for (number, ring) in self.rings.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let told = ring.bound.and_then(|index| ring.reader.stat(index));
            if let Some(ns) = told
                && ring.bound_ns != told
            {
                legs.rows.tell_bound(number, ns);
                ring.bound_ns = told;
            }
            legs.announce(number, &ring.reader);
        }
    }

    /// Whether there is an input that ought to be looked after: its ring was closed, and everything was read.
    fn is_drained(&self) -> bool {
        (0..self.rings.len()).any(|number| self.is_one_drained(number))
    }

    fn is_one_drained(&self, number: usize) -> bool {
        let ring = self.rings.get(number).and_then(Option::as_ref);
        ring.is_some_and(|ring| ring.drained && !ring.finishing) && !self.merge.is_ended(number)
    }
}

/// Rows until the buffer is full, nothing more need be released, or records are missing.
fn rows_of(
    merge: &mut Merge,
    part: &mut [Aligned],
    rows: &mut Rows,
    now: u64,
    out: &mut [u64],
    goes_on: bool,
) -> Released {
    let words = rows.words();
    let mut made = Released::default();
    let mut goes_on = goes_on;
    loop {
        let room = (out.len() / words).saturating_sub(made.count).min(part.len());
        let released = merge.release(now, &mut part[..room], goes_on);
        if released == Released::default() {
            return made;
        }
        if let Some((input, _)) = released.lost {
            rows.lose(input);
            made.lost = released.lost;
        }
        goes_on = true;
        made.count += rows.take(&part[..released.count], &mut out[made.count * words..]);
    }
}

/// What is written to.
enum Blocks {
    Records(Block<Aligned>),
    Words(Block<u64>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The merge, and the rings that it reads.
#[pyclass(module = "barewire._core", frozen)]
pub struct Aligner {
    inner: Mutex<Inner>,
    /// The inputs', for errors.
    names: Vec<String>,
}

impl Aligner {
    /// For this call alone.
    fn inner(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Ok(inner),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                let message = "another thread is reading this alignment: expected one thread";
                Err(errors::raise(py, "FeedError", message, &[]))
            }
        }
    }

    fn no_time(&self, py: Python<'_>, error: &engine::NoTime) -> PyErr {
        let name = self.names.get(error.input).map_or("", String::as_str);
        let message = format!(
            "align: the events of {name:?} have no ts_recv (a BinaryFILE has none): expected key='ts_event', or a capture"
        );
        errors::raise(py, "ConfigError", &message, &[("key", PyString::new(py, "key").into_any().unbind())])
    }

    /// Reads the rings until `found` finds something, an input is through (`None`), or time is up (`None`).
    fn until<T: Send>(
        &self,
        py: Python<'_>,
        timeout_ns: u64,
        mut found: impl FnMut(&mut Inner, u64) -> Option<T> + Send,
    ) -> PyResult<Option<T>> {
        let mut inner = self.inner(py)?;
        let inner = &mut *inner;
        let deadline = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
        let done = long_call::run(py, deadline, |end| {
            let mut patience = Patience::new(inner.wait);
            loop {
                let now = clock::monotonic();
                let any = match inner.read(now) {
                    Ok(any) => any,
                    Err(error) => {
                        inner.merge.end(error.input);
                        return Slice::Done(Err(error));
                    }
                };
                if let Some(found) = found(inner, now) {
                    return Slice::Done(Ok(Some(found)));
                }
                if !any && inner.is_drained() {
                    return Slice::Done(Ok(None));
                }
                let looks_at_clock = if any {
                    patience.came();
                    true
                } else {
                    timeout_ns > 0 && patience.pause()
                };
                if timeout_ns == 0 || looks_at_clock && Instant::now() >= end {
                    return Slice::More;
                }
            }
        })?;
        done.transpose().map_err(|error| self.no_time(py, &error)).map(Option::flatten)
    }
}

fn blocks(buffer: &Bound<'_, PyAny>, rows: Option<&AlignedRows>) -> PyResult<Blocks> {
    Ok(match rows {
        None => Blocks::Records(Block::new(buffer)?),
        Some(_) => Blocks::Words(Block::new(buffer)?),
    })
}

#[pymethods]
impl Aligner {
    #[new]
    fn new(
        names: Vec<String>,
        key: &str,
        offsets_ns: Vec<i64>,
        hold_ns: u64,
        max_held: usize,
        live: bool,
    ) -> PyResult<Aligner> {
        let key = match key {
            "ts_recv" => Key::Recv,
            "ts_event" => Key::Event,
            other => return Err(PyValueError::new_err(format!("key '{other}': expected ts_recv or ts_event"))),
        };
        if offsets_ns.len() > usize::from(u8::MAX) {
            return Err(PyValueError::new_err(format!("{} inputs: expected 255 at most", offsets_ns.len())));
        }
        let time = if live { Time::Local } else { Time::Data };
        let inputs = offsets_ns.len();
        let merge = Merge::new(&Config { key, offsets_ns, hold_ns, max_held, time });
        if names.len() != inputs {
            return Err(PyValueError::new_err(format!("{} names of {inputs} inputs", names.len())));
        }
        let rings = (0..inputs).map(|_| None).collect();
        let (chunk, part) = (vec![RingRecord::ZERO; CHUNK], vec![Aligned::ZERO; PART]);
        Ok(Aligner { inner: Mutex::new(Inner { merge, rings, chunk, part, wait: Wait::Sleep }), names })
    }

    /// Reads a ring for an input, from where the ring's reader stands, with a reader of its own.
    fn attach(&self, py: Python<'_>, input: usize, ring: &Ring) -> PyResult<()> {
        let (reader, filter) = ring.copy_of_reader(py)?;
        if let Some(place) = self.inner(py)?.rings.get_mut(input) {
            *place = Some(Attached::new(reader, filter));
        }
        Ok(())
    }

    /// Whether to spin rather than sleep while waiting.
    fn set_busy(&self, py: Python<'_>, busy: bool) -> PyResult<()> {
        self.inner(py)?.wait = if busy { Wait::Busy } else { Wait::Sleep };
        Ok(())
    }

    /// Takes records of an input that is no ring, if there are any behind what was lost.
    fn push(
        &self,
        py: Python<'_>,
        input: usize,
        records: Option<&Bound<'_, PyAny>>,
        lost: u64,
        now_ns: u64,
        has_more: bool,
    ) -> PyResult<()> {
        let mut block = records.map(Block::<RingRecord>::new).transpose()?;
        let mut inner = self.inner(py)?;
        let inner = &mut *inner;
        let taken = py.detach(|| {
            let records = block.as_mut().map_or(&[][..], |block| block.records());
            inner.merge.push(input, records, lost, now_ns, has_more)
        });
        taken.map_err(|error| {
            inner.merge.end(input);
            self.no_time(py, &error)
        })
    }

    /// Nothing comes of the input before this time.
    fn progress(&self, py: Python<'_>, input: usize, ts_recv: u64) -> PyResult<()> {
        self.inner(py)?.merge.progress(input, ts_recv);
        Ok(())
    }

    fn end(&self, py: Python<'_>, input: usize) -> PyResult<()> {
        self.inner(py)?.merge.end(input);
        Ok(())
    }

    /// Inputs of which something must be pushed, or the end said, before anything more can be handed out.
    fn wanting(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        let inner = self.inner(py)?;
        Ok((0..inner.rings.len()).filter(|number| inner.merge.is_wanting(*number)).collect())
    }

    /// Rings whose feed has ended, and of which everything was read.
    fn drained(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        let inner = self.inner(py)?;
        Ok((0..inner.rings.len()).filter(|number| inner.is_one_drained(*number)).collect())
    }

    /// Of a ring that nobody writes any more: when everything of it was read, the input has ended.
    fn finish(&self, py: Python<'_>, input: usize) -> PyResult<()> {
        if let Some(ring) = self.inner(py)?.rings.get_mut(input).and_then(Option::as_mut) {
            ring.finishing = true;
        }
        Ok(())
    }

    /// Whether the input has ended and everything of it was handed out.
    fn is_through(&self, py: Python<'_>, input: usize) -> PyResult<bool> {
        Ok(self.inner(py)?.merge.is_through(input))
    }

    /// Whether that is so of all.
    fn ended(&self, py: Python<'_>) -> PyResult<bool> {
        let inner = self.inner(py)?;
        Ok((0..inner.rings.len()).all(|input| inner.merge.is_through(input)))
    }

    /// Hands out what need not be held back at `now_ns`; with `goes_on`, up to the next loss of an input.
    #[pyo3(signature = (buffer, now_ns, rows = None, goes_on = false))]
    fn release(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        now_ns: u64,
        rows: Option<&AlignedRows>,
        goes_on: bool,
    ) -> PyResult<Given> {
        let mut block = blocks(buffer, rows)?;
        let mut inner = self.inner(py)?;
        let inner = &mut *inner;
        let given = py.detach(|| inner.release(now_ns, rows.map(|rows| &rows.0), &mut block, goes_on));
        Ok(given.unwrap_or((0, -1, 0)))
    }

    /// Reads the rings and hands out, waiting up to `timeout_ns`; returns early where an input is through.
    #[pyo3(signature = (buffer, timeout_ns, rows = None))]
    fn read_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        timeout_ns: u64,
        rows: Option<&AlignedRows>,
    ) -> PyResult<Given> {
        let mut block = blocks(buffer, rows)?;
        let rows = rows.map(|rows| &rows.0);
        let given = self.until(py, timeout_ns, |inner, now| inner.release(now, rows, &mut block, false))?;
        Ok(given.unwrap_or((0, -1, 0)))
    }

    /// Reads the rings until something can be handed out, an input is through, or `timeout_ns` have passed.
    fn wait(&self, py: Python<'_>, timeout_ns: u64) -> PyResult<()> {
        self.until(py, timeout_ns, |inner, now| inner.merge.is_ready(now).then_some(())).map(drop)
    }

    /// Of each input: records, late, late_max_ns, by_hold, by_room, lost, held.
    fn stats(&self, py: Python<'_>) -> PyResult<Vec<[u64; 7]>> {
        let inner = self.inner(py)?;
        let row = |stats: engine::Stats| {
            let engine::Stats { records, late, late_max_ns, by_hold, by_room, lost, held } = stats;
            [records, late, late_max_ns, by_hold, by_room, lost, held]
        };
        Ok(inner.merge.stats().map(row).collect())
    }
}

/// Rows, and whose they are.
struct Legs {
    rows: Rows,
    /// Of each leg, the input and the symbol; none where the instrument's number was given.
    named: Vec<(u8, Option<String>)>,
    /// Of each input, how many announcements were heard.
    heard: Vec<u32>,
}

impl Legs {
    fn announce(&mut self, input: usize, ring: &Reader) {
        let Some(heard) = self.heard.get_mut(input) else { return };
        if *heard == ring.instrument_count() {
            return;
        }
        for instrument in ring.instruments_from(*heard) {
            *heard += 1;
            for (leg, (of, symbol)) in self.named.iter().enumerate() {
                let is_it = symbol.as_ref().is_some_and(|symbol| symbol.as_bytes() == instrument.symbol());
                if usize::from(*of) == input && is_it {
                    self.rows.resolve(leg, instrument.instrument_id);
                }
            }
        }
    }
}

/// Makes rows of what is aligned.
#[pyclass(module = "barewire._core", frozen)]
pub struct AlignedRows(Mutex<Legs>);

#[pymethods]
impl AlignedRows {
    /// A leg: its input, and its symbol where that has a number yet to be heard. `on`: a leg's number, -1 for any, -2 for
    /// all.
    #[new]
    #[pyo3(signature = (legs, on, tolerance_ns = None))]
    fn new(legs: Vec<(u8, Option<String>)>, on: i64, tolerance_ns: Option<u64>) -> PyResult<AlignedRows> {
        let on = match on {
            -1 => On::Any,
            -2 => On::All,
            leg => match usize::try_from(leg) {
                Ok(leg) if leg < legs.len() => On::Leg(leg),
                _ => return Err(PyValueError::new_err(format!("on {leg}: expected the number of a leg, -1 or -2"))),
            },
        };
        if legs.is_empty() || legs.len() > usize::from(u8::MAX) {
            return Err(PyValueError::new_err(format!("{} legs: expected 1 to 255", legs.len())));
        }
        let inputs: Vec<u8> = legs.iter().map(|(input, _)| *input).collect();
        let rows = Rows::new(&inputs, on, tolerance_ns);
        Ok(AlignedRows(Mutex::new(Legs { rows, named: legs, heard: vec![0; 256] })))
    }

    /// A leg's instrument has this number.
    fn resolve(&self, leg: usize, instrument: u32) {
        lock(&self.0).rows.resolve(leg, instrument);
    }

    /// Legs of whose instruments no number is known.
    fn unresolved(&self) -> Vec<usize> {
        lock(&self.0).rows.unresolved().collect()
    }
}

/// The fields that are added to a record, and those of a row and its legs; offsets are within each.
#[pyfunction]
pub fn align_layouts(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    const { assert!(Row::LEN == ROW_WORDS * 8 && Leg::LEN == LEG_WORDS * 8) };
    let layouts = PyDict::new(py);
    for (name, table) in [(Placed::NAME, Placed::FIELDS), (Row::NAME, Row::FIELDS), (Leg::NAME, Leg::FIELDS)] {
        layouts.set_item(name, tables::fields(py, table, None)?)?;
    }
    Ok(layouts)
}
