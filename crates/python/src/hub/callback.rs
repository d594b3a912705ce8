//! The functions that gevent's loop calls when a runtime has something to do.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

use crate::hub::Runtime;
use crate::hub::gil::{GilBound, PendingError};
use crate::hub::greenlet::{current_greenlet, switch};
use crate::hub::registry::after_fork_in_child;
use crate::panic::as_exception;

/// Reason for a callback of the loop.
#[derive(Clone, Copy)]
pub(super) enum Event {
    /// The reactor's descriptor is readable.
    Io,
    /// The ready list was filled outside of the callback.
    Ready,
    /// The earliest deadline may have passed.
    Timer,
}

/// A callback for the loop.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(super) struct Callback {
    runtime: GilBound<RefCell<Weak<Runtime>>>,
    event: Event,
}

impl Callback {
    /// Creates one that does nothing before it is bound to a runtime.
    pub(super) fn new(py: Python<'_>, event: Event) -> PyResult<Py<Self>> {
        Py::new(py, Callback { runtime: GilBound::new(py, RefCell::default()), event })
    }

    pub(super) fn bind_to(&self, py: Python<'_>, runtime: &Rc<Runtime>) {
        self.runtime.get(py).replace(Rc::downgrade(runtime));
    }
}

#[pymethods]
impl Callback {
    /// Reports a panic of this module through the hub: gevent stops a watcher whose callback raises, and every later
    /// request of the thread would hang.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let runtime = self.runtime.get(py).borrow().clone();
        match catch_unwind(AssertUnwindSafe(|| on_event(py, &runtime, self.event))) {
            Ok(result) => result,
            Err(panic) => after_panic(py, &runtime, &*panic),
        }
    }
}

/// Serves an event. Raises only exceptions that the hub itself raises when an error is reported to it.
///
/// The runtime is not held while greenlets run: a thread mostly ends in one that was woken here, and the hub's
/// stack stays as it is then, for good, with whatever it holds.
fn on_event(py: Python<'_>, runtime: &Weak<Runtime>, event: Event) -> PyResult<()> {
    let Some(taken) = runtime.upgrade().map(|runtime| runtime.take_events(py, event)) else { return Ok(()) };
    let result = match taken {
        Ok(false) => return Ok(()),
        Ok(true) => run_ready(py, runtime),
        Err(error) => Err(error),
    };
    if let Some(runtime) = runtime.upgrade() {
        runtime.end_callback(py, result.is_err());
    }
    result
}

/// Switches into the greenlets that are ready, one after the other.
fn run_ready(py: Python<'_>, runtime: &Weak<Runtime>) -> PyResult<()> {
    loop {
        let Some(runtime) = runtime.upgrade() else { return Ok(()) };
        let next = runtime.ready.get(py).queue.borrow_mut().pop_front();
        let Some(waker) = next else { return Ok(()) };
        let task = waker.0.get(py);
        // It may have been killed, or switched to by the program, since it was woken.
        if !task.is_parked() {
            continue;
        }
        let greenlet = task.greenlet.borrow().as_ref().map(|greenlet| greenlet.clone_ref(py));
        let Some(greenlet) = greenlet else { continue };
        let hub = runtime.hub.clone_ref(py);
        drop((waker, runtime));
        if !switch(py, &greenlet) {
            report(py, &hub, &greenlet)?;
        }
    }
}

/// Reports a panic of the callback, and schedules another one for the remaining work.
#[cold]
fn after_panic(py: Python<'_>, runtime: &Weak<Runtime>, panic: &(dyn Any + Send)) -> PyResult<()> {
    let Some(runtime) = runtime.upgrade() else { return Ok(()) };
    let ready = runtime.ready.get(py);
    ready.in_callback.set(false);
    ready.schedule(py);
    runtime.sync_loop(py);
    as_exception(panic).restore(py);
    report(py, &runtime.hub, &runtime.hub)
}

/// Reports the error that is set to the hub: a raw greenlet that was woken here has died of it.
fn report(py: Python<'_>, hub: &Py<PyAny>, greenlet: &Py<PyAny>) -> PyResult<()> {
    let [kind, value, traceback] = PendingError::set_aside(py).into_parts(py);
    let arguments = (greenlet, kind, value, traceback);
    hub.call_method1(py, intern!(py, "handle_error"), arguments).map(drop)
}

impl Runtime {
    /// Has the reactor take its events and wake tasks. False if the event is not to be served here.
    fn take_events(&self, py: Python<'_>, event: Event) -> PyResult<bool> {
        let ready = self.ready.get(py);
        match event {
            Event::Ready => ready.scheduled.set(false),
            Event::Timer => self.watcher.disarm(),
            Event::Io => {}
        }
        if self.reactor.is_inherited() {
            // A fork of which Python was not notified.
            after_fork_in_child(py);
        }
        // Neither a loop run from inside a greenlet is served, nor a callback within the callback.
        if ready.in_callback.get() || !current_greenlet(py)?.is(&self.hub) {
            return Ok(false);
        }
        ready.in_callback.set(true);
        let result = match event {
            // One round only: other users of the loop get their turn before the next.
            Event::Io => self.reactor.turn(Some(Duration::ZERO)),
            Event::Timer => {
                self.reactor.expire(Instant::now());
                Ok(())
            }
            Event::Ready => {
                self.reactor.run_tasks();
                Ok(())
            }
        };
        if let Err(error) = result {
            PyErr::from(error).restore(py);
            report(py, &self.hub, &self.hub)?;
        }
        let interrupt = ready.interrupt.take();
        if let Some(interrupt) = interrupt {
            interrupt.restore(py);
            report(py, &self.hub, &self.hub)?;
        }
        Ok(true)
    }

    fn end_callback(&self, py: Python<'_>, has_failed: bool) {
        let ready = self.ready.get(py);
        if let Some(extension) = self.extension.get() {
            // A hub that is gone spawns no greenlet any more.
            extension.after_callback(py).unwrap_or_else(|error| ready.keep_interrupt(py, error));
        }
        // Sends the data that the woken greenlets have queued, in one piece.
        self.reactor.run_tasks();
        ready.in_callback.set(false);
        if self.reactor.has_work() || !ready.queue.borrow().is_empty() || ready.interrupt.borrow().is_some() {
            ready.schedule(py);
        }
        self.sync_loop(py);
        if has_failed {
            // gevent stops a watcher whose callback fails. The hub may yet live on (`destroy()` in a greenlet that was
            // woken here is not carried to its end): the next wait starts the watcher again.
            self.watcher.stop(py).unwrap_or_else(|error| ready.keep_interrupt(py, error));
        }
    }

    /// Updates the loop's reference and timer for the current waits. Does nothing if the loop is gone.
    fn sync_loop(&self, py: Python<'_>) {
        let synced = self.sync_ref(py).and_then(|()| self.arm_timer(py));
        synced.unwrap_or_else(|error| self.keep_interrupt(py, error));
    }
}
