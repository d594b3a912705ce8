//! Futures that belong to no caller, such as what drives an HTTP/2 connection: the reactor polls them when it turns.
//!
//! What they are made of (the crate h2) wakes others while it holds a lock, and drops wakers there. A waker of the
//! engine's owner must not be called, nor dropped, at such a moment: it may run any code of the program's, which may come
//! back here. So wakers are handed out that only make a note, in [`Shared`]; [`Tasks::deliver`] acts on it afterwards.

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
    /// Nobody is to be woken: the tasks have been ended, and whoever waited in them will not run any more.
    muted: Cell<bool>,
    /// Has the reactor turned soon, where nobody waits for it.
    nudge: RefCell<Option<Waker>>,
}

struct Task {
    /// None while it is polled.
    future: Option<Future>,
    note: Arc<TaskNote>,
    waker: Waker,
}

/// What was woken and not acted on.
#[derive(Default)]
struct Shared {
    tasks: Mutex<Vec<usize>>,
    wakers: Mutex<Vec<Waker>>,
}

/// Never held while anything is woken, polled or dropped.
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
    /// Has `waker` woken whenever there is something to do and no turn of the reactor is about to do it.
    pub(crate) fn set_nudge(&self, waker: Waker) {
        let replaced = self.nudge.replace(Some(waker));
        drop(replaced);
    }

    /// Polls `future` at the next turn, and whenever it is woken, until it is done. Returns its number.
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

    /// Whether a task waits to be polled.
    pub(crate) fn is_woken(&self) -> bool {
        !lock(&self.shared.tasks).is_empty()
    }

    /// Polls those that were woken, once. Within one of them this does nothing: it will be seen to later.
    pub(crate) fn run(&self) {
        if self.running.get() {
            return;
        }
        let woken = mem::take(&mut *lock(&self.shared.tasks));
        self.poll_all(woken);
    }

    /// Polls that one, if it was woken. Within a task this does nothing either.
    pub(crate) fn run_one(&self, key: usize) {
        if self.running.get() {
            return;
        }
        let position = lock(&self.shared.tasks).iter().position(|&woken| woken == key);
        let woken = position.map(|position| lock(&self.shared.tasks).remove(position));
        self.poll_all(woken);
    }

    /// A panic in one of them ends that task, and goes on once the others have had their turn.
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
        // After a panic it is dropped as one that is done: who waits in it is woken by that.
        let done = !matches!(polled, Ok(Poll::Pending));
        // Not borrowed while anything is dropped, for that may lead back here.
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

    /// Acts on what was noted: wakes who is to be woken, and sees to it that tasks are polled.
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

    /// Ends all of them, where they are, and wakes nobody from now on.
    pub(crate) fn clear(&self) {
        self.muted.set(true);
        let tasks = mem::take(&mut *self.tasks.borrow_mut());
        lock(&self.shared.tasks).clear();
        drop(tasks);
    }

    /// Wakes again, beginning with those who were not woken meanwhile.
    pub(crate) fn unmute(&self) {
        self.muted.set(false);
        self.deliver();
    }

    /// Wakes again, and never those who are to be woken now. Their wakers are not dropped either: that might end the
    /// tasks that they belong to.
    pub(crate) fn forget_noted(&self) {
        let wakers = mem::take(&mut *lock(&self.shared.wakers));
        wakers.into_iter().for_each(mem::forget);
        self.muted.set(false);
    }
}

/// Says so as long as it lives, should a task panic as well.
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

/// Stands for the waker of whoever waits in something that wakes, and drops wakers, while it holds a lock.
pub(crate) struct Relay {
    note: Arc<RelayNote>,
    waker: Waker,
}

struct RelayNote {
    target: Mutex<Option<Waker>>,
    shared: Arc<Shared>,
}

impl Wake for RelayNote {
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

impl Relay {
    pub(crate) fn new(tasks: &Tasks) -> Self {
        let note = Arc::new(RelayNote { target: Mutex::default(), shared: tasks.shared.clone() });
        Relay { waker: Waker::from(note.clone()), note }
    }

    /// Has the task of `cx` woken by the waker that this returns.
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

    /// Nobody waits any more.
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

