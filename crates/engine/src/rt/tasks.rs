//! Background tasks, such as the one that drives an HTTP/2 connection: the reactor polls them when it turns.
//!
//! The crate h2 wakes and drops wakers while it holds a lock. A waker of the engine's owner must not be called, nor
//! dropped, at such a moment: it may run any code of the program, which may call this module again. So h2 gets wakers
//! that only make a note, in [`Shared`]; [`Tasks::deliver`] acts on it afterwards.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::{convert, mem, thread};

use slab::Slab;

type Future = Pin<Box<dyn std::future::Future<Output = ()>>>;

/// The background tasks of one reactor.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: RefCell<Slab<Task>>,
    shared: Arc<Shared>,
    /// Tasks are being polled.
    running: Cell<bool>,
    /// No task is woken: the background tasks have been ended, and the tasks that waited in them will not run any more.
    muted: Cell<bool>,
    /// Woken so that the reactor turns soon, if no turn is about to happen.
    nudge: RefCell<Option<Waker>>,
}

struct Task {
    /// None while it is polled.
    future: Option<Future>,
    note: Arc<TaskNote>,
    waker: Waker,
}

/// Wake-ups that were noted and not delivered.
#[derive(Default)]
struct Shared {
    tasks: Mutex<Vec<usize>>,
    wakers: Mutex<Vec<Waker>>,
}

/// Locks a mutex. The guard is never held while anything is woken, polled or dropped.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct TaskNote {
    key: usize,
    noted: AtomicBool,
    shared: Arc<Shared>,
}

impl Wake for TaskNote {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.noted.swap(true, Ordering::Relaxed) {
            lock(&self.shared.tasks).push(self.key);
        }
    }
}

impl Tasks {
    /// Sets a waker that is woken if there is something to do and no turn of the reactor is about to do it.
    pub(crate) fn set_nudge(&self, waker: Waker) {
        let replaced = self.nudge.replace(Some(waker));
        drop(replaced);
    }

    /// Polls `future` at the next turn, and whenever it is woken, until it is done. Returns its key.
    pub(crate) fn spawn(&self, future: Future) -> usize {
        let mut tasks = self.tasks.borrow_mut();
        let entry = tasks.vacant_entry();
        let key = entry.key();
        let note = Arc::new(TaskNote { key, noted: AtomicBool::new(false), shared: self.shared.clone() });
        let waker = Waker::from(note.clone());
        waker.wake_by_ref();
        entry.insert(Task { future: Some(future), note, waker });
        key
    }

    /// Notes that a task has something to do.
    pub(crate) fn wake(&self, key: usize) {
        if let Some(task) = self.tasks.borrow().get(key) {
            task.waker.wake_by_ref();
        }
    }

    /// Returns whether a task waits to be polled.
    pub(crate) fn is_woken(&self) -> bool {
        !lock(&self.shared.tasks).is_empty()
    }

    /// Polls the woken tasks, once. Does nothing within one of them: it is done later.
    pub(crate) fn run(&self) {
        if self.running.get() {
            return;
        }
        let woken = mem::take(&mut *lock(&self.shared.tasks));
        self.poll_all(woken);
    }

    /// Polls that task, if it was woken. Does nothing within a task.
    pub(crate) fn run_one(&self, key: usize) {
        if self.running.get() {
            return;
        }
        let position = lock(&self.shared.tasks).iter().position(|&woken| woken == key);
        let woken = position.map(|position| lock(&self.shared.tasks).remove(position));
        self.poll_all(woken);
    }

