//! Where Rust futures and gevent's hub meet: the only file that switches greenlets, and one of two with `unsafe`.
//!
//! A greenlet is an executor: [`block_on`] polls a future; while it is pending, the greenlet switches to the hub. The
//! hub's loop watches the reactor's one descriptor; its callback lets the reactor wake tasks, and switches into their
//! greenlets one by one.
//!
//! What has to hold, and would hang or crash if it did not:
//! - Nothing is borrowed while a greenlet is switched, and the future is the only thing on the stack that is alive.
//! - The callback never lets an error out: gevent would stop the watcher, and every later request would hang.
//! - A switch that nobody asked for is harmless: the future is polled again. So is an entry of the ready list whose
//!   greenlet no longer waits.
//! - The watcher counts for the loop only while a greenlet waits for the kernel, so that a program whose greenlets
//!   wait for nothing ends as it would without us.
#![allow(unsafe_code)]

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use engine::Reactor;
use engine::reactor::forks;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use slab::Slab;

use crate::error::is_interrupt;
use crate::journal::Notes;
use crate::panic::as_exception;
use crate::types;

/// A value that is only ever touched with the GIL held: `get` asks for proof, and Python's destructors run under it.
/// The module does not declare itself safe without a GIL, and an abi3 extension is not loaded where there is none.
pub(crate) struct GilBound<T>(T);

// SAFETY: all access goes through `get`, which needs an attached thread, or through drop, which happens in destructors
// of Python objects and in functions that hold the GIL. That orders these accesses: no code of this crate releases the
// GIL while such a value is borrowed.
unsafe impl<T> Send for GilBound<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for GilBound<T> {}

impl<T> GilBound<T> {
    pub(crate) fn new(_py: Python<'_>, value: T) -> Self {
        GilBound(value)
    }

    pub(crate) fn get(&self, _py: Python<'_>) -> &T {
        &self.0
    }

    /// For `__traverse__` alone, which Python calls with the GIL held and without saying so.
    pub(crate) fn while_collecting(&self) -> &T {
        &self.0
    }
}

// -------------------------------------------------------------------------------------------- greenlet's C interface

type GetCurrent = unsafe extern "C" fn() -> *mut ffi::PyObject;
type Switch = unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject;

/// The part that is used of the table in greenlet.h, the same from 1.0 on.
#[repr(C)]
struct GreenletApi {
    types_and_new: [*mut c_void; 4],
    get_current: GetCurrent,
    throw: *mut c_void,
    switch: Switch,
}

static API: AtomicPtr<GreenletApi> = AtomicPtr::new(std::ptr::null_mut());

fn api(py: Python<'_>) -> PyResult<&'static GreenletApi> {
    let mut table = API.load(Ordering::Relaxed);
    if table.is_null() {
        py.import("greenlet")?;
        // SAFETY: the name is a C string; the capsule's table lives as long as the process.
        table = unsafe { ffi::PyCapsule_Import(c"greenlet._C_API".as_ptr(), 0) }.cast();
        if table.is_null() {
            return Err(PyErr::fetch(py));
        }
        API.store(table, Ordering::Relaxed);
    }
    // SAFETY: not null, and the layout is greenlet.h's.
    Ok(unsafe { &*table })
}

fn current_greenlet<'py>(py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: attached; the result is a new reference or null.
    let current = unsafe { Bound::from_owned_ptr_or_opt(py, (api(py)?.get_current)()) };
    current.ok_or_else(|| {
        // At the interpreter's end there are no greenlets any more; not every version says so with an exception.
        PyErr::take(py).unwrap_or_else(|| PyRuntimeError::new_err("no greenlet to wait in: the interpreter is exiting"))
    })
}

/// Switches to a greenlet. On `false` a Python error is set: what was thrown into us, or what the other died of.
fn switch(py: Python<'_>, target: &Py<PyAny>) -> bool {
    let api = match api(py) {
        Ok(api) => api,
        Err(error) => {
            error.restore(py);
            return false;
        }
    };
    // SAFETY: attached, no error is set, the target is a greenlet that the caller keeps alive. Nothing of this frame is
    // borrowed by anybody else while other greenlets run.
    let result = unsafe { (api.switch)(target.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut()) };
    if result.is_null() {
        return false;
    }
    // SAFETY: a new reference.
    unsafe { ffi::Py_DECREF(result) };
    true
}

