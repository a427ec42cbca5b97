//! Impairments of networks and faults of servers, as Python parsed them.

use barewire_sim::recovery::Fault;
use barewire_sim::{ImpairCounters, Impairment, LossBurst};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors;

/// One line's.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Impair {
    loss: f64,
    burst: Option<(f64, f64, f64)>,
    duplicate: f64,
    reorder: f64,
    reorder_by: u32,
    delay_ns: u64,
    jitter_ns: u64,
    drop: Vec<(u64, u64)>,
    dead: Vec<(u64, u64)>,
}

impl From<&Impair> for Impairment {
    fn from(given: &Impair) -> Impairment {
        let ranges = |given: &[(u64, u64)]| given.iter().map(|&(begin, end)| begin..end).collect();
        Impairment {
            loss: given.loss,
            burst: given.burst.map(|(enter, leave, loss)| LossBurst { enter, leave, loss }),
            duplicate: given.duplicate,
            reorder: given.reorder,
            reorder_by: given.reorder_by,
            delay_ns: given.delay_ns,
            jitter_ns: given.jitter_ns,
            drop: ranges(&given.drop),
            dead: ranges(&given.dead),
        }
    }
}

/// What is done to each line. ConfigError where a value cannot be.
pub fn impairments(py: Python<'_>, lines: &[Impair]) -> PyResult<Vec<Impairment>> {
    let lines: Vec<Impairment> = lines.iter().map(Impairment::from).collect();
    for line in &lines {
        line.validate().map_err(|error| errors::raise(py, "ConfigError", &format!("impair: {error}"), &[]))?;
    }
    Ok(lines)
}

/// What is wrong with a server.
pub fn fault(name: &str, delay_ns: u64) -> PyResult<Fault> {
    Ok(match name {
        "none" => Fault::None,
        "slow" => Fault::Slow { delay_ns },
        "partial" => Fault::Partial,
        "silent" => Fault::Silent,
        "wrong" => Fault::Wrong,
        other => return Err(PyValueError::new_err(format!("fault: unknown: '{other}'"))),
    })
}

/// What became of a line's packets.
pub fn counters<'py>(py: Python<'py>, line: &ImpairCounters) -> PyResult<Bound<'py, PyDict>> {
    let row = PyDict::new(py);
    row.set_item("sent", line.sent)?;
    row.set_item("lost", line.lost)?;
    row.set_item("duplicated", line.duplicated)?;
    row.set_item("arrived", line.arrived)?;
    row.set_item("reordered", line.reordered)?;
    row.set_item("delayed", line.delayed)?;
    Ok(row)
}
