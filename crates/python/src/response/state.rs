//! The state of a response: its head, its body and its owner. Nothing of it is borrowed while a greenlet waits.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::rc::Rc;
use std::task::Waker;

use engine::pool::held::HeldBody;
use engine::pool::lease::Lease;
use engine::tls::TlsInfo;
use engine::{CancelToken, Incoming, Response, Timings};
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyString, PyType, PyWeakrefMethods, PyWeakrefReference};
use wire::{ResponseError, ResponseHead};

use crate::error::{response_error, to_python};
use crate::hub::Runtime;
use crate::hub::gil::GilBound;
use crate::types;

/// A response's head, body and connection; empty by default.
#[derive(Default)]
pub(super) struct State {
    pub(super) head: Option<Rc<ResponseHead>>,
    pub(super) body: BodyState,
    pub(super) request_head: Vec<u8>,
    runtime: Option<Rc<Runtime>>,
    /// True if the response asks to close the connection after it.
    pub(super) close: bool,
    pub(super) tls: Option<Rc<TlsInfo>>,
    pub(super) extras: Option<Extras>,
    /// The timings of the request, up to the head.
    pub(super) timings: Option<Timings>,
    /// Bytes of the response at the last check: a body in use cannot be asked.
    pub(super) received: u64,
    /// Woken at the end of the next read: by a task that would have read the body into memory meanwhile.
    reading_ahead: Option<Waker>,
    /// The greenlet that owns the response, while its pool knows it.
    owner: Option<Rc<Owner>>,
    /// The connection after an upgrade, until it is taken.
    upgraded: Option<Upgraded>,
    /// A bytearray with the unread bytes that was handed out: its owner may have changed it.
    pub(super) buffer: Option<Py<PyByteArray>>,
}

/// A connection that carries another protocol, and the runtime that it belongs to.
pub(crate) type Upgraded = (Box<Lease>, Rc<Runtime>);

/// Values that the client passes on to its responses.
pub(super) struct Extras {
    pub(super) method: Py<PyString>,
    pub(super) pool: Option<Py<PyAny>>,
    pub(super) block_size: usize,
    pub(super) headers_type: Py<PyType>,
}

/// The body of a response, and whether it can be read now.
#[derive(Default)]
pub(super) enum BodyState {
    /// There never was one.
    #[default]
    Absent,
    /// Present, and not yet read to its end.
    Here(Box<Incoming>),
    /// A greenlet waits in it; the token ends that wait, while there is something to wait for.
    InUse(Option<Rc<CancelToken>>),
    /// A greenlet was interrupted while it waited: the connection is closed, and some of the body is lost.
    Lost,
    /// Given up by `release()` before its end.
    Released,
}

impl State {
    /// Takes out the values that are not needed once the connection is no longer held. They must be dropped outside of
    /// the borrow, since the last response of a client may be what keeps its pool open.
    fn take_unneeded(&mut self) -> (Option<Rc<Runtime>>, Option<Py<PyAny>>) {
        (self.runtime.take(), self.extras.as_mut().and_then(|extras| extras.pool.take()))
    }

    /// Takes the body out if it can be read.
    fn take_body(&mut self) -> Option<Box<Incoming>> {
        match std::mem::replace(&mut self.body, BodyState::InUse(None)) {
            BodyState::Here(body) => Some(body),
            other => {
                self.body = other;
                None
            }
        }
    }
}

/// The state of one response, for those that hold the GIL.
pub(super) struct SharedState(GilBound<RefCell<State>>);

impl SharedState {
    pub(super) fn new(py: Python<'_>) -> Self {
        SharedState(GilBound::new(py, RefCell::default()))
    }

