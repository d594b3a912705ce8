//! What a request says behind its body, from Python's values: RFC 9110 section 6.5.

use std::collections::HashSet;

use bytes::Bytes;
use engine::timers::Deadline;
use engine::{Kind, TrailerSource};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use wire::request::check_trailer;

use crate::deadline::within;
use crate::head::{TRAILERS, each_line, from_latin1};

/// Names and values, in their order.
type Lines = Vec<(Bytes, Bytes)>;

/// Trailers of a request: at hand, or to be asked for when the body is out.
pub(crate) enum Trailers {
    /// Returns them.
    Call(Py<PyAny>),
    /// These, at least one.
    Lines(Lines),
}

impl Trailers {
    /// From whatever a caller passes: as headers, or a callable that returns such. None where there are none at all.
    pub(crate) fn new(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Self>> {
        let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(None) };
        if given.is_callable() {
            return Ok(Some(Trailers::Call(given.clone().unbind())));
        }
        let lines = read(given)?;
        Ok((!lines.is_empty()).then_some(Trailers::Lines(lines)))
    }

    /// The value of Trailer: each name once. None while they are not known.
    pub(crate) fn names(&self) -> Option<Vec<u8>> {
        let Trailers::Lines(lines) = self else { return None };
        let mut seen = HashSet::with_capacity(lines.len());
        let names = lines.iter().map(|(name, _)| name.as_ref()).filter(|name| seen.insert(name.to_ascii_lowercase()));
        Some(names.collect::<Vec<&[u8]>>().join(b", ".as_slice()))
    }
}

impl TrailerSource for Trailers {
    /// Runs the caller's code, which may switch greenlets, in the greenlet of the request.
    fn lines(&mut self, until: Option<Deadline>) -> Result<Lines, Kind> {
        match self {
            Trailers::Call(call) => Python::attach(|py| within(py, until, || read(&call.bind(py).call0()?))),
            Trailers::Lines(lines) => Ok(lines.clone()),
        }
    }
}

/// The lines of a mapping or of pairs. ValueError that names what must not follow a body.
fn read(fields: &Bound<'_, PyAny>) -> PyResult<Lines> {
    let mut lines = Vec::new();
    each_line(&TRAILERS, fields, &mut |name, value| {
        if let Some(value) = value {
            check_trailer(name, value).map_err(|error| PyValueError::new_err(error.to_string()))?;
            lines.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)));
        }
        Ok(())
    })?;
    Ok(lines)
}

/// Trailers as they would go out. They can be read again where those that were given may not.
#[pyfunction]
pub(crate) fn trailer_lines<'py>(
    fields: &Bound<'py, PyAny>,
) -> PyResult<Vec<(Bound<'py, PyString>, Bound<'py, PyString>)>> {
    let py = fields.py();
    let lines = read(fields)?;
    Ok(lines.iter().map(|(name, value)| (from_latin1(py, name), from_latin1(py, value))).collect())
}
