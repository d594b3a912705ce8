//! One request from start to end: lease a connection, or dial; send; read the head; hand out the response.

use std::rc::Rc;
use std::time::{Duration, Instant};

use wire::framing::{Asked, CloseReason, close_reason};
use wire::{Body, Framing, Limits, ResponseHead};

use crate::dial::{Resolver, dial};
use crate::ending::Ending;
use crate::http2::{self, Bounds, Sessions, Slot, Way, What};
use crate::pool::{Lease, Pool, Statistics};
use crate::send::{Sent, send};
use crate::timers::Deadline;
use crate::{Config, Connection, Error, Incoming, Kind, Phase, Reactor, Request, Response, Result, Timeouts};

/// A peer that goes on refusing a request has its reasons.
const MOST_REFUSALS: usize = 3;

/// Where a connection is good for few requests, one of many at a time may be left out of several.
const MOST_TIMES_LEFT_OUT: usize = 100;

/// A client of one origin on one reactor.
pub struct Client {
    reactor: Rc<Reactor>,
    config: Config,
    pool: Rc<Pool>,
    /// Where HTTP/2 may be spoken.
    sessions: Option<Rc<Sessions>>,
}

impl Client {
    /// With at most `connections` at a time.
    pub fn new(reactor: &Rc<Reactor>, config: Config, connections: usize) -> Self {
        let pool = Pool::new(reactor, connections, config.idle_timeout, config.journal.clone());
        let sessions =
            config.http2.map(|options| Sessions::new(reactor, &pool, options, config.limits, config.idle_timeout));
        Client { reactor: reactor.clone(), config, pool, sessions }
    }

