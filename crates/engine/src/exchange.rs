//! One request from start to end: lease a connection, or dial; send; read the head; hand out the response.

use std::rc::Rc;
use std::time::Instant;

use wire::framing::{Asked, CloseReason, close_reason};
use wire::{Body, Framing, Limits, ResponseHead};

use crate::dial::{Resolver, dial};
use crate::ending::Ending;
use crate::pool::{Lease, Pool};
use crate::send::{Sent, send};
use crate::timers::Deadline;
use crate::{Config, Connection, Error, Incoming, Kind, Phase, Reactor, Request, Response, Result};

/// A client of one origin on one reactor.
pub struct Client {
    reactor: Rc<Reactor>,
    config: Config,
    pool: Rc<Pool>,
}

impl Client {
    /// With at most `connections` at a time.
    pub fn new(reactor: &Rc<Reactor>, config: Config, connections: usize) -> Self {
        let pool = Pool::new(reactor, connections, config.idle_timeout, config.journal.clone());
        Client { reactor: reactor.clone(), config, pool }
    }

    /// Its connections.
    pub fn pool(&self) -> &Rc<Pool> {
        &self.pool
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
        let (dial_limit, network_limit) = (timeouts.connection, timeouts.network);
        let mut lease = self.pool.lease(timeouts.pool, until).await?;
        loop {
            let reused = lease.is_connected();
            if !reused {
                let begun = Instant::now();
                let connection = Box::pin(dial(&self.reactor, &self.config, dial_limit, until, resolver)).await?;
                self.pool.count_opened(&connection, begun.elapsed());
                lease.replace(Some(connection));
            }
            let Some(connection) = lease.connection() else {
                return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Connect));
            };
            connection.patience.set(network_limit, until);
            match self.trip(connection, request).await {
                Ok(answer) => return respond(lease, request, answer, &self.config.limits, started),
                // The peer closed an idle connection while the request was under way. A fresh one, in the same place
                // of the pool, will tell; it is tried once, since it is not a reused one.
                Err(failed) if reused && failed.may_be_repeated(request) => {
                    self.pool.count_repeated(&failed.error);
                    lease.end_connection(Ending::EndedWhileIdle);
                }
                Err(failed) => {
                    lease.end_connection(Ending::of(&failed.error));
                    return Err(failed.error);
                }
            }
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
