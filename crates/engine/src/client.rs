//! A client: it chooses HTTP/1.1 or HTTP/2 for each request, and retries requests that may be sent again.

use std::rc::Rc;
use std::time::Instant;

use crate::connect::{DialOptions, Resolver, dial};
use crate::http1::exchange::{exchange, respond};
use crate::http2::{self, Assignment, DialPermit, Http2Error, Http2Pool, StreamPermit, What};
use crate::pool::close_reason::CloseReason;
use crate::pool::held::{Room, Sending};
use crate::pool::lease::Lease;
use crate::pool::queue::QueueRank;
use crate::pool::{Pool, Statistics};
use crate::rt::timeout::{Deadline, WaitLimits};
use crate::tls::Offer;
use crate::{
    Config, Connection, Error, Incoming, Kind, Opened, Phase, Reactor, Request, Response, Result, Timeouts, Timings,
};

/// Maximum number of times that a request is sent again after the server has refused it.
const MOST_REFUSALS: usize = 3;

/// Maximum number of times that a request is sent again after connections that ended before the server processed it.
/// The limit is high because a server may close each connection after a few requests, so that one of many concurrent
/// requests is left unprocessed several times.
const MOST_TIMES_UNPROCESSED: usize = 1_000;

/// A client of one origin on one reactor.
pub struct Client {
    reactor: Rc<Reactor>,
    config: Config,
    pool: Rc<Pool>,
    /// Set if HTTP/2 may be spoken.
    http2_pool: Option<Rc<Http2Pool>>,
}

impl Client {
    /// Creates a client that opens at most `connections` connections at the same time.
    pub fn new(reactor: &Rc<Reactor>, config: Config, connections: usize) -> Self {
        let (group, observer) = (config.idle_group.clone(), config.observer.clone());
        let pool = Pool::new(reactor, connections, config.idle_timeout, group, observer);
        let http2_pool =
            config.http2.map(|options| Http2Pool::new(reactor, &pool, options, config.limits, config.idle_timeout));
        Client { reactor: reactor.clone(), config, pool, http2_pool }
    }

