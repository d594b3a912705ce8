//! TLS as Python asks for it.

use std::rc::Rc;

use engine::tls::Tls;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

/// What makes connections private, for any thread.
pub(crate) enum TlsSource {}

impl TlsSource {
    pub(crate) fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        Err(PyTypeError::new_err(format!("no TLS: {given:?}")))
    }

    pub(crate) fn of_thread(&self, _py: Python<'_>) -> Rc<dyn Tls> {
        match *self {}
    }
}