// ------------------------------------------------------------------------------------------------------------- tasks

/// A greenlet in [`block_on`].
struct Task {
    /// None once its hub has been destroyed: nobody can switch to it then, and what lies on its own stack must not keep
    /// it alive.
    greenlet: RefCell<Option<Py<PyAny>>>,
    ready: Arc<GilBound<Ready>>,
    /// Switched out, and to be switched in when woken.
    parked: Cell<bool>,
    /// The process that it was parked in, as [`forks`] counts them.
    process: Cell<u32>,
    /// Woken since it was last polled.
    notified: Cell<bool>,
}

impl Task {
    /// Whether it is to be switched in when woken. In the child of a fork there are copies of what waits in the parent:
    /// a queue that moved on there would have a request sent twice.
    fn is_parked(&self) -> bool {
        self.parked.get() && self.process.get() == forks()
    }
}

struct TaskWaker(GilBound<Task>);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        // SAFETY: wakers of this kind are only called by reactors and pools, which run attached.
        let py = unsafe { Python::assume_attached() };
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
struct Ready {
    queue: RefCell<VecDeque<Arc<TaskWaker>>>,
    thread: ThreadId,
    /// The reactor's callback is running (and so will the queue), however many greenlets deep.
    in_callback: Cell<bool>,
    /// The loop has been asked to run the queue.
    scheduled: Cell<bool>,
    /// `loop.run_callback` and `loop.run_callback_threadsafe`.
    run_callback: Py<PyAny>,
    run_callback_threadsafe: Py<PyAny>,
    callback: RefCell<Option<Py<Callback>>>,
    /// What came where nothing may be raised; for the hub, which hands it to the main greenlet.
    interrupt: RefCell<Option<PyErr>>,
}

impl Ready {
    fn push(&self, py: Python<'_>, task: Arc<TaskWaker>) {
        self.queue.borrow_mut().push_back(task);
        self.schedule(py);
    }

    /// Sees to it that the callback runs soon.
    fn schedule(&self, py: Python<'_>) {
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
            // The loop is being destroyed, and with it whoever waits on it.
            self.scheduled.set(false);
        }
        pending.put_back(py);
    }

    /// Forgets an error that there is nothing to be done about, unless it is an interrupt: the hub is told of that.
    fn keep_interrupt(&self, py: Python<'_>, error: PyErr) {
        if is_interrupt(py, &error) {
            self.interrupt.replace(Some(error));
            self.schedule(py);
        }
    }
}

/// Has the callback run soon: there is work for the reactor that no event tells of.
struct Nudge(Arc<GilBound<Ready>>);

impl Wake for Nudge {
    fn wake(self: Arc<Self>) {
        // SAFETY: only called by reactors, which run attached.
        let py = unsafe { Python::assume_attached() };
        self.0.get(py).schedule(py);
    }
}

/// An exception that is on its way while we are called: what is dropped as a frame is left (a response, say, whose
/// place in the pool somebody waits for) is dropped with it set. Python must not be called then.
struct PendingError([*mut ffi::PyObject; 3]);

impl PendingError {
    fn set_aside(_py: Python<'_>) -> Self {
        let [mut kind, mut value, mut traceback] = [std::ptr::null_mut(); 3];
        // SAFETY: attached; the three pointers are valid, and each result is a new reference or null.
        unsafe { ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback) };
        PendingError([kind, value, traceback])
    }

    fn put_back(self, _py: Python<'_>) {
        let [kind, value, traceback] = self.0;
        // SAFETY: attached; gives back the references that were taken, each once.
        unsafe { ffi::PyErr_Restore(kind, value, traceback) };
    }
}

// ----------------------------------------------------------------------------------------------------------- runtime