    /// Its connections of HTTP/1.1, and the places of all.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Counts and gauges at this moment, over all connections.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.pool.statistics();
        if let Some(sessions) = &self.sessions {
            let (idle, streams, waiting, reused) = sessions.counts();
            statistics.idle += idle;
            statistics.in_use = statistics.in_use.saturating_sub(idle);
            statistics.streams = streams;
            statistics.waiting += waiting;
            statistics.reused += reused;
        }
        statistics
    }

    /// Closes what nobody uses now, the rest when its requests have come to their ends, and turns away whoever waits.
    pub fn close(&self) {
        self.pool.close();
        if let Some(sessions) = &self.sessions {
            sessions.close();
        }
    }

    /// Sends a request and waits for the response's head; the body is read from the response.
    ///
    /// `resolver` is asked when a connection has to be opened.
    pub async fn send(&self, mut request: Request, resolver: &dyn Resolver) -> Result<Response> {
        let started = Instant::now();
        let response = self.exchange(&mut request, resolver, started).await;
        response.map_err(|error| error.with_peer(&self.config.peer).after(started.elapsed()))
    }

    async fn exchange(&self, request: &mut Request, resolver: &dyn Resolver, started: Instant) -> Result<Response> {
        let timeouts = request.timeouts.as_deref().unwrap_or(&self.config.timeouts);
        let until = timeouts.total.and_then(|limit| Deadline::of_request(started, limit));
        let bounds = Bounds { network: timeouts.network, until, started };
        if let Some(sessions) = &self.sessions {
            let timeouts = *timeouts;
            return Box::pin(self.by_either(sessions, request, resolver, timeouts, bounds)).await;
        }
        let dial_limit = timeouts.connection;
        let mut lease = self.pool.lease(timeouts.pool, until).await?;
        loop {
            let reused = lease.is_connected();
            if !reused {
                lease.replace(Some(self.dial(resolver, dial_limit, until).await?));
            }
            match self.by_http1(request, bounds, lease, reused).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Again(place) => lease = place,
            }
        }
    }

    async fn dial(
        &self,
        resolver: &dyn Resolver,
        limit: Option<Duration>,
        until: Option<Deadline>,
    ) -> Result<Box<Connection>> {
        let begun = Instant::now();
        let connection = Box::pin(dial(&self.reactor, &self.config, limit, until, resolver)).await?;
        self.pool.count_opened(&connection, begun.elapsed());
        Ok(connection)
    }

    /// On the connection in `lease`, which others have used before if it is `reused`.
    async fn by_http1(&self, request: &mut Request, bounds: Bounds, mut lease: Lease, reused: bool) -> Result<Outcome> {
        let Some(connection) = lease.connection() else {
            return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Connect));
        };
        connection.patience.set(bounds.network, bounds.until);
        match self.trip(connection, request).await {
            Ok(answer) => respond(lease, request, answer, &self.config.limits, bounds.started).map(Outcome::Done),
            // The peer closed an idle connection while the request was under way. A fresh one, in the same place
            // of the pool, will tell; it is tried once, since it is not a reused one.
            Err(failed) if reused && failed.may_be_repeated(request) => {
                self.pool.count_repeated(&failed.error);
                lease.end_connection(Ending::EndedWhileIdle);
                Ok(Outcome::Again(lease))
            }
            Err(failed) => {
                lease.end_connection(Ending::of(&failed.error));
                Err(failed.error)
            }
        }
    }

    /// By HTTP/2 where the peer speaks it, which is known once there is a connection; else as above.
    async fn by_either(
        &self,
        sessions: &Rc<Sessions>,
        request: &mut Request,
        resolver: &dyn Resolver,
        timeouts: Timeouts,
        bounds: Bounds,
    ) -> Result<Response> {
        let mut repeats = Repeats::default();
        let mut place = None;
        loop {
            let (lease, opening) = match place.take() {
                Some(place) => (place, None),
                None => match sessions.way(&timeouts, bounds.until).await? {
                    Way::Http1 => (self.pool.lease(timeouts.pool, bounds.until).await?, None),
                    Way::Open(opening) => (self.pool.lease(timeouts.pool, bounds.until).await?, Some(opening)),
                    Way::Stream(slot) => match self.by_http2(slot, true, request, bounds, &mut repeats).await? {
                        Some(response) => return Ok(response),
                        None => continue,
                    },
                },
            };
            let reused = lease.is_connected();
            let mut lease = lease;
            if !reused {
                let connection = match self.dial(resolver, timeouts.connection, bounds.until).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        if let Some(opening) = opening {
                            opening.fail(&error);
                        }
                        return Err(error);
                    }
                };
                if self.speaks_http2(&connection) {
                    let slot = sessions.adopt(connection, lease, timeouts.connection).await;
                    drop(opening);
                    let slot = slot.map_err(|kind| Error::new(kind, Phase::Connect))?;
                    match self.by_http2(slot, false, request, bounds, &mut repeats).await? {
                        Some(response) => return Ok(response),
                        None => continue,
                    }
                }
                sessions.chose_http1();
                lease.replace(Some(connection));
            }
            drop(opening);
            match self.by_http1(request, bounds, lease, reused).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Again(lease) => place = Some(lease),
            }
        }
    }

    fn speaks_http2(&self, connection: &Connection) -> bool {
        let knows = self.config.http2.is_some_and(|http2| http2.prior_knowledge);
        knows || connection.facts().is_some_and(|facts| facts.alpn.as_deref() == Some("h2"))
    }

    /// On a stream; `None` when it has to be sent once more.
    async fn by_http2(
        &self,
        slot: Slot,
        reused: bool,
        request: &mut Request,
        bounds: Bounds,
        repeats: &mut Repeats,
    ) -> Result<Option<Response>> {
        match http2::exchange(&self.reactor, &self.config, slot, request, bounds).await {
            Ok(response) => Ok(Some(response)),
            Err(failed) if repeats.allow(&failed, reused, request) => {
                self.pool.count_repeated(&failed.error);
                Ok(None)
            }
            Err(failed) => Err(failed.error),
        }
    }

    async fn trip(&self, connection: &mut Connection, request: &mut Request) -> std::result::Result<Answer, Failed> {
        let limits = &self.config.limits;
        let mut early = None;
        let sent = send(&self.reactor, connection, request, limits, &mut early).await;
        match sent.map_err(|failure| Failed { error: failure.error, never_left: failure.nothing_left })? {
            Sent::Cut(head) => return Ok(Answer { head, cut: true }),
            Sent::Whole => {}
        }
        let head = match early {
            Some(head) => Ok(head),
            None => connection.read_head(limits).await,
        };
        head.map(|head| Answer { head, cut: false }).map_err(|error| Failed { error, never_left: false })
    }
}

/// What an attempt has come to.
#[expect(clippy::large_enum_variant, reason = "on its way out of the one caller: a box would cost each request more")]
enum Outcome {
    /// The connection was one that had ended: the place is to be used once more.
    Again(Lease),
    Done(Response),
}

