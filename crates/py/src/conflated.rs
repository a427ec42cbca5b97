//! A reader that gives the latest quote of each instrument.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use barewire_ring::{Conflator, Filter, Reader, Taken, Wait};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::block::Block;
use crate::errors;
use crate::long_call::{self, Slice};

/// A thread that reads a ring, and the quotes that nobody took yet.
#[pyclass(module = "barewire._core", frozen)]
pub struct Conflated(Conflator);

impl Conflated {
    /// The thread's side; not in a process that was forked from the thread's.
    fn here(&self, py: Python<'_>) -> PyResult<&Conflator> {
        if self.0.is_here() {
            return Ok(&self.0);
        }
        let message = "this reader's thread is in the process that this one was forked from: expected a reader of its own; \
                       attach another";
        Err(errors::raise(py, "RingError", message, &[]))
    }
}

impl Conflated {
    /// Reads on from where `reader` is.
    pub fn new(reader: Reader, filter: Filter, wait: Wait) -> PyResult<Conflated> {
        let made = Conflator::new(reader, filter, wait);
        made.map(Conflated).map_err(|error| errors::os_error(&error, &format!("could not follow the ring: {error}")))
    }
}

#[pymethods]
impl Conflated {
    /// Takes rows into one buffer and what each stands for into another; waits up to `timeout_ns` for the first.
    fn read_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        updates: &Bound<'_, PyAny>,
        timeout_ns: u64,
    ) -> PyResult<(usize, u64, Vec<u32>)> {
        let conflator = self.here(py)?;
        let mut block = Block::new(buffer)?;
        let counts = PyBuffer::<u32>::get(updates)?;
        let rows = block.records().len();
        if counts.item_count() != rows {
            return Err(PyValueError::new_err(format!("expected a buffer of {rows} uint32")));
        }
        let mut stands_for = vec![0; rows];
        let take = |block: &mut Block, stands_for: &mut [u32]| conflator.take(block.records(), stands_for);
        let mut taken = take(&mut block, &mut stands_for);
        if taken == Taken::default() && timeout_ns > 0 {
            let deadline = Instant::now().checked_add(Duration::from_nanos(timeout_ns));
            long_call::run(py, deadline, |end| {
                if conflator.wait(end.saturating_duration_since(Instant::now())) {
                    Slice::Done(())
                } else {
                    Slice::More
                }
            })?;
            taken = take(&mut block, &mut stands_for);
        }
        counts.copy_from_slice(py, &stands_for)?;
        Ok((taken.count, taken.lost, taken.stale))
    }

    #[getter]
    fn position(&self) -> u64 {
        self.0.position()
    }

    /// Whether the ring was closed, and all of it has been read.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_ended()
    }

    /// A descriptor that is readable after `arm`, once there is something to take or the ring is closed.
    fn watch_fd(&self) -> i32 {
        self.0.as_fd().as_raw_fd()
    }

    /// Begins to watch for the next row.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        self.here(py)?.arm();
        Ok(())
    }

    /// Makes the descriptor unreadable again.
    fn clear(&self) {
        self.0.clear();
    }

    /// As `Ring`'s; the thread that watches is the one that reads, and stays.
    fn unwatch(&self) {
        self.0.clear();
    }
}
