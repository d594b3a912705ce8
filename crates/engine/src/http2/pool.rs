//! The HTTP/2 connections of one client to its origin: assignment of requests to them, opening of further ones, and the
//! queue of waiting requests.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use wire::Limits;
use wire::framing::CloseCause;

use super::Options;
use super::connection::{ConnectionOwner, Http2Connection, StreamPermit};
use crate::config::Timeouts;
use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::pool::Pool;
use crate::pool::close_reason::CloseReason;
use crate::pool::exhaustion::Exhaustion;
use crate::pool::held::{Responses, Room, wait_in_queue};
use crate::pool::idle::GroupMember;
use crate::pool::lease::Lease;
use crate::pool::queue::{QueueRank, WaitQueue};
use crate::rt::reactor::{IdleOwner, Reactor};
use crate::rt::timeout::Deadline;

/// All connections, and the queue for streams on them. The pool limits their number: each has a slot there.
pub(crate) struct Http2Pool {
    reactor: Rc<Reactor>,
    pool: Rc<Pool>,
    options: Options,
    limits: Limits,
    /// The time after which an idle connection is closed.
    idle_timeout: Option<Duration>,
    open: RefCell<Vec<Rc<Http2Connection>>>,
    queue: WaitQueue<Result<Assignment>, DialLimit>,
    /// True while a request opens a connection. One is enough, until its limit of streams is known.
    opening: Cell<bool>,
    /// The server has chosen HTTP/1.1 in the last handshake.
    speaks_http1: Cell<bool>,
    /// The server has ended a stream or a connection because it requires HTTP/1.1. HTTP/2 is not offered to it again.
    requires_http1: Cell<bool>,
    closed: Cell<bool>,
    expires: Cell<Option<usize>>,
    /// Requests that found an open connection.
    reused: Cell<u64>,
}

/// The next step of a request.
pub(crate) enum Assignment {
    /// Use HTTP/1.1, on a connection of the pool.
    Http1,
    /// Open a connection, which others wait for.
    Open(DialPermit),
    /// Use a stream on an open connection.
    Stream(StreamPermit),
}

/// The request's timeout for opening a connection.
type DialLimit = Option<Duration>;

/// Permit to open a connection for all waiters. If it is dropped, the next waiter gets it.
pub(crate) struct DialPermit(Rc<Http2Pool>);

impl DialPermit {
    /// Passes the error on to the tasks that wait for the connection, unless it does not concern them: an error that is
    /// one object, or the timeout of this request if theirs is longer. The next of those tasks tries again.
    pub(crate) fn fail(self, error: &Error) {
        let copy = |dial_limit: DialLimit| match error.kind() {
            Kind::Deadline(_) | Kind::PoolClosed => None,
            Kind::Timeout(limit) if dial_limit.is_none_or(|own| own > *limit) => None,
            kind => kind.copy(),
        };
        self.0.queue.grant_some(|limit| copy(*limit).map(|kind| Err(Error::new(kind, error.phase()))));
    }
}

impl Drop for DialPermit {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.serve_queue();
    }
}

impl Http2Pool {
    pub(crate) fn new(
        reactor: &Rc<Reactor>,
        pool: &Rc<Pool>,
        options: Options,
        limits: Limits,
        idle_timeout: Option<Duration>,
    ) -> Rc<Self> {
        Rc::new(Http2Pool {
            reactor: reactor.clone(),
            pool: pool.clone(),
            options,
            limits,
            idle_timeout,
            open: RefCell::default(),
            queue: WaitQueue::default(),
            opening: Cell::new(false),
            speaks_http1: Cell::new(false),
            requires_http1: Cell::new(false),
            closed: Cell::new(false),
            expires: Cell::new(None),
            reused: Cell::new(0),
        })
    }

    /// Assigns a request to a connection. Waits for room, at most for the pool timeout, and until `until`. A request
    /// that has to be sent again keeps its `rank`, which is before those of all newer ones.
    pub(crate) async fn assignment(
        self: &Rc<Self>,
        timeouts: &Timeouts,
        until: Option<Deadline>,
        rank: &mut Option<QueueRank>,
    ) -> Result<(Assignment, bool)> {
        let fail = |kind| Error::new(kind, Phase::Pool);
        if self.closed.get() {
            return Err(fail(Kind::PoolClosed));
        }
        Deadline::check(until).map_err(fail)?;
        let rank = *rank.get_or_insert_with(|| self.queue.next_rank());
        let (assignment, has_waited) = match self.assign_now() {
            Some(assignment) => (assignment, false),
            None => {
                let wait = wait_in_queue(&self.reactor, self, timeouts.pool, until, rank, timeouts.connection);
                (Box::pin(wait).await??, true)
            }
        };
        self.reused.set(self.reused.get() + u64::from(matches!(assignment, Assignment::Stream(_))));
        Ok((assignment, has_waited))
    }

