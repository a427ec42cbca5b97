//! What a machine's clocks are like: for `barewire doctor`. Asks, and sets nothing.

use std::io;
use std::time::Duration;

use barewire_io::clock::correlation::{Tracker, TrackerOptions};
use barewire_io::clock::discipline::{TaiOffset, judge, system_clock as ask_kernel};
use barewire_io::clock::phc::Phc;
use barewire_io::clock::tsc::{TscClock, TscOptions};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Comparisons of a card's clock, how far apart, and the readings of each.
const COMPARISONS: u32 = 4;
const APART: Duration = Duration::from_millis(10);
const READINGS: u32 = 5;

/// What the kernel says of its clock (`adjtimex`).
#[pyfunction]
pub fn system_clock(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let clock = ask_kernel()?;
    let tai = TaiOffset::find(&clock);
    let found = PyDict::new(py);
    found.set_item("synchronised", clock.synchronised)?;
    found.set_item("max_error_us", clock.max_error_us)?;
    found.set_item("tai_offset_s", clock.tai_offset_s)?;
    found.set_item("known_tai_offset_s", tai.seconds)?;
    found.set_item("leap", clock.leap.map(|leap| if leap.inserted { "inserted" } else { "left out" }))?;
    Ok(found)
}

/// Compares a card's clock with the system's: how, by how much the system's is ahead, how far off that may be, what the
/// card's counts. Some 30 ms.
#[pyfunction]
pub fn compare_phc(py: Python<'_>, index: u32) -> PyResult<Bound<'_, PyDict>> {
    let (sample, fit) = py.detach(|| -> io::Result<_> {
        let mut phc = Phc::open(index)?;
        let mut tracker = Tracker::new(TrackerOptions::default());
        let mut sample = phc.sample(READINGS)?;
        tracker.update(sample);
        for _ in 1..COMPARISONS {
            std::thread::sleep(APART);
            sample = phc.sample(READINGS)?;
            tracker.update(sample);
        }
        Ok((sample, tracker.fit().copied()))
    })?;
    let (kernel_s, known_s) = match ask_kernel() {
        Ok(clock) => (clock.tai_offset_s, TaiOffset::find(&clock).seconds),
        Err(_) => (None, barewire_io::clock::discipline::TAI_UTC_SINCE_2017_S),
    };
    let timescale = judge(sample.offset_ns(), kernel_s, known_s, None);
    let found = PyDict::new(py);
    found.set_item("method", sample.method.name())?;
    found.set_item("offset_ns", sample.offset_ns())?;
    found.set_item("bound_ns", fit.map_or(sample.bound_ns, |fit| fit.bound_ns()))?;
    found.set_item("timescale", timescale.name())?;
    found.set_item("is_trap", timescale.is_trap())?;
    found.set_item("text", timescale.to_string())?;
    Ok(found)
}

/// Calibrates the processor's counter against the system's clock, as a feed does: how far off its times are, or why it
/// cannot serve. 20 ms.
#[pyfunction]
pub fn calibrate_tsc(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let clock = py.detach(|| TscClock::calibrate(TscOptions::default()));
    let found = PyDict::new(py);
    found.set_item("frequency_hz", clock.frequency_hz())?;
    found.set_item("bound_ns", clock.bound_within(100_000_000))?;
    found.set_item("fallback", clock.fallback().map(|why| why.to_string()))?;
    Ok(found)
}
