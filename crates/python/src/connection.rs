//! A connection that Python code sends on and reads from by turns: what stands below the classes of http.client.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use engine::socket::Descriptor;
use engine::{Conversation, Kind, Phase, Stop, Turn};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PyTuple};
use wire::Limits;
use wire::framing::Asked;

use crate::bytes::filled_by;
use crate::client::Pool;
use crate::config::seconds;
use crate::error::{to_python, unanswered};
use crate::hub::{GilBound, Runtime, block_on};
use crate::resolve::PoolResolver;
use crate::response::{Message, facts_of_python};
use crate::types;

/// `Connection`: opened by `_open()` as a pool was told to open its own; closed until then, and after `close()`.
#[pyclass(frozen, subclass, weakref, module = "geventhttpclient._core", name = "Connection")]
pub(crate) struct PyConnection {
    state: GilBound<RefCell<State>>,
    /// Of its socket, which may be open longer than we hold it.
    descriptor: GilBound<RefCell<Option<Descriptor>>>,
    /// How long the peer is waited for at a time.
    timeout: GilBound<Cell<Option<Duration>>>,
}

#[derive(Default)]
enum State {
    #[default]
    Closed,
    /// A greenlet waits for it to be opened; how to end that.
    Opening(Rc<Stop>),
    Here(Box<Held>),
    /// A greenlet waits in it.
    InUse,
}

struct Held {
    conversation: Conversation,
    runtime: Rc<Runtime>,
}

impl PyConnection {
    /// Runs `work` on the connection, outside of any borrow, since it may wait. When it raises (something was thrown
    /// into the waiting greenlet), the connection is closed: nobody knows how far it has come.
    fn with<T>(&self, py: Python<'_>, work: impl FnOnce(&Runtime, &mut Conversation) -> PyResult<T>) -> PyResult<T> {
        let current = Runtime::current(py)?;
        // Before the connection is taken: a call that can only fail does it no harm.
        current.check_may_wait(py)?;
        let mut held = self.take(py, &current)?;
        let result = work(&current, &mut held.conversation);
        let dropped = {
            let mut state = self.state.get(py).borrow_mut();
            match (&*state, &result) {
                (State::InUse, Ok(_)) => {
                    *state = State::Here(held);
                    None
                }
                (State::InUse, Err(_)) => {
                    *state = State::Closed;
                    Some(held)
                }
                // close() of another greenlet while we waited has the last word.
                _ => Some(held),
            }
        };
        drop(dropped);
        result
    }

    fn take(&self, py: Python<'_>, current: &Rc<Runtime>) -> PyResult<Box<Held>> {
        let mut state = self.state.get(py).borrow_mut();
        match std::mem::replace(&mut *state, State::InUse) {
            State::Here(held) if Rc::ptr_eq(&held.runtime, current) => Ok(held),
            State::Here(held) => {
                *state = State::Here(held);
                let message = "the connection belongs to another thread, or to a hub that was destroyed";
                Err(PyRuntimeError::new_err(message))
            }
            before @ (State::InUse | State::Opening(_)) => {
                *state = before;
                // Making the exception may import a module, whose code may come back here.
                drop(state);
                Err(used_by_another(py))
            }
            State::Closed => {
                *state = State::Closed;
                Err(PyOSError::new_err((libc::EBADF, "the connection is closed")))
            }
        }
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

    /// Connects as `pool` does for itself: by its resolver, its route, with its TLS. Raises as a request does.
    fn _open(&self, py: Python<'_>, pool: &Bound<'_, Pool>) -> PyResult<()> {
        let runtime = Runtime::current(py)?;
        let config = pool.get().config()?.of_thread(py);
        let resolver = PoolResolver(pool.clone().into_any().unbind());
        let stop = Rc::new(Stop::default());
        let before = self.state.get(py).replace(State::Opening(stop.clone()));
        drop(before);
        let opening = Box::pin(Conversation::open(&runtime.reactor, &config, &resolver));
        let outcome = block_on(py, &runtime, stop.unless_asked(opening));
        // Only here is it ours to say what becomes of it: close() of another greenlet while we waited has the last word.
        let is_wanted = matches!(&*self.state.get(py).borrow(), State::Opening(own) if Rc::ptr_eq(own, &stop));
        let (after, result) = match outcome {
            Ok(Some(Ok(conversation))) if is_wanted => {
                self.descriptor.get(py).replace(conversation.descriptor().cloned());
                (State::Here(Box::new(Held { conversation, runtime })), Ok(()))
            }
            Ok(Some(Err(error))) => (State::Closed, Err(to_python(py, error))),
            Ok(_) => (State::Closed, Err(closed_meanwhile(py, &config.peer))),
            Err(error) => (State::Closed, Err(error)),
        };
        if is_wanted {
            self.state.get(py).replace(after);
        }
        result
    }

    /// Shakes hands as `pool` does for itself, on the connection as it is. When that fails, the connection is closed.
    fn _secure(&self, py: Python<'_>, pool: &Bound<'_, Pool>) -> PyResult<()> {
        let config = pool.get().config()?.of_thread(py);
        let Some(tls) = config.tls else { return Ok(()) };
        let limit = config.timeouts.connection;
        let secured =
            self.with(py, |runtime, conversation| block_on(py, runtime, conversation.secure(&*tls, limit)))?;
        secured.map_err(|error| {
            self.close(py);
            to_python(py, error)
        })
    }

    /// Whose turn it is: "ours", "theirs" while the last response has not been read to its end, and "nobody's" when the
    /// connection is closed, or of no use here and now.
    fn _turn(&self, py: Python<'_>) -> PyResult<&'static str> {
        let current = Runtime::current(py)?;
        // Taken out, since looking at it may close it, which may run code of the program's.
        let turn = match self.state.get(py).replace(State::InUse) {
            State::Here(mut held) => {
                let is_here = Rc::ptr_eq(&held.runtime, &current);
                let turn = if is_here { held.conversation.turn() } else { Turn::Nobody };
                let mut state = self.state.get(py).borrow_mut();
                // close() by that code has the last word.
                if matches!(*state, State::InUse) {
                    *state = State::Here(held);
                    turn
                } else {
                    drop(state);
                    drop(held);
                    Turn::Nobody
                }
            }
            State::Closed => {
                self.state.get(py).replace(State::Closed);
                Turn::Nobody
            }
            State::InUse => Turn::Theirs,
            State::Opening(stop) => {
                self.state.get(py).replace(State::Opening(stop));
                Turn::Theirs
            }
        };
        Ok(match turn {
            Turn::Nobody => "nobody's",
            Turn::Ours => "ours",
            Turn::Theirs => "theirs",
        })
    }

    /// Sends all of `data`, a bytes-like object.
    ///
    /// Raises TimeoutError when the peer takes nothing for as long as `settimeout()` says, ValueError while it is not
    /// our turn, and other OSErrors for what the network has to say.
    fn sendall(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = match data.cast::<PyBytes>() {
            Ok(bytes) => bytes.clone(),
            Err(_) => PyMemoryView::from(data)?.call_method0(intern!(py, "tobytes"))?.cast_into::<PyBytes>()?,
        };
        let bytes = PyBackedBytes::from(bytes);
        let limit = self.limit(py);
        let sent = self.with(py, |runtime, conversation| block_on(py, runtime, conversation.send(&bytes, limit)))?;
        sent.map_err(|error| to_python(py, error))
    }

    /// Reads what there is, at most `bufsize` bytes, waiting only when there is nothing; `b""` at the peer's end.
    fn recv<'py>(&self, py: Python<'py>, bufsize: usize) -> PyResult<Bound<'py, PyBytes>> {
        let limit = self.limit(py);
        let (outcome, bytes) = self.with(py, |runtime, conversation| {
            let mut outcome = Ok(());
            let bytes = filled_by(py, bufsize, |room| {
                outcome = block_on(py, runtime, conversation.receive(room, limit))?;
                Ok(())
            })?;
            Ok((outcome, bytes))
        })?;
        outcome.map(|()| bytes).map_err(|error| to_python(py, error))
    }

