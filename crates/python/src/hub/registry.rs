//! All runtimes that may still be alive, for events that affect every thread: a fork, and the interpreter's exit.

use std::rc::{Rc, Weak};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

use crate::hub::Runtime;
use crate::hub::gil::GilBound;

static REGISTRY: Mutex<Vec<GilBound<Weak<Runtime>>>> = Mutex::new(Vec::new());

/// Adds a runtime. Runs no code of the program.
pub(super) fn add(py: Python<'_>, runtime: &Rc<Runtime>) {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.retain(|known| known.get(py).strong_count() > 0);
    registry.push(GilBound::new(py, Rc::downgrade(runtime)));
}

/// Returns the runtimes of all threads.
pub(crate) fn all_runtimes(py: Python<'_>) -> Vec<Rc<Runtime>> {
    let registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.iter().filter_map(|known| known.get(py).upgrade()).collect()
}

/// Stops sharing sockets and registrations with the parent process; for `os.register_at_fork(after_in_child=...)`.
/// Calls no function of gevent that makes system calls: its loop is not yet reinitialised.
#[pyfunction]
#[pyo3(name = "_after_fork_in_child")]
pub(crate) fn after_fork_in_child(py: Python<'_>) {
    let here = thread::current().id();
    for runtime in all_runtimes(py) {
        runtime.reactor.after_fork_in_child();
        let ready = runtime.ready.get(py);
        // The parent's greenlets are not waited for here. They are kept: dropping them would unwind them.
        std::mem::forget(ready.queue.take());
        ready.in_callback.set(false);
        ready.scheduled.set(false);
        std::mem::forget(runtime.parked.take());
        runtime.watcher.after_fork_in_child(py, ready.thread == here);
        // Their slots in the pools are lost with them: fresh pools have all slots. The idle connections that copies of
        // the parent's greenlets still hold do not count either.
        let given_up = runtime.extension.get().map(|extension| extension.give_up());
        drop(given_up);
    }
}

/// Stops the events of other threads' loops; for `atexit`. Otherwise a daemon thread could die within the loop's
/// callback, with frames of Rust and C++ on its stack that cannot be unwound.
#[pyfunction]
#[pyo3(name = "_at_exit")]
pub(crate) fn at_exit(py: Python<'_>) {
    let here = thread::current().id();
    let mut others = false;
    for runtime in all_runtimes(py) {
        if runtime.ready.get(py).thread != here {
            others = true;
            runtime.reactor.mute();
        }
    }
    if others {
        // For those that are in the callback now.
        py.detach(|| thread::sleep(Duration::from_millis(5)));
    }
}
