//! Tasks: greenlets that wait in `block_on`, their wakers, and the list of those that are ready to run.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Wake;
use std::thread::{self, ThreadId};

use engine::rt::reactor::forks;
use pyo3::prelude::*;

use crate::error::is_interrupt;
use crate::hub::gil::{GilBound, PendingError, attached_by_engine};

/// A greenlet in `block_on`.
pub(super) struct Task {
    /// None once its hub has been destroyed: nothing can switch to it then, and references on its own stack must not
    /// keep it alive.
    pub(super) greenlet: RefCell<Option<Py<PyAny>>>,
    ready: Arc<GilBound<Ready>>,
    /// Switched out, and to be switched in when woken.
    parked: Cell<bool>,
    /// The process that it was parked in, as [`forks`] counts them.
    process: Cell<u32>,
    /// Woken since it was last polled.
    notified: Cell<bool>,
}

impl Task {
    /// Returns whether it is to be switched in when woken. In the child of a fork copies of the parent's waiters exist:
    /// a queue that continued there would send a request twice.
    pub(super) fn is_parked(&self) -> bool {
        self.parked.get() && self.process.get() == forks()
    }

    /// Notes that it is switched out from here on, in the process of that number.
    pub(super) fn park(&self, process: u32) {
        self.process.set(process);
        self.parked.set(true);
    }

    /// Notes that it runs again: a late entry of the ready list has no effect.
    pub(super) fn unpark(&self) {
        self.parked.set(false);
    }

    pub(super) fn is_notified(&self) -> bool {
        self.notified.get()
    }

    pub(super) fn clear_notified(&self) {
        self.notified.set(false);
    }
}

/// The waker of a task.
pub(super) struct TaskWaker(pub(super) GilBound<Task>);

impl TaskWaker {
    pub(super) fn new(py: Python<'_>, greenlet: Py<PyAny>, ready: Arc<GilBound<Ready>>) -> Arc<Self> {
        Arc::new(TaskWaker(GilBound::new(
            py,
            Task {
                greenlet: RefCell::new(Some(greenlet)),
                ready,
                parked: Cell::new(false),
                process: Cell::new(0),
                notified: Cell::new(false),
            },
        )))
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        let py = attached_by_engine();
        let task = self.0.get(py);
        if task.notified.replace(true) || !task.is_parked() {
            return;
        }
        let ready = task.ready.clone();
        ready.get(py).push(py, self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.clone().wake();
    }
}

/// The tasks that are to be switched in.
pub(super) struct Ready {
    pub(super) queue: RefCell<VecDeque<Arc<TaskWaker>>>,
    pub(super) thread: ThreadId,
    /// The reactor's callback is running (and will run the queue), however many greenlets deep.
    pub(super) in_callback: Cell<bool>,
    /// The loop has been asked to run the queue.
    pub(super) scheduled: Cell<bool>,
    /// `loop.run_callback` and `loop.run_callback_threadsafe`.
    run_callback: Py<PyAny>,
    run_callback_threadsafe: Py<PyAny>,
    /// Called by the loop to run the queue; None once the hub is gone.
    pub(super) callback: RefCell<Option<Py<PyAny>>>,
    /// An interrupt that arrived in code that must not raise; for the hub, which passes it to the main greenlet.
    pub(super) interrupt: RefCell<Option<PyErr>>,
}

impl Ready {
    /// Creates the list of this thread's loop.
    pub(super) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Ready {
            queue: RefCell::default(),
            thread: thread::current().id(),
            in_callback: Cell::new(false),
            scheduled: Cell::new(false),
            run_callback: event_loop.getattr("run_callback")?.unbind(),
            run_callback_threadsafe: event_loop.getattr("run_callback_threadsafe")?.unbind(),
            callback: RefCell::new(None),
            interrupt: RefCell::default(),
        })
    }

    pub(super) fn push(&self, py: Python<'_>, task: Arc<TaskWaker>) {
        self.queue.borrow_mut().push_back(task);
        self.schedule(py);
    }

    /// Makes the callback run soon.
    pub(super) fn schedule(&self, py: Python<'_>) {
        if self.in_callback.get() || self.scheduled.get() {
            return;
        }
        let callback = self.callback.borrow().as_ref().map(|callback| callback.clone_ref(py));
        let Some(callback) = callback else { return };
        self.scheduled.set(true);
        let home = self.thread == thread::current().id();
        let run = if home { &self.run_callback } else { &self.run_callback_threadsafe };
        let pending = PendingError::set_aside(py);
        let mut asked = run.call1(py, (&callback,));
        if let Err(error) = &asked
            && is_interrupt(py, error)
        {
            // Ctrl-C, before or after the loop has made a note of it: twice does no harm.
            self.interrupt.replace(Some(error.clone_ref(py)));
            asked = run.call1(py, (&callback,));
        }
        if asked.is_err() {
            // The loop is being destroyed, and with it the greenlets that wait on it.
            self.scheduled.set(false);
        }
        pending.put_back(py);
    }

    /// Drops an error that cannot be handled, unless it is an interrupt, which the hub gets.
    pub(super) fn keep_interrupt(&self, py: Python<'_>, error: PyErr) {
        if is_interrupt(py, &error) {
            self.interrupt.replace(Some(error));
            self.schedule(py);
        }
    }
}

/// Makes the callback run soon: there is work for the reactor that no event announces.
pub(super) struct LoopWaker(pub(super) Arc<GilBound<Ready>>);

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        let py = attached_by_engine();
        self.0.get(py).schedule(py);
    }
}