/// One hub's reactor, and all that belongs to it.
pub(crate) struct Runtime {
    hub: Py<PyAny>,
    event_loop: Py<PyAny>,
    pub(crate) reactor: Rc<Reactor>,
    ready: Arc<GilBound<Ready>>,
    watcher: Py<PyAny>,
    /// Goes off at the earliest deadline, or before.
    timer: RefCell<Option<Py<PyAny>>>,
    on_timer: Py<Callback>,
    on_io: Py<Callback>,
    /// libuv's io watchers share one handle whose `ref` cannot be changed: they are stopped and started instead.
    is_libuv: bool,
    /// Whether the watcher was started, and not stopped by gevent since.
    started: Cell<bool>,
    /// Whether the watcher counts for the loop.
    counted: Cell<bool>,
    /// Greenlets in [`block_on`].
    parked: RefCell<Slab<Arc<TaskWaker>>>,
    /// What the timer is set to.
    armed: Cell<Option<Instant>>,
    /// The engine's clients of this hub, by the number of the Python object.
    clients: RefCell<HashMap<u64, Rc<engine::Client>>>,
    /// What bounds the idle connections of several of them, by the number of the Python object.
    idle_groups: RefCell<HashMap<u64, Rc<engine::IdleGroup>>>,
    /// For the logger, when there is somebody to tell it.
    pub(crate) notes: Notes,
}

thread_local! {
    /// Emptied by [`ThreadEnd`], while the GIL is held: what is left here when Rust's own destructors run is leaked,
    /// since they run without it, beside other threads that hold it.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Runtime>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Runtimes of threads that have ended. They are dropped by another thread, later: their greenlets were never unwound,
/// and this is no time to do so.
static GRAVEYARD: Mutex<Vec<GilBound<Rc<Runtime>>>> = Mutex::new(Vec::new());

/// All runtimes that may still be alive.
static REGISTRY: Mutex<Vec<GilBound<Weak<Runtime>>>> = Mutex::new(Vec::new());

/// Lies in the dictionary that Python keeps for each thread, and goes when that does: as the thread ends, but with the
/// GIL still held.
#[pyclass(frozen, module = "geventhttpclient._core")]
struct ThreadEnd(GilBound<Weak<Runtime>>);

impl ThreadEnd {
    fn await_it(py: Python<'_>, runtime: &Rc<Runtime>) -> PyResult<()> {
        let end = ThreadEnd(GilBound::new(py, Rc::downgrade(runtime)));
        // SAFETY: attached; a borrowed reference, or null where the thread has no dictionary.
        let locals = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyThreadState_GetDict()) };
        match locals {
            Some(locals) => locals.set_item(intern!(py, "geventhttpclient._core.ThreadEnd"), end),
            None => Err(PyRuntimeError::new_err("this thread is ending: no more requests can be made in it")),
        }
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        // The child of a fork, and the interpreter's end, clear the dictionaries of other threads in this one: its own
        // runtime is to live on, and its polling instance may still be the parent's.
        let own = self.0.0.as_ptr();
        let taken =
            CURRENT.try_with(|current| current.borrow_mut().take_if(|runtime| std::ptr::eq(Rc::as_ptr(runtime), own)));
        let Ok(Some(runtime)) = taken else { return };
        runtime.reactor.close_quietly();
        GRAVEYARD.lock().unwrap_or_else(PoisonError::into_inner).push(GilBound(runtime));
    }
}

impl Runtime {
    /// The runtime of this thread's hub; a new one when the hub is another than before.
    pub(crate) fn current(py: Python<'_>) -> PyResult<Rc<Runtime>> {
        match Runtime::known(py)? {
            Some(runtime) => Ok(runtime),
            None => Runtime::create(py),
        }
    }

    /// The runtime of this thread's hub, if it has been used.
    fn known(py: Python<'_>) -> PyResult<Option<Rc<Runtime>>> {
        let gone = |_| PyRuntimeError::new_err("this thread is ending: no more requests can be made in it");
        let known = CURRENT.try_with(|current| current.borrow().clone()).map_err(gone)?;
        let Some(runtime) = known else { return Ok(None) };
        if runtime.reactor.is_inherited() {
            // A fork that Python was not told of.
            after_fork_in_child(py);
        }
        Ok(runtime.hub_is_alive(py)?.then_some(runtime))
    }

