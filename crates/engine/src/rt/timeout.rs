//! Deadlines and timeouts: how long an operation, or one wait of it, may last.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::Kind;
use crate::rt::reactor::Reactor;

/// The end of a whole operation, regardless of its progress.
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
    /// Returns the deadline for opening a connection. `None` if the limit exceeds the range of the clock.
    pub(crate) fn of_dial(started: Instant, limit: Duration) -> Option<Self> {
        Some(Deadline { at: started.checked_add(limit)?, limit, kind: Undertaking::Dial })
    }

    /// Returns the deadline of a request with its response.
    pub(crate) fn of_request(started: Instant, limit: Duration) -> Option<Self> {
        Some(Deadline { at: started.checked_add(limit)?, limit, kind: Undertaking::Request })
    }

    /// Returns the earlier one.
    pub(crate) fn earlier(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// Returns the error if it has passed.
    pub(crate) fn check(until: Option<Self>) -> Result<(), Kind> {
        match until {
            Some(until) if until.at <= Instant::now() => Err(until.exceeded()),
            _ => Ok(()),
        }
    }

    /// Returns the time that is left.
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Returns the error that the operation ends with.
    pub fn exceeded(&self) -> Kind {
        match self.kind {
            Undertaking::Dial => Kind::Timeout(self.limit),
            Undertaking::Request => Kind::Deadline(self.limit),
        }
    }
}

/// The time limits of a request's waits for the peer.
#[derive(Clone, Copy)]
pub(crate) struct WaitLimits {
    /// The limit of each wait.
    pub(crate) network: Option<Duration>,
    /// The deadline of the whole request.
    pub(crate) until: Option<Deadline>,
}

/// The limit of one wait. Polled only if there is nothing else to do: its clock starts with the first such poll, and
/// [`reset`](WaitTimeout::reset) stops it. Its [`Deadline`], if it has one, is not changed by that.
pub struct WaitTimeout {
    reactor: Rc<Reactor>,
    limit: Option<Duration>,
    until: Option<Deadline>,
    key: Option<usize>,
}

impl WaitTimeout {
    /// Creates one. `None` is no limit.
    pub fn new(reactor: &Rc<Reactor>, limit: Option<Duration>) -> Self {
        WaitTimeout { reactor: reactor.clone(), limit, until: None, key: None }
    }

    /// Sets other limits from now on.
    pub(crate) fn set(&mut self, limit: Option<Duration>, until: Option<Deadline>) {
        self.reset();
        (self.limit, self.until) = (limit, until);
    }

    /// Returns the limit of one wait.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Returns its deadline, for another wait of the same operation.
    pub(crate) fn until(&self) -> Option<Deadline> {
        self.until
    }

    /// Returns the error after the limit has passed.
    #[cold]
    pub fn elapsed_error(&self) -> Kind {
        match self.until {
            Some(until) if self.limit.is_none() || until.at <= Instant::now() => until.exceeded(),
            _ => Kind::Timeout(self.limit.unwrap_or_default()),
        }
    }

    /// Returns the error of a [`Deadline`] that has passed, for operations that never wait: with a peer that always
    /// sends more, or a caller that is slower than it, the timeout would never be polled.
    pub(crate) fn check_deadline(&self) -> Result<(), Kind> {
        Deadline::check(self.until)
    }

    /// Returns whether the limit has passed since the clock was started, which this does if it is not running. If it
    /// has not passed, the task of `cx` is woken at the deadline. A limit of zero has always passed.
    pub fn poll_elapsed(&mut self, cx: &Context<'_>) -> bool {
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
        // A limit beyond the range of the clock is no limit.
        let mut deadline = self.limit.and_then(|limit| now.checked_add(limit));
        if let Some(until) = self.until {
            // Also checked here, for operations that wait often but never for long.
            if until.at <= now {
                return true;
            }
            deadline = Some(deadline.map_or(until.at, |deadline| deadline.min(until.at)));
        }
        self.key = deadline.map(|deadline| timers.insert(deadline, cx.waker().clone()));
        false
    }

    /// Returns the output of `future`, or an error if the limit passes first.
    pub(crate) async fn bound<T>(mut self, future: impl Future<Output = Result<T, Kind>>) -> Result<T, Kind> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Pending if self.poll_elapsed(cx) => Poll::Ready(Err(self.elapsed_error())),
            polled => polled,
        })
        .await
    }

    /// Stops the clock, because the operation has made progress.
    pub fn reset(&mut self) {
        if let Some(key) = self.key.take() {
            self.reactor.timers.remove(key);
        }
    }
}

impl Drop for WaitTimeout {
    fn drop(&mut self) {
        self.reset();
    }
}

/// Waits for `duration`, and for one turn of the reactor at least.
pub async fn sleep(reactor: &Rc<Reactor>, duration: Duration) {
    let mut timeout = WaitTimeout::new(reactor, Some(duration.max(Duration::from_nanos(1))));
    poll_fn(|cx| if timeout.poll_elapsed(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
}
