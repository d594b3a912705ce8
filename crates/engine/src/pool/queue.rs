//! A fair queue of tasks that wait for a value from other tasks: the earliest rank first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use crate::rt::reactor::forks;
use crate::rt::timers::Timers;

/// The rank of a task among the waiters: set by its first request, however often it has to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueRank(u64);

/// A queue of waiters. `T` is the value that they wait for, `D` the data of the queue's owner about each of them.
pub(crate) struct WaitQueue<T, D = ()> {
    /// In the order of their ranks.
    waiters: RefCell<VecDeque<Rc<Waiter<T, D>>>>,
    next_rank: Cell<u64>,
    /// The timer of long waits: one for all waiters, since most of them leave long before it is due.
    watch: Cell<Option<Watch>>,
}

#[derive(Clone, Copy)]
struct Watch {
    timer: usize,
    /// [`forks`] when it was set.
    process: u32,
}

/// A task in the queue.
pub(crate) struct Waiter<T, D> {
    rank: QueueRank,
    details: D,
    granted: Cell<Option<T>>,
    waker: Cell<Option<Waker>>,
    since: Instant,
    /// The timer of long waits wakes this waiter.
    is_watching: Cell<bool>,
}

impl<T, D> Waiter<T, D> {
    fn has_waker(&self) -> bool {
        let waker = self.waker.take();
        let has_waker = waker.is_some();
        self.waker.set(waker);
        has_waker
    }
}

/// The way in which a waiter has left the queue.
pub(crate) enum Left<T> {
    /// After a grant that it has not taken.
    Granted(T),
    /// From the front.
    First,
    /// From any other position.
    Other,
}

impl<T, D> Default for WaitQueue<T, D> {
    fn default() -> Self {
        WaitQueue { waiters: RefCell::default(), next_rank: Cell::new(0), watch: Cell::new(None) }
    }
}

impl<T, D> WaitQueue<T, D> {
    pub(crate) fn len(&self) -> usize {
        self.waiters.borrow().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.borrow().is_empty()
    }

    /// Returns a rank after all earlier ones.
    pub(crate) fn next_rank(&self) -> QueueRank {
        QueueRank(self.next_rank.replace(self.next_rank.get() + 1))
    }

    /// Adds a waiter that waits since `since`. [`leave`](WaitQueue::leave) must follow.
    pub(crate) fn join(&self, rank: QueueRank, details: D, since: Instant) -> Rc<Waiter<T, D>> {
        let (granted, waker, is_watching) = (Cell::default(), Cell::default(), Cell::new(false));
        let waiter = Rc::new(Waiter { rank, details, granted, waker, since, is_watching });
        let mut waiters = self.waiters.borrow_mut();
        if waiters.back().is_none_or(|last| last.rank < rank) {
            waiters.push_back(waiter.clone());
        } else {
            let position = waiters.partition_point(|other| other.rank < rank);
            waiters.insert(position, waiter.clone());
        }
        waiter
    }

    /// Returns the value granted to the waiter. If there is none yet, the task of `cx` is woken by the grant.
    pub(crate) fn poll(&self, waiter: &Waiter<T, D>, cx: &Context<'_>) -> Option<T> {
        let granted = waiter.granted.take();
        if granted.is_none() {
            waiter.waker.set(Some(cx.waker().clone()));
        }
        granted
    }

    pub(crate) fn is_first(&self, waiter: &Rc<Waiter<T, D>>) -> bool {
        self.waiters.borrow().front().is_some_and(|first| Rc::ptr_eq(first, waiter))
    }

    /// Returns whether the first waiter has waited for `limit`, or for as long again since this was last so. The timer
    /// for that wakes one of the waiters; for those that it does not wake this returns false.
    pub(crate) fn poll_long_wait(
        &self,
        waiter: &Waiter<T, D>,
        timers: &Timers,
        limit: Duration,
        cx: &Context<'_>,
    ) -> bool {
        let since = || self.waiters.borrow().front().map_or(waiter.since, |first| first.since);
        if let Some(watch) = self.watch.get() {
            if !waiter.is_watching.get() || !timers.poll(watch.timer, cx) {
                return false;
            }
            timers.remove(watch.timer);
            self.watch.set(None);
            waiter.is_watching.set(false);
            if since() + limit <= Instant::now() {
                return true;
            }
        }
        let (now, due) = (Instant::now(), since() + limit);
        let due = if due <= now { now + limit } else { due };
        self.watch.set(Some(Watch { timer: timers.insert(due, cx.waker().clone()), process: forks() }));
        waiter.is_watching.set(true);
        false
    }

