//! One HTTP/1.1 exchange: sends the request, reads the head, and returns the response with its connection.

use std::rc::Rc;
use std::time::Instant;

use wire::framing::{CloseCause, MethodKind, close_cause};
use wire::{Framing, Limits, ResponseHead};

use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::http1::send::{Sent, send};
use crate::pool::close_reason::CloseReason;
use crate::pool::lease::Lease;
use crate::request::Request;
use crate::response::{Incoming, Response};
use crate::rt::reactor::Reactor;
use crate::timings::Timings;
use crate::tls::TlsInfo;

/// Sends `request` and reads the head of its response.
pub(crate) async fn exchange(
    reactor: &Rc<Reactor>,
    limits: &Limits,
    connection: &mut Connection,
    request: &mut Request,
    timings: &mut Timings,
) -> std::result::Result<Answer, Failed> {
    request.enter(Phase::Send, false).map_err(|error| Failed { error, never_left: true })?;
    let sent = send(reactor, connection, request, limits).await;
    timings.sent = timings.elapsed();
    let early = match sent.map_err(|failure| Failed { error: failure.error, never_left: failure.nothing_left })? {
        Sent::Cut(head) => {
            request.enter(Phase::Head, false).map_err(|error| Failed { error, never_left: false })?;
            return Ok(Answer { head: *head, cut: true });
        }
        Sent::Whole(early) => early,
    };
    request.enter(Phase::Head, false).map_err(|error| Failed { error, never_left: false })?;
    let head = match early {
        Some(head) => Ok(*head),
        None => connection.read_head(limits).await,
    };
    head.map(|head| Answer { head, cut: false }).map_err(|error| Failed { error, never_left: false })
}
/// The final head, and whether it came before the request was sent completely.
pub(crate) struct Answer {
    head: ResponseHead,
    cut: bool,
}

/// An exchange that failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// True if no byte of the request can have reached the peer.
    never_left: bool,
}

impl Failed {
    /// Returns whether the request may be sent again (RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1). On a
    /// connection that broke before any answer, this holds for idempotent requests, and for those that were never sent:
    /// no byte was read from the source of their body. A POST that may have arrived is not sent again.
    pub(crate) fn may_be_repeated(&self, request: &Request) -> bool {
        self.error.is_disconnect() && (self.never_left || request.can_be_repeated())
    }
}

/// Returns the response to `request` with that head.
pub(crate) fn respond(
    lease: Lease,
    request: &mut Request,
    answer: Answer,
    limits: &Limits,
    timings: &mut Timings,
) -> Result<Response> {
    let Answer { head, cut } = answer;
    let last = (request.closes || cut).then_some(CloseCause::AskedByUs);
    let is_upgrade = || close_cause(request.method_kind, &head, Framing::None) == Some(CloseCause::Upgraded);
    let response = if request.keeps_upgrade && !cut && is_upgrade() {
        let (response, lease) = deliver_upgrade(lease, head, timings.take());
        Response { upgraded: Some(Box::new(lease)), ..response }
    } else {
        deliver(lease, request.method_kind, head, last, limits, timings.take())?
    };
    Ok(Response { request_head: std::mem::take(&mut request.head), ..response })
}

/// Reads a response from a connection on which the request was already sent.
pub async fn read_response(
    lease: Lease,
    method_kind: MethodKind,
    limits: &Limits,
) -> std::result::Result<Response, Unanswered> {
    let timings = Timings::begun(Instant::now());
    let (response, _) = read_response_or_upgrade(lease, method_kind, limits, timings).await?;
    Ok(response)
}

/// Reads a response. After 101 also returns the connection, for the protocol that was switched to (RFC 9110 section
/// 15.2.2).
pub(crate) async fn read_response_or_upgrade(
    mut lease: Lease,
    method_kind: MethodKind,
    limits: &Limits,
    timings: Timings,
) -> std::result::Result<(Response, Option<Lease>), Unanswered> {
    let Some(connection) = lease.connection() else {
        return Err(Error::new(Kind::Misuse("a lease without a connection"), Phase::Head).into());
    };
    let peer = connection.peer().clone();
    match connection.read_head(limits).await {
        Ok(head) if head.status == 101 => {
            let (response, lease) = deliver_upgrade(lease, head, timings);
            Ok((response, Some(lease)))
        }
        Ok(head) => {
            let response = deliver(lease, method_kind, head, None, limits, timings);
            Ok((response.map_err(|error| error.with_peer(&peer))?, None))
        }
        Err(error) => Err(Unanswered { error, received: connection.buffered().to_vec() }),
    }
}

/// An exchange without a head.
#[derive(Debug)]
pub struct Unanswered {
    /// The reason.
    pub error: Error,
    /// The bytes of the head received so far.
    pub received: Vec<u8>,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Unanswered { error, received: Vec::new() }
    }
}

/// Notes in `timings` that the head has been received, and how the connection was opened. Returns the time, and the
/// result of the TLS handshake.
fn note_answer(lease: &mut Lease, timings: &mut Timings) -> (Instant, Option<Rc<TlsInfo>>) {
    let mut tls = None;
    if let Some(connection) = lease.connection() {
        tls = connection.facts().cloned();
        connection.note_in(timings);
    }
    let now = Instant::now();
    timings.answered = now.saturating_duration_since(timings.started);
    (now, tls)
}

/// Makes a complete response of the head after which the connection carries another protocol. The bytes behind the head
/// are no part of the response.
fn deliver_upgrade(mut lease: Lease, head: ResponseHead, mut timings: Timings) -> (Response, Lease) {
    let (now, tls) = note_answer(&mut lease, &mut timings);
    let received = lease.connection().map_or(0, |connection| {
        let behind = connection.buffered().len() as u64;
        connection.received.saturating_sub(behind)
    });
    lease.set_close_reason(CloseReason::Response(CloseCause::Upgraded));
    let body = Incoming::upgraded(now, received);
    let response =
        Response { head, framing: Framing::None, body, timings, tls, request_head: Vec::new(), upgraded: None };
    (response, lease)
}

/// Makes a response of a head, with the connection inside for as long as the body needs it. `last` is why this is the
/// connection's last response, if the head gives no reason of its own.
fn deliver(
    mut lease: Lease,
    method_kind: MethodKind,
    head: ResponseHead,
    last: Option<CloseCause>,
    limits: &Limits,
    mut timings: Timings,
) -> Result<Response> {
    let framing = Framing::of(method_kind, &head).map_err(|error| Error::new(Kind::Response(error), Phase::Head))?;
    let close = close_cause(method_kind, &head, framing).or(last);
    let (now, tls) = note_answer(&mut lease, &mut timings);
    let body = Incoming::of_connection(lease, wire::Body::new(framing, limits), close, now);
    Ok(Response { head, framing, body, timings, tls, request_head: Vec::new(), upgraded: None })
}
