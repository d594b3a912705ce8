//! Responses that hold a connection because they have not been read to their end, and tasks that wait for one.
//!
//! A task that waits for connections which its own responses hold would wait for itself, and so would two tasks that
//! each wait for a connection of the other one. If no other task can release a connection, [`Relief`] reads one of
//! these responses into memory. The bytes stay with the response, and its connection serves the next request.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::error::{Error, Kind, Phase, Result};
use crate::pool::exhaustion::Exhaustion;
use crate::pool::queue::{Left, QueueRank, WaitQueue, Waiter};
use crate::rt::reactor::Reactor;
use crate::rt::timeout::{Deadline, WaitTimeout};

/// The most bytes of one response that are read into memory for a task that would wait for itself.
pub const MOST_READ_AHEAD: usize = 1024 * 1024;

/// The time after which a wait is long: the pool warns, and the waiting tasks check again whether another task can
/// serve them.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// Size of the unread part of a body.
pub enum Size {
    /// At most the limit.
    Bounded,
    /// More than the limit.
    TooLarge,
    /// The peer has not announced its size.
    Unknown,
}

/// The body of a response that holds a connection.
pub trait HeldBody {
    /// Returns how the size of the unread part compares with `most` bytes.
    fn size_ahead(&self, most: usize) -> Size;

    /// Reads the rest into memory. Returns `true` once its connection is not needed any more, `false` if the body has
    /// more than `most` bytes. An error waits for the next reader. If the wait is given up,
    /// [`stop_waiting`](HeldBody::stop_waiting) must follow.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<bool>;

    /// Ends a wait: the next one has the whole timeout again, and no task is woken for this one.
    fn stop_waiting(&mut self);
}

/// A response whose body has not been read to its end.
pub trait Held {
    /// Returns the task that owns the response: it received the response, or was the last to read it.
    fn owner(&self) -> usize;

    /// Returns whether that task has ended, so that it cannot release the response.
    fn owner_has_ended(&self) -> bool;

    /// Lends the body to `work`. Returns `false` if the response is gone or being read. If it is being read, `waker` is
    /// woken at the end of that read.
    fn lend(&self, waker: Option<&Waker>, work: &mut dyn FnMut(&mut dyn HeldBody)) -> bool;

    /// Returns whether it is a response, and not a request that is being sent.
    fn is_response(&self) -> bool {
        true
    }
}

/// A request whose body or trailers the program's code produces, in the task that sends it: that code cannot use the
/// connection of the request.
pub(crate) struct Sending(pub(crate) usize);

impl Held for Sending {
    fn owner(&self) -> usize {
        self.0
    }

    fn owner_has_ended(&self) -> bool {
        false
    }

    fn lend(&self, _: Option<&Waker>, _: &mut dyn FnMut(&mut dyn HeldBody)) -> bool {
        // There is nothing to read.
        true
    }

    fn is_response(&self) -> bool {
        false
    }
}

/// One held response.
struct Entry {
    response: Box<dyn Held>,
    /// The task that owns the response, while it waits for a connection itself.
    waiting: Cell<Option<usize>>,
    since: Instant,
}

impl Entry {
    fn is_of(&self, task: usize) -> bool {
        self.response.owner() == task
    }

    /// Returns whether the task that owns it cannot release it now.
    fn is_stuck(&self) -> bool {
        self.waiting.get().is_some_and(|task| self.is_of(task)) || self.response.owner_has_ended()
    }
}

/// The held responses of one pool, or of one HTTP/2 connection.
#[derive(Default)]
pub(crate) struct Holders(RefCell<Slab<Rc<Entry>>>);

impl Holders {
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Adds a response, until the value that this returns is dropped.
    pub(crate) fn enter(self: &Rc<Self>, response: Box<dyn Held>) -> Holding {
        let entry = Entry { response, waiting: Cell::new(None), since: Instant::now() };
        let key = self.0.borrow_mut().insert(Rc::new(entry));
        Holding { holders: self.clone(), key }
    }

    /// Adds its responses to `all`.
    pub(crate) fn collect(&self, all: &mut Responses) {
        all.0.extend(self.0.borrow().iter().map(|(_, entry)| entry.clone()));
    }

    /// Notes that a task waits, or no longer waits.
    pub(crate) fn note(&self, task: usize, waits: bool) {
        for (_, entry) in self.0.borrow().iter() {
            if entry.is_of(task) {
                entry.waiting.set(waits.then_some(task));
            }
        }
    }
}

/// A response's entry, for as long as it holds its connection.
pub(crate) struct Holding {
    holders: Rc<Holders>,
    key: usize,
}

