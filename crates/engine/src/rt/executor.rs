//! The engine on a plain thread, for programs and tests that have no event loop.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::rt::reactor::Reactor;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs a future to its end on this thread, and turns the reactor while it waits. Join futures into one to run them
/// concurrently. Fails only if polling the kernel does.
pub fn block_on<F: Future>(reactor: &Rc<Reactor>, future: F) -> io::Result<F::Output> {
    let mut future = pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    loop {
        if flag.0.swap(false, Ordering::Acquire)
            && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return Ok(output);
        }
        // A task that woke itself, to let others run, does not wait; sockets and deadlines are checked all the same.
        let timeout = match reactor.next_deadline() {
            _ if flag.0.load(Ordering::Acquire) || reactor.has_work() => Some(Duration::ZERO),
            Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
            None => None,
        };
        reactor.turn(timeout)?;
    }
}
