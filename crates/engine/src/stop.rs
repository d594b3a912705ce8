//! Ending somebody's wait from outside, by another task.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Shared by a task that waits and whoever may end that.
#[derive(Default)]
pub struct Stop {
    asked: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl Stop {
    /// Ends the wait, or the next one.
    pub fn ask(&self) {
        self.asked.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// What the future comes to, `None` once it is asked to stop.
    pub async fn unless_asked<F: Future>(&self, mut future: Pin<Box<F>>) -> Option<F::Output> {
        let output = poll_fn(|cx| match future.as_mut().poll(cx) {
            _ if self.is_asked() => Poll::Ready(None),
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                self.wake_later(cx);
                Poll::Pending
            }
        })
        .await;
        self.forget();
        output
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.get()
    }

    pub(crate) fn wake_later(&self, cx: &Context<'_>) {
        self.waiting.set(Some(cx.waker().clone()));
    }

    /// The wait is over: nobody is to be woken, nor kept alive, for it.
    pub(crate) fn forget(&self) {
        drop(self.waiting.take());
    }
}