    /// Polls tasks. A panic in one of them ends that task, and continues once the others have had their turn.
    fn poll_all(&self, woken: impl IntoIterator<Item = usize>) {
        let mut panic = None;
        {
            let _running = Running::new(&self.running);
            for key in woken {
                let polled = catch_unwind(AssertUnwindSafe(|| self.poll(key)));
                panic = panic.or(polled.and_then(convert::identity).err());
            }
        }
        self.deliver();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    fn poll(&self, key: usize) -> thread::Result<()> {
        let taken = self.tasks.borrow_mut().get_mut(key).and_then(|task| {
            task.note.noted.store(false, Ordering::Relaxed);
            task.future.take().map(|future| (future, task.note.clone(), task.waker.clone()))
        });
        let Some((mut future, note, waker)) = taken else { return Ok(()) };
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        // After a panic it is dropped as if it were done: the tasks that wait in it are woken by that.
        let done = !matches!(polled, Ok(Poll::Pending));
        // Not borrowed while anything is dropped, since that may come back here.
        let mut tasks = self.tasks.borrow_mut();
        let over = match tasks.get_mut(key).filter(|task| Arc::ptr_eq(&task.note, &note)) {
            Some(task) if !done => {
                task.future = Some(future);
                None
            }
            Some(_) => Some((future, Some(tasks.remove(key)))),
            None => Some((future, None)),
        };
        drop(tasks);
        drop(over);
        self.wake_noted();
        polled.map(drop)
    }

    /// Delivers the noted wake-ups, and makes sure that woken tasks are polled.
    pub(crate) fn deliver(&self) {
        self.wake_noted();
        if self.running.get() || self.muted.get() || !self.is_woken() {
            return;
        }
        let nudge = self.nudge.borrow().clone();
        if let Some(nudge) = nudge {
            nudge.wake();
        }
    }

    fn wake_noted(&self) {
        if self.muted.get() {
            return;
        }
        let wakers = mem::take(&mut *lock(&self.shared.wakers));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all tasks, and wakes none from now on.
    pub(crate) fn clear(&self) {
        self.muted.set(true);
        let tasks = mem::take(&mut *self.tasks.borrow_mut());
        lock(&self.shared.tasks).clear();
        drop(tasks);
    }

    /// Wakes tasks again, first those that were not woken meanwhile.
    pub(crate) fn unmute(&self) {
        self.muted.set(false);
        self.deliver();
    }

    /// Wakes tasks again, but never those noted until now. Their wakers are not dropped either: that might end the
    /// tasks that they belong to.
    pub(crate) fn forget_noted(&self) {
        let wakers = mem::take(&mut *lock(&self.shared.wakers));
        wakers.into_iter().for_each(mem::forget);
        self.muted.set(false);
    }
}

/// Sets the flag as long as it lives, even if a task panics.
struct Running<'a>(&'a Cell<bool>);

impl<'a> Running<'a> {
    fn new(running: &'a Cell<bool>) -> Self {
        running.set(true);
        Running(running)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Proxy of a waker: records the wake-up while h2 holds its lock; [`Tasks::deliver`] wakes the real task later.
pub(crate) struct WakerProxy {
    note: Arc<ProxyNote>,
    waker: Waker,
}

struct ProxyNote {
    target: Mutex<Option<Waker>>,
    shared: Arc<Shared>,
}

impl Wake for ProxyNote {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let target = lock(&self.target).take();
        if let Some(target) = target {
            lock(&self.shared.wakers).push(target);
        }
    }
}

impl WakerProxy {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        let note = Arc::new(ProxyNote { target: Mutex::default(), shared: tasks.shared.clone() });
        WakerProxy { waker: Waker::from(note.clone()), note }
    }

    /// Returns a waker that acts as a proxy for that of `cx`.
    pub(crate) fn stand_for(&self, cx: &Context<'_>) -> &Waker {
        let mut target = lock(&self.note.target);
        let replaced = match &*target {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => target.replace(cx.waker().clone()),
        };
        drop(target);
        drop(replaced);
        &self.waker
    }

    /// Forgets the task: its wait has ended.
    pub(crate) fn forget(&self) {
        let target = lock(&self.note.target).take();
        drop(target);
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::future::poll_fn;
    use std::rc::Rc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often it was woken; how often it is held tells the count of references.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (count.clone(), Waker::from(count))
    }

