//! Responses as Python objects. Header fields are made when they are accessed.

pub(crate) mod coding;
pub(crate) mod parser;
mod reading;
mod state;
pub(crate) mod stream;
pub(crate) mod timings;

use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use engine::pool::held::{Held, HeldBody};
use engine::pool::lease::Lease;
use engine::rt::socket::{Descriptor, Socket};
use engine::rt::stream::Stream;
use engine::rt::timeout::WaitTimeout;
use engine::{Connection, Response};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference,
};
use wire::framing::MethodKind;
use wire::{HeaderMap, Limits};

use crate::convert::duplicate;
use crate::error::unanswered;
use crate::hub::greenlet::current_greenlet;
use crate::hub::{Runtime, block_on};
use crate::pysocket::PySocket;
use crate::request::config::seconds;
use crate::request::fields::from_latin1;
use crate::request::head::for_logs;
use crate::response::parser::Parser;
use crate::response::state::{BodyState, Extras, Owner, SharedState, Upgraded};
use crate::response::timings::timings_of_python;
use crate::tls::tls_info_of_python;

/// The base of the response classes. `object.__new__` creates an empty one, which has no head and no body.
#[pyclass(frozen, subclass, weakref, extends = Parser, module = "geventhttpclient._core")]
pub(crate) struct ResponseBase(SharedState);

impl ResponseBase {
    /// Returns an instance of `class`, a subclass of this one, around a response.
    pub(crate) fn create<'py>(
        class: &Bound<'py, PyType>,
        runtime: Rc<Runtime>,
        response: Response,
        method: &Bound<'py, PyString>,
        pool: Option<&Bound<'py, PyAny>>,
        (block_size, headers_type): (usize, Bound<'py, PyType>),
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = class.py();
        let object = class.call_method1(intern!(py, "__new__"), (class,))?;
        let extras = Extras {
            method: method.clone().unbind(),
            pool: pool.map(|pool| pool.clone().unbind()),
            block_size,
            headers_type: headers_type.unbind(),
        };
        let base = object.cast::<ResponseBase>()?;
        base.get().0.fill(py, runtime, response, Some(extras));
        if base.get().0.is_attached(py) {
            ResponseBase::hold(base)?;
        }
        Ok(object)
    }

    /// Makes the response known to its pool, since it needs its connection for longer than its request.
    fn hold(slf: &Bound<'_, ResponseBase>) -> PyResult<()> {
        let py = slf.py();
        let owner = Rc::new(Owner::new(&current_greenlet(py)?)?);
        let held = HeldResponse { response: PyWeakrefReference::new(slf)?.unbind(), owner: owner.clone() };
        slf.get().0.hold(py, owner, |body| body.hold(Box::new(held)));
        Ok(())
    }

    /// Returns one that belongs to no client.
    pub(crate) fn bare(py: Python<'_>, runtime: Rc<Runtime>, response: Response) -> PyResult<Bound<'_, ResponseBase>> {
        let object = Bound::new(py, ResponseBase::initializer(py))?;
        object.get().0.fill(py, runtime, response, None);
        Ok(object)
    }

    /// Takes out the connection after an upgrade, if the response has kept it.
    pub(crate) fn take_upgraded(&self, py: Python<'_>) -> Option<Upgraded> {
        self.0.take_upgraded(py)
    }

    fn initializer(py: Python<'_>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Parser::empty(py)).add_subclass(ResponseBase(SharedState::new(py)))
    }
}

/// A response that its pool knows, without keeping it alive.
struct HeldResponse {
    response: Py<PyWeakrefReference>,
    owner: Rc<Owner>,
}

impl Held for HeldResponse {
    fn owner(&self) -> usize {
        self.owner.task.get()
    }

    fn owner_has_ended(&self) -> bool {
        Python::attach(|py| self.owner.has_ended(py))
    }

