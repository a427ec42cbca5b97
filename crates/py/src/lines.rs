//! What came on each line, as Python's dictionaries.

use barewire_engine::pipeline::LineSummary;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A row for each line, under the names of Python's `LineStats`.
pub fn rows<'py>(py: Python<'py>, lines: &[LineSummary]) -> PyResult<Vec<Bound<'py, PyDict>>> {
    lines.iter().map(|line| row(py, line)).collect()
}

fn row<'py>(py: Python<'py>, line: &LineSummary) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("number", line.number)?;
    row.set_item("packets", line.stats.packets)?;
    row.set_item("first_copies", line.stats.first_copies)?;
    row.set_item("duplicates", line.stats.duplicates)?;
    row.set_item("lagging", line.lags.count())?;
    row.set_item("lag_p50_ns", line.lags.per_mille(500))?;
    row.set_item("lag_p90_ns", line.lags.per_mille(900))?;
    row.set_item("lag_p99_ns", line.lags.per_mille(990))?;
    row.set_item("lag_max_ns", line.lags.max_ns())?;
    row.set_item("is_down", line.is_down)?;
    row.set_item("times_down", line.times_down)?;
    Ok(row)
}
