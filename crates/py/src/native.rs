//! Compiled functions of others, called by the feed's thread: addresses that Python's package got from Numba, ctypes or cffi.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use barewire_book::Top;
use barewire_engine::native::{Callback, Kinds, Native};
use barewire_types::{Gap, Record, RecordKind};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors;

/// What is called: event (56 bytes), top of its book (32 bytes), state.
type Function = unsafe extern "C" fn(*const Record, *const Top, *mut c_void);

/// How long a snapshot is tried for: a call that takes longer than that has gone astray.
const PATIENCE: Duration = Duration::from_secs(1);

/// Functions and the state they are given.
struct Target {
    /// By `kind`; the first is of none.
    functions: [Option<Function>; 5],
    state: *mut c_void,
    /// Where the functions count their failures, if they do.
    errors: Option<*const u64>,
    /// Odd while a function runs: whoever copies the state sees by it whether the copy is of one moment.
    version: AtomicU64,
    /// Whether a feed or a replay has it.
    taken: AtomicBool,
}

// SAFETY: the functions run in one thread at a time, which `taken` sees to; the addresses stay good for as long as the
// `NativeTarget` lives, which feed and replay keep until their thread has ended.
unsafe impl Send for Target {}
// SAFETY: as above; other threads only read the state, word by word, and expect it to change.
unsafe impl Sync for Target {}

/// The target in use: gives it back, once, when there will be no more calls.
struct Call {
    target: Arc<Target>,
    ended: bool,
}

impl Callback for Call {
    #[inline]
    fn call(&mut self, event: &Record, top: &Top) {
        let target = &*self.target;
        let kind = usize::from(Gap::from(*event).kind);
        let Some(Some(function)) = target.functions.get(kind) else { return };
        // SYNC POINT: state-version. No other thread writes it.
        let version = target.version.load(Ordering::Relaxed);
        target.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        // SAFETY: whoever gave the address vouches that it is a function of this type that does not unwind and keeps to the
        // three objects; `Target` says why the state is there.
        unsafe { function(event, top, target.state) };
        target.version.store(version.wrapping_add(2), Ordering::Release);
    }

    fn ended(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.target.taken.store(false, Ordering::Release);
        }
    }

    fn errors(&self) -> u64 {
        // SAFETY: aligned, inside the state, and written by the functions only, which run in this thread.
        self.target.errors.map_or(0, |errors| unsafe { errors.read() })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ended();
    }
}

/// Functions and their state, to be given to a feed or a replay.
#[pyclass(module = "barewire._core", frozen)]
pub struct NativeTarget {
    target: Arc<Target>,
    kinds: Kinds,
    slow_ns: u64,
    /// Keeps the state where it is.
    state: PyBuffer<u8>,
    /// Keeps the functions' code where it is.
    _keep: Py<PyAny>,
}

impl NativeTarget {
    /// Takes it into use.
    pub fn take(&self, py: Python<'_>) -> PyResult<Native> {
        if self.target.taken.swap(true, Ordering::Acquire) {
            let message = "the native strategy is in use by another feed or replay: give this one a copy()";
            return Err(errors::raise(py, "FeedError", message, &[]));
        }
        let call = Call { target: Arc::clone(&self.target), ended: false };
        Ok(py.detach(|| Native::new(Box::new(call), self.kinds, self.slow_ns)))
    }
}

#[pymethods]
impl NativeTarget {
    /// `functions`: addresses by kind; `errors_at`: offset in the state of a count of failures.
    #[new]
    #[pyo3(signature = (functions, state, *, errors_at, slow_ns, keep))]
    fn new(
        functions: Vec<(String, usize)>,
        state: &Bound<'_, PyAny>,
        errors_at: Option<usize>,
        slow_ns: u64,
        keep: Py<PyAny>,
    ) -> PyResult<NativeTarget> {
        let buffer = PyBuffer::<u8>::get(state)?;
        let size = buffer.len_bytes();
        if buffer.readonly() || !buffer.is_c_contiguous() || !buffer.buf_ptr().cast::<u64>().is_aligned() {
            return Err(PyValueError::new_err("state: expected a writable, contiguous buffer aligned to 8 bytes"));
        }
        if size == 0 || !size.is_multiple_of(8) || errors_at.is_some_and(|at| !at.is_multiple_of(8) || at + 8 > size) {
            return Err(PyValueError::new_err(format!("state: expected whole words of 8 bytes, found {size} bytes")));
        }
        let mut found = [None; 5];
        let mut kinds = Kinds::NONE;
        for (name, address) in functions {
            let kind = match name.as_str() {
                "mbo" => RecordKind::Mbo,
                "bbo" => RecordKind::Bbo,
                "gap" => RecordKind::Gap,
                "status" => RecordKind::Status,
                other => return Err(PyValueError::new_err(format!("expected a kind of record, found '{other}'"))),
            };
            if address == 0 {
                return Err(PyValueError::new_err(format!("{name}: expected a function's address, found 0")));
            }
            // SAFETY: not null; that it is a function of this type is for whoever gave it to see to.
            found[kind as usize] = Some(unsafe { std::mem::transmute::<usize, Function>(address) });
            kinds = kinds.with(kind);
        }
        let base = buffer.buf_ptr().cast::<u8>();
        let target = Target {
            functions: found,
            state: base.cast(),
            errors: errors_at.map(|at| base.wrapping_add(at).cast_const().cast()),
            version: AtomicU64::new(0),
            taken: AtomicBool::new(false),
        };
        Ok(NativeTarget { target: Arc::new(target), kinds, slow_ns, state: buffer, _keep: keep })
    }

    /// Whether a feed or a replay has it.
    #[getter]
    fn taken(&self) -> bool {
        self.target.taken.load(Ordering::Acquire)
    }

    /// The state as it was between two calls, into a buffer of its size; `false` when no such moment was found.
    fn snapshot_into(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let out = PyBuffer::<u8>::get(buffer)?;
        let fits = out.len_bytes() == self.state.len_bytes() && out.buf_ptr().cast::<u64>().is_aligned();
        if out.readonly() || !out.is_c_contiguous() || !fits {
            let size = self.state.len_bytes();
            return Err(PyValueError::new_err(format!("expected a writable buffer of {size} bytes, aligned to 8")));
        }
        let words = self.state.len_bytes() / 8;
        let (from, to) = (Words(self.target.state.cast::<u64>()), Words(out.buf_ptr().cast::<u64>()));
        let version = &self.target.version;
        Ok(py.detach(move || {
            let (from, to) = (&from, &to);
            let until = Instant::now() + PATIENCE;
            loop {
                // SYNC POINT: state-version.
                let before = version.load(Ordering::Acquire);
                if before.is_multiple_of(2) {
                    for word in 0..words {
                        // SAFETY: both are aligned and so many words long, and kept where they are by their buffers. The
                        // source may change meanwhile, which the version shows: then the copy is made again.
                        unsafe { to.0.add(word).write(from.0.add(word).read_volatile()) };
                    }
                    fence(Ordering::Acquire);
                    if version.load(Ordering::Relaxed) == before {
                        return true;
                    }
                }
                if Instant::now() >= until {
                    return false;
                }
                std::hint::spin_loop();
            }
        }))
    }
}

/// Memory that a buffer keeps where it is while another thread works on it.
struct Words(*mut u64);

// SAFETY: the pointers are used by one call, while the buffers that they come from are held.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}