    fn lend(&self, waker: Option<&Waker>, work: &mut dyn FnMut(&mut dyn HeldBody)) -> bool {
        Python::attach(|py| {
            let response = self.response.bind(py).upgrade();
            response.is_some_and(|response| {
                response.cast::<ResponseBase>().is_ok_and(|base| base.get().0.lend(py, waker, work))
            })
        })
    }
}

/// Reads the response to a request that was not sent by the engine, up to its head.
fn read_from(
    py: Python<'_>,
    stream: impl FnOnce(&Runtime) -> PyResult<Stream>,
    timeout: Option<Duration>,
    method: &Bound<'_, PyString>,
) -> PyResult<(Rc<Runtime>, Response)> {
    let method_kind = MethodKind::by(method.to_str()?.as_bytes());
    let runtime = Runtime::current(py)?;
    let timeout = WaitTimeout::new(&runtime.reactor, timeout);
    let connection = Connection::new(&runtime.reactor, stream(&runtime)?, "the given socket".into(), timeout);
    let limits = Limits::default();
    let reading = engine::http1::exchange::read_response(Lease::of(connection), method_kind, &limits);
    let response = block_on(py, &runtime, reading)?.map_err(|error| unanswered(py, error))?;
    Ok((runtime, response))
}

#[pymethods]
impl ResponseBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        ResponseBase::initializer(py)
    }

    /// Visits the pool as well: the two may refer to each other.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.0.clear(py);
    }

    /// Reads a response from a Python socket, on which its request has been sent. Raises the exceptions of a request if
    /// no head arrives. Bytes of `read_before` come first.
    fn _read_head_from<'py>(
        &self,
        py: Python<'py>,
        socket: Bound<'py, PyAny>,
        read_before: Vec<u8>,
        block_size: usize,
        method: &Bound<'py, PyString>,
        headers_type: Bound<'py, PyType>,
    ) -> PyResult<()> {
        let stream = |_: &Runtime| Ok(Stream::Layer(Box::new(PySocket::new(socket.unbind(), read_before, block_size))));
        // The socket has a timeout of its own.
        let (runtime, response) = read_from(py, stream, None, method)?;
        let headers_type = headers_type.unbind();
        let extras = Extras { method: method.clone().unbind(), pool: None, block_size, headers_type };
        self.0.fill(py, runtime, response, Some(extras));
        Ok(())
    }

    /// Reads a response from the socket of that file descriptor, which its owner may close meanwhile. `timeout` limits
    /// each wait, in seconds; None for no limit.
    fn _read_head_sharing(
        &self,
        py: Python<'_>,
        fileno: i32,
        timeout: Option<f64>,
        method: &Bound<'_, PyString>,
    ) -> PyResult<()> {
        let timeout = seconds("timeout", timeout)?;
        let stream = |runtime: &Runtime| {
            let socket = duplicate(fileno).and_then(|descriptor| Socket::sharing(&runtime.reactor, descriptor));
            Ok(Stream::Socket(socket?))
        };
        let (runtime, response) = read_from(py, stream, timeout, method)?;
        self.0.fill(py, runtime, response, None);
        Ok(())
    }

    /// Returns the status code; 0 without a head.
    fn get_code(&self, py: Python<'_>) -> u16 {
        self.0.head(py).map_or(0, |head| head.status)
    }

    /// Returns `HTTP/1.1` or `HTTP/1.0`; `HTTP/0.0` without a head.
    fn get_http_version(&self, py: Python<'_>) -> &'static str {
        self.0.head(py).map_or("HTTP/0.0", |head| head.version.as_str())
    }

    /// Returns how many bytes of a counted body have not been read; 0 for other framings.
    fn get_remaining_content_length(&self, py: Python<'_>) -> u64 {
        match &self.0.borrow(py).body {
            BodyState::Here(body) => body.remaining().unwrap_or(0),
            _ => 0,
        }
    }

    /// Returns whether the connection can be reused once the body has been read (RFC 9112 section 9.3).
    fn should_keep_alive(&self, py: Python<'_>) -> bool {
        let state = self.0.borrow(py);
        let broken = matches!(&state.body, BodyState::Here(body) if body.is_detached() && !body.is_complete());
        state.head.is_some() && !state.close && !broken && !matches!(state.body, BodyState::Lost)
    }

    /// Returns whether the whole message has arrived, though it may not have been read.
    fn _is_complete(&self, py: Python<'_>) -> bool {
        match &self.0.borrow(py).body {
            BodyState::Here(body) => body.is_complete(),
            _ => false,
        }
    }

    /// Returns whether there is nothing left to read.
    fn _is_read(&self, py: Python<'_>) -> bool {
        match &mut self.0.borrow_mut(py).body {
            BodyState::Here(body) => body.is_complete() && body.ready().is_empty(),
            BodyState::InUse(_) => false,
            BodyState::Absent | BodyState::Lost | BodyState::Released => true,
        }
    }

    /// Returns whether the response still holds a connection.
    fn _is_attached(&self, py: Python<'_>) -> bool {
        self.0.is_attached(py)
    }

    /// Returns the file descriptor of the socket that the body comes from; -1 if it needs none any more, or its socket
    /// is not one of the reactor's.
    fn _fileno(&self, py: Python<'_>) -> i32 {
        match &mut self.0.borrow_mut(py).body {
            BodyState::Here(body) => body.descriptor().and_then(Descriptor::number).unwrap_or(-1),
            _ => -1,
        }
    }

    /// Returns how many bytes of the body can be read without waiting.
    fn _ready_length(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.ready_length(py)
    }

    /// Returns the limit of one wait for the body in seconds; None for no limit, or without a connection.
    fn _gettimeout(&self, py: Python<'_>) -> Option<f64> {
        match &mut self.0.borrow_mut(py).body {
            BodyState::Here(body) => body.wait_limit().map(|limit| limit.as_secs_f64()),
            _ => None,
        }
    }

    /// Sets the limit of one wait, from the next wait on. A body that another greenlet is waiting for keeps its own.
    fn _settimeout(&self, py: Python<'_>, value: Option<f64>) -> PyResult<()> {
        let limit = seconds("timeout", value)?;
        if let BodyState::Here(body) = &mut self.0.borrow_mut(py).body {
            body.set_wait_limit(limit);
        }
        Ok(())
    }

    /// Returns whether there is a head.
    fn _has_head(&self, py: Python<'_>) -> bool {
        self.0.head(py).is_some()
    }

    /// Returns the reason phrase; None without a head.
    fn _reason<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.0.head(py).map(|head| from_latin1(py, head.reason()))
    }

    /// Returns the value of a field, a list of values if it has several lines, or `default`. The name in any case.
    #[pyo3(signature = (name, default=None))]
    fn _field<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(head) = self.0.head(py) else { return Ok(default) };
        let mut values = head.headers.get_all(name.as_bytes());
        match (values.next(), values.next()) {
            (None, _) => Ok(default),
            (Some(only), None) => Ok(Some(from_latin1(py, only).into_any())),
            _ => {
                let all = head.headers.get_all(name.as_bytes()).map(|value| from_latin1(py, value));
                Ok(Some(PyList::new(py, all.collect::<Vec<_>>())?.into_any()))
            }
        }
    }

    /// Returns every header line as (name, value).
    fn _pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        match self.0.head(py) {
            Some(head) => pairs(py, &head.headers),
            None => Ok(PyList::empty(py)),
        }
    }

    /// Returns every trailer line as (name, value), once the body has been read.
    fn _trailers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        // A copy, since making Python objects may run the garbage collector, and with it code that calls this response.
        let trailers = match &self.0.borrow(py).body {
            BodyState::Here(body) => body.trailers().cloned(),
            _ => None,
        };
        trailers.map_or_else(|| Ok(PyList::empty(py)), |trailers| pairs(py, &trailers))
    }

    /// Returns the request's head as text, with the credentials for a proxy masked.
    fn _request_head<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let head = for_logs(&self.0.borrow(py).request_head);
        from_latin1(py, &head)
    }

    /// Returns the fields of `Timings`; None without a head.
    fn _timings<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // A copy, as above.
        let (timings, ended, received) = {
            let mut state = self.0.borrow_mut(py);
            let Some(timings) = state.timings.clone() else { return Ok(None) };
            let (ended, received) = match &mut state.body {
                BodyState::Here(body) => (body.ended(), body.received()),
                _ => (None, state.received),
            };
            (timings, ended, received)
        };
        timings_of_python(py, &timings, ended, received).map(Some)
    }

    /// Returns the fields of `TLSInfo`; None for plain http.
    fn _tls_facts<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let info = self.0.borrow(py).tls.clone();
        info.map(|info| tls_info_of_python(py, &info)).transpose()
    }

    /// Returns (method, pool, block_size, headers_type); None without a head.
    fn _extras<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // Taken out of the borrow, as above.
        let extras = self.0.borrow(py).extras.as_ref().map(|extras| {
            let pool = extras.pool.as_ref().map(|pool| pool.clone_ref(py));
            (extras.method.clone_ref(py), pool, extras.block_size, extras.headers_type.clone_ref(py))
        });
        extras.map(|extras| extras.into_pyobject(py)).transpose()
    }

    /// Returns the unread bytes that have arrived as a bytearray, which is read first with all that is added to it.
    #[getter]
    fn _body_buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.0.give_buffer(py)
    }

    #[setter(_body_buffer)]
    fn set_body_buffer(&self, py: Python<'_>, buffer: Bound<'_, PyByteArray>) {
        self.0.take_buffer(py, buffer);
    }

    /// Reads exactly `length` bytes, or all that is left if that is less, not given or negative. `b""` at the end.
    ///
    /// Raises HTTPConnectionClosed if the body ends before its framing says so, TimeoutError if nothing arrives within
    /// the client's `network_timeout`.
    #[pyo3(signature = (length=None))]
    fn read<'py>(&self, py: Python<'py>, length: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyBytes>> {
        match length {
            None => self.0.read_all(py),
            Some(length) => {
                let wanted: isize = length.extract().or_else(|error: PyErr| {
                    // A number too large to count means all, on either side of 0.
                    let is_huge = error.is_instance_of::<PyOverflowError>(py);
                    let refused = || PyTypeError::new_err(format!("length must be an int or None, not {length:?}"));
                    is_huge.then_some(-1).ok_or_else(refused)
                })?;
                match usize::try_from(wanted) {
                    Ok(wanted) => self.0.read_some(py, wanted),
                    Err(_) => self.0.read_all(py),
                }
            }
        }
    }

    /// Reads up to and including `sep`, CR LF by default. The last line may lack it; `b""` at the end.
    #[pyo3(signature = (sep=None))]
    fn readline<'py>(&self, py: Python<'py>, sep: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyBytes>> {
        let not_bytes = |sep| PyTypeError::new_err(format!("sep must be bytes, not {sep:?}"));
        let sep = sep.map(|sep| sep.cast::<PyBytes>().map_err(|_| not_bytes(sep))).transpose()?;
        let sep = sep.map_or(b"\r\n".as_slice(), |sep| sep.as_bytes());
        if sep.is_empty() {
            return Err(PyValueError::new_err("sep must not be empty"));
        }
        self.0.read_until(py, sep)
    }

    /// Reads into a writable buffer until it is full or the body ends. Returns the number of bytes.
    fn readinto<'py>(&self, py: Python<'py>, buffer: &Bound<'py, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1(intern!(py, "cast"), ("B",))?;
        if view.getattr(intern!(py, "readonly"))?.is_truthy()? {
            return Err(PyTypeError::new_err("readinto() needs a writable buffer"));
        }
        let data = self.0.read_some(py, view.len()?)?;
        let length = data.as_bytes().len();
        view.set_item(pyo3::types::PySlice::new(py, 0, length.cast_signed(), 1), data)?;
        Ok(length)
    }

    /// Reads the available bytes, at most `length`, waiting only if there are none. `b""` at the end.
    fn _read_available<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.0.read_available(py, length)
    }

    /// Returns the available bytes, at most `length`, waiting only if there are none; they remain to be read. `b""` at
    /// the end.
    fn _peek<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.0.peek(py, length)
    }

    /// Reads `length` bytes, or all that is left if that is less or not given. Returns (bytes, exception): the
    /// exception that ended the read early, or None.
    #[pyo3(signature = (length=None))]
    fn _read_as_far_as_it_goes<'py>(
        &self,
        py: Python<'py>,
        length: Option<usize>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<PyErr>)> {
        self.0.read_as_far_as_it_goes(py, length)
    }

    /// Returns the connection to the pool if the body has been read to its end, otherwise closes it. A greenlet that
    /// waits in the body gets a ConnectionAbortedError. Idempotent.
    fn release(&self, py: Python<'_>) {
        self.0.release(py);
    }
}

fn pairs<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyList>> {
    let lines = headers.iter().map(|(name, value)| (from_latin1(py, name), from_latin1(py, value)));
    PyList::new(py, lines.collect::<Vec<_>>())
}