    fn assign_now(self: &Rc<Self>) -> Option<Assignment> {
        if self.uses_http1() {
            return Some(Assignment::Http1);
        }
        if !self.queue.is_empty() {
            return None;
        }
        // An idle one may have ended unnoticed.
        let next = self.open.borrow().iter().find(|connection| connection.has_room()).cloned();
        if let Some(idle) = next.filter(|connection| connection.active() == 0) {
            idle.check_idle();
        }
        self.grant()
    }

    /// Returns the step that is possible for the next request now.
    fn grant(self: &Rc<Self>) -> Option<Assignment> {
        if self.uses_http1() {
            return Some(Assignment::Http1);
        }
        let open = self.open.borrow();
        if let Some(connection) = open.iter().find(|connection| connection.has_room()) {
            return Some(Assignment::Stream(connection.permit()));
        }
        let may_open = !self.opening.get() && !open.iter().any(|connection| connection.is_unsettled());
        if may_open && open.len() < self.pool.limit() {
            self.opening.set(true);
            return Some(Assignment::Open(DialPermit(self.clone())));
        }
        None
    }

    /// Grants the waiters, in their order, the steps that are possible now.
    fn serve_queue(self: &Rc<Self>) {
        let mut woken = Vec::new();
        // Tasks of a reactor that was closed must not be woken.
        while !self.closed.get() && !self.reactor.is_closed() && !self.queue.is_empty() {
            let Some(assignment) = self.grant() else { break };
            match self.queue.grant(Ok(assignment)) {
                Ok(waker) => woken.extend(waker),
                Err(_) => break,
            }
        }
        woken.into_iter().for_each(Waker::wake);
    }

    /// Notes that the server has chosen HTTP/1.1.
    pub(crate) fn chose_http1(&self) {
        self.speaks_http1.set(true);
    }

    pub(crate) fn requires_http1(&self) -> bool {
        self.requires_http1.get()
    }

    fn uses_http1(&self) -> bool {
        self.speaks_http1.get() || self.requires_http1.get()
    }

    /// Takes a new connection on which HTTP/2 was agreed. Returns a permit for the request that opened it.
    pub(crate) async fn adopt(
        self: &Rc<Self>,
        connection: Box<Connection>,
        lease: Lease,
        wait_timeout: Option<Duration>,
    ) -> std::result::Result<StreamPermit, Kind> {
        self.speaks_http1.set(false);
        let (owner, limits) = (Rc::downgrade(self) as Weak<dyn ConnectionOwner>, &self.limits);
        let begun = Http2Connection::begin(owner, limits, &self.reactor, connection, lease, self.options, wait_timeout);
        let connection = begun.await?;
        let permit = connection.permit();
        self.open.borrow_mut().push(connection);
        self.watch_expiry();
        Ok(permit)
    }

    fn watch_expiry(self: &Rc<Self>) {
        if let Some(limit) = self.idle_timeout
            && self.expires.get().is_none()
            && let Some(at) = self.reactor.now().checked_add(limit)
        {
            self.expires.set(Some(self.reactor.watch_expiry(Rc::downgrade(self) as Weak<dyn IdleOwner>, at)));
        }
    }

    /// Registers a connection as idle if its last request has ended and no waiter in the queue has taken its room.
    fn may_be_idle(&self, connection: &Rc<Http2Connection>) {
        if let Some(group) = self.pool.idle_group()
            && connection.active() == 0
            && connection.takes_requests()
        {
            let owner = Rc::downgrade(connection) as Weak<dyn GroupMember>;
            connection.set_idle_place(Some(group.enter(owner)));
            group.close_excess();
        }
    }

    /// Returns the numbers of idle connections, of requests in flight, of requests that wait, and of those that found a
    /// connection.
    pub(crate) fn counts(&self) -> (usize, usize, usize, u64) {
        let open = self.open.borrow();
        let idle = open.iter().filter(|connection| connection.active() == 0).count();
        let streams = open.iter().map(|connection| connection.active()).sum();
        (idle, streams, self.queue.len(), self.reused.get())
    }

