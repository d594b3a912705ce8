//! The connections of one client to its origin: at most `limit` at a time, handed out last in, first out; those who
//! come when all are out wait in a queue, first come, first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::ending::{Ending, Endings, Journal, Records};
use crate::http2::Bounds;
use crate::idle::{IdleGroup, IdleOwner, IdlePlace};
use crate::reactor::Keeper;
use crate::timers::{Deadline, Patience};
use crate::{Connection, Error, Kind, Phase, Reactor, Result};

/// Idle connections are gone through no more often than that, and may be idle for so much longer than they should be.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

/// What a pool has done and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Connections that wait for a request.
    pub idle: usize,
    /// Places taken: connections in use or being opened.
    pub in_use: usize,
    /// Most places there may be.
    pub limit: usize,
    /// Why connections were closed, and how many.
    pub closed: Endings,
    /// Connections opened so far.
    pub opened: u64,
    /// Requests that were sent again, on a new connection.
    pub repeated: u64,
    /// Requests that found an open connection.
    pub reused: u64,
    /// Requests under way on connections of HTTP/2.
    pub streams: usize,
    /// Tasks in the queue.
    pub waiting: usize,
}

/// A pool, shared by the leases taken from it.
pub struct Pool {
    reactor: Rc<Reactor>,
    limit: usize,
    /// How long a connection may be idle.
    idle_timeout: Option<Duration>,
    /// Bounds its idle connections together with those of other pools.
    group: Option<Rc<IdleGroup>>,
    records: Records,
    closed: Cell<bool>,
    reused: Cell<u64>,
    /// Whether idle connections are closed as soon as their peers close them.
    watches: bool,
    /// The number by which the reactor will ask for connections that expire, if it will.
    expires: Cell<Option<usize>>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// In boxes, as leases hold them: this way nothing is allocated or moved for a reuse. The oldest is the first.
    idle: VecDeque<Box<Connection>>,
    in_use: usize,
    queue: VecDeque<Rc<Ticket>>,
}

/// A place in the queue.
#[derive(Default)]
struct Ticket {
    granted: Cell<Option<Grant>>,
    waker: Cell<Option<Waker>>,
}

/// A place in the pool, with or without a connection.
struct Grant(Option<Box<Connection>>);

impl Pool {
    /// `limit` is at least 1. Connections that have been idle for `idle_timeout` are closed; `None` is for ever.
    pub fn new(
        reactor: &Rc<Reactor>,
        limit: usize,
        idle_timeout: Option<Duration>,
        group: Option<Rc<IdleGroup>>,
        journal: Option<Rc<dyn Journal>>,
    ) -> Rc<Self> {
        Rc::new(Pool {
            reactor: reactor.clone(),
            limit: limit.max(1),
            idle_timeout,
            group,
            records: Records::new(journal),
            closed: Cell::new(false),
            reused: Cell::new(0),
            expires: Cell::new(None),
            watches: true,
            state: RefCell::default(),
        })
    }

    /// A place for one connection whose owner looks after it by himself: it stays until he looks, whatever its peer does.
    pub(crate) fn slot(reactor: &Rc<Reactor>) -> Rc<Self> {
        let mut slot = Pool::new(reactor, 1, None, None, None);
        if let Some(slot) = Rc::get_mut(&mut slot) {
            slot.watches = false;
        }
        slot
    }

    /// Counts and gauges at this moment.
    pub fn statistics(&self) -> Statistics {
        let state = self.state.borrow();
        Statistics {
            idle: state.idle.len(),
            in_use: state.in_use,
            limit: self.limit,
            closed: self.records.endings(),
            opened: self.records.opened(),
            repeated: self.records.repeated(),
            reused: self.reused.get(),
            streams: 0,
            waiting: state.queue.len(),
        }
    }