    /// Creates a task that counts its polls, calls `doing`, and ends when that returns true.
    fn task(polls: &Rc<Cell<usize>>, mut doing: impl FnMut(&Context<'_>) -> bool + 'static) -> Future {
        let polls = polls.clone();
        Box::pin(poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if doing(cx) { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    #[test]
    fn test_task_is_polled_once_for_all_wake_ups() {
        let (tasks, polls) = (Tasks::default(), Rc::default());
        let key = tasks.spawn(task(&polls, |_| false));
        assert!(tasks.is_woken());
        for expected in 1..4 {
            tasks.run();
            assert_eq!((polls.get(), tasks.is_woken()), (expected, false));
            tasks.run();
            assert_eq!(polls.get(), expected);
            tasks.wake(key);
            tasks.wake(key);
        }
    }

    #[test]
    fn test_task_that_wakes_itself_does_not_starve_others() {
        let (tasks, busy, other) = (Tasks::default(), Rc::default(), Rc::default());
        tasks.spawn(task(&busy, |cx| {
            cx.waker().wake_by_ref();
            false
        }));
        tasks.spawn(task(&other, |_| true));
        tasks.run();
        assert_eq!((busy.get(), other.get(), tasks.is_woken()), (1, 1, true));
        tasks.run();
        assert_eq!((busy.get(), other.get()), (2, 1));
    }

    #[test]
    fn test_run_one_polls_only_that_task() {
        let (tasks, first, second) = (Tasks::default(), Rc::default(), Rc::default());
        tasks.spawn(task(&first, |_| false));
        let key = tasks.spawn(task(&second, |_| false));
        tasks.run_one(key);
        assert_eq!((first.get(), second.get(), tasks.is_woken()), (0, 1, true));
        tasks.run_one(key);
        assert_eq!(second.get(), 1);
        tasks.run();
        assert_eq!((first.get(), second.get(), tasks.is_woken()), (1, 1, false));
    }

    #[test]
    fn test_run_within_a_task_polls_none() {
        let (tasks, polls, other) = (Rc::new(Tasks::default()), Rc::default(), Rc::default());
        let (nudges, nudge) = counting();
        tasks.set_nudge(nudge);
        let inner = tasks.clone();
        let counted: Rc<Cell<usize>> = Rc::clone(&other);
        tasks.spawn(task(&polls, move |_| {
            inner.spawn(task(&counted, |_| true));
            inner.run();
            inner.run_one(1);
            inner.deliver();
            assert_eq!(counted.get(), 0);
            true
        }));
        tasks.run();
        // It was woken too late for this turn: another turn has to follow.
        assert_eq!((polls.get(), other.get(), nudges.get()), (1, 0, 1));
        tasks.run();
        assert_eq!((polls.get(), other.get(), tasks.is_woken()), (1, 1, false));
    }

    #[test]
    fn test_task_may_end_all_tasks() {
        struct Last(Rc<Cell<bool>>);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let (tasks, polls, dropped) = (Rc::new(Tasks::default()), Rc::default(), Rc::default());
        let (inner, last) = (tasks.clone(), Last(Rc::clone(&dropped)));
        tasks.spawn(task(&polls, move |_| {
            let _kept = &last;
            inner.clear();
            false
        }));
        let other = Rc::default();
        tasks.spawn(task(&other, |_| false));
        tasks.run();
        assert_eq!((polls.get(), other.get(), dropped.get()), (1, 0, true));
        assert!(!tasks.is_woken());
    }

    #[test]
    fn test_panic_in_a_task_ends_that_task_alone() {
        struct Last(Waker);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.wake_by_ref();
            }
        }
        let (tasks, polls, other) = (Tasks::default(), Rc::default(), Rc::default());
        let waker_proxy = WakerProxy::new(&tasks);
        let (count, waker) = counting();
        let last = Last(waker_proxy.stand_for(&Context::from_waker(&waker)).clone());
        tasks.spawn(task(&polls, move |_| {
            let _kept = &last;
            panic!("on purpose")
        }));
        // Woken for the same turn.
        tasks.spawn(task(&other, |_| false));
        assert!(catch_unwind(AssertUnwindSafe(|| tasks.run())).is_err());
        assert_eq!((polls.get(), other.get(), count.get()), (1, 1, 1), "the task that waited in it is woken");
        assert_eq!(tasks.tasks.borrow().len(), 1, "the task is gone");
        tasks.wake(1);
        tasks.run();
        assert_eq!((polls.get(), other.get()), (1, 2));
    }

    #[test]
    fn test_proxy_wakes_once_on_delivery() {
        let tasks = Tasks::default();
        let waker_proxy = WakerProxy::new(&tasks);
        let (count, waker) = counting();
        let cx = Context::from_waker(&waker);
        let stand_in = waker_proxy.stand_for(&cx).clone();
        stand_in.wake_by_ref();
        stand_in.wake_by_ref();
        assert_eq!(count.get(), 0);
        tasks.deliver();
        tasks.deliver();
        assert_eq!(count.get(), 1);
        // A task that waits again is woken again, by the same proxy.
        let _ = waker_proxy.stand_for(&cx);
        stand_in.wake();
        tasks.deliver();
        assert_eq!(count.get(), 2);
    }

    #[test]
    fn test_proxy_holds_one_waker_and_forgets_it() {
        let tasks = Tasks::default();
        let waker_proxy = WakerProxy::new(&tasks);
        let ((first, waker), (second, other)) = (counting(), counting());
        let stand_in = waker_proxy.stand_for(&Context::from_waker(&waker)).clone();
        assert_eq!(Arc::strong_count(&first), 3);
        let _ = waker_proxy.stand_for(&Context::from_waker(&other));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 3));
        waker_proxy.forget();
        assert_eq!(Arc::strong_count(&second), 2);
        stand_in.wake();
        tasks.deliver();
        assert_eq!((first.get(), second.get()), (0, 0));
    }

