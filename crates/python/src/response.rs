//! A response as Python reads it. Header fields become Python objects when they are asked for.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ::bytes::BytesMut;
use engine::buffer::try_extend;
use engine::pool::Lease;
use engine::socket::{Descriptor, Socket};
use engine::stream::Stream;
use engine::timers::Patience;
use engine::tls::{Facts, Verify};
use engine::{Connection, Incoming, Response, Stop, Timings};
use memchr::memmem;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple, PyType};
use wire::framing::Asked;
use wire::{HeaderMap, Limits, ResponseHead};

use crate::bytes::{contents, copied, copied_to_array, duplicate, filled_by};
use crate::config::seconds;
use crate::error::{response_error, to_python, unanswered};
use crate::head::{for_logs, from_latin1};
use crate::hub::{GilBound, Runtime, block_on};
use crate::parser::Parser;
use crate::pysocket::PySocket;
use crate::timings::timings_of_python;
use crate::types;

/// Up to this many bytes room is made at once because a peer says that they will come, without their having come.
/// Untouched memory costs nothing, but not without limit.
const TRUSTED_LENGTH: u64 = 4 << 30;

/// Up to this many bytes room is made because the caller asks for them, when nobody knows how many there are.
const DIRECT_READ: usize = 256 * 1024;

/// The base of the response classes. `object.__new__` gives an empty one, which has no head and no body.
#[pyclass(frozen, subclass, weakref, extends = Parser, module = "geventhttpclient._core")]
pub(crate) struct Message(GilBound<RefCell<State>>);

#[derive(Default)]
struct State {
    head: Option<Rc<ResponseHead>>,
    body: Body,
    request_head: Vec<u8>,
    runtime: Option<Rc<Runtime>>,
    close: bool,
    tls: Option<Rc<Facts>>,
    extras: Option<Extras>,
    /// How long the request took, as far as the head.
    timings: Option<Timings>,
    /// Bytes of the response when it was last looked at: a body in use cannot be asked.
    received: u64,
    /// A bytearray that was given out as what has arrived and not been read: its owner may have changed it.
    buffer: Option<Py<PyByteArray>>,
}

impl State {
    /// What is no longer needed once the connection is no longer held; to be dropped outside of the borrow, since the
    /// last response of a client may be what keeps its pool open.
    fn let_go(&mut self) -> (Option<Rc<Runtime>>, Option<Py<PyAny>>) {
        (self.runtime.take(), self.extras.as_mut().and_then(|extras| extras.pool.take()))
    }
}

/// What the client tells its responses.
struct Extras {
    method: Py<PyString>,
    pool: Option<Py<PyAny>>,
    block_size: usize,
    headers_type: Py<PyType>,
}

#[derive(Default)]
enum Body {
    /// There never was one.
    #[default]
    Absent,
    /// To be read.
    Here(Box<Incoming>),
    /// A greenlet waits in it; how to end that, while there is something to wait for.
    InUse(Option<Rc<Stop>>),
    /// A greenlet was interrupted while it waited: the connection is closed, and some of the body is lost.
    Lost,
    /// Given up by `release()` before its end.
    Released,
}

