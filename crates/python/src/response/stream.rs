//! Readers of streamed bodies: server-sent events, and lines.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use wire::lines::LineReader as Lines;
use wire::sse::EventReader as Events;

use crate::error::stream_format_error;
use crate::hub::gil::GilBound;
use crate::types;

/// A server-sent event (WHATWG HTML, section 9.2.6).
///
/// `data` is its text, `event` its type, and `id` the last event ID of the stream, which is that of an earlier event if
/// it has none of its own. `retry` is the reconnection time in milliseconds if the event contains one, otherwise None.
#[pyclass(frozen, get_all, module = "geventhttpclient.sse")]
pub(crate) struct ServerSentEvent {
    event: Py<PyString>,
    data: Py<PyString>,
    id: Py<PyString>,
    retry: Option<u64>,
}

impl ServerSentEvent {
    fn texts<'a, 'py>(&'a self, py: Python<'py>) -> [&'a Bound<'py, PyString>; 3] {
        [self.event.bind(py), self.data.bind(py), self.id.bind(py)]
    }
}

#[pymethods]
impl ServerSentEvent {
    #[new]
    #[pyo3(signature = (event=None, data=None, id=None, retry=None))]
    fn new(
        py: Python<'_>,
        event: Option<Py<PyString>>,
        data: Option<Py<PyString>>,
        id: Option<Py<PyString>>,
        retry: Option<u64>,
    ) -> Self {
        let or = |text: Option<Py<PyString>>, default| text.unwrap_or_else(|| PyString::intern(py, default).unbind());
        ServerSentEvent { event: or(event, "message"), data: or(data, ""), id: or(id, ""), retry }
    }

    /// Returns the value of the data as JSON. Raises JSONDecodeError, a ValueError, if it is not JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        types::parse_json_text(py)?.call1((&self.data,))
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<ServerSentEvent>() else { return Ok(false) };
        let other = other.get();
        for (one, other) in self.texts(py).into_iter().zip(other.texts(py)) {
            if !one.as_any().eq(other)? {
                return Ok(false);
            }
        }
        Ok(self.retry == other.retry)
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<u64> {
        let mut hasher = DefaultHasher::new();
        for text in self.texts(py) {
            text.hash()?.hash(&mut hasher);
        }
        self.retry.hash(&mut hasher);
        Ok(hasher.finish())
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let [event, data, id] = self.texts(py);
        let retry = self.retry.map_or_else(|| "None".to_owned(), |retry| retry.to_string());
        Ok(format!("ServerSentEvent(event={}, data={}, id={}, retry={retry})", event.repr()?, data.repr()?, id.repr()?))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let event = slf.get();
        (slf.get_type(), (&event.event, &event.data, &event.id, event.retry)).into_pyobject(slf.py())
    }
}

/// The piece of a body that is being read.
#[derive(Default)]
struct Piece {
    bytes: Option<Py<PyBytes>>,
    at: usize,
    /// Number of items that have been read from all pieces.
    number: u64,
}

impl Piece {
    fn rest<'a>(&'a self, py: Python<'_>) -> &'a [u8] {
        self.bytes.as_ref().map_or(b"", |bytes| bytes.as_bytes(py).get(self.at..).unwrap_or_default())
    }

    /// Notes that `used` bytes have been read, to the end of an item or of the piece.
    fn advance(&mut self, used: usize, is_item: bool) {
        if is_item {
            self.at = self.at.saturating_add(used);
            self.number = self.number.saturating_add(1);
        } else {
            self.bytes = None;
        }
    }

    /// Replaces the piece by the next one. Raises ValueError if it has not been read to its end.
    fn replace(&mut self, py: Python<'_>, bytes: Bound<'_, PyBytes>) -> PyResult<()> {
        if !self.rest(py).is_empty() {
            return Err(PyValueError::new_err("feed() before the items of the last bytes were read"));
        }
        self.bytes = Some(bytes.unbind());
        self.at = 0;
        Ok(())
    }
}

struct EventState {
    reader: Events,
    piece: Piece,
    /// The last ID as an object, which all its events share.
    id: Option<(Arc<str>, Py<PyString>)>,
    /// The last type as an object: streams have few of them.
    kind: Option<(String, Py<PyString>)>,
}

