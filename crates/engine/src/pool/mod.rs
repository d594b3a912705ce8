//! The connections of one client to its origin: at most `limit`, of which the one used last is handed out first.
//! Requests that find none free wait in a fair queue.

pub mod close_reason;
pub mod exhaustion;
pub mod held;
pub mod idle;
pub mod lease;
pub(crate) mod queue;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::mem;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::pool::close_reason::{CloseCounts, CloseReason, ConnectionObserver, PoolCounters};
use crate::pool::exhaustion::Exhaustion;
use crate::pool::held::{Held, Holders, Holding, Responses, Room, wait_in_queue};
use crate::pool::idle::{GroupMember, IdleGroup, IdlePlace};
use crate::pool::lease::{Lease, LeaseOwner};
use crate::pool::queue::WaitQueue;
use crate::rt::reactor::{IdleOwner, Reactor};
use crate::rt::timeout::Deadline;

/// The shortest pause between two checks for expired connections. They may be idle for that much longer than their
/// limit.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

/// Counts and gauges of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Idle connections.
    pub idle: usize,
    /// Connections in use or being opened.
    pub in_use: usize,
    /// The limit of connections.
    pub limit: usize,
    /// Closed connections, by reason.
    pub closed: CloseCounts,
    /// Opened connections.
    pub opened: u64,
    /// Requests that were sent again on a new connection.
    pub repeated: u64,
    /// Requests that found an open connection.
    pub reused: u64,
    /// Requests in flight on HTTP/2 connections.
    pub streams: usize,
    /// Tasks in the queue.
    pub waiting: usize,
}

/// A pool, shared by the leases taken from it.
pub struct Pool {
    reactor: Rc<Reactor>,
    limit: usize,
    /// The time after which an idle connection is closed.
    idle_timeout: Option<Duration>,
    /// Limits its idle connections together with those of other pools.
    group: Option<Rc<IdleGroup>>,
    counters: PoolCounters,
    closed: Cell<bool>,
    reused: Cell<u64>,
    /// The key under which the reactor asks for expired connections, if it does.
    expires: Cell<Option<usize>>,
    state: RefCell<State>,
    queue: WaitQueue<Granted>,
    /// The responses that hold a connection.
    held: Rc<Holders>,
}

#[derive(Default)]
struct State {
    /// The idle connections, the oldest first. In boxes, as leases hold them: nothing is allocated or moved when one is
    /// reused.
    idle: VecDeque<Box<Connection>>,
    in_use: usize,
}

/// A pool slot, with or without a connection.
pub(crate) struct Granted(Option<Box<Connection>>);

impl Pool {
    /// Creates a pool. `limit` is at least 1. Connections that have been idle for `idle_timeout` are closed; `None` is
    /// no limit.
    pub fn new(
        reactor: &Rc<Reactor>,
        limit: usize,
        idle_timeout: Option<Duration>,
        group: Option<Rc<IdleGroup>>,
        observer: Option<Rc<dyn ConnectionObserver>>,
    ) -> Rc<Self> {
        Rc::new(Pool {
            reactor: reactor.clone(),
            limit: limit.max(1),
            idle_timeout,
            group,
            counters: PoolCounters::new(observer),
            closed: Cell::new(false),
            reused: Cell::new(0),
            expires: Cell::new(None),
            state: RefCell::default(),
            queue: WaitQueue::default(),
            held: Rc::default(),
        })
    }

    /// Returns counts and gauges at this moment.
    pub fn statistics(&self) -> Statistics {
        let state = self.state.borrow();
        Statistics {
            idle: state.idle.len(),
            in_use: state.in_use,
            limit: self.limit,
            closed: self.counters.close_counts(),
            opened: self.counters.opened(),
            repeated: self.counters.repeated(),
            reused: self.reused.get(),
            streams: 0,
            waiting: self.queue.len(),
        }
    }