impl Message {
    /// An instance of `class`, a subclass of this one, around a response.
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
        object.cast::<Message>()?.get().fill(py, runtime, response, Some(extras));
        Ok(object)
    }

    /// One that belongs to no client.
    pub(crate) fn bare(py: Python<'_>, runtime: Rc<Runtime>, response: Response) -> PyResult<Bound<'_, Message>> {
        let object = Bound::new(py, Message::initializer(py))?;
        object.get().fill(py, runtime, response, None);
        Ok(object)
    }

    fn initializer(py: Python<'_>) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Parser::empty(py))
            .add_subclass(Message(GilBound::new(py, RefCell::new(State::default()))))
    }

    fn fill(&self, py: Python<'_>, runtime: Rc<Runtime>, response: Response, mut extras: Option<Extras>) {
        let Response { head, mut body, timings, request_head, tls, .. } = response;
        // Where nothing more has to be waited for, there is no need of a hub, nor of the pool.
        let (runtime, pool) = if body.is_detached() {
            (None, extras.as_mut().and_then(|extras| extras.pool.take()))
        } else {
            (Some(runtime), None)
        };
        let filled = State {
            close: body.close_reason().is_some(),
            head: Some(Rc::new(head)),
            request_head,
            runtime,
            tls,
            extras,
            timings: Some(timings),
            received: body.received(),
            buffer: None,
            body: Body::Here(Box::new(body)),
        };
        let before = self.0.get(py).replace(filled);
        drop((before, pool));
    }

    fn head(&self, py: Python<'_>) -> Option<Rc<ResponseHead>> {
        self.0.get(py).borrow().head.clone()
    }

    /// Runs `work` on the body, outside of any borrow, since it may wait. When it raises (something was thrown into
    /// the waiting greenlet), the body goes, and its connection with it.
    fn with_body<T>(
        &self,
        py: Python<'_>,
        nothing: T,
        work: impl FnOnce(&Runtime, &mut Incoming) -> PyResult<engine::Result<T>>,
    ) -> PyResult<T> {
        let current = Runtime::current(py)?;
        // Before the body is taken: a call that can only fail does it no harm.
        current.check_may_wait(py)?;
        let mut body = {
            let mut state = self.0.get(py).borrow_mut();
            let is_elsewhere = state.runtime.as_ref().is_some_and(|runtime| !Rc::ptr_eq(&current, runtime));
            match std::mem::replace(&mut state.body, Body::InUse(None)) {
                Body::Here(body) if is_elsewhere && !body.is_detached() => {
                    state.body = Body::Here(body);
                    let message = "the response belongs to another thread, or to a hub that was destroyed";
                    return Err(PyRuntimeError::new_err(message));
                }
                Body::Here(mut body) => {
                    state.body = Body::InUse(body.stop());
                    body
                }
                Body::InUse(stop) => {
                    state.body = Body::InUse(stop);
                    // Making the exception may import a module, whose code may come back here.
                    drop(state);
                    return Err(read_by_another(py));
                }
                other @ (Body::Absent | Body::Released) => {
                    state.body = other;
                    return Ok(nothing);
                }
                Body::Lost => {
                    state.body = Body::Lost;
                    drop(state);
                    return Err(lost(py));
                }
            }
        };
        let result = work(&current, &mut body);
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                let mut state = self.0.get(py).borrow_mut();
                state.body = Body::Lost;
                let done = state.let_go();
                drop(state);
                drop(done);
                return Err(error);
            }
        };
        let mut state = self.0.get(py).borrow_mut();
        let started = state.timings.as_ref().map(|timings| timings.started);
        state.received = body.received();
        let done = if body.is_detached() { state.let_go() } else { (None, None) };
        // release() of another greenlet while we waited has the last word. What was cut short by it must not pass as
        // what the peer had to say.
        let (late, result) = match state.body {
            Body::InUse(_) => {
                state.body = Body::Here(body);
                (None, result)
            }
            _ if result.is_err() || body.is_complete() => (Some(body), result),
            _ => (None, Err(body.give_up("the response was released"))),
        };
        drop(state);
        drop((late, done));
        result.map_err(|error| match started {
            Some(started) => to_python(py, error.after(started.elapsed())),
            None => to_python(py, error),
        })
    }

    /// `Some` when what is asked for is there already, and can be had without waiting. MemoryError if there is no room
    /// for a copy; nothing is taken then.
    fn ready_bytes<'py>(
        &self,
        py: Python<'py>,
        enough: impl FnOnce(&mut Incoming) -> Option<usize>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.take_back(py)?;
        let mut state = self.0.get(py).borrow_mut();
        let Body::Here(body) = &mut state.body else { return Ok(None) };
        let Some(length) = enough(body) else { return Ok(None) };
        let ready = body.ready();
        let length = length.min(ready.len());
        // A bytes object is none that the garbage collector follows: making one runs no code of the program's.
        let bytes = copied(py, ready.get(..length).unwrap_or_default())?;
        bytes::Buf::advance(ready, length);
        Ok(Some(bytes))
    }

    /// What was given out as a bytearray is read first.
    fn take_back(&self, py: Python<'_>) -> PyResult<()> {
        let buffer = {
            let mut state = self.0.get(py).borrow_mut();
            let State { body: Body::Here(body), buffer: slot, .. } = &mut *state else { return Ok(()) };
            let Some(buffer) = slot.take() else { return Ok(()) };
            let buffer = buffer.into_bound(py);
            if let Err(error) = contents(&buffer).and_then(|bytes| put_before(&bytes, body)) {
                *slot = Some(buffer.unbind());
                return Err(error);
            }
            buffer
        };
        // An exported buffer cannot be emptied; then it belongs to its owner. The exception that says so may run
        // the garbage collector, and with it code that comes back here: nothing is borrowed.
        if buffer.resize(0).is_ok() {
            self.0.get(py).borrow_mut().buffer.get_or_insert(buffer.unbind());
        }
        Ok(())
    }

    fn read_all<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let all = |body: &mut Incoming| body.is_complete().then(|| body.ready().len());
        if let Some(bytes) = self.ready_bytes(py, all)? {
            return Ok(bytes);
        }
        let read = self.with_body(py, Read::Nothing, |runtime, body| match trusted(body.remaining()) {
            Some(length) => read_into_bytes(py, runtime, body, length),
            None => fetch_until(py, runtime, body, usize::MAX),
        })?;
        self.taken(py, read)
    }

    /// The bytes that a read has come to.
    fn taken<'py>(&self, py: Python<'py>, read: Read<'py>) -> PyResult<Bound<'py, PyBytes>> {
        match read {
            Read::Bytes(bytes) => Ok(bytes),
            Read::Nothing => Ok(PyBytes::new(py, b"")),
            Read::Ready(length) => {
                let bytes = self.ready_bytes(py, |_| Some(length))?;
                Ok(bytes.unwrap_or_else(|| PyBytes::new(py, b"")))
            }
        }
    }

    fn read_some<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        let some = |body: &mut Incoming| {
            let ready = body.ready().len();
            (ready >= length || body.is_complete()).then(|| ready.min(length))
        };
        if let Some(bytes) = self.ready_bytes(py, some)? {
            return Ok(bytes);
        }
        let read = self.with_body(py, Read::Nothing, |runtime, body| match body.remaining() {
            Some(left) => {
                let length = u64::try_from(length).unwrap_or(u64::MAX).min(left);
                match trusted(Some(length)) {
                    Some(room) => read_into_bytes(py, runtime, body, room),
                    None => fetch_until(py, runtime, body, usize::try_from(length).unwrap_or(usize::MAX)),
                }
            }
            None if length <= DIRECT_READ => read_into_bytes(py, runtime, body, length),
            None => fetch_until(py, runtime, body, length),
        })?;
        self.taken(py, read)
    }
}