    /// Has the timer wake the newest waiter, which will stay for longest, instead of one that leaves.
    fn hand_over_watch(&self, timers: &Timers) {
        let Some(watch) = self.watch.take() else { return };
        // In the child of a fork nothing is to wake the tasks of the parent.
        if watch.process == forks() {
            let heir = self.waiters.borrow().iter().rev().find(|other| other.has_waker()).cloned();
            if let Some(heir) = heir
                && let Some(waker) = heir.waker.take()
            {
                heir.waker.set(Some(waker.clone()));
                heir.is_watching.set(true);
                self.watch.set(Some(watch));
                timers.replace(watch.timer, waker);
                return;
            }
        }
        // Waiters without a waker are being woken, and will set a timer.
        timers.remove(watch.timer);
    }

    /// Removes a waiter, wherever it is.
    pub(crate) fn leave(&self, waiter: &Rc<Waiter<T, D>>, timers: &Timers) -> Left<T> {
        let left = self.remove(waiter);
        if waiter.is_watching.replace(false) {
            self.hand_over_watch(timers);
        }
        left
    }

    fn remove(&self, waiter: &Rc<Waiter<T, D>>) -> Left<T> {
        if let Some(granted) = waiter.granted.take() {
            return Left::Granted(granted);
        }
        let mut waiters = self.waiters.borrow_mut();
        let position = waiters.iter().position(|other| Rc::ptr_eq(other, waiter));
        let removed = position.map(|position| waiters.remove(position));
        drop(waiters);
        drop(removed);
        if position == Some(0) { Left::First } else { Left::Other }
    }

    /// Grants `value` to the first waiter, which leaves the queue. Returns its waker, for a caller that must not wake
    /// while it holds a borrow. If there is no waiter, returns `value`.
    pub(crate) fn grant(&self, value: T) -> Result<Option<Waker>, T> {
        let Some(first) = self.waiters.borrow_mut().pop_front() else { return Err(value) };
        let unclaimed = first.granted.replace(Some(value));
        debug_assert!(unclaimed.is_none(), "a waiter leaves the queue when it is granted something");
        Ok(first.waker.take())
    }