impl Drop for Holding {
    fn drop(&mut self) {
        // Dropped without the borrow: it is an object of the binding.
        let entry = self.holders.0.borrow_mut().try_remove(self.key);
        drop(entry);
    }
}

/// Held responses at one moment.
#[derive(Default)]
pub(crate) struct Responses(Vec<Rc<Entry>>);

impl Responses {
    /// Returns whether no task but `newcomer` can release one of them.
    pub(crate) fn are_stuck_except_for(&self, newcomer: usize) -> bool {
        self.0.iter().all(|entry| entry.is_of(newcomer) || entry.is_stuck())
    }

    fn are_stuck(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|entry| entry.is_stuck())
    }

    fn are_partly_of(&self, task: usize) -> bool {
        self.0.iter().any(|entry| entry.is_of(task))
    }

    /// Returns their number, and the time for which the oldest has been held.
    fn count(&self) -> (usize, Duration) {
        let responses = self.0.iter().filter(|entry| entry.response.is_response());
        let ages = responses.map(|entry| entry.since.elapsed());
        ages.fold((0, Duration::ZERO), |(count, oldest), age| (count + 1, oldest.max(age)))
    }

    /// Returns the reason that none of `limit` connections or streams is free.
    pub(crate) fn exhaustion(&self, of: &'static str, limit: usize) -> Exhaustion {
        let (held, oldest) = self.count();
        Exhaustion { of, limit, held, oldest, opening: false }
    }
}

/// A pool with tasks that wait for its connections or streams.
pub(crate) trait Room {
    /// The value that a waiting task is granted.
    type Granted;
    /// Data of the pool about each waiting task.
    type Details;

    /// Returns the queue of those tasks.
    fn queue(&self) -> &WaitQueue<Self::Granted, Self::Details>;
    /// Returns whether the pool was closed: nothing is granted any more.
    fn is_closed(&self) -> bool;
    /// Passes on the grant of a task that was cancelled.
    fn pass_on(self: &Rc<Self>, granted: Self::Granted);
    /// Returns the held responses, if they hold all connections or streams.
    fn held(&self) -> Option<Responses>;
    /// Notes in all held responses that a task waits, or no longer waits.
    fn note(&self, task: usize, waits: bool);
    /// Returns whether no response is held.
    fn has_none_held(&self) -> bool;
    /// Returns the reason that nothing is free.
    fn exhaustion(&self) -> Exhaustion;
    /// Reports a long wait, the first time.
    fn warn(&self);

    /// Wakes the first task of the queue if all the others may wait for a response that `owner` now has: the woken task
    /// checks again after `owner` has run.
    fn recheck_queue(&self, owner: usize) {
        if !self.queue().is_empty()
            && let Some(responses) = self.held()
            && responses.are_stuck_except_for(owner)
        {
            self.queue().wake_first();
        }
    }
}

/// Membership of a task in a queue. Dropping it early passes on a grant.
struct QueuePlace<'a, R: Room> {
    reactor: &'a Reactor,
    room: &'a Rc<R>,
    waiter: Rc<Waiter<R::Granted, R::Details>>,
}

impl<R: Room> Drop for QueuePlace<'_, R> {
    fn drop(&mut self) {
        let queue = self.room.queue();
        match queue.leave(&self.waiter, &self.reactor.timers) {
            Left::Granted(granted) => self.room.pass_on(granted),
            // The next task may read what this one was reading.
            Left::First if self.room.held().is_some() => queue.wake_first(),
            Left::First | Left::Other => {}
        }
    }
}

/// Reads held responses for a task that waits, if nothing else helps.
struct Relief<'a, R: Room> {
    room: &'a R,
    /// The task; None if no response was held when its wait began, so that it has received none.
    task: Option<usize>,
    /// The response that is being read.
    reading: Option<Rc<Entry>>,
}

/// The next step of a task that waits.
enum Step {
    /// Wait for other tasks.
    Wait,
    /// Read a response.
    Read(Rc<Entry>),
    /// Give up: no response can be read, and no task can release one.
    Deadlock,
}

/// The result of reading.
enum Progress {
    /// A response was read to its end: its connection was handed on.
    Freed,
    /// The task waits for itself, and its responses are too large.
    Deadlock,
}

