//! Rust's errors as the classes of `barewire._errors`, with their attributes.

use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Makes an exception of `barewire._errors` with attributes: `class(message, **attributes)`.
///
/// Falls back to `RuntimeError` with the same message, should the Python half of the package be missing.
pub fn raise(py: Python<'_>, class: &str, message: &str, attributes: &[(&str, Py<PyAny>)]) -> PyErr {
    let make = || -> PyResult<PyErr> {
        let class = py.import("barewire._errors")?.getattr(class)?;
        let kwargs = PyDict::new(py);
        for (name, value) in attributes {
            kwargs.set_item(name, value)?;
        }
        Ok(PyErr::from_value(class.call((message,), Some(&kwargs))?))
    };
    make().unwrap_or_else(|error| {
        // Ctrl-C may come just then, and is not to be swallowed.
        let interrupted = error.is_instance_of::<PyKeyboardInterrupt>(py);
        if interrupted { error } else { PyRuntimeError::new_err(message.to_owned()) }
    })
}

/// An operating-system error as its built-in class, with the message that says what was being done.
pub fn os_error(error: &std::io::Error, message: &str) -> PyErr {
    match error.raw_os_error() {
        // OSError picks the subclass (FileNotFoundError, PermissionError, ...) by the number.
        Some(errno) => pyo3::exceptions::PyOSError::new_err((errno, message.to_owned())),
        None => pyo3::exceptions::PyOSError::new_err(message.to_owned()),
    }
}

/// An error as Python's: the operating system's class where the system is behind it, else `class` of `barewire._errors`.
pub fn from_source(py: Python<'_>, class: &str, error: &(dyn std::error::Error + 'static)) -> PyErr {
    let message = error.to_string();
    let mut cause = Some(error);
    while let Some(behind) = cause {
        if let Some(os) = behind.downcast_ref::<std::io::Error>() {
            return os_error(os, &message);
        }
        cause = behind.source();
    }
    raise(py, class, &message, &[])
}
