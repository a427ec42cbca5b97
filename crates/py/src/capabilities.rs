//! Giving up root's powers.

use barewire_io::capabilities::{self, Capabilities};
use pyo3::prelude::*;

use crate::errors;

/// Gives up the capabilities of all threads of this process; with `files`, that of reading and writing anybody's files stays.
#[pyfunction]
pub fn drop_capabilities(py: Python<'_>, files: bool) -> PyResult<()> {
    let keep = if files { Capabilities::DAC_OVERRIDE } else { Capabilities::NONE };
    py.detach(|| capabilities::drop_of_process(keep)).map_err(|error| errors::os_error(&error, &error.to_string()))
}
