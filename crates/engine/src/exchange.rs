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
use crate::{
    Config, Connection, Error, Incoming, Kind, Opened, Phase, Reactor, Request, Response, Result, Timeouts, Timings,
};

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
        let (group, journal) = (config.idle_group.clone(), config.journal.clone());
        let pool = Pool::new(reactor, connections, config.idle_timeout, group, journal);
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
        self.run(&mut request, resolver).await
    }

    /// The same for those who keep the request where it does not take room twice: a future that waits is memory, and
    /// thousands of them are more than the caches hold.
    pub async fn run(&self, request: &mut Request, resolver: &dyn Resolver) -> Result<Response> {
        let mut timings = Timings::begun(Instant::now());
        let response = self.exchange(request, resolver, &mut timings).await;
        response.map_err(|error| error.with_peer(&self.config.peer).after(timings.elapsed()))
    }

    async fn exchange(
        &self,
        request: &mut Request,
        resolver: &dyn Resolver,
        timings: &mut Timings,
    ) -> Result<Response> {
        let timeouts = request.timeouts.as_deref().unwrap_or(&self.config.timeouts);
        let until = timeouts.total.and_then(|limit| Deadline::of_request(timings.started, limit));
        let bounds = Bounds { network: timeouts.network, until };
        if let Some(sessions) = &self.sessions {
            let timeouts = *timeouts;
            return Box::pin(self.by_either(sessions, request, resolver, timeouts, bounds, timings)).await;
        }
        let dial_limit = timeouts.connection;
        let mut lease = self.pool.lease(timeouts.pool, bounds.until).await?;
        if lease.has_waited {
            timings.place();
        }
        loop {
            let reused = lease.is_connected();
            if !reused {
                lease.replace(Some(self.dial(request, resolver, dial_limit, bounds.until, timings).await?));
            }
            lease.set_patience(bounds);
            match self.by_http1(request, lease, reused, timings).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Again(place) => lease = place,
            }
        }
    }

    async fn dial(
        &self,
        request: &Request,
        resolver: &dyn Resolver,
        limit: Option<Duration>,
        until: Option<Deadline>,
        timings: &mut Timings,
    ) -> Result<Box<Connection>> {
        let begun = timings.elapsed();
        let for_proxy = request.for_proxy.as_deref();
        let connection = Box::pin(dial(&self.reactor, &self.config, for_proxy, limit, until, resolver)).await?;
        self.pool.count_opened(&connection, timings.elapsed().saturating_sub(begun));
        // After the journal has made its note: that is no part of sending.
        timings.connected = timings.elapsed();
        if let Some(opened) = &request.opened
            && let Some(dialled) = connection.dialled().cloned()
        {
            let (tls, http2) = (connection.facts().cloned(), self.speaks_http2(&connection));
            opened.borrow_mut().push(Opened { dialled, tls, http2 });
        }
        Ok(connection)
    }

    /// On the connection in `lease`, whose patience is set, and which others have used before if it is `reused`.
    async fn by_http1(
        &self,
        request: &mut Request,
        mut lease: Lease,
        reused: bool,
        timings: &mut Timings,
    ) -> Result<Outcome> {
        let Some(connection) = lease.connection() else {
            return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Connect));
        };
        (connection.sent, connection.received) = (0, 0);
        timings.reused = reused;
        match self.trip(connection, request, timings).await {
            Ok(answer) => respond(lease, request, answer, &self.config.limits, timings).map(Outcome::Done),
            // The peer closed an idle connection while the request was under way. A fresh one, in the same place
            // of the pool, will tell; it is tried once, since it is not a reused one.
            Err(failed) if reused && failed.may_be_repeated(request) => {
                self.pool.count_repeated(&failed.error);
                lease.end_connection(Ending::EndedWhileIdle);
                timings.place();
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
        timings: &mut Timings,
    ) -> Result<Response> {
        let mut repeats = Repeats::default();
        let mut place = None;
        loop {
            let (lease, opening) = match place.take() {
                Some(place) => (place, None),
                None => {
                    let (way, has_waited) = sessions.way(&timeouts, bounds.until).await?;
                    let opening = match way {
                        Way::Http1 => None,
                        Way::Open(opening) => Some(opening),
                        Way::Stream(slot) => {
                            if has_waited {
                                timings.place();
                            }
                            match self.by_http2(slot, true, request, bounds, &mut repeats, timings).await? {
                                Some(response) => return Ok(response),
                                None => continue,
                            }
                        }
                    };
                    let lease = self.pool.lease(timeouts.pool, bounds.until).await?;
                    if has_waited || lease.has_waited {
                        timings.place();
                    }
                    (lease, opening)
                }
            };
            let reused = lease.is_connected();
            let mut lease = lease;
            if !reused {
                let connection = match self.dial(request, resolver, timeouts.connection, bounds.until, timings).await {
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
                    match self.by_http2(slot, false, request, bounds, &mut repeats, timings).await? {
                        Some(response) => return Ok(response),
                        None => continue,
                    }
                }
                sessions.chose_http1();
                lease.replace(Some(connection));
            }
            drop(opening);
            lease.set_patience(bounds);
            match self.by_http1(request, lease, reused, timings).await? {
                Outcome::Done(response) => return Ok(response),
                Outcome::Again(lease) => place = Some(lease),
            }
        }
    }

    fn speaks_http2(&self, connection: &Connection) -> bool {
        let Some(http2) = self.config.http2 else { return false };
        http2.prior_knowledge || connection.facts().is_some_and(|facts| facts.alpn.as_deref() == Some("h2"))
    }

    /// On a stream; `None` when it has to be sent once more.
    async fn by_http2(
        &self,
        slot: Slot,
        reused: bool,
        request: &mut Request,
        bounds: Bounds,
        repeats: &mut Repeats,
        timings: &mut Timings,
    ) -> Result<Option<Response>> {
        timings.reused = reused;
        match http2::exchange(&self.reactor, &self.config, slot, request, bounds, timings).await {
            Ok(response) => Ok(Some(response)),
            Err(failed) if repeats.allow(&failed, reused, request) => {
                self.pool.count_repeated(&failed.error);
                timings.place();
                Ok(None)
            }
            Err(failed) => Err(failed.error),
        }
    }

    async fn trip(
        &self,
        connection: &mut Connection,
        request: &mut Request,
        timings: &mut Timings,
    ) -> std::result::Result<Answer, Failed> {
        let limits = &self.config.limits;
        let sent = send(&self.reactor, connection, request, limits).await;
        timings.sent = timings.elapsed();
        let early = match sent.map_err(|failure| Failed { error: failure.error, never_left: failure.nothing_left })? {
            Sent::Cut(head) => return Ok(Answer { head: *head, cut: true }),
            Sent::Whole(early) => early,
        };
        let head = match early {
            Some(head) => Ok(*head),
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

fn respond(
    lease: Lease,
    request: &mut Request,
    answer: Answer,
    limits: &Limits,
    timings: &mut Timings,
) -> Result<Response> {
    let Answer { head, cut } = answer;
    let last = (request.closes || cut).then_some(CloseReason::AskedByUs);
    let response = deliver(lease, request.asked, head, last, limits, timings.take())?;
    Ok(Response { request_head: std::mem::take(&mut request.head), ..response })
}

/// Reads a response from a connection on which the request is already out.
pub async fn read_response(lease: Lease, asked: Asked, limits: &Limits) -> std::result::Result<Response, Unanswered> {
    let timings = Timings::begun(Instant::now());
    let (response, _) = read_response_or_upgrade(lease, asked, limits, timings).await?;
    Ok(response)
}

/// The same; after 101 with the connection, on which something else is spoken from now on (RFC 9110 section 15.2.2).
pub(crate) async fn read_response_or_upgrade(
    mut lease: Lease,
    asked: Asked,
    limits: &Limits,
    mut timings: Timings,
) -> std::result::Result<(Response, Option<Lease>), Unanswered> {
    let Some(connection) = lease.connection() else {
        return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Head).into());
    };
    let peer = connection.peer().clone();
    match connection.read_head(limits).await {
        Ok(head) if head.status == 101 => {
            let tls = connection.facts().cloned();
            timings.note_connection(connection);
            let now = Instant::now();
            timings.answered = now.saturating_duration_since(timings.started);
            // What came behind the head is no part of the response.
            let received = connection.received.saturating_sub(connection.buffered().len() as u64);
            let body = Incoming::upgraded(now, received);
            Ok((Response { head, framing: Framing::None, body, timings, tls, request_head: Vec::new() }, Some(lease)))
        }
        Ok(head) => {
            let response = deliver(lease, asked, head, None, limits, timings);
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
    mut timings: Timings,
) -> Result<Response> {
    let framing = Framing::of(asked, &head).map_err(|error| Error::new(Kind::Response(error), Phase::Head))?;
    let close = close_reason(asked, &head, framing).or(last);
    let mut tls = None;
    if let Some(connection) = lease.connection() {
        tls = connection.facts().cloned();
        timings.note_connection(connection);
    }
    let now = Instant::now();
    timings.answered = now.saturating_duration_since(timings.started);
    let body = Incoming::new(lease, Body::new(framing, limits), close, now);
    Ok(Response { head, framing, body, timings, tls, request_head: Vec::new() })
}
