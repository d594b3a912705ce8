//! Deadlines: a list that one lazily armed timer sweeps, instead of a timer for each wait.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::{Kind, Reactor};

struct Entry {
    deadline: Instant,
    /// None once the deadline has passed.
    waker: Option<Waker>,
}

/// All deadlines of one reactor.
#[derive(Default)]
pub(crate) struct Timers {
    entries: RefCell<Slab<Entry>>,
    /// No entry is due before this. May be too early, never too late.
    next: Cell<Option<Instant>>,
}

impl Timers {
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.get()
    }

    /// Wakes whoever is due, and finds out when that will be the case again.
    pub(crate) fn sweep(&self, now: Instant) {
        if self.next.get().is_none_or(|next| next > now) {
            return;
        }
        let mut due = Vec::new();
        let mut next = None;
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.waker.is_none() {
                continue;
            }
            if entry.deadline <= now {
                due.extend(entry.waker.take());
            } else if next.is_none_or(|next| entry.deadline < next) {
                next = Some(entry.deadline);
            }
        }
        self.next.set(next);
        due.into_iter().for_each(Waker::wake);
    }

    /// Wakes none of those that wait now, ever. Their wakers are not dropped either: that might end the tasks.
    pub(crate) fn forget(&self) {
        self.next.set(None);
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            std::mem::forget(entry.waker.take());
        }
    }

    fn insert(&self, deadline: Instant, waker: Waker) -> usize {
        if self.next.get().is_none_or(|next| deadline < next) {
            self.next.set(Some(deadline));
        }
        self.entries.borrow_mut().insert(Entry { deadline, waker: Some(waker) })
    }

    /// Whether the entry is due; else its waker is that of `cx` from now on.
    fn poll(&self, key: usize, cx: &Context<'_>) -> bool {
        let replaced = match self.entries.borrow_mut().get_mut(key).map(|entry| &mut entry.waker) {
            Some(Some(waker)) if waker.will_wake(cx.waker()) => return false,
            Some(waker @ Some(_)) => waker.replace(cx.waker().clone()),
            _ => return true,
        };
        drop(replaced);
        false
    }

    fn remove(&self, key: usize) {
        let removed = self.entries.borrow_mut().try_remove(key);
        drop(removed);
    }
}

/// The end of everything that belongs to one undertaking, whatever happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    limit: Duration,
    kind: Undertaking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undertaking {
    Dial,
    Request,
}

impl Deadline {
    /// Of opening a connection. `None` for a limit that no clock can count.
    pub(crate) fn of_dial(started: Instant, limit: Duration) -> Option<Self> {
        Some(Deadline { at: started.checked_add(limit)?, limit, kind: Undertaking::Dial })
    }

    /// Of a request with its response.
    pub(crate) fn of_request(started: Instant, limit: Duration) -> Option<Self> {
        Some(Deadline { at: started.checked_add(limit)?, limit, kind: Undertaking::Request })
    }

    /// Whichever comes first.
    pub(crate) fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// The error of one that has passed.
    pub(crate) fn check(until: Option<Self>) -> Result<(), Kind> {
        match until {
            Some(until) if until.at <= Instant::now() => Err(until.exceeded()),
            _ => Ok(()),
        }
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The error that it ends with.
    pub fn exceeded(&self) -> Kind {
        match self.kind {
            Undertaking::Dial => Kind::Timeout(self.limit),
            Undertaking::Request => Kind::Deadline(self.limit),
        }
    }
}

/// How long to put up with nothing happening. Polled only when there is nothing else to do: its clock starts with the
/// first such poll, and [`reset`](Patience::reset) stops it. Its [`Deadline`], where it has one, stays where it is.
pub struct Patience {
    reactor: Rc<Reactor>,
    limit: Option<Duration>,
    until: Option<Deadline>,
    key: Option<usize>,
}

impl Patience {
    /// `None` is endless patience.
    pub fn new(reactor: &Rc<Reactor>, limit: Option<Duration>) -> Self {
        Patience { reactor: reactor.clone(), limit, until: None, key: None }
    }

    /// Other limits from now on.
    pub(crate) fn set(&mut self, limit: Option<Duration>, until: Option<Deadline>) {
        self.reset();
        (self.limit, self.until) = (limit, until);
    }

    /// Its deadline, for another wait of the same undertaking.
    pub(crate) fn until(&self) -> Option<Deadline> {
        self.until
    }

    /// The error that exhausted patience ends with.
    #[cold]
    pub fn exhausted(&self) -> Kind {
        match self.until {
            Some(until) if self.limit.is_none() || until.at <= Instant::now() => until.exceeded(),
            _ => Kind::Timeout(self.limit.unwrap_or_default()),
        }
    }

    /// The error of a [`Deadline`] that has passed, for those who never wait: a peer that always has more to say, or a
    /// caller who is slower than it, would never come to ask whether patience is exhausted.
    pub(crate) fn check_deadline(&self) -> Result<(), Kind> {
        Deadline::check(self.until)
    }

    /// Whether the limit has passed since the clock was started, which this does if it is not running. When not, the
    /// task of `cx` is woken at the deadline. A limit of nothing has always passed.
    pub fn poll_exhausted(&mut self, cx: &Context<'_>) -> bool {
        let timers = &self.reactor.timers;
        if let Some(key) = self.key {
            return timers.poll(key, cx);
        }
        if self.limit.is_none() && self.until.is_none() {
            return false;
        }
        if self.limit == Some(Duration::ZERO) {
            return true;
        }
        let now = Instant::now();
        // A limit beyond what the clock can count is no limit.
        let mut deadline = self.limit.and_then(|limit| now.checked_add(limit));
        if let Some(until) = self.until {
            // Whoever never has to wait for long comes by here all the same.
            if until.at <= now {
                return true;
            }
            deadline = Some(deadline.map_or(until.at, |deadline| deadline.min(until.at)));
        }
        self.key = deadline.map(|deadline| timers.insert(deadline, cx.waker().clone()));
        false
    }

    /// What `future` comes to, unless patience is exhausted before.
    pub(crate) async fn bound<T>(mut self, future: impl Future<Output = Result<T, Kind>>) -> Result<T, Kind> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Pending if self.poll_exhausted(cx) => Poll::Ready(Err(self.exhausted())),
            polled => polled,
        })
        .await
    }

    /// Something has happened.
    pub fn reset(&mut self) {
        if let Some(key) = self.key.take() {
            self.reactor.timers.remove(key);
        }
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.reset();
    }
}

/// Waits for that long, and for one turn of the reactor at least.
pub async fn sleep(reactor: &Rc<Reactor>, duration: Duration) {
    let mut patience = Patience::new(reactor, Some(duration.max(Duration::from_nanos(1))));
    poll_fn(|cx| if patience.poll_exhausted(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}