    pub(super) fn borrow(&self, py: Python<'_>) -> Ref<'_, State> {
        self.0.get(py).borrow()
    }

    pub(super) fn borrow_mut(&self, py: Python<'_>) -> RefMut<'_, State> {
        self.0.get(py).borrow_mut()
    }

    pub(super) fn head(&self, py: Python<'_>) -> Option<Rc<ResponseHead>> {
        self.borrow(py).head.clone()
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.0.while_collecting().try_borrow() else { return Ok(()) };
        if let Some(extras) = &state.extras {
            visit.call(&extras.pool)?;
            visit.call(&extras.headers_type)?;
        }
        visit.call(&state.buffer)
    }

    /// Makes it the state of an empty response again.
    pub(super) fn clear(&self, py: Python<'_>) {
        let state = self.0.get(py).take();
        drop(state);
    }

    /// Makes it the state of that response.
    pub(super) fn fill(&self, py: Python<'_>, runtime: Rc<Runtime>, response: Response, mut extras: Option<Extras>) {
        let Response { head, mut body, timings, request_head, tls, upgraded, .. } = response;
        let upgraded = upgraded.map(|lease| (lease, runtime.clone()));
        // A response that waits for nothing more needs no hub, and no pool.
        let (runtime, pool) = if body.is_detached() {
            (None, extras.as_mut().and_then(|extras| extras.pool.take()))
        } else {
            (Some(runtime), None)
        };
        let filled = State {
            close: body.close_cause().is_some(),
            head: Some(Rc::new(head)),
            request_head,
            runtime,
            tls,
            extras,
            timings: Some(timings),
            received: body.received(),
            reading_ahead: None,
            owner: None,
            upgraded,
            buffer: None,
            body: BodyState::Here(Box::new(body)),
        };
        let before = self.0.get(py).replace(filled);
        drop((before, pool));
    }

    /// Returns whether the response still holds a connection.
    pub(super) fn is_attached(&self, py: Python<'_>) -> bool {
        match &self.borrow(py).body {
            BodyState::Here(body) => !body.is_detached(),
            BodyState::InUse(_) => true,
            _ => false,
        }
    }

    /// Notes that the pool knows the response, by `hold` of its body.
    pub(super) fn hold(&self, py: Python<'_>, owner: Rc<Owner>, hold: impl FnOnce(&mut Incoming)) {
        let Some(mut body) = self.borrow_mut(py).take_body() else { return };
        // Outside of the borrow: other tasks are woken, perhaps.
        hold(&mut body);
        let mut state = self.borrow_mut(py);
        state.body = BodyState::Here(body);
        state.owner = Some(owner);
    }

    /// Lends the body for one poll: see `Held::lend`.
    pub(super) fn lend(&self, py: Python<'_>, waker: Option<&Waker>, work: &mut dyn FnMut(&mut dyn HeldBody)) -> bool {
        let mut body = {
            let mut state = self.borrow_mut(py);
            let taken = state.take_body();
            let is_used = taken.is_some() || matches!(state.body, BodyState::InUse(_));
            let replaced = std::mem::replace(&mut state.reading_ahead, waker.filter(|_| is_used).cloned());
            // A waker may be the last that holds a greenlet.
            drop(state);
            drop(replaced);
            let Some(taken) = taken else { return false };
            taken
        };
        work(&mut *body);
        let mut state = self.borrow_mut(py);
        state.received = body.received();
        let done = if body.is_detached() { state.take_unneeded() } else { (None, None) };
        let before = std::mem::replace(&mut state.body, BodyState::Here(body));
        drop(state);
        drop((before, done));
        true
    }

    /// Runs `work` on the body, outside of any borrow, since it may wait. Returns `nothing` without a body. If `work`
    /// raises (something was thrown into the waiting greenlet), the body is dropped, and its connection with it.
    pub(super) fn with_body<T>(
        &self,
        py: Python<'_>,
        nothing: T,
        work: impl FnOnce(&Runtime, &mut Incoming) -> PyResult<engine::Result<T>>,
    ) -> PyResult<T> {
        let current = Runtime::current(py)?;
        let Some(mut body) = self.use_body(py, &current)? else { return Ok(nothing) };
        match work(&current, &mut body) {
            Ok(result) => self.put_back(py, body, result),
            Err(error) => {
                self.lose_body(py);
                Err(error)
            }
        }
    }

    /// Takes the body out for the current greenlet, which has the response from here on. None if there is no body.
    fn use_body(&self, py: Python<'_>, current: &Rc<Runtime>) -> PyResult<Option<Box<Incoming>>> {
        // Before the body is taken: a call that can only fail does it no harm. A greenlet that waits is not kept by its
        // own stack, so that this reference ends here.
        let greenlet = current.check_may_wait(py)?;
        let mut state = self.borrow_mut(py);
        let is_elsewhere = state.runtime.as_ref().is_some_and(|runtime| !Rc::ptr_eq(current, runtime));
        // No exception is made within the borrow: it may import a module, whose code may call this response.
        match &mut state.body {
            BodyState::Here(body) if is_elsewhere && !body.is_detached() => {
                drop(state);
                let message = "the response belongs to another thread, or to a hub that was destroyed";
                return Err(PyRuntimeError::new_err(message));
            }
            BodyState::Here(_) => {}
            BodyState::InUse(_) => {
                drop(state);
                return Err(read_by_another(py));
            }
            BodyState::Absent | BodyState::Released => return Ok(None),
            BodyState::Lost => {
                drop(state);
                return Err(lost(py));
            }
        }
        let Some(mut body) = state.take_body() else { return Ok(None) };
        state.body = BodyState::InUse(body.stop());
        let is_other = |owner: &&Rc<Owner>| owner.task.get() != greenlet.as_ptr().addr();
        let new_owner = state.owner.as_ref().filter(is_other).cloned();
        drop(state);
        if let Some(owner) = new_owner {
            // Without the memory for that, the one before counts.
            let _ = owner.change(&greenlet);
        }
        Ok(Some(body))
    }

    /// Puts back a body that was used. Returns the result of its use, with the time since the request began if it
    /// failed.
    fn put_back<T>(&self, py: Python<'_>, body: Box<Incoming>, result: engine::Result<T>) -> PyResult<T> {
        let mut body = body;
        let mut state = self.borrow_mut(py);
        let reading_ahead = state.reading_ahead.take();
        let started = state.timings.as_ref().map(|timings| timings.started);
        state.received = body.received();
        let done = if body.is_detached() { state.take_unneeded() } else { (None, None) };
        // release() by another greenlet during the wait takes precedence. A body that it cut short must not pass for
        // one that the peer has ended.
        let (late, result) = match state.body {
            BodyState::InUse(_) => {
                state.body = BodyState::Here(body);
                (None, result)
            }
            _ if result.is_err() || body.is_complete() => (Some(body), result),
            _ => (None, Err(body.give_up("the response was released"))),
        };
        drop(state);
        drop((late, done));
        if let Some(waker) = reading_ahead {
            waker.wake();
        }
        result.map_err(|error| match started {
            Some(started) => to_python(py, error.after(started.elapsed())),
            None => to_python(py, error),
        })
    }

    /// Notes that the greenlet that used the body was interrupted.
    fn lose_body(&self, py: Python<'_>) {
        let mut state = self.borrow_mut(py);
        state.body = BodyState::Lost;
        let done = state.take_unneeded();
        drop(state);
        drop(done);
    }

    /// Takes out the connection after an upgrade.
    pub(super) fn take_upgraded(&self, py: Python<'_>) -> Option<Upgraded> {
        self.borrow_mut(py).upgraded.take()
    }

    /// Gives the body up, and ends the wait of a greenlet that reads it. Closes an upgraded connection that was not
    /// taken.
    pub(super) fn release(&self, py: Python<'_>) {
        drop(self.take_upgraded(py));
        let mut state = self.borrow_mut(py);
        match &state.body {
            BodyState::Here(body) if !body.is_detached() => {
                let body = std::mem::replace(&mut state.body, BodyState::Released);
                let done = state.take_unneeded();
                // Closing may wake others, which must not find the state borrowed.
                drop(state);
                drop((body, done));
            }
            BodyState::InUse(Some(_)) => {
                let BodyState::InUse(Some(stop)) = std::mem::replace(&mut state.body, BodyState::Released) else {
                    return;
                };
                drop(state);
                stop.cancel();
            }
            BodyState::Here(_) | BodyState::InUse(None) | BodyState::Absent | BodyState::Lost | BodyState::Released => {
            }
        }
    }
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
    response_error(py, &ResponseError::EarlyEnd("an earlier read of its body was interrupted"))
}

/// The greenlet that has a response: it has received it, or was the last to read it. It is not kept alive.
pub(super) struct Owner {
    pub(super) task: Cell<usize>,
    greenlet: RefCell<Py<PyWeakrefReference>>,
}

impl Owner {
    pub(super) fn new(greenlet: &Bound<'_, PyAny>) -> PyResult<Self> {
        let known = RefCell::new(PyWeakrefReference::new(greenlet)?.unbind());
        Ok(Owner { task: Cell::new(greenlet.as_ptr().addr()), greenlet: known })
    }

    pub(super) fn has_ended(&self, py: Python<'_>) -> bool {
        let known = self.greenlet.borrow().clone_ref(py);
        let Some(greenlet) = known.bind(py).upgrade() else { return true };
        greenlet.getattr(intern!(py, "dead")).is_ok_and(|dead| dead.is_truthy().unwrap_or(false))
    }

    #[cold]
    fn change(&self, greenlet: &Bound<'_, PyAny>) -> PyResult<()> {
        let before = self.greenlet.replace(PyWeakrefReference::new(greenlet)?.unbind());
        self.task.set(greenlet.as_ptr().addr());
        drop(before);
        Ok(())
    }
}