    /// Grants each waiter what `choose` returns for it. Those for which it returns `None` stay.
    pub(crate) fn grant_some(&self, mut choose: impl FnMut(&D) -> Option<T>) {
        let mut wakers = Vec::new();
        let waiters = self.waiters.take();
        let mut staying = VecDeque::with_capacity(waiters.len());
        for waiter in waiters {
            match choose(&waiter.details) {
                Some(value) => {
                    waiter.granted.set(Some(value));
                    wakers.extend(waiter.waker.take());
                }
                None => staying.push_back(waiter),
            }
        }
        self.waiters.replace(staying);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes the first waiter, which checks its situation again.
    pub(crate) fn wake_first(&self) {
        let waker = self.waiters.borrow().front().and_then(|waiter| waiter.waker.take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes all waiters, which stay in the queue.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<_> = self.waiters.borrow().iter().filter_map(|waiter| waiter.waker.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Empties the queue and wakes all that were in it.
    pub(crate) fn dismiss(&self) {
        let waiters = self.waiters.take();
        waiters.iter().filter_map(|waiter| waiter.waker.take()).for_each(Waker::wake);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn test_grant_goes_to_the_earliest_rank_whenever_it_joined() {
        let queue = WaitQueue::<u32>::default();
        let (early, late) = (queue.next_rank(), queue.next_rank());
        let second = queue.join(late, (), Instant::now());
        let first = queue.join(early, (), Instant::now());
        assert!(queue.is_first(&first) && !queue.is_first(&second));
        assert!(queue.grant(1).is_ok() && queue.grant(2).is_ok());
        assert_eq!(queue.grant(3).unwrap_err(), 3);
        let cx = Context::from_waker(Waker::noop());
        assert_eq!((queue.poll(&first, &cx), queue.poll(&second, &cx)), (Some(1), Some(2)));
        assert!(matches!(queue.leave(&first, &Timers::default()), Left::Other));
    }

    #[test]
    fn test_leave_returns_the_untaken_grant_and_the_position() {
        let queue = WaitQueue::<u32>::default();
        let [first, second, third] = [(); 3].map(|()| queue.join(queue.next_rank(), (), Instant::now()));
        assert!(matches!(queue.leave(&second, &Timers::default()), Left::Other));
        assert!(matches!(queue.leave(&first, &Timers::default()), Left::First));
        assert!(queue.grant(7).is_ok());
        assert!(matches!(queue.leave(&third, &Timers::default()), Left::Granted(7)));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn test_grant_some_keeps_the_order_of_those_that_stay() {
        let queue = WaitQueue::<u32, u32>::default();
        let waiters: Vec<_> = (0..5).map(|number| queue.join(queue.next_rank(), number, Instant::now())).collect();
        queue.grant_some(|number| (number % 2 == 0).then_some(number * 10));
        let cx = Context::from_waker(Waker::noop());
        let granted: Vec<_> = waiters.iter().map(|waiter| queue.poll(waiter, &cx)).collect();
        assert_eq!(granted, [Some(0), None, Some(20), None, Some(40)]);
        assert!(queue.is_first(&waiters[1]));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn test_waiters_are_woken_once_each_by_grant_wake_all_and_dismiss() {
        let queue = WaitQueue::<u32>::default();
        let waiters = [(); 3].map(|()| queue.join(queue.next_rank(), (), Instant::now()));
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let poll_all = || waiters.iter().filter_map(|waiter| queue.poll(waiter, &Context::from_waker(&waker))).count();
        let woken = || count.0.swap(0, Ordering::Relaxed);
        poll_all();
        queue.wake_first();
        queue.wake_first();
        assert_eq!(woken(), 1);
        poll_all();
        queue.wake_all();
        assert_eq!(woken(), 3);
        poll_all();
        queue.grant(1).unwrap().unwrap().wake();
        queue.dismiss();
        assert_eq!((woken(), queue.len(), poll_all()), (3, 0, 1));
    }

    #[test]
    fn test_one_timer_serves_all_waiters_and_goes_to_the_newest_when_its_waiter_leaves() {
        const LIMIT: Duration = Duration::from_secs(5);
        let (queue, timers) = (WaitQueue::<u32>::default(), Timers::default());
        let start = Instant::now();
        let waiters = [0, 1, 2].map(|late| queue.join(queue.next_rank(), (), start + Duration::from_secs(late)));
        let count = Arc::new(Count::default());
        let (waker, cx) = (Waker::from(count.clone()), Context::from_waker(Waker::noop()));
        for waiter in &waiters {
            queue.poll(waiter, &Context::from_waker(&waker));
            assert!(!queue.poll_long_wait(waiter, &timers, LIMIT, &cx));
        }
        assert_eq!(timers.next(), Some(start + LIMIT));
        assert!(waiters[0].is_watching.get() && !waiters[1].is_watching.get());
        assert!(matches!(queue.leave(&waiters[0], &timers), Left::First));
        assert!(waiters[2].is_watching.get() && !waiters[1].is_watching.get());
        // It is due before the waiter that is now the first has waited for long: it is set again.
        timers.sweep(start + LIMIT);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(!queue.poll_long_wait(&waiters[2], &timers, LIMIT, &cx));
        assert_eq!(timers.next(), Some(start + LIMIT + Duration::from_secs(1)));
    }

    #[test]
    fn test_long_wait_is_reported_to_the_waiter_with_the_timer_and_again_after_as_long() {
        const LIMIT: Duration = Duration::from_secs(5);
        let (queue, timers) = (WaitQueue::<u32>::default(), Timers::default());
        let Some(start) = Instant::now().checked_sub(LIMIT) else { return };
        let waiter = queue.join(queue.next_rank(), (), start);
        let cx = Context::from_waker(Waker::noop());
        assert!(!queue.poll_long_wait(&waiter, &timers, LIMIT, &cx));
        let due = timers.next().unwrap();
        assert!(due > Instant::now());
        timers.sweep(due);
        assert!(queue.poll_long_wait(&waiter, &timers, LIMIT, &cx));
        assert!(!queue.poll_long_wait(&waiter, &timers, LIMIT, &cx));
        assert!(timers.next().unwrap() > Instant::now());
        assert!(matches!(queue.leave(&waiter, &timers), Left::First));
        assert!(queue.watch.get().is_none());
    }
}