    /// Waits for a slot: in the queue at most for `timeout` (`None` is no limit), and until `until`. The lease comes
    /// with a connection if a reusable one is idle.
    pub async fn lease(self: &Rc<Self>, timeout: Option<Duration>, until: Option<Deadline>) -> Result<Lease> {
        if self.closed.get() {
            return Err(Error::new(Kind::PoolClosed, Phase::Pool));
        }
        Deadline::check(until).map_err(|kind| Error::new(kind, Phase::Pool))?;
        let lease = match self.lease_now() {
            Some(lease) => lease,
            None => {
                // Another task has handed it on: it is checked like an idle one.
                let rank = self.queue.next_rank();
                let Granted(connection) = wait_in_queue(&self.reactor, self, timeout, until, rank, ()).await?;
                let mut lease = Lease::new(Some(self.clone()), connection);
                lease.has_waited = true;
                if lease.connection().is_some_and(|connection| !connection.is_reusable()) {
                    lease.end_connection(CloseReason::EndedWhileIdle);
                }
                lease
            }
        };
        self.reused.set(self.reused.get() + u64::from(lease.is_connected()));
        Ok(lease)
    }

    /// Returns a lease, unless all slots are taken or other tasks wait. It comes with a connection if a reusable one is
    /// idle.
    pub(crate) fn lease_now(self: &Rc<Self>) -> Option<Lease> {
        {
            let mut state = self.state.borrow_mut();
            if state.in_use >= self.limit || !self.queue.is_empty() {
                return None;
            }
            state.in_use += 1;
        }
        let mut lease = Lease::new(Some(self.clone()), None);
        loop {
            let Some(mut connection) = self.state.borrow_mut().idle.pop_back() else { return Some(lease) };
            connection.set_idle_owner(None);
            if connection.is_reusable() {
                lease.replace(Some(connection));
                return Some(lease);
            }
            self.end(connection, CloseReason::EndedWhileIdle);
        }
    }

    /// Adds a connection as the newest idle one, or returns it if it has to be closed.
    /// [`close_excess`](Self::close_excess) must follow, without the borrow.
    fn add_idle(
        self: &Rc<Self>,
        state: &mut State,
        mut connection: Box<Connection>,
    ) -> Option<(Box<Connection>, CloseReason)> {
        // The end came together with the response: the kernel will not report it again.
        if connection.is_closing() {
            return Some((connection, CloseReason::EndedWhileIdle));
        }
        connection.set_idle_owner(Some(Rc::downgrade(self) as Weak<dyn IdleOwner>));
        let owner = || Rc::downgrade(self) as Weak<dyn GroupMember>;
        connection.idle_place = self.group.as_ref().map(|group| group.enter(owner()));
        state.idle.push_back(connection);
        None
    }

    /// Closes the oldest idle connections of the group if there are too many.
    fn close_excess(&self) {
        if let Some(group) = &self.group {
            group.close_excess();
        }
    }

    /// Closes the idle connections now and those in use when they are returned. Requests that wait in the queue fail.
    pub fn close(&self) {
        self.closed.set(true);
        let idle = mem::take(&mut self.state.borrow_mut().idle);
        self.end_all(idle, CloseReason::ClientClosed);
        self.queue.dismiss();
    }

    /// Closes the idle connections. Those in use and the queue are not affected.
    pub fn close_idle(&self) {
        let idle = mem::take(&mut self.state.borrow_mut().idle);
        self.end_all(idle, CloseReason::ClientClosed);
    }

    /// Returns the limit on its idle connections together with those of other pools.
    pub(crate) fn idle_group(&self) -> Option<&Rc<IdleGroup>> {
        self.group.as_ref()
    }

    /// Returns the limit of connections.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn count_opened(&self, connection: &Connection, took: Duration) {
        self.counters.count_opened(connection.peer(), took);
    }

    pub(crate) fn count_repeated(&self, error: &Error) {
        self.counters.count_repeated(error.peer().unwrap_or_default(), error);
    }

    pub(crate) fn count_closed(&self, peer: &str, reason: CloseReason) {
        self.counters.count_closed(peer, reason);
    }

    pub(crate) fn warn_of(&self, exhaustion: &Exhaustion) {
        self.counters.warn(exhaustion);
    }

    fn end_all(&self, connections: impl IntoIterator<Item = Box<Connection>>, reason: CloseReason) {
        connections.into_iter().for_each(|connection| self.end(connection, reason));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(key) = self.expires.get() {
            self.reactor.unwatch_expiry(key);
        }
    }
}