/// Iterator over the events of the bytes that it is fed.
///
/// `limit` is the most bytes of one event; a larger one raises StreamFormatError.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct EventReader(GilBound<RefCell<EventState>>);

#[pymethods]
impl EventReader {
    #[new]
    #[pyo3(signature = (limit, last_event_id=""))]
    fn new(py: Python<'_>, limit: usize, last_event_id: &str) -> Self {
        let mut reader = Events::new(limit);
        reader.set_last_event_id(last_event_id);
        EventReader(GilBound::new(
            py,
            RefCell::new(EventState { reader, piece: Piece::default(), id: None, kind: None }),
        ))
    }

    /// Takes the next bytes of the body. Returns this iterator, which ends when it has read them.
    fn feed<'py>(slf: Bound<'py, Self>, data: Bound<'py, PyBytes>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        slf.get().0.get(py).borrow_mut().piece.replace(py, data)?;
        Ok(slf)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<ServerSentEvent>> {
        let state = &mut *self.0.get(py).borrow_mut();
        let (used, event) = match state.reader.read(state.piece.rest(py)) {
            Ok(read) => read,
            Err(error) => return Err(stream_format_error(py, error.to_string())),
        };
        // The garbage collector does not follow these objects: making one runs no code of the program.
        let event = event.map(|event| {
            let id = match &state.id {
                Some((id, object)) if Arc::ptr_eq(id, event.id) => object.clone_ref(py),
                _ => {
                    let object = PyString::new(py, event.id).unbind();
                    state.id = Some((event.id.clone(), object.clone_ref(py)));
                    object
                }
            };
            let kind = match &state.kind {
                Some((kind, object)) if *kind == *event.event => object.clone_ref(py),
                _ => {
                    let object = PyString::new(py, &event.event).unbind();
                    state.kind = Some((event.event.into_owned(), object.clone_ref(py)));
                    object
                }
            };
            ServerSentEvent { event: kind, data: PyString::new(py, &event.data).unbind(), id, retry: event.retry }
        });
        state.piece.advance(used, event.is_some());
        Ok(event)
    }

    /// Number of events that have been read.
    #[getter]
    fn number(&self, py: Python<'_>) -> u64 {
        self.0.get(py).borrow().piece.number
    }

    /// The last event ID, for the Last-Event-ID of the next connection.
    #[getter]
    fn last_event_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, self.0.get(py).borrow().reader.last_event_id())
    }

    /// The last reconnection time of the stream in milliseconds, None if there was none.
    #[getter]
    fn retry(&self, py: Python<'_>) -> Option<u64> {
        self.0.get(py).borrow().reader.last_retry()
    }
}

/// Iterator over the lines, without their ends (LF or CR LF), of the bytes that it is fed.
///
/// `limit` is the most bytes of one line; a longer one raises StreamFormatError.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct LineReader(GilBound<RefCell<(Lines, Piece)>>);

#[pymethods]
impl LineReader {
    #[new]
    fn new(py: Python<'_>, limit: usize) -> Self {
        LineReader(GilBound::new(py, RefCell::new((Lines::new(limit), Piece::default()))))
    }

    /// Takes the next bytes of the body. Returns this iterator, which ends when it has read them.
    fn feed<'py>(slf: Bound<'py, Self>, data: Bound<'py, PyBytes>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        slf.get().0.get(py).borrow_mut().1.replace(py, data)?;
        Ok(slf)
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (reader, piece) = &mut *self.0.get(py).borrow_mut();
        let (used, line) = match reader.read(piece.rest(py)) {
            Ok(read) => read,
            Err(error) => return Err(stream_format_error(py, error.to_string())),
        };
        let line = line.map(|line| PyBytes::new(py, line));
        piece.advance(used, line.is_some());
        Ok(line)
    }

    /// Ends the body. Returns the last line if it has no end, else None.
    fn finish<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        let (reader, piece) = &mut *self.0.get(py).borrow_mut();
        let line = reader.finish().map(|line| PyBytes::new(py, line));
        piece.advance(0, line.is_some());
        line
    }

    /// Number of lines that have been read.
    #[getter]
    fn number(&self, py: Python<'_>) -> u64 {
        self.0.get(py).borrow().1.number
    }
}