    /// Waits for the response to a request of that method, which has been sent, and returns it once its head is there.
    ///
    /// Raises as a request does; `received` of the exception is what had come instead of a head.
    fn _answer<'py>(&self, py: Python<'py>, method: &str) -> PyResult<Bound<'py, Message>> {
        let (limits, limit) = (Limits::default(), self.limit(py));
        let asked = Asked::by(method.as_bytes());
        let answer = self.with(py, |runtime, conversation| {
            // Neither is to lie on the stack while the greenlet waits: it is copied at each switch.
            let answer = Box::pin(async { conversation.answer(asked, &limits, limit).await.map(Box::new) });
            block_on(py, runtime, answer)
        })?;
        let response = answer.map_err(|error| unanswered(py, error))?;
        Message::bare(py, Runtime::current(py)?, *response)
    }

    /// The number of its socket; -1 once that is closed, which it is not while a response is read from it.
    fn fileno(&self, py: Python<'_>) -> i32 {
        self.descriptor.get(py).borrow().as_ref().and_then(Descriptor::number).unwrap_or(-1)
    }

    /// What `TLSInfo` is made of; None for a connection without TLS.
    fn _tls_facts<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let facts = match &*self.state.get(py).borrow() {
            State::Here(held) => held.conversation.facts().cloned(),
            State::Closed | State::InUse | State::Opening(_) => None,
        };
        facts.map(|facts| facts_of_python(py, &facts)).transpose()
    }

    /// Seconds that the peer is waited for at a time; None for ever.
    fn gettimeout(&self, py: Python<'_>) -> Option<f64> {
        self.limit(py).map(|limit| limit.as_secs_f64())
    }

    /// Sets them, from the next wait on.
    fn settimeout(&self, py: Python<'_>, value: Option<f64>) -> PyResult<()> {
        self.timeout.get(py).set(seconds("timeout", value)?);
        Ok(())
    }

    /// Closes the connection; a response that is being read from it keeps it until it has been read, and a greenlet
    /// that waits in it finds it at its end; one that waits for it to be opened gets a ConnectionAbortedError, when
    /// the resolver has answered if that is whom it waits for. More than once does no harm.
    fn close(&self, py: Python<'_>) {
        let before = self.state.get(py).take();
        match &before {
            State::InUse => {
                let descriptor = self.descriptor.get(py).borrow().clone();
                descriptor.iter().for_each(Descriptor::shut_down);
            }
            State::Opening(stop) => stop.ask(),
            State::Closed | State::Here(_) => {}
        }
        drop(before);
    }
}
