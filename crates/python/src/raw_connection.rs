//! A connection on which Python code sends and reads bytes: the base of the classes of http.client, and of connections
//! that carry another protocol after an upgrade.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use engine::rt::socket::{Descriptor, Direction};
use engine::{CancelToken, IoState, Kind, Phase, RawConnection};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple};
use wire::Limits;
use wire::framing::MethodKind;

use crate::convert::filled_by;
use crate::error::{to_python, unanswered};
use crate::hub::gil::GilBound;
use crate::hub::{Runtime, block_on};
use crate::request::config::seconds;
use crate::request::pool::Pool;
use crate::request::resolve::PoolResolver;
use crate::response::ResponseBase;
use crate::tls::tls_info_of_python;
use crate::types;

/// Most bytes of one read, for which memory is allocated before.
const MOST_RECEIVED: usize = 1024 * 1024;

/// Everything but sending and receiving needs the connection alone.
const BOTH: [Direction; 2] = [Direction::Send, Direction::Receive];

/// `Connection`: opened by `_open()` with the configuration of a pool; closed until then, and after `close()`.
#[pyclass(frozen, subclass, weakref, module = "geventhttpclient._core", name = "Connection")]
pub(crate) struct PyConnection {
    state: GilBound<RefCell<State>>,
    /// The descriptor of its socket, which may be open for longer than it is held here.
    descriptor: GilBound<RefCell<Option<Descriptor>>>,
    /// The limit of one wait for the peer.
    timeout: GilBound<Cell<Option<Duration>>>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    /// A greenlet waits for it to be opened; the token ends that wait.
    Opening(Rc<CancelToken>),
    Open(Rc<Held>),
}

struct Held {
    connection: RawConnection,
    runtime: Rc<Runtime>,
}

impl PyConnection {
    /// Runs `work` on the connection, outside of any borrow, since it may wait. If it raises (something was thrown into
    /// the waiting greenlet), the connection is closed, since its state is not known.
    ///
    /// Fails if another greenlet uses one of those directions.
    fn with<T>(
        &self,
        py: Python<'_>,
        directions: &[Direction],
        work: impl FnOnce(&Runtime, &RawConnection) -> PyResult<T>,
    ) -> PyResult<T> {
        let current = Runtime::current(py)?;
        // Before the connection is used: a call that can only fail does it no harm.
        current.check_may_wait(py)?;
        let held = self.held(py)?;
        if !Rc::ptr_eq(&held.runtime, &current) {
            let message = "the connection belongs to another thread, or to a hub that was destroyed";
            return Err(PyRuntimeError::new_err(message));
        }
        if directions.iter().any(|&direction| held.connection.is_busy(direction)) {
            return Err(used_by_another(py));
        }
        work(&current, &held.connection).inspect_err(|_| {
            self.forget(py, &held);
            held.connection.close();
        })
    }

    /// Returns the open connection. The exceptions are made outside of the borrow: that may import a module, whose code
    /// may call this connection.
    fn held(&self, py: Python<'_>) -> PyResult<Rc<Held>> {
        let is_opening = match &*self.state.get(py).borrow() {
            State::Open(held) => return Ok(held.clone()),
            State::Opening(_) => true,
            State::Closed => false,
        };
        Err(if is_opening {
            used_by_another(py)
        } else {
            PyOSError::new_err((libc::EBADF, "the connection is closed"))
        })
    }

    /// Forgets a connection that is closed, unless it was replaced meanwhile.
    fn forget(&self, py: Python<'_>, held: &Rc<Held>) {
        let mut state = self.state.get(py).borrow_mut();
        let is_same = matches!(&*state, State::Open(own) if Rc::ptr_eq(own, held));
        let before = is_same.then(|| std::mem::take(&mut *state));
        drop(state);
        drop(before);
    }

    fn limit(&self, py: Python<'_>) -> Option<Duration> {
        self.timeout.get(py).get()
    }
}

#[cold]
fn used_by_another(py: Python<'_>) -> PyErr {
    match types::concurrent_use(py) {
        Ok(kind) => PyErr::from_type(kind.clone(), "This connection is already used by another greenlet"),
        Err(error) => error,
    }
}

