//! Decoding of content codings.

use std::cell::RefCell;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use wire::CodingError;
use wire::coding;

use crate::convert::{copied, filled_by};
use crate::error::coding_error;
use crate::hub::gil::GilBound;

/// Bytes of a whole body that are decoded in one step: memory that is cleared and then written stays in the CPU's
/// cache.
const PIECE: usize = 256 * 1024;

/// Decoder of the content codings of a body that arrives in pieces. Raises `zlib.error` if the body is not coded as
/// declared.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct Decoder(GilBound<RefCell<coding::Decoder>>);

#[pymethods]
impl Decoder {
    /// Creates a decoder for the value of a Content-Encoding header. `limit` is the most decoded bytes that there may
    /// be; None is 64 MiB, or 200 times the encoded bytes so far if that is more.
    #[new]
    #[pyo3(signature = (content_encoding, limit=None))]
    fn new(py: Python<'_>, content_encoding: &str, limit: Option<i64>) -> PyResult<Self> {
        Ok(Decoder(GilBound::new(py, RefCell::new(create(py, content_encoding, limit)?))))
    }

    /// Returns all that the next bytes decode to.
    fn feed<'py>(&self, data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        let py = data.py();
        let data = as_bytes(data)?;
        let mut output = Vec::new();
        // No call into Python while the decoder is borrowed.
        let fed = {
            let mut decoder = self.0.get(py).borrow_mut();
            if decoder.is_identity() {
                return Ok(data);
            }
            decoder.feed(data.as_bytes(), &mut output)
        };
        fed.map_err(|error| coding_error(py, &error))?;
        copied(py, &output)
    }

    /// Decodes `data` from its byte `start` on. Returns at most `most` bytes, and where to go on; fewer bytes than
    /// `most` mean that all of `data` is used up.
    fn feed_part<'py>(
        &self,
        data: &Bound<'py, PyBytes>,
        start: usize,
        most: usize,
    ) -> PyResult<(Bound<'py, PyBytes>, usize)> {
        let py = data.py();
        let bytes = data.as_bytes();
        let mut input = bytes.get(start..).unwrap_or_default();
        let mut output = Vec::new();
        let fed = self.0.get(py).borrow_mut().feed_at_most(&mut input, &mut output, most);
        fed.map_err(|error| coding_error(py, &error))?;
        Ok((copied(py, &output)?, bytes.len().saturating_sub(input.len())))
    }

    /// Ends the body. Raises `zlib.error` if its coding is not complete. Returns `b""`, since `feed` keeps nothing
    /// back.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let finished = self.0.get(py).borrow_mut().finish();
        finished.map_err(|error| coding_error(py, &error))?;
        Ok(PyBytes::new(py, b""))
    }

    /// The coding in the header that is not supported; the bytes then pass unchanged. None if all are.
    #[getter]
    fn unknown(&self, py: Python<'_>) -> Option<String> {
        self.0.get(py).borrow().unknown().map(str::to_owned)
    }
}

/// Decodes a whole body at once. The arguments are those of `Decoder`; a body with an unknown coding is returned
/// unchanged.
#[pyfunction]
#[pyo3(signature = (content_encoding, data, limit=None))]
pub(crate) fn decode<'py>(
    content_encoding: &str,
    data: &Bound<'py, PyAny>,
    limit: Option<i64>,
) -> PyResult<Bound<'py, PyBytes>> {
    let py = data.py();
    let mut decoder = create(py, content_encoding, limit)?;
    let data = as_bytes(data)?;
    if decoder.is_identity() {
        return Ok(data);
    }
    let mut input = data.as_bytes();
    // A body that declares its length is decoded into the bytes object that is returned.
    let start = filled_by(py, decoder.expected_length(input), |room| {
        loop {
            let piece = room.initialize_unfilled_to(room.remaining().min(PIECE));
            let length = piece.len();
            let made = decoder.fill(&mut input, piece).map_err(|error| coding_error(py, &error))?;
            room.advance(made);
            if made < length || length == 0 {
                return Ok(());
            }
        }
    })?;
    let mut rest = Vec::new();
    let ended = decoder.feed(input, &mut rest).and_then(|()| decoder.finish());
    ended.map_err(|error: CodingError| coding_error(py, &error))?;
    if rest.is_empty() {
        return Ok(start);
    }
    let start = start.as_bytes();
    filled_by(py, start.len().saturating_add(rest.len()), |whole| {
        whole.put_slice(start);
        whole.put_slice(&rest);
        Ok(())
    })
}

fn create(py: Python<'_>, content_encoding: &str, limit: Option<i64>) -> PyResult<coding::Decoder> {
    let limit = match limit.map(u64::try_from).transpose() {
        Ok(limit) => limit,
        Err(_) => return Err(PyValueError::new_err("limit must not be negative: it is a number of bytes")),
    };
    coding::Decoder::new(content_encoding, limit).map_err(|error| coding_error(py, &error))
}

/// Returns the bytes object itself, or a copy of another bytes-like object.
fn as_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let copy = PyMemoryView::from(data)?.call_method0(intern!(data.py(), "tobytes"))?;
    Ok(copy.cast_into::<PyBytes>()?)
}