    /// A destroyed hub has let go of its loop.
    fn hub_is_alive(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.hub.bind(py).getattr(intern!(py, "loop"))?.is(&self.event_loop))
    }

    #[cold]
    fn create(py: Python<'_>) -> PyResult<Rc<Runtime>> {
        let buried = std::mem::take(&mut *GRAVEYARD.lock().unwrap_or_else(PoisonError::into_inner));
        // Greenlets that nobody will end may hold its reactor for good.
        buried.iter().for_each(|runtime| runtime.get(py).reactor.close_poll());
        drop(buried);
        let outdated = CURRENT.with(|current| current.borrow_mut().take());
        let stranded = outdated.map(|outdated| outdated.retire(py));
        let created = Runtime::build(py)?;
        // What was called above may have run code of the program's (a signal handler, a `__del__`) that makes a request:
        // its runtime has sockets by now, and waiters. From here to the end no code of the program's runs.
        let runtime = match Runtime::known(py)? {
            Some(other) => {
                created.retire(py);
                other
            }
            None => created.establish(py)?,
        };
        // Unwinding them may run code of the program's.
        drop(stranded);
        Ok(runtime)
    }

    /// Creates a runtime for this thread's hub, not yet established.
    fn build(py: Python<'_>) -> PyResult<Rc<Runtime>> {
        let hub = types::get_hub(py)?.call0()?;
        let event_loop = hub.getattr("loop")?;
        let reactor = Reactor::new()?;
        let ready = Arc::new(GilBound(Ready {
            queue: RefCell::default(),
            thread: thread::current().id(),
            in_callback: Cell::new(false),
            scheduled: Cell::new(false),
            run_callback: event_loop.getattr("run_callback")?.unbind(),
            run_callback_threadsafe: event_loop.getattr("run_callback_threadsafe")?.unbind(),
            callback: RefCell::new(None),
            interrupt: RefCell::default(),
        }));
        let is_libuv = event_loop.get_type().module()?.to_cow()?.contains("libuv");
        const READ: i32 = 1;
        let watcher = event_loop.call_method1("io", (reactor.descriptor(), READ))?;
        let on_io = Py::new(py, Callback::new(py, Event::Io))?;
        let on_timer = Py::new(py, Callback::new(py, Event::Timer))?;
        let on_ready = Py::new(py, Callback::new(py, Event::Ready))?;
        let runtime = Rc::new(Runtime {
            hub: hub.unbind(),
            event_loop: event_loop.unbind(),
            reactor,
            watcher: watcher.unbind(),
            timer: RefCell::new(None),
            on_timer: on_timer.clone_ref(py),
            on_io: on_io.clone_ref(py),
            is_libuv,
            started: Cell::new(false),
            counted: Cell::new(false),
            parked: RefCell::default(),
            armed: Cell::new(None),
            clients: RefCell::default(),
            idle_groups: RefCell::default(),
            notes: Notes::default(),
            ready,
        });
        for callback in [&on_io, &on_timer, &on_ready] {
            callback.get().runtime.get(py).replace(Rc::downgrade(&runtime));
        }
        runtime.ready.get(py).callback.replace(Some(on_ready));
        runtime.reactor.set_nudge(Waker::from(Arc::new(Nudge(runtime.ready.clone()))));
        Ok(runtime)
    }

    /// Makes it the runtime of this thread. Runs no code of the program's.
    fn establish(self: Rc<Self>, py: Python<'_>) -> PyResult<Rc<Runtime>> {
        let runtime = self;
        let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
        registry.retain(|known| known.get(py).strong_count() > 0);
        registry.push(GilBound(Rc::downgrade(&runtime)));
        drop(registry);
        ThreadEnd::await_it(py, &runtime)?;
        CURRENT.with(|current| current.replace(Some(runtime.clone())));
        Ok(runtime)
    }

    /// The hub is gone: nothing of it may be used again, and what is called on it may well fail.
    ///
    /// Returns the greenlets that waited in it. Nobody will switch to them by our doing, so that we must not hold them:
    /// those that nobody else does are unwound as they are dropped, by GreenletExit.
    fn retire(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.ready.get(py).callback.replace(None);
        discard(py, Some(&self.watcher));
        discard(py, self.timer.take().as_ref());
        self.counted.set(false);
        let clients = self.clients.take();
        self.reactor.close();
        drop(clients);
        let woken = self.ready.get(py).queue.take();
        let parked = self.parked.take();
        let stranded = parked.iter().filter_map(|(_, waker)| waker.0.get(py).greenlet.take()).collect();
        drop((woken, parked));
        stranded
    }

    /// BlockingSwitchOutError in the hub's own greenlet, as of everything that waits.
    pub(crate) fn check_may_wait(&self, py: Python<'_>) -> PyResult<()> {
        if current_greenlet(py)?.is(&self.hub) { Err(would_block_the_hub(py)) } else { Ok(()) }
    }

    /// The engine's client of that number, made by `make` when this hub has not used it yet.
    pub(crate) fn client(&self, id: u64, make: impl FnOnce(&Rc<Reactor>) -> engine::Client) -> Rc<engine::Client> {
        if let Some(client) = self.clients.borrow().get(&id) {
            return client.clone();
        }
        let client = Rc::new(make(&self.reactor));
        self.clients.borrow_mut().insert(id, client.clone());
        client
    }

    /// Returns the group of that number, made when this hub first asks for it.
    pub(crate) fn idle_group(&self, id: u64, limit: usize) -> Rc<engine::IdleGroup> {
        self.idle_groups.borrow_mut().entry(id).or_insert_with(|| engine::IdleGroup::new(limit)).clone()
    }

    /// Tells the logger what it has not been told yet. For greenlets that have come to the end of what they do.
    pub(crate) fn tell_notes(&self, py: Python<'_>) -> PyResult<()> {
        if self.notes.is_empty() { Ok(()) } else { self.notes.tell(py) }
    }

    /// As of its ready list.
    pub(crate) fn keep_interrupt(&self, py: Python<'_>, error: PyErr) {
        self.ready.get(py).keep_interrupt(py, error);
    }

    /// Has the notes told, soon.
    pub(crate) fn schedule(&self, py: Python<'_>) {
        self.ready.get(py).schedule(py);
    }

    /// The engine's client of that number, if this hub has used it.
    pub(crate) fn known_client(&self, id: u64) -> Option<Rc<engine::Client>> {
        self.clients.borrow().get(&id).cloned()
    }

    /// Makes the watcher count for the loop if, and only if, some greenlet waits for the kernel.
    fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let wanted = self.parked.borrow().len() > self.reactor.passive_waits();
        if wanted == self.counted.get() && (self.started.get() || self.is_libuv) {
            return Ok(());
        }
        let watcher = self.watcher.bind(py);
        if !self.started.replace(true) && !self.is_libuv {
            // Started once and for all; whether it counts is what changes.
            watcher.setattr(intern!(py, "ref"), false)?;
            watcher.call_method1(intern!(py, "start"), (&self.on_io,))?;
        }
        match (self.is_libuv, wanted) {
            (false, _) => watcher.setattr(intern!(py, "ref"), wanted)?,
            (true, true) => drop(watcher.call_method1(intern!(py, "start"), (&self.on_io,))?),
            (true, false) => drop(watcher.call_method0(intern!(py, "stop"))?),
        }
        self.counted.set(wanted);
        Ok(())
    }

    /// Sets the timer to the earliest deadline, unless it goes off before that anyway.
    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        let Some(deadline) = self.reactor.next_deadline() else { return Ok(()) };
        if self.armed.get().is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        // libev's and libuv's clocks end long before an Instant's does: a far deadline is looked at again in a day.
        let wait = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(86_400));
        // libuv counts in milliseconds, and gevent warns of a timer below one: where warnings are errors there would be none.
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

    /// Switches to the hub until woken, killed, or switched to by somebody.
    fn park(&self, py: Python<'_>, waker: &Arc<TaskWaker>) -> PyResult<()> {
        let task = waker.0.get(py);
        let process = forks();
        task.process.set(process);
        task.parked.set(true);
        let key = self.parked.borrow_mut().insert(waker.clone());
        // An error stays where Python has it: the stack is copied with every switch, and has no room for one.
        let switched = match self.prepare(py, waker) {
            Ok(()) => switch(py, &self.hub),
            Err(error) => {
                error.restore(py);
                false
            }
        };
        // Whatever came out of the switch: from here on a late entry of the ready list means nothing.
        task.parked.set(false);
        // A fork's child starts anew.
        if process == forks() {
            let parked = self.parked.borrow_mut().try_remove(key);
            drop(parked);
        }
        if switched { Ok(()) } else { Err(PyErr::fetch(py)) }
    }

    /// A function of its own, as [`poll`] is.
    #[inline(never)]
    fn prepare(&self, py: Python<'_>, waker: &Arc<TaskWaker>) -> PyResult<()> {
        let ready = self.ready.get(py);
        self.arm(py)?;
        if !ready.in_callback.get() {
            // In the callback this is left to its end: most greenlets park again before that.
            self.settle(py)?;
        }
        // Last, since what was called above may run code of the program's (a signal handler, a `__del__`) that waits
        // in this greenlet, and so takes its switches.
        if waker.0.get(py).notified.get() {
            // Woken while it was being polled, perhaps by itself.
            ready.push(py, waker.clone());
        }
        Ok(())
    }

    /// What the loop calls. Never fails but with what the hub itself raises when it is told of an error.
    ///
    /// The runtime is not held while greenlets run: a thread mostly ends in one that was woken here, and the hub's
    /// stack stays as it is then, for good, with whatever it holds.
    fn on_event(py: Python<'_>, this: &Weak<Runtime>, event: Event) -> PyResult<()> {
        let Some(runtime) = this.upgrade() else { return Ok(()) };
        let taken = runtime.take_events(py, event);
        drop(runtime);
        let result = match taken {
            Ok(false) => return Ok(()),
            Ok(true) => Runtime::run_ready(py, this),
            Err(error) => Err(error),
        };
        if let Some(runtime) = this.upgrade() {
            runtime.end_callback(py, result.is_err());
        }
        result
    }

    /// False when the event is not to be served here.
    fn take_events(&self, py: Python<'_>, event: Event) -> PyResult<bool> {
        let ready = self.ready.get(py);
        match event {
            Event::Ready => ready.scheduled.set(false),
            Event::Timer => self.armed.set(None),
            Event::Io => {}
        }
        if self.reactor.is_inherited() {
            // A fork that Python was not told of.
            after_fork_in_child(py);
        }
        // A loop run from inside a greenlet is not ours to serve, nor is a callback within the callback.
        if ready.in_callback.get() || !current_greenlet(py)?.is(&self.hub) {
            return Ok(false);
        }
        ready.in_callback.set(true);
        let result = match event {
            // One round only: whoever else uses the loop gets his turn before the next.
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
        if !self.notes.is_empty() {
            // What a handler of logging's does must not be done by the hub. One that is gone spawns nothing any more.
            self.notes.tell_later(py).unwrap_or_else(|error| ready.keep_interrupt(py, error));
        }
        // What the woken greenlets have left to be sent leaves in one piece.
        self.reactor.run_tasks();
        ready.in_callback.set(false);
        if self.reactor.has_work() || !ready.queue.borrow().is_empty() || ready.interrupt.borrow().is_some() {
            ready.schedule(py);
        }
        // The loop may be gone by now; then there is nothing to tell it.
        let told = self.settle(py).and_then(|()| self.arm(py));
        told.unwrap_or_else(|error| ready.keep_interrupt(py, error));
        if has_failed {
            // gevent stops a watcher whose callback fails. The hub may yet live on (`destroy()` in a greenlet that we
            // woke is not carried to its end): whoever waits next starts the watcher again.
            let stopped = self.watcher.call_method0(py, intern!(py, "stop"));
            stopped.map(drop).unwrap_or_else(|error| ready.keep_interrupt(py, error));
            self.started.set(false);
            self.counted.set(false);
        }
    }

    /// Reports a panic of the callback, and has what it left undone be done in another.
    #[cold]
    fn after_panic(py: Python<'_>, this: &Weak<Runtime>, panic: &(dyn Any + Send)) -> PyResult<()> {
        let Some(runtime) = this.upgrade() else { return Ok(()) };
        let ready = runtime.ready.get(py);
        ready.in_callback.set(false);
        ready.schedule(py);
        let told = runtime.settle(py).and_then(|()| runtime.arm(py));
        told.unwrap_or_else(|error| ready.keep_interrupt(py, error));
        as_exception(panic).restore(py);
        report(py, &runtime.hub, &runtime.hub)
    }

    fn run_ready(py: Python<'_>, this: &Weak<Runtime>) -> PyResult<()> {
        loop {
            let Some(runtime) = this.upgrade() else { return Ok(()) };
            let next = runtime.ready.get(py).queue.borrow_mut().pop_front();
            let Some(waker) = next else { return Ok(()) };
            let task = waker.0.get(py);
            // It may have been killed, or switched to by somebody else, since it was woken.
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
}

/// Tells the hub of the error that is set: a raw greenlet that we woke has died of it.
fn report(py: Python<'_>, hub: &Py<PyAny>, greenlet: &Py<PyAny>) -> PyResult<()> {
    let (mut kind, mut value, mut traceback) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // PyO3's own way to take an error would resume a panic that is wrapped in one, and end the callback.
    // SAFETY: attached; the three pointers are valid, and each result is a new reference or null.
    let [kind, value, traceback] = unsafe {
        ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback);
        ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut traceback);
        [kind, value, traceback].map(|part| Bound::from_owned_ptr_or_opt(py, part))
    };
    let arguments = (greenlet, kind, value, traceback);
    hub.call_method1(py, intern!(py, "handle_error"), arguments).map(drop)
}