/// How often a request was sent again.
#[derive(Default)]
struct Repeats {
    /// After a connection that broke, perhaps with the request on it.
    broken: usize,
    /// After the peer had said that it has not looked at it: for it ended the connection, or had too much to do.
    left_out: usize,
    refused: usize,
}

impl Repeats {
    /// RFC 9113 section 8.7, and for connections that break without a word what holds for those of HTTP/1.1.
    fn allow(&mut self, failed: &http2::Failed, reused: bool, request: &Request) -> bool {
        let (count, most) = match failed.error.kind() {
            Kind::Http2(error) if failed.unseen && (error.what == What::Reset || error.last_stream == Some(0)) => {
                (&mut self.refused, MOST_REFUSALS)
            }
            _ if failed.unseen => (&mut self.left_out, MOST_TIMES_LEFT_OUT),
            Kind::Http2(error) if error.what != What::GoAway => return false,
            Kind::Http2(_) if reused && request.can_be_repeated() => (&mut self.broken, 1),
            _ if failed.error.is_disconnect() && reused && request.can_be_repeated() => (&mut self.broken, 1),
            _ => return false,
        };
        *count += 1;
        *count <= most
    }
}

/// The final head, and whether it came before the request was out.
struct Answer {
    head: ResponseHead,
    cut: bool,
}

struct Failed {
    error: Error,
    /// Nothing of the request can have reached the peer.
    never_left: bool,
}

impl Failed {
    /// RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1: on a connection that broke before any answer, what is
    /// idempotent is sent again, and so is whatever was never sent: no body is asked for anything before its head is
    /// out. A POST that may have arrived is not.
    fn may_be_repeated(&self, request: &Request) -> bool {
        self.error.is_disconnect() && (self.never_left || request.can_be_repeated())
    }
}

fn respond(lease: Lease, request: &mut Request, answer: Answer, limits: &Limits, started: Instant) -> Result<Response> {
    let Answer { head, cut } = answer;
    let last = (request.closes || cut).then_some(CloseReason::AskedByUs);
    let response = deliver(lease, request.asked, head, last, limits, started)?;
    Ok(Response { request_head: std::mem::take(&mut request.head), ..response })
}

/// Reads a response from a connection on which the request is already out.
pub async fn read_response(lease: Lease, asked: Asked, limits: &Limits) -> std::result::Result<Response, Unanswered> {
    let (response, _) = read_response_or_upgrade(lease, asked, limits).await?;
    Ok(response)
}

/// The same; after 101 with the connection, on which something else is spoken from now on (RFC 9110 section 15.2.2).
pub(crate) async fn read_response_or_upgrade(
    mut lease: Lease,
    asked: Asked,
    limits: &Limits,
) -> std::result::Result<(Response, Option<Lease>), Unanswered> {
    let started = Instant::now();
    let Some(connection) = lease.connection() else {
        return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Head).into());
    };
    let peer = connection.peer().clone();
    match connection.read_head(limits).await {
        Ok(head) if head.status == 101 => {
            let tls = connection.facts().cloned();
            let (framing, body) = (Framing::None, Incoming::none(Some(CloseReason::Upgraded)));
            Ok((Response { head, framing, body, started, tls, request_head: Vec::new() }, Some(lease)))
        }
        Ok(head) => {
            let response = deliver(lease, asked, head, None, limits, started);
            Ok((response.map_err(|error| error.with_peer(&peer))?, None))
        }
        Err(error) => Err(Unanswered { error, received: connection.buffered().to_vec() }),
    }
}

/// No head could be read.
#[derive(Debug)]
pub struct Unanswered {
    /// Why not.
    pub error: Error,
    /// What had come of it.
    pub received: Vec<u8>,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Unanswered { error, received: Vec::new() }
    }
}

/// A head becomes a response, with the connection inside for as long as the body needs it. `last` is why this is the
/// connection's last response, if the head gives no reason of its own.
fn deliver(
    mut lease: Lease,
    asked: Asked,
    head: ResponseHead,
    last: Option<CloseReason>,
    limits: &Limits,
    started: Instant,
) -> Result<Response> {
    let framing = Framing::of(asked, &head).map_err(|error| Error::new(Kind::Response(error), Phase::Head))?;
    let close = close_reason(asked, &head, framing).or(last);
    let tls = lease.connection().and_then(|connection| connection.facts().cloned());
    let body = Incoming::new(lease, Body::new(framing, limits), close);
    Ok(Response { head, framing, body, started, tls, request_head: Vec::new() })
}