/// A response to a request that was sent in some other way.
fn read_from(
    py: Python<'_>,
    stream: impl FnOnce(&Runtime) -> PyResult<Stream>,
    timeout: Option<Duration>,
    method: &Bound<'_, PyString>,
) -> PyResult<(Rc<Runtime>, Response)> {
    let asked = Asked::by(method.to_str()?.as_bytes());
    let runtime = Runtime::current(py)?;
    let patience = Patience::new(&runtime.reactor, timeout);
    let connection = Connection::new(&runtime.reactor, stream(&runtime)?, "the given socket".into(), patience);
    let limits = Limits::default();
    let reading = engine::exchange::read_response(Lease::of(connection), asked, &limits);
    let response = block_on(py, &runtime, reading)?.map_err(|error| unanswered(py, error))?;
    Ok((runtime, response))
}

/// What a read has come to.
enum Read<'py> {
    /// These bytes.
    Bytes(Bound<'py, PyBytes>),
    /// There is no body.
    Nothing,
    /// So many bytes that are ready to be taken. They stay with the body if there is no memory for a copy.
    Ready(usize),
}

/// Puts `bytes` in front of what is ready to be read.
#[cold]
fn put_before(bytes: &[u8], body: &mut Incoming) -> PyResult<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let mut ready = BytesMut::new();
    let room = try_extend(&mut ready, bytes).and_then(|()| try_extend(&mut ready, body.ready()));
    room.map_err(|_| PyMemoryError::new_err(()))?;
    *body.ready() = ready;
    Ok(())
}