    /// Returns the pool: the HTTP/1.1 connections, and the slots of all connections.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Returns counts and gauges at this moment, over all connections.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.pool.statistics();
        if let Some(http2_pool) = &self.http2_pool {
            let (idle, streams, waiting, reused) = http2_pool.counts();
            statistics.idle += idle;
            statistics.in_use = statistics.in_use.saturating_sub(idle);
            statistics.streams = streams;
            statistics.waiting += waiting;
            statistics.reused += reused;
        }
        statistics
    }

    /// Returns a text that explains why a request has to wait for a connection.
    pub fn explain_wait(&self) -> String {
        let exhaustion = match &self.http2_pool {
            Some(http2_pool) if http2_pool.counts().1 > 0 => http2_pool.exhaustion(),
            _ => self.pool.exhaustion(),
        };
        exhaustion.explain(&self.config.origin.peer)
    }

    /// Closes the idle connections now and those in use when their requests have ended. Requests that wait for a
    /// connection fail.
    pub fn close(&self) {
        self.pool.close();
        if let Some(http2_pool) = &self.http2_pool {
            http2_pool.close();
        }
    }

    /// Sends a request and waits for the response's head; the body is read from the response.
    ///
    /// `resolver` is called when a connection has to be opened.
    pub async fn send(&self, mut request: Request, resolver: &dyn Resolver) -> Result<Response> {
        self.run(&mut request, resolver).await
    }

    /// Sends a request that the caller keeps: the future is smaller by its size. Thousands of waiting futures do not
    /// fit into the processor's caches.
    pub async fn run(&self, request: &mut Request, resolver: &dyn Resolver) -> Result<Response> {
        let mut timings = Timings::begun(Instant::now());
        let response = self.exchange(request, resolver, &mut timings).await;
        response.map_err(|error| error.with_peer(&self.config.origin.peer).after(timings.elapsed()))
    }

    async fn exchange(
        &self,
        request: &mut Request,
        resolver: &dyn Resolver,
        timings: &mut Timings,
    ) -> Result<Response> {
        let timeouts = request.timeouts.as_deref().unwrap_or(&self.config.timeouts);
        let until = timeouts.total.and_then(|limit| Deadline::of_request(timings.started, limit));
        let wait_limits = WaitLimits { network: timeouts.network, until };
        if let Some(http2_pool) = &self.http2_pool {
            let timeouts = *timeouts;
            return Box::pin(self.exchange_either(http2_pool, request, resolver, timeouts, wait_limits, timings)).await;
        }
        let dial_options = DialOptions::new(resolver, timeouts.connection, until);
        let mut lease = self.pool.lease(timeouts.pool, wait_limits.until).await?;
        if lease.has_waited {
            timings.note_placed();
        }
        loop {
            let reused = lease.is_connected();
            if !reused {
                let dialled = self.dial(request, dial_options, timings).await?;
                lease.replace(Some(dialled));
            }
            lease.set_wait_limits(wait_limits);
            match self.exchange_http1(request, lease, reused, timings).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Again(kept_lease) => lease = kept_lease,
            }
        }
    }

    async fn dial(
        &self,
        request: &Request,
        options: DialOptions<'_>,
        timings: &mut Timings,
    ) -> Result<Box<Connection>> {
        let begun = timings.elapsed();
        let (for_proxy, observer) = (request.for_proxy.as_deref(), request.observer.as_deref());
        let options = DialOptions { for_proxy, observer, ..options };
        let connection = Box::pin(dial(&self.reactor, &self.config, options)).await?;
        self.pool.count_opened(&connection, timings.elapsed().saturating_sub(begun));
        // Set after the observer was called: the time of that call does not count as time for sending.
        timings.connected = timings.elapsed();
        if let Some(opened) = &request.opened
            && let Some(dialled) = connection.dialled().cloned()
        {
            let (tls, http2) = (connection.facts().cloned(), self.speaks_http2(&connection));
            opened.borrow_mut().push(Opened { dialled, tls, http2 });
        }
        Ok(connection)
    }

    /// Sends the request on the connection in `lease`, whose time limits are set. `reused` says that other requests
    /// have used it before.
    async fn exchange_http1(
        &self,
        request: &mut Request,
        mut lease: Lease,
        reused: bool,
        timings: &mut Timings,
    ) -> Result<Outcome> {
        let runs_code = request.runs_code();
        if runs_code {
            lease.hold(Box::new(Sending(self.reactor.current_task())));
        }
        let Some(connection) = lease.connection() else {
            return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Connect));
        };
        (connection.sent, connection.received) = (0, 0);
        timings.reused = reused;
        let outcome = exchange(&self.reactor, &self.config.limits, connection, request, timings).await;
        if runs_code {
            lease.release();
        }
        match outcome {
            Ok(answer) => respond(lease, request, answer, &self.config.limits, timings).map(Outcome::Done),
            // The peer closed an idle connection while the request was in flight. The request is tried once more on a
            // new connection in the same pool slot, which is not a reused one.
            Err(failed) if reused && failed.may_be_repeated(request) => {
                self.pool.count_repeated(&failed.error);
                lease.end_connection(CloseReason::EndedWhileIdle);
                timings.note_placed();
                Ok(Outcome::Again(lease))
            }
            Err(failed) => {
                lease.end_connection(CloseReason::of(&failed.error));
                Err(failed.error)
            }
        }
    }

    /// Sends the request over HTTP/2 if the server speaks it, which is known once a connection is open; otherwise over
    /// HTTP/1.1.
    async fn exchange_either(
        &self,
        http2_pool: &Rc<Http2Pool>,
        request: &mut Request,
        resolver: &dyn Resolver,
        timeouts: Timeouts,
        wait_limits: WaitLimits,
        timings: &mut Timings,
    ) -> Result<Response> {
        let dial_options = DialOptions::new(resolver, timeouts.connection, wait_limits.until);
        let mut repeats = Repeats::default();
        let mut kept_lease = None;
        loop {
            let (lease, dial_permit) = match kept_lease.take() {
                Some(lease) => (lease, None),
                None => {
                    let (assignment, has_waited) =
                        http2_pool.assignment(&timeouts, wait_limits.until, &mut repeats.rank).await?;
                    let dial_permit = match assignment {
                        Assignment::Http1 => None,
                        Assignment::Open(dial_permit) => Some(dial_permit),
                        Assignment::Stream(permit) => {
                            if has_waited {
                                timings.note_placed();
                            }
                            match self.exchange_http2(permit, true, request, wait_limits, &mut repeats, timings).await?
                            {
                                Some(response) => return Ok(response),
                                None => continue,
                            }
                        }
                    };
                    let lease = self.pool.lease(timeouts.pool, wait_limits.until).await?;
                    if has_waited || lease.has_waited {
                        timings.note_placed();
                    }
                    (lease, dial_permit)
                }
            };
            let reused = lease.is_connected();
            let opened = if reused {
                drop(dial_permit);
                Opening::Http1(lease)
            } else {
                self.open(http2_pool, request, lease, dial_permit, dial_options, timings).await?
            };
            let mut lease = match opened {
                Opening::Http1(lease) => lease,
                Opening::Http2(permit) => {
                    match self.exchange_http2(permit, false, request, wait_limits, &mut repeats, timings).await? {
                        Some(response) => return Ok(response),
                        None => continue,
                    }
                }
                Opening::Again(lease) => {
                    kept_lease = Some(lease);
                    continue;
                }
            };
            lease.set_wait_limits(wait_limits);
            match self.exchange_http1(request, lease, reused, timings).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Again(lease) => kept_lease = Some(lease),
            }
        }
    }

    /// Opens a connection for the pool slot of `lease`, on which the request uses the version that the server chooses.
    /// `dial_permit` says that other requests wait for the connection.
    async fn open(
        &self,
        http2_pool: &Rc<Http2Pool>,
        request: &Request,
        mut lease: Lease,
        dial_permit: Option<DialPermit>,
        options: DialOptions<'_>,
        timings: &mut Timings,
    ) -> Result<Opening> {
        let offer = if http2_pool.requires_http1() { Offer::Http1 } else { Offer::All };
        let connection = match self.dial(request, DialOptions { offer, ..options }, timings).await {
            Ok(connection) => connection,
            Err(error) => {
                if let Some(dial_permit) = dial_permit {
                    dial_permit.fail(&error);
                }
                return Err(error);
            }
        };
        if !self.speaks_http2(&connection) {
            http2_pool.chose_http1();
            lease.replace(Some(connection));
            return Ok(Opening::Http1(lease));
        }
        if http2_pool.requires_http1() {
            // The server required HTTP/1.1 while this connection was being opened, or contradicts itself.
            lease.replace(Some(connection));
            lease.end_connection(CloseReason::GivenUp);
            if offer == Offer::Http1 {
                let error = Http2Error::http1_required("in the handshake it has chosen HTTP/2 all the same");
                return Err(Error::new(Kind::Http2(error), Phase::Tls));
            }
            return Ok(Opening::Again(lease));
        }
        let permit = http2_pool.adopt(connection, lease, options.limit).await;
        drop(dial_permit);
        permit.map(Opening::Http2).map_err(|kind| Error::new(kind, Phase::Connect))
    }

    fn speaks_http2(&self, connection: &Connection) -> bool {
        let Some(http2) = self.config.http2 else { return false };
        http2.prior_knowledge || connection.facts().is_some_and(|facts| facts.alpn.as_deref() == Some("h2"))
    }

    fn speaks_http2_alone(&self) -> bool {
        self.config.http2.is_some_and(|http2| http2.prior_knowledge)
    }

    /// Sends the request on a stream. Returns `None` if it has to be sent again.
    async fn exchange_http2(
        &self,
        permit: StreamPermit,
        reused: bool,
        request: &mut Request,
        wait_limits: WaitLimits,
        repeats: &mut Repeats,
        timings: &mut Timings,
    ) -> Result<Option<Response>> {
        timings.reused = reused;
        match http2::exchange(&self.reactor, &self.config, permit, request, wait_limits, timings).await {
            Ok(http2::Answer { head, framing, body, answered, facts: tls }) => {
                let body = Incoming::of_stream(body, answered);
                let request_head = std::mem::take(&mut request.head);
                Ok(Some(Response { head, framing, body, timings: timings.take(), tls, request_head, upgraded: None }))
            }
            Err(failed) if repeats.allow(&failed, reused, request, self.speaks_http2_alone()) => {
                self.pool.count_repeated(&failed.error);
                timings.note_placed();
                Ok(None)
            }
            Err(failed) => Err(self.explain_version(failed.error, request)),
        }
    }

    /// Adds the reason that a request is not sent again over HTTP/1.1, if the server requires HTTP/1.1.
    #[cold]
    fn explain_version(&self, mut error: Error, request: &Request) -> Error {
        if let Kind::Http2(http2) = error.kind_mut()
            && http2.requires_http1()
        {
            let can_be_sent = request.idempotent || http2.what == What::Reset;
            http2.add_words(if self.speaks_http2_alone() {
                "the client is configured to use HTTP/2 alone (prior knowledge)"
            } else if can_be_sent && !request.body.can_be_repeated() {
                "the body can be read only once, so the request is not sent again over HTTP/1.1; later requests use it"
            } else {
                "the server may have acted on the request, so it is not sent again over HTTP/1.1; later requests use it"
            });
        }
        error
    }
}

