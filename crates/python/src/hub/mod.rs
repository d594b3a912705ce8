//! The hub: where Rust futures and gevent's event loop meet.
//!
//! A greenlet is an executor: [`block_on`] polls a future; while it is pending, the greenlet switches to the hub. The
//! hub's loop watches the reactor's one descriptor; its callback lets the reactor wake tasks, and switches into their
//! greenlets one by one.
//!
//! From the bottom up: [`gil`] and [`greenlet`] wrap the interpreter and greenlet, [`task`] is a waiting greenlet,
//! [`watcher`] holds the watchers of the loop. This file joins them in a [`Runtime`]; [`registry`] knows all of these,
//! [`callback`] serves their events, and [`lifecycle`] creates and closes the runtime of a thread.
//!
//! Invariants, without which greenlets would hang or the process crash:
//! - Nothing is borrowed while a greenlet is switched, and the future is the only thing on the stack that is alive.
//! - The callback never raises: gevent would stop the watcher, and every later request would hang.
//! - A spurious switch is harmless: the future is polled again. So is an entry of the ready list whose greenlet no
//!   longer waits.
//! - The watcher counts for the loop only while a greenlet waits for the kernel, so that a program whose greenlets
//!   wait for nothing ends as it would without this package.

pub(crate) mod callback;
pub(crate) mod gil;
pub(crate) mod greenlet;
pub(crate) mod lifecycle;
pub(crate) mod registry;
mod task;
mod watcher;

