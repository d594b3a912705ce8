//! Content codings, undone for Python.

use std::cell::RefCell;

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use wire::CodingError;
use wire::coding;

use crate::bytes::{copied, filled_by};
use crate::error::coding_error;
use crate::hub::GilBound;

/// Bytes of a whole body that are decoded at a time: what is cleared, and then written, stays in the CPU's cache.
const PIECE: usize = 256 * 1024;

/// Takes the content codings off a body that comes in pieces. `zlib.error` for a body that is not coded as it says.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct Decoder(GilBound<RefCell<coding::Decoder>>);

#[pymethods]
impl Decoder {
    /// For the value of a Content-Encoding header. `limit` is how many decoded bytes there may be at most; None is 64
    /// MiB, or 200 times the encoded bytes so far if that is more.
    #[new]
    #[pyo3(signature = (content_encoding, limit=None))]
    fn new(py: Python<'_>, content_encoding: &str, limit: Option<i64>) -> PyResult<Self> {
        Ok(Decoder(GilBound::new(py, RefCell::new(create(py, content_encoding, limit)?))))
    }

    /// All that the next bytes decode to.
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

    /// At most `most` bytes of what `data` decodes to from its byte `start` on, and where to go on. Fewer bytes than
    /// that mean that all of it is used up.
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

    /// The body has ended: an error if its coding has not. Always `b""`, since `feed` keeps nothing back.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let finished = self.0.get(py).borrow_mut().finish();
        finished.map_err(|error| coding_error(py, &error))?;
        Ok(PyBytes::new(py, b""))
    }

    /// The coding that is not known here, as the header has it; the bytes then pass as they are.
    #[getter]
    fn unknown(&self, py: Python<'_>) -> Option<String> {
        self.0.get(py).borrow().unknown().map(str::to_owned)
    }
}

/// A whole body at once. The arguments are those of [`Decoder`]; a body with an unknown coding is returned as it is.
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
    // Where the body tells its length, it is decoded into the bytes object that is returned.
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

/// The bytes object itself, else a copy of whatever has bytes in it.
fn as_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let copy = PyMemoryView::from(data)?.call_method0(intern!(data.py(), "tobytes"))?;
    Ok(copy.cast_into::<PyBytes>()?)
}
