//! The timers of one reactor: a list that one lazily armed timer sweeps, instead of a timer for each wait.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::Instant;

use slab::Slab;

struct Entry {
    deadline: Instant,
    /// None once the deadline has passed.
    waker: Option<Waker>,
}

/// All timers of one reactor.
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

    /// Wakes the tasks that are due, and finds out when the next one will be.
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

    /// Wakes none of the tasks that wait now, ever. Their wakers are not dropped either: that might end the tasks.
    pub(crate) fn forget(&self) {
        self.next.set(None);
        for (_, entry) in self.entries.borrow_mut().iter_mut() {
            std::mem::forget(entry.waker.take());
        }
    }

    pub(crate) fn insert(&self, deadline: Instant, waker: Waker) -> usize {
        if self.next.get().is_none_or(|next| deadline < next) {
            self.next.set(Some(deadline));
        }
        self.entries.borrow_mut().insert(Entry { deadline, waker: Some(waker) })
    }

    /// Returns whether the entry is due. If not, it wakes the task of `cx` from now on.
    pub(crate) fn poll(&self, key: usize, cx: &Context<'_>) -> bool {
        let replaced = match self.entries.borrow_mut().get_mut(key).map(|entry| &mut entry.waker) {
            Some(Some(waker)) if waker.will_wake(cx.waker()) => return false,
            Some(waker @ Some(_)) => waker.replace(cx.waker().clone()),
            _ => return true,
        };
        drop(replaced);
        false
    }

    /// Makes the entry wake another task: at once if it is due.
    pub(crate) fn replace(&self, key: usize, waker: Waker) {
        let replaced = match self.entries.borrow_mut().get_mut(key).map(|entry| &mut entry.waker) {
            Some(Some(current)) => Ok(std::mem::replace(current, waker)),
            _ => Err(waker),
        };
        match replaced {
            Ok(replaced) => drop(replaced),
            Err(waker) => waker.wake(),
        }
    }

    pub(crate) fn remove(&self, key: usize) {
        let removed = self.entries.borrow_mut().try_remove(key);
        drop(removed);
    }
}