/// Ends a watcher. What it belongs to may be gone already.
fn discard(py: Python<'_>, watcher: Option<&Py<PyAny>>) {
    if let Some(watcher) = watcher {
        let _ = watcher.call_method0(py, intern!(py, "stop"));
        let _ = watcher.call_method0(py, intern!(py, "close"));
    }
}

/// Runs a future as the current greenlet, letting others run while it waits. An exception that is thrown into the
/// greenlet (kill, Timeout, KeyboardInterrupt) drops the future and comes out as it is.
pub(crate) fn block_on<F: Future>(py: Python<'_>, runtime: &Runtime, future: F) -> PyResult<F::Output> {
    let result = drive(py, runtime, future);
    if result.is_err() && !runtime.ready.get(py).in_callback.get() {
        // Nobody else would tell the loop that there is nothing to wait for: only now, since the future counted as
        // long as it was there. A loop that is gone needs no telling.
        runtime.settle(py).unwrap_or_else(|error| runtime.keep_interrupt(py, error));
    }
    if result.is_ok() {
        // A connection may have become idle, which it is not to be for ever.
        runtime.arm(py)?;
    }
    result
}

#[inline(always)]
fn drive<F: Future>(py: Python<'_>, runtime: &Runtime, future: F) -> PyResult<F::Output> {
    let greenlet = current_greenlet(py)?;
    if greenlet.is(&runtime.hub) {
        return Err(would_block_the_hub(py));
    }
    let waker = Arc::new(TaskWaker(GilBound(Task {
        greenlet: RefCell::new(Some(greenlet.unbind())),
        ready: runtime.ready.clone(),
        parked: Cell::new(false),
        process: Cell::new(0),
        notified: Cell::new(false),
    })));
    let for_future = Waker::from(waker.clone());
    let mut future = pin!(future);
    loop {
        waker.0.get(py).notified.set(false);
        if let Poll::Ready(output) = poll(future.as_mut(), &for_future) {
            return Ok(output);
        }
        runtime.park(py, &waker)?;
    }
}