impl<R: Room> Relief<'_, R> {
    /// Continues. Pending while it reads, or has nothing to do.
    fn poll(&mut self, cx: &mut Context<'_>, is_first: bool) -> Poll<Progress> {
        loop {
            let Some(entry) = &self.reading else {
                match self.step(cx) {
                    Step::Wait => return Poll::Pending,
                    Step::Deadlock => return Poll::Ready(Progress::Deadlock),
                    // One task reads at the same time: the one that will have the connection.
                    Step::Read(_) if !is_first => {
                        self.room.queue().wake_first();
                        return Poll::Pending;
                    }
                    Step::Read(entry) => self.reading = Some(entry),
                }
                continue;
            };
            let mut polled = None;
            entry.response.lend(Some(cx.waker()), &mut |body| polled = Some(body.poll_ahead(cx, MOST_READ_AHEAD)));
            match polled {
                Some(Poll::Pending) => return Poll::Pending,
                Some(Poll::Ready(is_whole)) => {
                    self.stop();
                    if is_whole {
                        return Poll::Ready(Progress::Freed);
                    }
                    // Tasks that wait for their own responses have to detect that.
                    self.room.queue().wake_all();
                }
                // The response is gone, or another task reads it.
                None => self.reading = None,
            }
        }
    }

    fn step(&self, cx: &Context<'_>) -> Step {
        let Some(mut responses) = self.room.held() else { return Step::Wait };
        if !responses.are_stuck() {
            return Step::Wait;
        }
        responses.0.sort_by_key(|entry| entry.since);
        let mut unbounded = None;
        for entry in &responses.0 {
            let mut size = None;
            if !entry.response.lend(None, &mut |body| size = Some(body.size_ahead(MOST_READ_AHEAD))) {
                // Another task reads it, and may continue.
                entry.response.lend(Some(cx.waker()), &mut |_| {});
                return Step::Wait;
            }
            match size {
                Some(Size::Bounded) => return Step::Read(entry.clone()),
                // Perhaps a stream without an end: it is read only if no other response can be.
                Some(Size::Unknown) => unbounded = unbounded.or(Some(entry)),
                Some(Size::TooLarge) | None => {}
            }
        }
        match unbounded {
            Some(entry) => Step::Read(entry.clone()),
            None if self.task.is_some_and(|task| responses.are_partly_of(task)) => Step::Deadlock,
            None => Step::Wait,
        }
    }

    /// Stops reading the response.
    fn stop(&mut self) {
        if let Some(entry) = self.reading.take() {
            entry.response.lend(None, &mut |body| body.stop_waiting());
        }
    }
}

impl<R: Room> Drop for Relief<'_, R> {
    fn drop(&mut self) {
        self.stop();
        if let Some(task) = self.task {
            self.room.note(task, false);
        }
    }
}

/// Waits in a queue for a grant from another task, at most for `timeout` and until `until`.
pub(crate) async fn wait_in_queue<R: Room>(
    reactor: &Rc<Reactor>,
    room: &Rc<R>,
    timeout: Option<Duration>,
    until: Option<Deadline>,
    rank: QueueRank,
    details: R::Details,
) -> Result<R::Granted> {
    let queue = room.queue();
    let place = QueuePlace { reactor, room, waiter: queue.join(rank, details, reactor.now()) };
    let task = (!room.has_none_held()).then(|| reactor.current_task());
    if let Some(task) = task {
        room.note(task, true);
    }
    let mut relief = Relief { room: room.as_ref(), task, reading: None };
    let is_endless = timeout.is_none() && until.is_none();
    let mut passive = None;
    let mut wait_timeout = WaitTimeout::new(reactor, timeout);
    wait_timeout.set(timeout, until);
    let waited = poll_fn(|cx| {
        loop {
            if let Some(granted) = queue.poll(&place.waiter, cx) {
                return Poll::Ready(Ok(granted));
            }
            if room.is_closed() {
                return Poll::Ready(Err(Error::new(Kind::PoolClosed, Phase::Pool)));
            }
            match relief.poll(cx, queue.is_first(&place.waiter)) {
                Poll::Ready(Progress::Freed) => continue,
                Poll::Ready(Progress::Deadlock) => return Poll::Ready(Err(Error::new(Kind::Held, Phase::Pool))),
                Poll::Pending => {}
            }
            if wait_timeout.poll_elapsed(cx) {
                return Poll::Ready(Err(Error::new(wait_timeout.elapsed_error(), Phase::Pool)));
            }
            if !queue.poll_long_wait(&place.waiter, &reactor.timers, LONG_WAIT, cx) {
                break;
            }
            room.warn();
            // The others check again as well: tasks that hold connections may have ended.
            queue.wake_all();
        }
        // A task with a deadline waits for the clock at least, and one that reads for the network.
        let is_passive = is_endless && relief.reading.is_none();
        if is_passive != passive.is_some() {
            let replaced = std::mem::replace(&mut passive, is_passive.then(|| reactor.passive_wait()));
            drop(replaced);
        }
        Poll::Pending
    })
    .await;
    waited.map_err(|error| match error.kind() {
        Kind::PoolClosed => error,
        _ if error.phase() == Phase::Pool => error.with_exhaustion(room.exhaustion()),
        _ => error,
    })
}