    /// Code that holds a lock may wake and drop wakers: only the proxy's own memory is freed.
    #[test]
    fn test_waker_that_outlives_its_proxy_wakes_no_task() {
        let tasks = Tasks::default();
        let (count, waker) = counting();
        let waker_proxy = WakerProxy::new(&tasks);
        let stand_in = waker_proxy.stand_for(&Context::from_waker(&waker)).clone();
        waker_proxy.forget();
        drop(waker_proxy);
        assert_eq!(Arc::strong_count(&count), 2);
        stand_in.wake();
        tasks.deliver();
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn test_cleared_tasks_wake_no_task_until_unmuted() {
        let tasks = Tasks::default();
        let ((count, waker), (nudges, nudge)) = (counting(), counting());
        tasks.set_nudge(nudge);
        let waker_proxy = WakerProxy::new(&tasks);
        let stand_in = waker_proxy.stand_for(&Context::from_waker(&waker)).clone();
        tasks.clear();
        stand_in.wake_by_ref();
        tasks.deliver();
        tasks.run();
        assert_eq!((count.get(), nudges.get()), (0, 0));
        tasks.unmute();
        assert_eq!(count.get(), 1);
        let _ = waker_proxy.stand_for(&Context::from_waker(&waker));
        tasks.clear();
        stand_in.wake();
        tasks.forget_noted();
        tasks.deliver();
        // Not woken, and not dropped.
        assert_eq!((count.get(), Arc::strong_count(&count)), (1, 3));
    }

    #[test]
    fn test_loop_waker_is_woken_only_outside_of_a_run() {
        let (tasks, polls) = (Tasks::default(), Rc::default());
        let (nudges, nudge) = counting();
        tasks.set_nudge(nudge);
        let key = tasks.spawn(task(&polls, |_| false));
        tasks.deliver();
        assert_eq!(nudges.get(), 1);
        tasks.run();
        tasks.deliver();
        assert_eq!(nudges.get(), 1);
        tasks.wake(key);
        tasks.deliver();
        assert_eq!(nudges.get(), 2);
    }
}
