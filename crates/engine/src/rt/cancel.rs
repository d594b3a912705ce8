//! Cancellation of a wait of another task.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A token shared by a task that waits and the code that may cancel the wait.
#[derive(Default)]
pub struct CancelToken {
    cancelled: Cell<bool>,
    waiting: Cell<Option<Waker>>,
}

impl CancelToken {
    /// Ends the wait, or the next one.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Returns the output of `future`, `None` once it was cancelled.
    pub async fn unless_cancelled<F: Future>(&self, mut future: Pin<Box<F>>) -> Option<F::Output> {
        let output = poll_fn(|cx| match future.as_mut().poll(cx) {
            _ if self.is_cancelled() => Poll::Ready(None),
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

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    pub(crate) fn wake_later(&self, cx: &Context<'_>) {
        self.waiting.set(Some(cx.waker().clone()));
    }

    /// Ends the wait: the task is neither woken nor kept alive for it.
    pub(crate) fn forget(&self) {
        drop(self.waiting.take());
    }
}