    /// Waits for a place, in the queue for at most `timeout`, `None` being for ever, and until `until`. The lease comes
    /// with a connection where one is idle and well.
    pub async fn lease(self: &Rc<Self>, timeout: Option<Duration>, until: Option<Deadline>) -> Result<Lease> {
        if self.closed.get() {
            return Err(Error::new(Kind::PoolClosed, Phase::Pool));
        }
        Deadline::check(until).map_err(|kind| Error::new(kind, Phase::Pool))?;
        let lease = match self.lease_now() {
            Some(lease) => lease,
            None => {
                // Handed on by another task, and looked at as one that was idle is.
                let mut lease = self.queue(timeout, until).await?;
                lease.has_waited = true;
                if lease.connection().is_some_and(|connection| !connection.is_fit()) {
                    lease.end_connection(Ending::EndedWhileIdle);
                }
                lease
            }
        };
        self.reused.set(self.reused.get() + u64::from(lease.is_connected()));
        Ok(lease)
    }

    /// A lease, unless others are before us. It comes with a connection where one is idle and well.
    pub(crate) fn lease_now(self: &Rc<Self>) -> Option<Lease> {
        {
            let mut state = self.state.borrow_mut();
            if state.in_use >= self.limit || !state.queue.is_empty() {
                return None;
            }
            state.in_use += 1;
        }
        let mut lease = Lease::new(Some(self.clone()), None);
        loop {
            let Some(mut connection) = self.state.borrow_mut().idle.pop_back() else { return Some(lease) };
            connection.keep(None);
            if connection.is_fit() {
                lease.connection = Some(connection);
                return Some(lease);
            }
            self.end(connection, Ending::EndedWhileIdle);
        }
    }

    async fn queue(self: &Rc<Self>, timeout: Option<Duration>, until: Option<Deadline>) -> Result<Lease> {
        let place = Place { pool: self, ticket: Rc::default() };
        self.state.borrow_mut().queue.push_back(place.ticket.clone());
        wait_in_queue(&self.reactor, timeout, until, |cx| place.poll(cx)).await
    }