    /// Closes the idle connections now and the others when their requests have ended. Requests that wait in the queue
    /// fail.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let open = std::mem::take(&mut *self.open.borrow_mut());
        open.iter().for_each(|connection| connection.drain(CloseReason::ClientClosed));
        self.queue.dismiss();
    }
}

impl ConnectionOwner for Http2Pool {
    fn remove(self: Rc<Self>, connection: &Http2Connection) {
        let mut open = self.open.borrow_mut();
        let position = open.iter().position(|known| std::ptr::eq(Rc::as_ptr(known), connection));
        let removed = position.map(|position| open.remove(position));
        drop(open);
        drop(removed);
        self.serve_queue();
    }

    fn room_was_made(self: Rc<Self>) {
        self.serve_queue();
    }

    fn limit_is_known(self: Rc<Self>) {
        self.serve_queue();
        // The others can find out only now that they wait for themselves. A peer's first SETTINGS come once.
        if self.held().is_some() {
            self.queue.wake_all();
        }
    }

    fn request_ended(self: Rc<Self>, connection: &Rc<Http2Connection>) {
        self.serve_queue();
        self.may_be_idle(connection);
    }

    /// Makes all later requests use HTTP/1.1, for the life of the client. Requests in flight on HTTP/2 connections
    /// continue. With prior knowledge there is no other version to use.
    fn require_http1(self: Rc<Self>) {
        if self.options.prior_knowledge || self.requires_http1.replace(true) {
            return;
        }
        let open = self.open.borrow().clone();
        open.iter().for_each(|connection| connection.drain(CloseReason::Response(CloseCause::AskedByPeer)));
        drop(open);
        self.serve_queue();
    }

    fn response_held(&self, task: usize) {
        self.recheck_queue(task);
    }

    fn count_closed(&self, peer: &str, reason: CloseReason) {
        self.pool.count_closed(peer, reason);
    }
}

impl Drop for Http2Pool {
    fn drop(&mut self) {
        if let Some(key) = self.expires.get() {
            self.reactor.unwatch_expiry(key);
        }
        self.close();
    }
}

impl IdleOwner for Http2Pool {
    /// Does nothing: for the reactor an HTTP/2 connection is never idle, since its task reads whatever arrives.
    fn check_idle(&self) {}

    fn expire(&self, now: Instant) -> Option<Instant> {
        let limit = self.idle_timeout?;
        let mut expired = Vec::new();
        let mut next = None;
        for connection in self.open.borrow().iter() {
            // One in use is checked again when it could have been idle for that long.
            match connection.idle_since().unwrap_or(now).checked_add(limit) {
                Some(at) if at <= now => expired.push(connection.clone()),
                at => next = [next, at].into_iter().flatten().min(),
            }
        }
        expired.iter().for_each(|connection| connection.drain(CloseReason::IdleTimeout));
        if next.is_none() {
            self.expires.set(None);
        }
        next
    }
}

impl Room for Http2Pool {
    type Granted = Result<Assignment>;
    type Details = DialLimit;

    fn queue(&self) -> &WaitQueue<Self::Granted, DialLimit> {
        &self.queue
    }

    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    fn pass_on(self: &Rc<Self>, granted: Self::Granted) {
        // Dropping a permit makes room.
        drop(granted);
    }

    fn held(&self) -> Option<Responses> {
        let open = self.open.borrow();
        let is_settled = !self.opening.get() && !open.iter().any(|connection| connection.is_unsettled());
        if !is_settled || open.iter().any(|connection| connection.held.len() < connection.active()) {
            return None;
        }
        let mut responses = Responses::default();
        open.iter().for_each(|connection| connection.held.collect(&mut responses));
        Some(responses)
    }

    fn note(&self, task: usize, waits: bool) {
        self.open.borrow().iter().for_each(|connection| connection.held.note(task, waits));
    }

    fn has_none_held(&self) -> bool {
        self.open.borrow().iter().all(|connection| connection.held.len() == 0)
    }

    fn exhaustion(&self) -> Exhaustion {
        let open = self.open.borrow();
        let mut responses = Responses::default();
        open.iter().for_each(|connection| connection.held.collect(&mut responses));
        let limit = open.iter().map(|connection| connection.limit()).sum();
        Exhaustion { opening: self.opening.get(), ..responses.exhaustion("HTTP/2 streams", limit) }
    }

    fn warn(&self) {
        self.pool.warn_of(&self.exhaustion());
    }
}