/// A function of its own, so that what polling needs of the stack is not copied with it while the greenlet is parked.
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

// ------------------------------------------------------------------------------------------------- what the loop calls

#[derive(Clone, Copy)]
enum Event {
    /// The reactor's descriptor is readable.
    Io,
    /// The ready list was filled outside of the callback.
    Ready,
    /// The earliest deadline may have come.
    Timer,
}

/// A callback for the loop.
#[pyclass(frozen, module = "geventhttpclient._core")]
struct Callback {
    runtime: GilBound<RefCell<Weak<Runtime>>>,
    event: Event,
}

impl Callback {
    fn new(py: Python<'_>, event: Event) -> Self {
        Callback { runtime: GilBound::new(py, RefCell::default()), event }
    }
}

#[pymethods]
impl Callback {
    /// A panic of ours is the hub's to report: gevent stops a watcher whose callback raises, and every later request of
    /// the thread would hang.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let runtime = self.runtime.get(py).borrow().clone();
        match catch_unwind(AssertUnwindSafe(|| Runtime::on_event(py, &runtime, self.event))) {
            Ok(result) => result,
            Err(panic) => Runtime::after_panic(py, &runtime, &*panic),
        }
    }
}

// ---------------------------------------------------------------------------------------------- processes and threads

fn all_runtimes(py: Python<'_>) -> Vec<Rc<Runtime>> {
    let registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    registry.iter().filter_map(|known| known.get(py).upgrade()).collect()
}

