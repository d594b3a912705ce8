//! Watchers of the loop for a reactor: the descriptor that is readable when there are events, and the timer of the
//! earliest deadline.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

/// gevent's I/O watcher of a reactor's descriptor, and its timer.
pub(super) struct Watcher {
    event_loop: Py<PyAny>,
    io: Py<PyAny>,
    on_io: Py<PyAny>,
    /// Fires at the earliest deadline, or before.
    timer: RefCell<Option<Py<PyAny>>>,
    on_timer: Py<PyAny>,
    /// libuv's I/O watchers share one handle whose `ref` cannot be changed: they are stopped and started instead.
    is_libuv: bool,
    /// Whether the I/O watcher was started, and not stopped by gevent since.
    started: Cell<bool>,
    /// Whether the I/O watcher counts for the loop.
    referenced: Cell<bool>,
    /// The time that the timer is set to.
    armed: Cell<Option<Instant>>,
}

impl Watcher {
    /// Creates the watcher of a reactor's descriptor, not yet started.
    pub(super) fn new(
        event_loop: &Bound<'_, PyAny>,
        descriptor: i32,
        on_io: Py<PyAny>,
        on_timer: Py<PyAny>,
    ) -> PyResult<Self> {
        const READ: i32 = 1;
        let is_libuv = event_loop.get_type().module()?.to_cow()?.contains("libuv");
        let io = event_loop.call_method1("io", (descriptor, READ))?;
        Ok(Watcher {
            event_loop: event_loop.clone().unbind(),
            io: io.unbind(),
            on_io,
            timer: RefCell::new(None),
            on_timer,
            is_libuv,
            started: Cell::new(false),
            referenced: Cell::new(false),
            armed: Cell::new(None),
        })
    }

    /// Returns whether it watches for that loop.
    pub(super) fn is_of(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        event_loop.is(&self.event_loop)
    }

    /// Makes the I/O watcher count for the loop if `wanted`, and only then.
    pub(super) fn sync_ref(&self, py: Python<'_>, wanted: bool) -> PyResult<()> {
        if wanted == self.referenced.get() && (self.started.get() || self.is_libuv) {
            return Ok(());
        }
        let io = self.io.bind(py);
        if !self.started.replace(true) && !self.is_libuv {
            // Started once and for all; only whether it counts changes.
            io.setattr(intern!(py, "ref"), false)?;
            io.call_method1(intern!(py, "start"), (&self.on_io,))?;
        }
        match (self.is_libuv, wanted) {
            (false, _) => io.setattr(intern!(py, "ref"), wanted)?,
            (true, true) => drop(io.call_method1(intern!(py, "start"), (&self.on_io,))?),
            (true, false) => drop(io.call_method0(intern!(py, "stop"))?),
        }
        self.referenced.set(wanted);
        Ok(())
    }

    /// Sets the timer to the earliest deadline, unless it fires before that anyway.
    pub(super) fn arm_timer(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<()> {
        let Some(deadline) = deadline else { return Ok(()) };
        if self.armed.get().is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        // libev's and libuv's clocks end long before an Instant's does: a far deadline is checked again after a day.
        let wait = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(86_400));
        // libuv counts in milliseconds, and gevent warns of a timer below one: with warnings as errors there would be
        // no timer.
        let wait = wait.max(Duration::from_millis(1));
        // A gevent timer keeps the time that it was made with.
        let timer = self.event_loop.bind(py).call_method1(intern!(py, "timer"), (wait.as_secs_f64(),))?;
        timer.setattr(intern!(py, "ref"), false)?;
        timer.call_method1(intern!(py, "start"), (&self.on_timer,))?;
        let outdated = self.timer.replace(Some(timer.unbind()));
        discard(py, outdated.as_ref());
        self.armed.set(Some(deadline));
        Ok(())
    }

    /// Notes that the timer has gone off.
    pub(super) fn disarm(&self) {
        self.armed.set(None);
    }

    /// Stops the I/O watcher as gevent does when a callback fails; the next `sync_ref` starts it again.
    pub(super) fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let stopped = self.io.call_method0(py, intern!(py, "stop"));
        self.started.set(false);
        self.referenced.set(false);
        stopped.map(drop)
    }

    /// Stops and closes both. Their loop may be gone already.
    pub(super) fn close(&self, py: Python<'_>) {
        discard(py, Some(&self.io));
        discard(py, self.timer.take().as_ref());
        self.referenced.set(false);
    }

    /// Resets both in the child of a fork: nothing that the child waits for counts yet, and no timer is set. `is_own`
    /// is true for the loop of this thread. Calls no function of gevent that makes system calls.
    pub(super) fn after_fork_in_child(&self, py: Python<'_>, is_own: bool) {
        self.armed.set(None);
        if self.is_libuv {
            // The child's loop may keep running for waits of its parent until the next request: to stop that would
            // change the polling instance, which is still the parent's.
            return;
        }
        if self.referenced.replace(false) {
            // On libev that is a count in memory.
            let _ = self.io.bind(py).setattr(intern!(py, "ref"), false);
        }
        if is_own {
            // A loop that is in the middle of its turn would wait for its parent's events once before it finds out.
            // libev only makes a note of this.
            let _ = self.event_loop.call_method0(py, intern!(py, "reinit"));
        }
    }
}

/// Stops and closes a watcher. Its loop may be gone already.
fn discard(py: Python<'_>, watcher: Option<&Py<PyAny>>) {
    if let Some(watcher) = watcher {
        let _ = watcher.call_method0(py, intern!(py, "stop"));
        let _ = watcher.call_method0(py, intern!(py, "close"));
    }
}
