//! The one way to do something long: without the GIL, in slices, looking for signals between them.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// How long a call may go on before Python gets to see Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);

/// What a slice of work says.
pub enum Slice<T> {
    /// It is done.
    Done(T),
    /// There is more to do, or to wait for.
    More,
}

/// Runs `work` without the GIL until it is done, a signal handler raises or `deadline` passes (then `None`).
///
/// `work` is given the time at which its slice ends and should return soon after.
pub fn run<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut work: impl FnMut(Instant) -> Slice<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let now = Instant::now();
        let end = deadline.map_or(now + SLICE, |deadline| deadline.min(now + SLICE));
        if let Slice::Done(value) = py.detach(|| work(end)) {
            return Ok(Some(value));
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
    }
}