/// Closes the pools that a client has in any thread. A goodbye of HTTP/2 is said by Python, where that does the TLS.
pub(crate) fn close_everywhere(py: Python<'_>, id: u64) {
    let pending = PendingError::set_aside(py);
    for runtime in all_runtimes(py) {
        let client = runtime.clients.borrow_mut().remove(&id);
        if let Some(client) = client {
            client.close();
        }
    }
    pending.put_back(py);
}

/// Lets go of a group in all threads. Clients that are members hold it for as long as they are there.
pub(crate) fn forget_idle_group(py: Python<'_>, id: u64) {
    for runtime in all_runtimes(py) {
        let group = runtime.idle_groups.borrow_mut().remove(&id);
        drop(group);
    }
}

/// For `os.register_at_fork(after_in_child=...)`: this process shares no socket and no registration with its parent any
/// more. Nothing of gevent's is called that the kernel would notice: its loop is not yet reinitialised.
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
        // Else the child's loop would run on for what only its parent waits for. On libev that is a count in memory; on
        // libuv it is a change of the polling instance, which is still the parent's: there it waits for the next request.
        if !runtime.is_libuv && runtime.counted.replace(false) {
            let _ = runtime.watcher.bind(py).setattr(intern!(py, "ref"), false);
        }
        // A loop that is in the middle of its turn would wait for its parent's events once before it finds out. libev
        // makes a note of this, and no more.
        if !runtime.is_libuv && ready.thread == here {
            let _ = runtime.event_loop.call_method0(py, intern!(py, "reinit"));
        }
        runtime.armed.set(None);
        // Their places in the pools are lost with them: fresh pools have them all.
        let clients = runtime.clients.take();
        drop(clients);
        // Nor do the connections count that copies of the parent's greenlets still hold.
        let idle_groups = runtime.idle_groups.take();
        drop(idle_groups);
    }
}

/// For `atexit`: other threads' loops see no more events, so that a daemon thread does not die within a callback of
/// ours, with frames of Rust and C++ on its stack that cannot be unwound.
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

/// For tests: has a background task of this thread's reactor panic in the loop's next callback.
#[pyfunction]
#[pyo3(name = "_panic_in_callback")]
pub(crate) fn panic_in_callback(py: Python<'_>) -> PyResult<()> {
    #[expect(clippy::panic, reason = "to see what becomes of a panic")]
    Runtime::current(py)?.reactor.spawn(async { panic!("a panic for tests") });
    Ok(())
}

/// For tests and for the curious: (greenlets that wait, of them in the queue of a pool) of this thread's hub.
#[pyfunction]
#[pyo3(name = "_runtime_statistics")]
pub(crate) fn runtime_statistics(py: Python<'_>) -> PyResult<(usize, usize)> {
    let runtime = Runtime::current(py)?;
    let parked = runtime.parked.borrow().len();
    Ok((parked, runtime.reactor.passive_waits()))
}
