//! The runtime of a thread: created for its hub, replaced when the hub is, and closed when the thread ends.

use std::cell::{OnceCell, RefCell};
use std::mem::ManuallyDrop;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use engine::Reactor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::hub::Runtime;
use crate::hub::callback::{Callback, Event};
use crate::hub::gil::{GilBound, thread_dict};
use crate::hub::greenlet::current_task;
use crate::hub::registry::{self, after_fork_in_child};
use crate::hub::task::{LoopWaker, Ready};
use crate::hub::watcher::Watcher;
use crate::types;

thread_local! {
    /// Emptied by [`ThreadEnd`], while the GIL is held: a value left here when Rust's own destructors run is leaked,
    /// since they run without the GIL, concurrently with threads that hold it.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Runtime>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Runtimes of threads that have ended. They are dropped by another thread, later: their greenlets were never unwound,
/// and the thread's end is no time to do so.
static GRAVEYARD: Mutex<Vec<GilBound<Rc<Runtime>>>> = Mutex::new(Vec::new());

/// Entry in the dictionary that Python keeps for each thread. It is dropped with that dictionary: when the thread ends,
/// but with the GIL still held.
#[pyclass(frozen, module = "geventhttpclient._core")]
struct ThreadEnd(GilBound<Weak<Runtime>>);

impl ThreadEnd {
    fn watch_for(py: Python<'_>, runtime: &Rc<Runtime>) -> PyResult<()> {
        let end = ThreadEnd(GilBound::new(py, Rc::downgrade(runtime)));
        let locals = thread_dict(py).ok_or_else(thread_is_ending)?;
        locals.set_item(intern!(py, "geventhttpclient._core.ThreadEnd"), end)
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        // The child of a fork, and the interpreter's end, clear the dictionaries of other threads in this one: its own
        // runtime is to live on, and its polling instance may still be the parent's.
        let own = self.0.while_collecting().as_ptr();
        let taken =
            CURRENT.try_with(|current| current.borrow_mut().take_if(|runtime| std::ptr::eq(Rc::as_ptr(runtime), own)));
        let Ok(Some(runtime)) = taken else { return };
        runtime.reactor.close_quietly();
        GRAVEYARD.lock().unwrap_or_else(PoisonError::into_inner).push(GilBound::in_destructor(runtime));
    }
}

#[cold]
fn thread_is_ending() -> PyErr {
    PyRuntimeError::new_err("this thread is ending: no more requests can be made in it")
}

impl Runtime {
    /// Returns the runtime of this thread's hub; a new one if the hub is another than before.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Rc<Runtime>> {
        match Runtime::known(py)? {
            Some(runtime) => Ok(runtime),
            None => Runtime::create(py),
        }
    }

    /// Returns the runtime of this thread's hub, if it has been used.
    fn known(py: Python<'_>) -> PyResult<Option<Rc<Runtime>>> {
        let known = CURRENT.try_with(|current| current.borrow().clone()).map_err(|_| thread_is_ending())?;
        let Some(runtime) = known else { return Ok(None) };
        if runtime.reactor.is_inherited() {
            // A fork of which Python was not notified.
            after_fork_in_child(py);
        }
        Ok(runtime.hub_is_alive(py)?.then_some(runtime))
    }

    /// Returns whether the hub still has its loop: a destroyed one has released it.
    fn hub_is_alive(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.watcher.is_of(&self.hub.bind(py).getattr(intern!(py, "loop"))?))
    }

    #[cold]
    fn create(py: Python<'_>) -> PyResult<Rc<Runtime>> {
        let buried = std::mem::take(&mut *GRAVEYARD.lock().unwrap_or_else(PoisonError::into_inner));
        // Greenlets that nothing will end may hold its reactor for good.
        buried.iter().for_each(|runtime| runtime.get(py).reactor.close_poll());
        drop(buried);
        let outdated = CURRENT.with(|current| current.borrow_mut().take());
        let stranded = outdated.map(|outdated| outdated.retire(py));
        let created = Runtime::build(py)?;
        // The calls above may have run code of the program (a signal handler, a `__del__`) that makes a request: its
        // runtime has sockets by now, and waiters. From here to the end no code of the program runs.
        let runtime = match Runtime::known(py)? {
            Some(other) => {
                created.retire(py);
                other
            }
            None => created.establish(py)?,
        };
        // Unwinding them may run code of the program.
        drop(stranded);
        Ok(runtime)
    }

    /// Creates a runtime for this thread's hub, not yet established.
    fn build(py: Python<'_>) -> PyResult<Rc<Runtime>> {
        let hub = types::get_hub(py)?.call0()?;
        let event_loop = hub.getattr("loop")?;
        let reactor = Reactor::new()?;
        let ready = Arc::new(GilBound::new(py, Ready::new(&event_loop)?));
        let on_io = Callback::new(py, Event::Io)?;
        let on_timer = Callback::new(py, Event::Timer)?;
        let on_ready = Callback::new(py, Event::Ready)?;
        let descriptor = reactor.descriptor();
        let watcher =
            Watcher::new(&event_loop, descriptor, on_io.clone_ref(py).into_any(), on_timer.clone_ref(py).into_any())?;
        let runtime = Rc::new(Runtime {
            hub: hub.unbind(),
            reactor,
            ready,
            watcher,
            parked: RefCell::default(),
            extension: OnceCell::new(),
        });
        for callback in [&on_io, &on_timer, &on_ready] {
            callback.get().bind_to(py, &runtime);
        }
        runtime.ready.get(py).callback.replace(Some(on_ready.into_any()));
        runtime.reactor.set_current_task(current_task);
        runtime.reactor.set_nudge(Waker::from(Arc::new(LoopWaker(runtime.ready.clone()))));
        Ok(runtime)
    }

    /// Makes it the runtime of this thread. Runs no code of the program.
    fn establish(self: Rc<Self>, py: Python<'_>) -> PyResult<Rc<Runtime>> {
        registry::add(py, &self);
        ThreadEnd::watch_for(py, &self)?;
        CURRENT.with(|current| current.replace(Some(self.clone())));
        Ok(self)
    }

    /// Closes a runtime whose hub is gone: nothing of the hub may be used again, and calls on it may well fail.
    ///
    /// Returns the greenlets that waited in it. This module will never switch to them, so no reference to them may
    /// remain: those that the program does not hold are unwound as they are dropped, by GreenletExit.
    fn retire(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.ready.get(py).callback.replace(None);
        self.watcher.close(py);
        let given_up = self.extension.get().map(|extension| extension.give_up());
        self.reactor.close();
        drop(given_up);
        let woken = self.ready.get(py).queue.take();
        let parked = self.parked.take();
        let stranded = parked.iter().filter_map(|(_, waker)| waker.0.get(py).greenlet.take()).collect();
        drop((woken, parked));
        stranded
    }
}

/// Makes a background task of this thread's reactor panic in the loop's next callback, for tests.
#[pyfunction]
#[pyo3(name = "_panic_in_callback")]
pub(crate) fn panic_in_callback(py: Python<'_>) -> PyResult<()> {
    #[expect(clippy::panic, reason = "to see the effects of a panic")]
    Runtime::current(py)?.reactor.spawn(async { panic!("a panic for tests") });
    Ok(())
}

/// Returns (number of waiting greenlets, number of those in the queue of a pool) of this thread's hub, for tests and
/// diagnostics.
#[pyfunction]
#[pyo3(name = "_runtime_statistics")]
pub(crate) fn runtime_statistics(py: Python<'_>) -> PyResult<(usize, usize)> {
    let runtime = Runtime::current(py)?;
    let parked = runtime.parked.borrow().len();
    Ok((parked, runtime.reactor.passive_waits()))
}