use std::any::Any;
use std::cell::{OnceCell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use engine::Reactor;
use engine::rt::reactor::forks;
use pyo3::prelude::*;
use slab::Slab;

use crate::hub::gil::GilBound;
use crate::hub::greenlet::{current_greenlet, switch};
use crate::hub::task::{Ready, TaskWaker};
use crate::hub::watcher::Watcher;
use crate::types;

/// One hub's reactor, and all that belongs to it.
pub(crate) struct Runtime {
    hub: Py<PyAny>,
    pub(crate) reactor: Rc<Reactor>,
    ready: Arc<GilBound<Ready>>,
    watcher: Watcher,
    /// Greenlets in [`block_on`].
    parked: RefCell<Slab<Arc<TaskWaker>>>,
    extension: OnceCell<Box<dyn Extension>>,
}

/// State that other modules keep with a runtime. It lives as long as that does.
pub(crate) trait Extension: Any {
    /// Called in the hub's greenlet at the end of each callback of the loop. The hub must not wait: code that may has
    /// to be left to a greenlet that is spawned here.
    fn after_callback(&self, py: Python<'_>) -> PyResult<()>;

    /// Gives up everything that uses the reactor, whose hub is gone or whose process was forked. Returns it for the
    /// caller to drop, since that may run code of the program.
    fn give_up(&self) -> Box<dyn Any>;
}

impl Runtime {
    /// Returns the state that other modules keep with this runtime, created by `create` unless it exists.
    pub(crate) fn extension(&self, create: impl FnOnce() -> Box<dyn Extension>) -> &dyn Extension {
        &**self.extension.get_or_init(create)
    }

    /// Returns the current greenlet. Raises BlockingSwitchOutError in the hub's own, which must not wait.
    pub(crate) fn check_may_wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let greenlet = current_greenlet(py)?;
        if greenlet.is(&self.hub) { Err(would_block_the_hub(py)) } else { Ok(greenlet) }
    }

    /// Drops an error that cannot be handled, unless it is an interrupt, which the hub gets.
    pub(crate) fn keep_interrupt(&self, py: Python<'_>, error: PyErr) {
        self.ready.get(py).keep_interrupt(py, error);
    }

    /// Makes the loop's callback run soon.
    pub(crate) fn schedule(&self, py: Python<'_>) {
        self.ready.get(py).schedule(py);
    }

    /// Makes the watcher count for the loop if, and only if, some greenlet waits for the kernel.
    fn sync_ref(&self, py: Python<'_>) -> PyResult<()> {
        let wanted = self.parked.borrow().len() > self.reactor.passive_waits();
        self.watcher.sync_ref(py, wanted)
    }

    /// Sets the timer to the earliest deadline, unless it fires before that anyway.
    fn arm_timer(&self, py: Python<'_>) -> PyResult<()> {
        self.watcher.arm_timer(py, self.reactor.next_deadline())
    }

    /// Switches to the hub until the greenlet is woken, killed, or switched to by the program.
    fn park(&self, py: Python<'_>, waker: &Arc<TaskWaker>) -> PyResult<()> {
        let task = waker.0.get(py);
        let process = forks();
        task.park(process);
        let key = self.parked.borrow_mut().insert(waker.clone());
        // An error stays where Python has it: the stack is copied with every switch, and has no room for one.
        let switched = match self.prepare(py, waker) {
            Ok(()) => switch(py, &self.hub),
            Err(error) => {
                error.restore(py);
                false
            }
        };
        task.unpark();
        // A fork's child starts anew.
        if process == forks() {
            let parked = self.parked.borrow_mut().try_remove(key);
            drop(parked);
        }
        if switched { Ok(()) } else { Err(PyErr::fetch(py)) }
    }

    /// Prepares the loop for the wait. Not inlined, for the reason that [`poll`] is not.
    #[inline(never)]
    fn prepare(&self, py: Python<'_>, waker: &Arc<TaskWaker>) -> PyResult<()> {
        let ready = self.ready.get(py);
        self.arm_timer(py)?;
        if !ready.in_callback.get() {
            // In the callback this is left to its end: most greenlets park again before that.
            self.sync_ref(py)?;
        }
        // Last, since the calls above may run code of the program (a signal handler, a `__del__`) that waits in this
        // greenlet, and so takes its switches.
        if waker.0.get(py).is_notified() {
            // Woken while it was being polled, perhaps by itself.
            ready.push(py, waker.clone());
        }
        Ok(())
    }
}

/// Runs a future as the current greenlet, letting others run while it waits. An exception that is thrown into the
/// greenlet (kill, Timeout, KeyboardInterrupt) drops the future and is raised unchanged.
pub(crate) fn block_on<F: Future>(py: Python<'_>, runtime: &Runtime, future: F) -> PyResult<F::Output> {
    let result = drive(py, runtime, future);
    if result.is_err() && !runtime.ready.get(py).in_callback.get() {
        // Nothing else would tell the loop that there is nothing to wait for: only now, since the future referenced as
        // long as it was there. A loop that is gone needs no notification.
        runtime.sync_ref(py).unwrap_or_else(|error| runtime.keep_interrupt(py, error));
    }
    if result.is_ok() {
        // A connection may have become idle, and is not to stay so for ever.
        runtime.arm_timer(py)?;
    }
    result
}

#[inline(always)]
fn drive<F: Future>(py: Python<'_>, runtime: &Runtime, future: F) -> PyResult<F::Output> {
    let greenlet = current_greenlet(py)?;
    if greenlet.is(&runtime.hub) {
        return Err(would_block_the_hub(py));
    }
    let waker = TaskWaker::new(py, greenlet.unbind(), runtime.ready.clone());
    let for_future = Waker::from(waker.clone());
    let mut future = pin!(future);
    loop {
        waker.0.get(py).clear_notified();
        if let Poll::Ready(output) = poll(future.as_mut(), &for_future) {
            return Ok(output);
        }
        runtime.park(py, &waker)?;
    }
}

/// Polls a future. Not inlined, so that the stack that polling needs is not copied while the greenlet is parked.
#[inline(never)]
fn poll<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

#[cold]
fn would_block_the_hub(py: Python<'_>) -> PyErr {
    let message = "Impossible to call blocking function in the event loop callback";
    match types::blocking_switch_out(py) {
        Ok(kind) => PyErr::from_type(kind.clone(), message),
        Err(error) => error,
    }
}
