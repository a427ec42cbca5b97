//! `barewire._core`: the compiled half of the Python package, and the only crate that knows Python.
//!
//! It holds no logic: each class wraps one of the engine's, gives it Python's types and errors, and lets go of the GIL while
//! it works. Docstrings, defaults and validation are the Python package's.

mod align;
mod bench;
mod block;
mod books;
mod capabilities;
mod clock;
mod conflated;
mod dispatch;
mod encode;
mod errors;
mod feed;
mod handoff;
mod impair;
mod latency;
mod lines;
mod listener;
mod long_call;
mod native;
mod receive;
mod replay;
mod ring;
mod sim;
mod tables;

/// See `_core.pyi` for the interface.
#[pyo3::pymodule]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::align::{AlignedRows, Aligner, align_layouts};
    #[pymodule_export]
    use super::bench::{bench_book, bench_ring};
    #[pymodule_export]
    use super::capabilities::drop_capabilities;
    #[pymodule_export]
    use super::clock::{calibrate_tsc, compare_phc, system_clock};
    #[pymodule_export]
    use super::conflated::Conflated;
    #[pymodule_export]
    use super::dispatch::Dispatcher;
    #[pymodule_export]
    use super::encode::encode;
    #[pymodule_export]
    use super::feed::Feed;
    #[pymodule_export]
    use super::handoff::{
        HandoffFar, HandoffSource, handoff_echo, handoff_function, handoff_in_loop, handoff_round_trips,
    };
    #[pymodule_export]
    use super::latency::LatencyBench;
    #[pymodule_export]
    use super::native::NativeTarget;
    #[pymodule_export]
    use super::replay::{Inspector, Replay};
    #[pymodule_export]
    use super::ring::Ring;
    #[pymodule_export]
    use super::sim::Simulator;
    #[pymodule_export]
    use super::tables::{counters, protocols, record_layouts};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