    /// A lease ends: its place goes to the first in the queue, together with the connection if that may live on.
    fn give_back(self: &Rc<Self>, connection: Option<Box<Connection>>) {
        // Decided under the borrow, carried out after it: closing and waking may come back to this pool.
        let (dropped, waker) = {
            let mut state = self.state.borrow_mut();
            if self.closed.get() {
                state.in_use -= 1;
                (connection.map(|connection| (connection, Ending::ClientClosed)), None)
            } else if let Some(ticket) = state.queue.pop_front() {
                let unclaimed = ticket.granted.replace(Some(Grant(connection)));
                debug_assert!(unclaimed.is_none(), "a ticket leaves the queue when it is granted");
                (None, ticket.waker.take())
            } else {
                state.in_use -= 1;
                match connection {
                    // The end came together with the response: nothing more will be told of it.
                    Some(connection) if self.watches && connection.is_closing() => {
                        (Some((connection, Ending::EndedWhileIdle)), None)
                    }
                    Some(mut connection) => {
                        let keeper = || Rc::downgrade(self) as Weak<dyn Keeper>;
                        connection.keep(self.watches.then(keeper));
                        self.add_idle(&mut state, connection);
                        (None, None)
                    }
                    None => (None, None),
                }
            }
        };
        if let Some((connection, ending)) = dropped {
            self.end(connection, ending);
        }
        self.close_excess();
        if let Some(limit) = self.idle_timeout
            && self.expires.get().is_none()
            && let Some(at) = self.reactor.now().checked_add(limit)
        {
            self.expires.set(Some(self.reactor.watch_expiry(Rc::downgrade(self) as Weak<dyn Keeper>, at)));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Adds a connection as the newest idle one. [`close_excess`](Self::close_excess) must follow, without the borrow.
    fn add_idle(self: &Rc<Self>, state: &mut State, mut connection: Box<Connection>) {
        let owner = || Rc::downgrade(self) as Weak<dyn IdleOwner>;
        connection.idle_place = self.group.as_ref().map(|group| group.enter(owner()));
        state.idle.push_back(connection);
    }

    /// Closes the oldest idle connections of the group if there are too many.
    fn close_excess(&self) {
        if let Some(group) = &self.group {
            group.close_excess();
        }
    }

    /// Closes the idle connections now, those in use when they come back, and turns away the queue.
    pub fn close(&self) {
        self.closed.set(true);
        let (idle, queue) = {
            let mut state = self.state.borrow_mut();
            (mem::take(&mut state.idle), mem::take(&mut state.queue))
        };
        self.end_all(idle, Ending::ClientClosed);
        queue.iter().filter_map(|ticket| ticket.waker.take()).for_each(Waker::wake);
    }

    /// Closes the idle connections; those in use and the queue go on.
    pub fn close_idle(&self) {
        let idle = mem::take(&mut self.state.borrow_mut().idle);
        self.end_all(idle, Ending::ClientClosed);
    }

    /// What bounds its idle connections together with those of other pools.
    pub(crate) fn idle_group(&self) -> Option<&Rc<IdleGroup>> {
        self.group.as_ref()
    }

    /// Most connections at a time.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn count_opened(&self, connection: &Connection, took: Duration) {
        self.records.count_opened(connection.peer(), took);
    }

    pub(crate) fn count_repeated(&self, error: &Error) {
        self.records.count_repeated(error.peer().unwrap_or_default(), error);
    }

    pub(crate) fn count_closed(&self, peer: &str, ending: Ending) {
        self.records.count_closed(peer, ending);
    }

    /// Closes a connection. To be called without a borrow: closing may come back to this pool.
    fn end(&self, connection: Box<Connection>, ending: Ending) {
        self.count_closed(connection.peer(), ending);
        drop(connection);
    }

    fn end_all(&self, connections: impl IntoIterator<Item = Box<Connection>>, ending: Ending) {
        connections.into_iter().for_each(|connection| self.end(connection, ending));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(key) = self.expires.get() {
            self.reactor.unwatch_expiry(key);
        }
    }
}

impl IdleOwner for Pool {
    fn evict(&self, key: usize) -> bool {
        let evicted = {
            let mut state = self.state.borrow_mut();
            // Found at once: the oldest of the group is the oldest of its pool, unless that was looked over meanwhile.
            let key_of = |connection: &Connection| connection.idle_place.as_ref().map(IdlePlace::key);
            let position = state.idle.iter().position(|connection| key_of(connection) == Some(key));
            position.and_then(|position| state.idle.remove(position))
        };
        let found = evicted.is_some();
        self.end_all(evicted, Ending::IdleLimit);
        found
    }
}

impl Keeper for Pool {
    fn look_over(&self) {
        let mut stirred = VecDeque::new();
        {
            let mut state = self.state.borrow_mut();
            if !state.idle.iter().any(|connection| connection.has_stirred()) {
                return;
            }
            for connection in mem::take(&mut state.idle) {
                let list = if connection.has_stirred() { &mut stirred } else { &mut state.idle };
                list.push_back(connection);
            }
        }
        // Looked at outside of the borrow, since what is behind a layer may be code of the program's.
        let mut fit = VecDeque::new();
        for mut connection in stirred {
            if connection.is_fit() && !self.closed.get() {
                connection.unstir();
                fit.push_back(connection);
            } else {
                self.end(connection, Ending::EndedWhileIdle);
            }
        }
        self.state.borrow_mut().idle.append(&mut fit);
        self.close_excess();
    }

