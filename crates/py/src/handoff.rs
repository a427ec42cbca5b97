//! The parts of `barewire bench handoff` that are no Python.

use std::ffi::c_void;

use barewire_book::Top;
use barewire_engine::bench::{handoff, ring};
use barewire_types::Record;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::native::NativeTarget;
use crate::ring::ring_error;

fn bytes<'py>(py: Python<'py>, ns: &[u64]) -> Bound<'py, PyBytes> {
    let all: Vec<u8> = ns.iter().flat_map(|ns| ns.to_le_bytes()).collect();
    PyBytes::new(py, &all)
}

/// Publishes into a ring, with a callback or without: single events timed, and what one takes in a row.
#[pyfunction]
#[pyo3(signature = (native, *, events))]
pub fn handoff_in_loop<'py>(
    py: Python<'py>,
    native: Option<&NativeTarget>,
    events: u64,
) -> PyResult<(Bound<'py, PyBytes>, f64)> {
    let native = native.map(|native| native.take(py)).transpose()?;
    let found = py.detach(|| handoff::in_loop(native, events)).map_err(|error| ring_error(py, &error))?;
    Ok((bytes(py, &found.single_ns), found.each_ns))
}

/// What a strategy in C would be: counts events in the state's first word.
extern "C" fn count(event: *const Record, _top: *const Top, state: *mut c_void) {
    let words = state.cast::<u64>();
    // SAFETY: the feed hands in a record and a state of at least one aligned word, and nobody else writes that.
    unsafe { words.write(words.read().wrapping_add(u64::from(!event.is_null()))) };
}

/// The address of a compiled function, for `NativeTarget`.
#[pyfunction]
pub fn handoff_function() -> usize {
    count as extern "C" fn(*const Record, *const Top, *mut c_void) as usize
}

/// Round trips between two threads, of a bare word and of a record through two rings.
#[pyfunction]
pub fn handoff_round_trips(py: Python<'_>, trips: u64) -> PyResult<(Bound<'_, PyBytes>, Bound<'_, PyBytes>)> {
    let (bare, through) = py
        .detach(|| Ok((ring::ping_pong(trips), ring::round_trips(trips)?)))
        .map_err(|error| ring_error(py, &error))?;
    Ok((bytes(py, &bare), bytes(py, &through)))
}

/// The other process's part: sends back what comes, until its ring is closed.
#[pyfunction]
pub fn handoff_echo(py: Python<'_>, ping: &str, pong: &str) -> PyResult<()> {
    py.detach(|| handoff::echo(ping, pong)).map_err(|error| ring_error(py, &error))
}

/// The way to another process and back.
#[pyclass(module = "barewire._core")]
pub struct HandoffFar(Option<handoff::Far>);

#[pymethods]
impl HandoffFar {
    #[new]
    fn new(py: Python<'_>, ping: &str, pong: &str, begin: Py<PyAny>) -> PyResult<HandoffFar> {
        let mut begun = Ok(());
        let far =
            py.detach(|| handoff::Far::meet(ping, pong, || begun = Python::attach(|py| begin.call0(py).map(|_| ()))));
        begun?;
        Ok(HandoffFar(Some(far.map_err(|error| ring_error(py, &error))?)))
    }

    /// Round trips, ns each; none where the other process has gone.
    fn round_trips<'py>(&mut self, py: Python<'py>, trips: u64) -> Bound<'py, PyBytes> {
        let far = self.0.as_mut();
        let found = py.detach(|| far.map(|far| far.round_trips(trips)).unwrap_or_default());
        bytes(py, &found)
    }

    /// Closes our ring: the other process ends.
    fn close(&mut self) {
        self.0 = None;
    }
}

/// A thread that publishes into a named ring.
#[pyclass(module = "barewire._core")]
pub struct HandoffSource(Option<handoff::Source>);

#[pymethods]
impl HandoffSource {
    #[new]
    #[pyo3(signature = (name, *, capacity, fill, pace_ns))]
    fn new(py: Python<'_>, name: &str, capacity: u32, fill: u64, pace_ns: Option<u64>) -> PyResult<HandoffSource> {
        let source = py.detach(|| handoff::Source::start(name, capacity, fill, pace_ns));
        Ok(HandoffSource(Some(source.map_err(|error| ring_error(py, &error))?)))
    }

    /// Ends the thread and closes the ring.
    fn stop(&mut self, py: Python<'_>) {
        let source = self.0.take();
        py.detach(|| drop(source));
    }
}