/// A length that room may be made for at once.
fn trusted(length: Option<u64>) -> Option<usize> {
    length.filter(|&length| length <= TRUSTED_LENGTH).and_then(|length| usize::try_from(length).ok())
}

/// Straight into the memory of the object that the caller gets.
fn read_into_bytes<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    body: &mut Incoming,
    length: usize,
) -> PyResult<engine::Result<Read<'py>>> {
    let mut outcome = Ok(());
    let bytes = filled_by(py, length, |room| {
        outcome = block_on(py, runtime, body.read_fully(room))?;
        Ok(())
    })?;
    Ok(outcome.map(|()| Read::Bytes(bytes)))
}

/// For bodies of unknown length: collected, to be copied once.
fn fetch_until<'py>(
    py: Python<'py>,
    runtime: &Runtime,
    body: &mut Incoming,
    length: usize,
) -> PyResult<engine::Result<Read<'py>>> {
    let fetched = block_on(py, runtime, async {
        while body.ready().len() < length && body.fetch().await? {}
        Ok(())
    })?;
    Ok(fetched.map(|()| Read::Ready(body.ready().len().min(length))))
}

#[cold]
fn read_by_another(py: Python<'_>) -> PyErr {
    match types::concurrent_use(py) {
        Ok(kind) => PyErr::from_type(kind.clone(), "This response is already being read by another greenlet"),
        Err(error) => error,
    }
}

#[cold]
fn lost(py: Python<'_>) -> PyErr {
    response_error(py, &wire::ResponseError::EarlyEnd("an earlier read of its body was interrupted"))
}

#[pymethods]
impl Message {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyClassInitializer<Self> {
        Message::initializer(py)
    }