impl GroupMember for Pool {
    fn evict(&self, key: usize) -> bool {
        let evicted = {
            let mut state = self.state.borrow_mut();
            // Found at once: the oldest of the group is the oldest of its pool, unless that was checked meanwhile.
            let key_of = |connection: &Connection| connection.idle_place.as_ref().map(IdlePlace::key);
            let position = state.idle.iter().position(|connection| key_of(connection) == Some(key));
            position.and_then(|position| state.idle.remove(position))
        };
        let found = evicted.is_some();
        self.end_all(evicted, CloseReason::IdleLimit);
        found
    }
}

impl IdleOwner for Pool {
    fn check_idle(&self) {
        let mut has_event = VecDeque::new();
        {
            let mut state = self.state.borrow_mut();
            if !state.idle.iter().any(|connection| connection.has_event()) {
                return;
            }
            for connection in mem::take(&mut state.idle) {
                let list = if connection.has_event() { &mut has_event } else { &mut state.idle };
                list.push_back(connection);
            }
        }
        // Checked without the borrow, since a layer may run code of the program.
        let mut fit = VecDeque::new();
        for mut connection in has_event {
            if connection.is_reusable() && !self.closed.get() {
                connection.clear_event();
                fit.push_back(connection);
            } else {
                self.end(connection, CloseReason::EndedWhileIdle);
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
        // Not for each connection by itself: each check goes through all of them.
        let next = next.map(|next| next.max(now + (limit / 8).min(EXPIRY_PAUSE)));
        if next.is_none() {
            self.expires.set(None);
        }
        self.end_all(expired, CloseReason::IdleTimeout);
        next
    }
}

impl LeaseOwner for Pool {
    /// Gives the slot to the first waiter, together with the connection.
    fn give_back(self: Rc<Self>, connection: Option<Box<Connection>>) {
        // Decided under the borrow, carried out after it: closing and waking may call this pool again.
        let (dropped, waker) = {
            let mut state = self.state.borrow_mut();
            if self.closed.get() {
                state.in_use -= 1;
                (connection.map(|connection| (connection, CloseReason::ClientClosed)), None)
            } else {
                match self.queue.grant(Granted(connection)) {
                    Ok(waker) => (None, waker),
                    Err(Granted(connection)) => {
                        state.in_use -= 1;
                        (connection.and_then(|connection| self.add_idle(&mut state, connection)), None)
                    }
                }
            }
        };
        if let Some((connection, reason)) = dropped {
            self.end(connection, reason);
        }
        self.close_excess();
        if let Some(limit) = self.idle_timeout
            && self.expires.get().is_none()
            && let Some(at) = self.reactor.now().checked_add(limit)
        {
            self.expires.set(Some(self.reactor.watch_expiry(Rc::downgrade(&self) as Weak<dyn IdleOwner>, at)));
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Closes a connection. Must be called without a borrow: closing may call this pool again.
    fn end(&self, connection: Box<Connection>, reason: CloseReason) {
        self.count_closed(connection.peer(), reason);
        drop(connection);
    }

    fn hold(&self, response: Box<dyn Held>) -> Option<Holding> {
        let owner = response.owner();
        let holding = self.held.enter(response);
        self.recheck_queue(owner);
        Some(holding)
    }
}

impl Room for Pool {
    type Granted = Granted;
    type Details = ();

    fn queue(&self) -> &WaitQueue<Granted> {
        &self.queue
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn pass_on(self: &Rc<Self>, Granted(connection): Granted) {
        self.clone().give_back(connection);
    }

    fn held(&self) -> Option<Responses> {
        if self.held.len() < self.state.borrow().in_use {
            return None;
        }
        let mut responses = Responses::default();
        self.held.collect(&mut responses);
        Some(responses)
    }

    fn note(&self, task: usize, waits: bool) {
        self.held.note(task, waits);
    }

    fn has_none_held(&self) -> bool {
        self.held.len() == 0
    }

    fn exhaustion(&self) -> Exhaustion {
        let mut responses = Responses::default();
        self.held.collect(&mut responses);
        responses.exhaustion("connections", self.limit)
    }

    fn warn(&self) {
        self.warn_of(&self.exhaustion());
    }
}