    fn expire(&self, now: Instant) -> Option<Instant> {
        let limit = self.idle_timeout?;
        let mut expired = Vec::new();
        let next = {
            let mut state = self.state.borrow_mut();
            let mut next = None;
            for connection in mem::take(&mut state.idle) {
                match connection.idle_since.checked_add(limit) {
                    Some(at) if at <= now => expired.push(connection),
                    at => {
                        next = [next, at].into_iter().flatten().min();
                        state.idle.push_back(connection);
                    }
                }
            }
            next
        };
        // Not for each connection by itself: all of them are gone through each time.
        let next = next.map(|next| next.max(now + (limit / 8).min(EXPIRY_PAUSE)));
        if next.is_none() {
            self.expires.set(None);
        }
        self.end_all(expired, Ending::IdleTimeout);
        next
    }
}

/// Waits in a queue for what other tasks hand on, which `poll` tells, for at most `timeout` and until `until`.
pub(crate) async fn wait_in_queue<T>(
    reactor: &Rc<Reactor>,
    timeout: Option<Duration>,
    until: Option<Deadline>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T>>,
) -> Result<T> {
    // Whoever waits with a deadline waits for the clock at least, and not for other tasks alone.
    let _passive = (timeout.is_none() && until.is_none()).then(|| reactor.passive_wait());
    let mut patience = Patience::new(reactor, timeout);
    patience.set(timeout, until);
    poll_fn(|cx| match poll(cx) {
        Poll::Pending if patience.poll_exhausted(cx) => Poll::Ready(Err(Error::new(patience.exhausted(), Phase::Pool))),
        polled => polled,
    })
    .await
}

/// A task's place in the queue; leaving it early passes on what was already granted.
struct Place<'a> {
    pool: &'a Rc<Pool>,
    ticket: Rc<Ticket>,
}

impl Place<'_> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Lease>> {
        if let Some(Grant(connection)) = self.ticket.granted.take() {
            return Poll::Ready(Ok(Lease::new(Some(self.pool.clone()), connection)));
        }
        if self.pool.closed.get() {
            return Poll::Ready(Err(Error::new(Kind::PoolClosed, Phase::Pool)));
        }
        self.ticket.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(Grant(connection)) = self.ticket.granted.take() {
            return self.pool.give_back(connection);
        }
        let mut state = self.pool.state.borrow_mut();
        if let Some(position) = state.queue.iter().position(|ticket| Rc::ptr_eq(ticket, &self.ticket)) {
            state.queue.remove(position);
        }
    }
}

/// A place in a pool, for as long as one request takes. Dropped without [`finish`](Lease::finish), its connection is
/// closed: nobody knows what is still on its way.
pub struct Lease {
    pool: Option<Rc<Pool>>,
    connection: Option<Box<Connection>>,
    /// Why the connection is closed when the lease is dropped with it.
    ending: Ending,
    /// Whether it had to be waited for.
    pub(crate) has_waited: bool,
}

impl Lease {
    /// Of a connection that belongs to no pool.
    pub fn of(connection: Connection) -> Self {
        Lease::new(None, Some(Box::new(connection)))
    }

    fn new(pool: Option<Rc<Pool>>, connection: Option<Box<Connection>>) -> Self {
        Lease { pool, connection, ending: Ending::GivenUp, has_waited: false }
    }

    /// Closes the connection, for that reason. The place remains.
    pub(crate) fn end_connection(&mut self, ending: Ending) {
        if let Some(connection) = self.connection.take() {
            match &self.pool {
                Some(pool) => pool.end(connection, ending),
                None => drop(connection),
            }
        }
    }

    /// Ends, and closes the connection for that reason.
    pub(crate) fn end(mut self, ending: Ending) {
        self.ending = ending;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_deref_mut()
    }

    /// How long the peer of its connection is waited for.
    pub(crate) fn set_patience(&mut self, bounds: Bounds) {
        if let Some(connection) = &mut self.connection {
            connection.patience.set(bounds.network, bounds.until);
        }
    }

    /// Its connection, which is no longer its own.
    pub(crate) fn take(&mut self) -> Option<Box<Connection>> {
        self.connection.take()
    }

    /// Puts another connection, or none, in place of the one it has, which is closed.
    pub(crate) fn replace(&mut self, connection: Option<Box<Connection>>) {
        self.connection = connection;
    }

    /// The request is over, and the connection is good for another one.
    pub(crate) fn finish(mut self) {
        let connection = self.connection.take().map(|mut connection| {
            connection.rest();
            connection
        });
        if let Some(pool) = self.pool.take() {
            pool.give_back(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Closed before its place is taken: at no time are there more connections than places.
        self.end_connection(self.ending);
        if let Some(pool) = self.pool.take() {
            pool.give_back(None);
        }
    }
}