    /// A response may lie where its pool leads to, with the pool where it leads to.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.0.while_collecting().try_borrow() else { return Ok(()) };
        if let Some(extras) = &state.extras {
            visit.call(&extras.pool)?;
            visit.call(&extras.headers_type)?;
        }
        visit.call(&state.buffer)
    }

    fn __clear__(&self, py: Python<'_>) {
        let state = self.0.get(py).take();
        drop(state);
    }

    /// Reads a response from a Python socket, on which its request has been sent. Without a head, raises as a
    /// request does. Bytes of `read_before` come first.
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
        self.fill(py, runtime, response, Some(extras));
        Ok(())
    }

    /// Reads a response from the socket of that number, which somebody else holds and may close. It is waited for
    /// `timeout` seconds at a time, None for ever.
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
        self.fill(py, runtime, response, None);
        Ok(())
    }

    /// The status code; 0 without a head.
    fn get_code(&self, py: Python<'_>) -> u16 {
        self.head(py).map_or(0, |head| head.status)
    }

    /// `HTTP/1.1` or `HTTP/1.0`; `HTTP/0.0` without a head.
    fn get_http_version(&self, py: Python<'_>) -> &'static str {
        self.head(py).map_or("HTTP/0.0", |head| head.version.as_str())
    }

    /// How many bytes of a counted body have not been read; 0 for other framings.
    fn get_remaining_content_length(&self, py: Python<'_>) -> u64 {
        match &self.0.get(py).borrow().body {
            Body::Here(body) => body.remaining().unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether the connection can be used again once the body has been read (RFC 9112 section 9.3).
    fn should_keep_alive(&self, py: Python<'_>) -> bool {
        let state = self.0.get(py).borrow();
        let broken = matches!(&state.body, Body::Here(body) if body.is_detached() && !body.is_complete());
        state.head.is_some() && !state.close && !broken && !matches!(state.body, Body::Lost)
    }

    /// Whether the message is all here, though it may not have been read.
    fn _is_complete(&self, py: Python<'_>) -> bool {
        match &self.0.get(py).borrow().body {
            Body::Here(body) => body.is_complete(),
            _ => false,
        }
    }

    /// Whether there is nothing left to read.
    fn _is_read(&self, py: Python<'_>) -> bool {
        match &mut self.0.get(py).borrow_mut().body {
            Body::Here(body) => body.is_complete() && body.ready().is_empty(),
            Body::InUse(_) => false,
            Body::Absent | Body::Lost | Body::Released => true,
        }
    }

    /// Whether the response still holds a connection.
    fn _is_attached(&self, py: Python<'_>) -> bool {
        match &self.0.get(py).borrow().body {
            Body::Here(body) => !body.is_detached(),
            Body::InUse(_) => true,
            _ => false,
        }
    }

    /// The number of the socket that the body comes from; -1 when it needs none any more, or has none of the reactor's.
    fn _fileno(&self, py: Python<'_>) -> i32 {
        match &mut self.0.get(py).borrow_mut().body {
            Body::Here(body) => body.descriptor().and_then(Descriptor::number).unwrap_or(-1),
            _ => -1,
        }
    }

    /// Whether there is a head.
    fn _has_head(&self, py: Python<'_>) -> bool {
        self.head(py).is_some()
    }

    /// The reason phrase; None without a head.
    fn _reason<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        self.head(py).map(|head| from_latin1(py, head.reason()))
    }

    /// The value of a field, a list of them when it has several lines, or `default`. The name in any case.
    #[pyo3(signature = (name, default=None))]
    fn _field<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(head) = self.head(py) else { return Ok(default) };
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

    /// Every header line as (name, value).
    fn _pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        match self.head(py) {
            Some(head) => pairs(py, &head.headers),
            None => Ok(PyList::empty(py)),
        }
    }

    /// Every line behind a chunked body as (name, value), once the body has been read.
    fn _trailers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        // A copy, since making Python objects may run the garbage collector, and with it code that comes back here.
        let trailers = match &self.0.get(py).borrow().body {
            Body::Here(body) => body.trailers().cloned(),
            _ => None,
        };
        trailers.map_or_else(|| Ok(PyList::empty(py)), |trailers| pairs(py, &trailers))
    }

    /// The request's head as text, without what it told a proxy of us.
    fn _request_head<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        let head = for_logs(&self.0.get(py).borrow().request_head);
        from_latin1(py, &head)
    }

    /// What `Timings` is made of; None without a head.
    fn _timings<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // A copy, as above.
        let (timings, ended, received) = {
            let mut state = self.0.get(py).borrow_mut();
            let Some(timings) = state.timings.clone() else { return Ok(None) };
            let (ended, received) = match &mut state.body {
                Body::Here(body) => (body.ended(), body.received()),
                _ => (None, state.received),
            };
            (timings, ended, received)
        };
        timings_of_python(py, &timings, ended, received).map(Some)
    }

    /// What `TLSInfo` is made of; None for plain http.
    fn _tls_facts<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let facts = self.0.get(py).borrow().tls.clone();
        facts.map(|facts| facts_of_python(py, &facts)).transpose()
    }

    /// (method, pool, block_size, headers_type), or None without a head.
    fn _extras<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        // Taken out of the borrow, as above.
        let extras = self.0.get(py).borrow().extras.as_ref().map(|extras| {
            let pool = extras.pool.as_ref().map(|pool| pool.clone_ref(py));
            (extras.method.clone_ref(py), pool, extras.block_size, extras.headers_type.clone_ref(py))
        });
        extras.map(|extras| extras.into_pyobject(py)).transpose()
    }

    /// What has arrived and not been read, as a bytearray that is read first, whatever is added to it.
    #[getter]
    fn _body_buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyByteArray>> {
        self.take_back(py)?;
        let mut state = self.0.get(py).borrow_mut();
        let ready = match &mut state.body {
            Body::Here(body) => body.ready().split(),
            _ => BytesMut::new(),
        };
        // A bytearray is none that the garbage collector follows: making one runs no code of the program's.
        let buffer = match copied_to_array(py, &ready) {
            Ok(buffer) => buffer,
            Err(error) => {
                if let Body::Here(body) = &mut state.body {
                    *body.ready() = ready;
                }
                return Err(error);
            }
        };
        let replaced = state.buffer.replace(buffer.clone().unbind());
        drop(state);
        drop(replaced);
        Ok(buffer)
    }

    #[setter(_body_buffer)]
    fn set_body_buffer(&self, py: Python<'_>, buffer: Bound<'_, PyByteArray>) {
        let mut state = self.0.get(py).borrow_mut();
        if let Body::Here(body) = &mut state.body {
            body.ready().clear();
        }
        let replaced = state.buffer.replace(buffer.unbind());
        drop(state);
        drop(replaced);
    }

    /// Reads exactly `length` bytes, or all that is left when that is less, not given or negative. `b""` at the end.
    ///
    /// Raises HTTPConnectionClosed when the body ends before its framing says so, TimeoutError when nothing comes for
    /// the client's `network_timeout`.
    #[pyo3(signature = (length=None))]
    fn read<'py>(&self, py: Python<'py>, length: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyBytes>> {
        match length {
            None => self.read_all(py),
            Some(length) => {
                let wanted: isize = length.extract().or_else(|error: PyErr| {
                    // More than can be counted is all, on either side of 0.
                    let is_huge = error.is_instance_of::<PyOverflowError>(py);
                    let refused = || PyTypeError::new_err(format!("length must be an int or None, not {length:?}"));
                    is_huge.then_some(-1).ok_or_else(refused)
                })?;
                match usize::try_from(wanted) {
                    Ok(wanted) => self.read_some(py, wanted),
                    Err(_) => self.read_all(py),
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
        let line = |body: &mut Incoming| {
            let found = memmem::find(body.ready(), sep).map(|at| at.saturating_add(sep.len()));
            found.or_else(|| body.is_complete().then(|| body.ready().len()))
        };
        if let Some(bytes) = self.ready_bytes(py, line)? {
            return Ok(bytes);
        }
        let read = self.with_body(py, Read::Nothing, |runtime, body| {
            let line = block_on(py, runtime, async {
                // What was searched is not searched again, but for a separator that lies across.
                let mut searched = 0;
                loop {
                    let ready = body.ready();
                    let from = searched_before(searched, sep);
                    if let Some(at) = memmem::find(ready.get(from..).unwrap_or_default(), sep) {
                        return Ok(from.saturating_add(at).saturating_add(sep.len()));
                    }
                    searched = ready.len();
                    if !body.fetch().await? {
                        return Ok(searched);
                    }
                }
            })?;
            Ok(line.map(Read::Ready))
        })?;
        self.taken(py, read)
    }

    /// Reads into a writable buffer until it is full or the body is at its end; how many bytes that were.
    fn readinto<'py>(&self, py: Python<'py>, buffer: &Bound<'py, PyAny>) -> PyResult<usize> {
        let view = PyMemoryView::from(buffer)?.call_method1(intern!(py, "cast"), ("B",))?;
        if view.getattr(intern!(py, "readonly"))?.is_truthy()? {
            return Err(PyTypeError::new_err("readinto() needs a writable buffer"));
        }
        let data = self.read_some(py, view.len()?)?;
        let length = data.as_bytes().len();
        view.set_item(pyo3::types::PySlice::new(py, 0, length.cast_signed(), 1), data)?;
        Ok(length)
    }

    /// Reads what there is, at most `length` bytes, waiting only when there is nothing. `b""` at the end.
    fn _read_available<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        if length == 0 {
            return Ok(PyBytes::new(py, b""));
        }
        let some = |body: &mut Incoming| {
            let ready = body.ready().len();
            (ready > 0 || body.is_complete()).then(|| ready.min(length))
        };
        if let Some(bytes) = self.ready_bytes(py, some)? {
            return Ok(bytes);
        }
        self.with_body(py, PyBytes::new(py, b""), |runtime, body| {
            let mut outcome = Ok(());
            let bytes = filled_by(py, length.min(DIRECT_READ), |room| {
                outcome = block_on(py, runtime, body.read(room))?;
                Ok(())
            })?;
            Ok(outcome.map(|()| bytes))
        })
    }

    /// What there is, at most `length` bytes, waiting only when there is nothing; it remains to be read. `b""` at the
    /// end.
    fn _peek<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        self.with_body(py, PyBytes::new(py, b""), |runtime, body| {
            if body.ready().is_empty()
                && let Err(error) = block_on(py, runtime, body.fetch())?
            {
                return Ok(Err(error));
            }
            let ready = body.ready();
            copied(py, ready.get(..ready.len().min(length)).unwrap_or_default()).map(Ok)
        })
    }

    /// Reads `length` bytes, or all that is left when that is less or not given, and what has kept the rest from coming:
    /// (bytes, exception or None).
    #[pyo3(signature = (length=None))]
    fn _read_as_far_as_it_goes<'py>(
        &self,
        py: Python<'py>,
        length: Option<usize>,
    ) -> PyResult<(Bound<'py, PyBytes>, Option<PyErr>)> {
        let nothing = (PyBytes::new(py, b""), None);
        let (bytes, failure) = self.with_body(py, nothing, |runtime, body| {
            let length = length.unwrap_or(usize::MAX);
            match trusted(body.remaining()) {
                Some(left) if body.ready().len() < left.min(length) => {
                    let mut outcome = Ok(());
                    let bytes = filled_by(py, left.min(length), |room| {
                        outcome = block_on(py, runtime, body.read_fully(room))?;
                        Ok(())
                    })?;
                    Ok(Ok((bytes, outcome.err())))
                }
                _ => {
                    let outcome = block_on(py, runtime, async {
                        while body.ready().len() < length && body.fetch().await? {}
                        Ok::<_, engine::Error>(())
                    })?;
                    let ready = body.ready();
                    let length = ready.len().min(length);
                    let bytes = copied(py, ready.get(..length).unwrap_or_default())?;
                    bytes::Buf::advance(ready, length);
                    Ok(Ok((bytes, outcome.err())))
                }
            }
        })?;
        Ok((bytes, failure.map(|error| to_python(py, error))))
    }

    /// Gives the connection back: to the pool when the body has been read to its end, else it is closed, and a greenlet
    /// that waits in it is told by a ConnectionAbortedError. More than once does no harm.
    fn release(&self, py: Python<'_>) {
        let mut state = self.0.get(py).borrow_mut();
        match &state.body {
            Body::Here(body) if !body.is_detached() => {
                let body = std::mem::replace(&mut state.body, Body::Released);
                let done = state.let_go();
                // Closing may wake others, which must not find the state borrowed.
                drop(state);
                drop((body, done));
            }
            Body::InUse(Some(_)) => {
                let Body::InUse(Some(stop)) = std::mem::replace(&mut state.body, Body::Released) else { return };
                drop(state);
                stop.ask();
            }
            Body::Here(_) | Body::InUse(None) | Body::Absent | Body::Lost | Body::Released => {}
        }
    }
}

/// Where to go on searching behind what was searched in vain.
fn searched_before(searched: usize, sep: &[u8]) -> usize {
    searched.saturating_sub(sep.len().saturating_sub(1))
}

/// What `TLSInfo` is made of.
pub(crate) fn facts_of_python<'py>(py: Python<'py>, facts: &Facts) -> PyResult<Bound<'py, PyTuple>> {
    let verified = match facts.verified {
        Verify::Full => true.into_pyobject(py)?.to_owned().into_any(),
        Verify::Chain => "chain".into_pyobject(py)?.into_any(),
        Verify::No => false.into_pyobject(py)?.to_owned().into_any(),
    };
    let certificate = facts.peer_certificate.as_deref().map(|der| PyBytes::new(py, der));
    let parts = (&facts.version, &facts.cipher, facts.alpn.as_deref(), certificate, verified, facts.resumed);
    parts.into_pyobject(py)
}

fn pairs<'py>(py: Python<'py>, headers: &HeaderMap) -> PyResult<Bound<'py, PyList>> {
    let lines = headers.iter().map(|(name, value)| (from_latin1(py, name), from_latin1(py, value)));
    PyList::new(py, lines.collect::<Vec<_>>())
}