#[cold]
fn closed_meanwhile(py: Python<'_>, peer: &Rc<str>) -> PyErr {
    let reason = io::Error::new(io::ErrorKind::NotConnected, "the connection was closed while it was opened");
    to_python(py, engine::Error::new(Kind::Io(reason), Phase::Connect).with_peer(peer))
}

#[pymethods]
impl PyConnection {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(py: Python<'_>, _args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        PyConnection {
            state: GilBound::new(py, RefCell::default()),
            descriptor: GilBound::new(py, RefCell::default()),
            timeout: GilBound::new(py, Cell::new(None)),
        }
    }

    /// Connects as `pool` does: with its resolver, its route and its TLS. Raises the exceptions of a request.
    fn _open(&self, py: Python<'_>, pool: &Bound<'_, Pool>) -> PyResult<()> {
        let runtime = Runtime::current(py)?;
        let config = pool.get().config()?.of_thread(py);
        let resolver = PoolResolver(pool.clone().into_any().unbind());
        let stop = Rc::new(CancelToken::default());
        let before = self.state.get(py).replace(State::Opening(stop.clone()));
        drop(before);
        let opening = Box::pin(RawConnection::open(&runtime.reactor, &config, &resolver));
        let outcome = block_on(py, &runtime, stop.unless_cancelled(opening));
        // close() by another greenlet during the wait takes precedence.
        let is_wanted = matches!(&*self.state.get(py).borrow(), State::Opening(own) if Rc::ptr_eq(own, &stop));
        let (after, result) = match outcome {
            Ok(Some(Ok(connection))) if is_wanted => {
                self.descriptor.get(py).replace(connection.descriptor().cloned());
                (State::Open(Rc::new(Held { connection, runtime })), Ok(()))
            }
            Ok(Some(Err(error))) => (State::Closed, Err(to_python(py, error))),
            Ok(_) => (State::Closed, Err(closed_meanwhile(py, &config.origin.peer))),
            Err(error) => (State::Closed, Err(error)),
        };
        if is_wanted {
            self.state.get(py).replace(after);
        }
        result
    }

    /// Becomes the connection of a response that carries another protocol after it: 101, or a 2xx to CONNECT. Returns
    /// False if the response has none, or it was taken before.
    fn _continue(&self, py: Python<'_>, response: &Bound<'_, ResponseBase>) -> bool {
        let Some((lease, runtime)) = response.get().take_upgraded(py) else { return false };
        let connection = RawConnection::of_upgrade(&runtime.reactor, *lease);
        self.descriptor.get(py).replace(connection.descriptor().cloned());
        let held = Held { connection, runtime };
        let before = self.state.get(py).replace(State::Open(Rc::new(held)));
        drop(before);
        true
    }

    /// Performs the TLS handshake as `pool` does, on the connection as it is. Closes the connection if that fails.
    fn _secure(&self, py: Python<'_>, pool: &Bound<'_, Pool>) -> PyResult<()> {
        let config = pool.get().config()?.of_thread(py);
        let Some(tls) = config.tls else { return Ok(()) };
        let limit = config.timeouts.connection;
        let secured =
            self.with(py, &BOTH, |runtime, connection| block_on(py, runtime, connection.secure(&*tls, limit)))?;
        secured.map_err(|error| {
            self.close(py);
            to_python(py, error)
        })
    }

    /// Returns `"send"` if a request can be sent, `"receive"` while the last response has not been read to its end or a
    /// greenlet sends, or `"unusable"` if the connection is closed, or cannot be used in this thread and
    /// now.
    fn _io_state(&self, py: Python<'_>) -> PyResult<&'static str> {
        let current = Runtime::current(py)?;
        let held = match &*self.state.get(py).borrow() {
            State::Open(held) => held.clone(),
            State::Opening(_) => return Ok("receive"),
            State::Closed => return Ok("unusable"),
        };
        let is_here = Rc::ptr_eq(&held.runtime, &current);
        Ok(match if is_here { held.connection.io_state() } else { IoState::Unusable } {
            IoState::Unusable => "unusable",
            IoState::Send => "send",
            IoState::Receive => "receive",
        })
    }

    /// Sends all of `data`, a bytes-like object.
    ///
    /// Raises TimeoutError if the peer accepts no bytes within the timeout of `settimeout()`, ValueError while a
    /// response has not been read to its end, and other OSErrors for errors of the network.
    fn sendall(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => PyMemoryView::from(data)?.call_method0(intern!(py, "tobytes"))?.cast_into::<PyBytes>()?,
        };
        let bytes = PyBackedBytes::from(bytes);
        let limit = self.limit(py);
        let sent = self.with(py, &[Direction::Send], |runtime, connection| {
            block_on(py, runtime, connection.send(&bytes, limit))
        })?;
        sent.map_err(|error| to_python(py, error))
    }

    /// Reads the available bytes, at most `bufsize` or 1 MiB, waiting only if there are none; `b""` after the peer has
    /// closed.
    fn recv<'py>(&self, py: Python<'py>, bufsize: isize) -> PyResult<Bound<'py, PyBytes>> {
        let bufsize = usize::try_from(bufsize).map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
        let bufsize = bufsize.min(MOST_RECEIVED);
        let limit = self.limit(py);
        let (outcome, bytes) = self.with(py, &[Direction::Receive], |runtime, connection| {
            let mut outcome = Ok(());
            let bytes = filled_by(py, bufsize, |room| {
                outcome = block_on(py, runtime, connection.receive(room, limit))?;
                Ok(())
            })?;
            Ok((outcome, bytes))
        })?;
        outcome.map(|()| bytes).map_err(|error| to_python(py, error))
    }

    /// Waits for the response to a request of that method, which has been sent, and returns it once its head is there.
    ///
    /// Raises the exceptions of a request; the attribute `received` has the bytes that arrived instead of a head.
    fn _answer<'py>(&self, py: Python<'py>, method: &str) -> PyResult<Bound<'py, ResponseBase>> {
        let (limits, limit) = (Limits::default(), self.limit(py));
        let method_kind = MethodKind::by(method.as_bytes());
        let answer = self.with(py, &BOTH, |runtime, connection| {
            // Boxed, both of them: the stack is copied at each switch while the greenlet waits.
            let answer = Box::pin(async { connection.answer(method_kind, &limits, limit).await.map(Box::new) });
            block_on(py, runtime, answer)
        })?;
        let response = answer.map_err(|error| unanswered(py, error))?;
        ResponseBase::bare(py, Runtime::current(py)?, *response)
    }

    /// Returns the file descriptor of its socket; -1 once that is closed. It stays open while a response is read from
    /// it.
    fn fileno(&self, py: Python<'_>) -> i32 {
        self.descriptor.get(py).borrow().as_ref().and_then(Descriptor::number).unwrap_or(-1)
    }

    /// Returns the fields of `TLSInfo`; None for a connection without TLS.
    fn _tls_facts<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let info = match &*self.state.get(py).borrow() {
            State::Open(held) => held.connection.facts(),
            State::Closed | State::Opening(_) => None,
        };
        info.map(|info| tls_info_of_python(py, &info)).transpose()
    }

    /// Returns the limit of one wait for the peer in seconds; None for no limit.
    fn gettimeout(&self, py: Python<'_>) -> Option<f64> {
        self.limit(py).map(|limit| limit.as_secs_f64())
    }

    /// Sets the limit of one wait for the peer, from the next wait on.
    fn settimeout(&self, py: Python<'_>, value: Option<f64>) -> PyResult<()> {
        self.timeout.get(py).set(seconds("timeout", value)?);
        Ok(())
    }

    /// Closes the connection. A response that is being read from it keeps it until it has been read.
    ///
    /// A greenlet that waits in it finds it at its end. One that waits for it to be opened gets a
    /// ConnectionAbortedError, if it waits for the resolver when that has answered. Idempotent.
    fn close(&self, py: Python<'_>) {
        let before = self.state.get(py).take();
        match &before {
            State::Open(held) => held.connection.close(),
            State::Opening(stop) => stop.cancel(),
            State::Closed => {}
        }
        drop(before);
    }
}
