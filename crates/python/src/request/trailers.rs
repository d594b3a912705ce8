//! Trailers of a request from Python's values: RFC 9110 section 6.5.

use std::collections::HashSet;

use crate::error::InvalidRequest;
use bytes::Bytes;
use engine::rt::timeout::Deadline;
use engine::{Kind, TrailerSource};
use pyo3::prelude::*;
use pyo3::types::PyString;
use wire::request::check_trailer;

use crate::request::deadline::within;
use crate::request::fields::{TRAILERS, each_line, from_latin1};

/// Names and values, in their order.
type Lines = Vec<(Bytes, Bytes)>;

/// Trailers of a request: known already, or computed once the body has been sent.
pub(crate) enum Trailers {
    /// A callable that returns them.
    Call(Py<PyAny>),
    /// These lines, at least one.
    Lines(Lines),
}

impl Trailers {
    /// Creates them from the caller's object: like headers, or a callable that returns such. None if there are none.
    pub(crate) fn new(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Self>> {
        let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(None) };
        if given.is_callable() {
            return Ok(Some(Trailers::Call(given.clone().unbind())));
        }
        let lines = read(given)?;
        Ok((!lines.is_empty()).then_some(Trailers::Lines(lines)))
    }

    /// Returns the value of Trailer: each name once. None while they are not known.
    pub(crate) fn names(&self) -> Option<Vec<u8>> {
        let Trailers::Lines(lines) = self else { return None };
        let mut seen = HashSet::with_capacity(lines.len());
        let names = lines.iter().map(|(name, _)| name.as_ref()).filter(|name| seen.insert(name.to_ascii_lowercase()));
        Some(names.collect::<Vec<&[u8]>>().join(b", ".as_slice()))
    }
}

impl TrailerSource for Trailers {
    /// Runs the caller's code, which may switch greenlets, in the request's greenlet.
    fn lines(&mut self, until: Option<Deadline>) -> Result<Lines, Kind> {
        match self {
            Trailers::Call(call) => Python::attach(|py| within(py, until, || read(&call.bind(py).call0()?))),
            Trailers::Lines(lines) => Ok(lines.clone()),
        }
    }
}

/// Returns the lines of a mapping or of pairs. ValueError, which names it, for a field that must not follow a body.
fn read(fields: &Bound<'_, PyAny>) -> PyResult<Lines> {
    let mut lines = Vec::new();
    each_line(&TRAILERS, fields, &mut |name, value| {
        if let Some(value) = value {
            check_trailer(name, value).map_err(|error| InvalidRequest::new_err(error.to_string()))?;
            lines.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)));
        }
        Ok(())
    })?;
    Ok(lines)
}

/// Returns trailers as they would be sent, as a list: the caller's object may be an iterator that can be read once
/// only.
#[pyfunction]
pub(crate) fn trailer_lines<'py>(
    fields: &Bound<'py, PyAny>,
) -> PyResult<Vec<(Bound<'py, PyString>, Bound<'py, PyString>)>> {
    let py = fields.py();
    let lines = read(fields)?;
    Ok(lines.iter().map(|(name, value)| (from_latin1(py, name), from_latin1(py, value))).collect())
}