/// Use of a connection that was opened for a request.
enum Opening {
    Http1(Lease),
    Http2(StreamPermit),
    /// None: it was closed, and its pool slot is used again.
    Again(Lease),
}

/// The outcome of an attempt over HTTP/1.1.
#[expect(clippy::large_enum_variant, reason = "on its way out of the one caller: a box would cost each request more")]
enum Outcome {
    /// The connection had ended: the pool slot is used again.
    Again(Lease),
    Done(Response),
}

/// Number of times that a request was sent again, by reason.
#[derive(Default)]
struct Repeats {
    /// The connection broke, perhaps with the request on it.
    broken: usize,
    /// The server has not processed the request: it closed the connection, or had too much to do.
    unprocessed: usize,
    refused: usize,
    /// The server requires HTTP/1.1.
    of_version: usize,
    /// The request's rank in the queue.
    rank: Option<QueueRank>,
}

impl Repeats {
    /// Returns whether a failed request may be sent again, and counts that (RFC 9113 section 8.7). On a connection that
    /// broke without a reason the rules of HTTP/1.1 hold.
    fn allow(&mut self, failed: &http2::Failed, reused: bool, request: &Request, http2_alone: bool) -> bool {
        let (count, most) = match failed.error.kind() {
            Kind::Http2(error) if error.requires_http1() => {
                if http2_alone || !(failed.unseen || request.can_be_repeated()) {
                    return false;
                }
                (&mut self.of_version, 1)
            }
            Kind::Http2(error) if failed.unseen && (error.what == What::Reset || error.last_stream == Some(0)) => {
                (&mut self.refused, MOST_REFUSALS)
            }
            _ if failed.unseen => (&mut self.unprocessed, MOST_TIMES_UNPROCESSED),
            Kind::Http2(error) if error.what != What::GoAway => return false,
            Kind::Http2(_) if reused && request.can_be_repeated() => (&mut self.broken, 1),
            _ if failed.error.is_disconnect() && reused && request.can_be_repeated() => (&mut self.broken, 1),
            _ => return false,
        };
        *count += 1;
        *count <= most
    }
}