    /// A task that counts its polls, does that, and ends when told so.
    fn task(polls: &Rc<Cell<usize>>, mut doing: impl FnMut(&Context<'_>) -> bool + 'static) -> Future {
        let polls = polls.clone();
        Box::pin(poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if doing(cx) { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    #[test]
    fn a_task_is_polled_once_for_all_that_woke_it() {
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
    fn a_task_that_wakes_itself_leaves_the_others_their_turn() {
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
    fn one_task_is_polled_alone() {
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
    fn whoever_comes_back_from_a_task_polls_none() {
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
        // It was woken too late for this turn: somebody has to see to the next.
        assert_eq!((polls.get(), other.get(), nudges.get()), (1, 0, 1));
        tasks.run();
        assert_eq!((polls.get(), other.get(), tasks.is_woken()), (1, 1, false));
    }

    #[test]
    fn a_task_may_end_them_all() {
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
        let relay = Relay::new(&tasks);
        let (count, waker) = counting();
        let last = Last(relay.stand_for(&Context::from_waker(&waker)).clone());
        tasks.spawn(task(&polls, move |_| {
            let _kept = &last;
            panic!("on purpose")
        }));
        // Woken for the same turn.
        tasks.spawn(task(&other, |_| false));
        assert!(catch_unwind(AssertUnwindSafe(|| tasks.run())).is_err());
        assert_eq!((polls.get(), other.get(), count.get()), (1, 1, 1), "who waited in the task is woken");
        assert_eq!(tasks.tasks.borrow().len(), 1, "the task is gone");
        tasks.wake(1);
        tasks.run();
        assert_eq!((polls.get(), other.get()), (1, 2));
    }

    #[test]
    fn a_relay_wakes_when_that_is_delivered_and_once() {
        let tasks = Tasks::default();
        let relay = Relay::new(&tasks);
        let (count, waker) = counting();
        let cx = Context::from_waker(&waker);
        let stand_in = relay.stand_for(&cx).clone();
        stand_in.wake_by_ref();
        stand_in.wake_by_ref();
        assert_eq!(count.get(), 0);
        tasks.deliver();
        tasks.deliver();
        assert_eq!(count.get(), 1);
        // Whoever waits again is woken again, by the same stand-in.
        let _ = relay.stand_for(&cx);
        stand_in.wake();
        tasks.deliver();
        assert_eq!(count.get(), 2);
    }

    #[test]
    fn a_relay_holds_one_waker_and_forgets_it() {
        let tasks = Tasks::default();
        let relay = Relay::new(&tasks);
        let ((first, waker), (second, other)) = (counting(), counting());
        let stand_in = relay.stand_for(&Context::from_waker(&waker)).clone();
        assert_eq!(Arc::strong_count(&first), 3);
        let _ = relay.stand_for(&Context::from_waker(&other));
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 3));
        relay.forget();
        assert_eq!(Arc::strong_count(&second), 2);
        stand_in.wake();
        tasks.deliver();
        assert_eq!((first.get(), second.get()), (0, 0));
    }

    /// What a lock is held for may wake, and drop wakers: only the stand-in's own memory goes.
    #[test]
    fn a_stand_in_that_outlives_its_relay_wakes_nobody() {
        let tasks = Tasks::default();
        let (count, waker) = counting();
        let relay = Relay::new(&tasks);
        let stand_in = relay.stand_for(&Context::from_waker(&waker)).clone();
        relay.forget();
        drop(relay);
        assert_eq!(Arc::strong_count(&count), 2);
        stand_in.wake();
        tasks.deliver();
        assert_eq!(count.get(), 0);
    }

    #[test]
    fn nobody_is_woken_by_tasks_that_were_ended_until_that_is_wanted() {
        let tasks = Tasks::default();
        let ((count, waker), (nudges, nudge)) = (counting(), counting());
        tasks.set_nudge(nudge);
        let relay = Relay::new(&tasks);
        let stand_in = relay.stand_for(&Context::from_waker(&waker)).clone();
        tasks.clear();
        stand_in.wake_by_ref();
        tasks.deliver();
        tasks.run();
        assert_eq!((count.get(), nudges.get()), (0, 0));
        tasks.unmute();
        assert_eq!(count.get(), 1);
        let _ = relay.stand_for(&Context::from_waker(&waker));
        tasks.clear();
        stand_in.wake();
        tasks.forget_noted();
        tasks.deliver();
        // Not woken, and not dropped.
        assert_eq!((count.get(), Arc::strong_count(&count)), (1, 3));
    }

    #[test]
    fn a_nudge_is_given_where_nobody_runs() {
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
