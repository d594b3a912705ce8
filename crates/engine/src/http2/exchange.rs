//! One request on a stream of its own: send, with an ear to an early answer; read the head; hand out the response.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, StatusCode};
use wire::framing::Asked;
use wire::{Framing, ResponseHead};

use super::body::Body;
use super::error::{REFUSED_STREAM, What};
use super::fields;
use super::session::Slot;
use super::stream::{Head, Stream};
use crate::send::CONTINUE_TIMEOUT;
use crate::timers::{Deadline, Patience};
use crate::timings::Timings;
use crate::{Config, Error, Incoming, Kind, Phase, Reactor, Request, RequestBody, Response, Result};

/// Pieces that a body is sent in, at most.
const PIECE: usize = 64 * 1024;

/// A request that failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// The peer has not looked at it, and will not: it can be sent again, whatever it is for.
    pub(crate) unseen: bool,
}

/// The patience for one request.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// With each wait for the peer.
    pub(crate) network: Option<Duration>,
    /// With all of it.
    pub(crate) until: Option<Deadline>,
}

/// Sends `request` on a stream in that slot, and waits for the head of its response.
pub(crate) async fn exchange(
    reactor: &Rc<Reactor>,
    config: &Config,
    slot: Slot,
    request: &mut Request,
    bounds: Bounds,
    timings: &mut Timings,
) -> std::result::Result<Response, Failed> {
    let scheme = if config.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let fail = |kind| Error::new(kind, Phase::Send).with_peer(&slot.session.peer);
    let message = fields::request(&request.head, &scheme, &config.peer);
    let message = message.map_err(|kind| Failed { error: fail(kind), unseen: false })?;
    let ends = request.body.is_empty() && request.trailers.is_none();
    let facts = slot.session.facts.clone();
    timings.dialled = slot.session.dialled.clone();
    let peer = slot.session.peer.clone();
    let stream = Stream::begin(slot, message, ends).map_err(|kind| {
        // Not begun on a connection that has ended meanwhile; or else one that cannot be sent.
        let unseen = !matches!(kind, Kind::Misuse(_));
        Failed { error: Error::new(kind, Phase::Send).with_peer(&peer), unseen }
    })?;
    let mut trip = Trip { reactor, config, stream, early: None, interim: 0, touched: false, sent: None, body_bytes: 0 };
    trip.stream.patience.set(bounds.network, bounds.until);
    let outcome = trip.run(request, ends).await;
    trip.stream.stop_waiting();
    let (status, fields) = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            let can_be_sent = !trip.touched || request.body.can_be_repeated();
            return Err(Failed { unseen: can_be_sent && trip.is_unseen(&error), error });
        }
    };
    let limits = &config.limits;
    let head = fields::head(status, &fields, limits);
    let framing = head.and_then(|head| framing(request.asked, &head).map(|framing| (head, framing)));
    let (head, framing) = framing.map_err(|error| {
        let error = trip.stream.fail(Kind::Response(error), Phase::Head);
        Failed { error, unseen: false }
    })?;
    let now = Instant::now();
    timings.answered = now.saturating_duration_since(timings.started);
    timings.sent = trip.sent.map_or(timings.answered, |sent| sent.saturating_duration_since(timings.started));
    timings.bytes_sent = request.head.len() as u64 + trip.body_bytes;
    let body = Incoming::of_stream(Body::new(trip.stream, framing, *limits, head.headers.bytes()), now);
    let request_head = std::mem::take(&mut request.head);
    Ok(Response { head, framing, body, timings: timings.take(), tls: facts, request_head })
}

/// Nothing of HTTP/2 frames a message but its stream; what it says of its length is held against it by h2.
fn framing(asked: Asked, head: &ResponseHead) -> std::result::Result<Framing, wire::ResponseError> {
    if head.headers.get(b"transfer-encoding").is_some() {
        // RFC 9113 section 8.2.2: h2 has refused it already.
        return Ok(Framing::UntilClose);
    }
    Framing::of(asked, head)
}

struct Trip<'a> {
    reactor: &'a Rc<Reactor>,
    config: &'a Config,
    stream: Stream,
    /// A final head that came before all was sent, and does not keep us from sending.
    early: Option<(StatusCode, HeaderMap)>,
    interim: usize,
    /// The body's maker was asked for some of it.
    touched: bool,
    /// When all was sent.
    sent: Option<Instant>,
    body_bytes: u64,
}

/// Whether the request goes on being sent.
enum Going {
    On,
    /// The peer has answered, and wants no more.
    No,
}

impl Trip<'_> {
    async fn run(&mut self, request: &mut Request, ends: bool) -> Result<(StatusCode, HeaderMap)> {
        if !ends {
            Box::pin(self.send(request)).await?;
        }
        self.sent = Some(Instant::now());
        match self.early.take() {
            Some(head) => Ok(head),
            None => self.head().await,
        }
    }

    /// RFC 9113 section 8.7.
    fn is_unseen(&self, error: &Error) -> bool {
        match error.kind() {
            // RFC 9113 section 8.7: nothing was done about the request.
            Kind::Http2(error) if error.what == What::Reset => error.code == REFUSED_STREAM,
            Kind::Closed | Kind::Http2(_) | Kind::Io(_) => self.stream.is_beyond_last(),
            // Not for the peer's sake.
            _ => false,
        }
    }

    /// The final head, passing over interim ones.
    async fn head(&mut self) -> Result<(StatusCode, HeaderMap)> {
        poll_fn(|cx| {
            self.stream.check_deadline(Phase::Head)?;
            loop {
                match self.poll_head(cx, Phase::Head) {
                    Poll::Ready(Ok(Head::Interim(_))) => {}
                    Poll::Ready(Ok(Head::Final(status, fields))) => return Poll::Ready(Ok((status, fields))),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.stream.poll_patience(cx, Phase::Head),
                }
            }
        })
        .await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<Head>> {
        let polled = self.stream.poll_head(cx, phase);
        if let Poll::Ready(Ok(Head::Interim(_))) = polled {
            self.interim += 1;
            let most = self.config.limits.interim_responses;
            if self.interim > most {
                let error = wire::ResponseError::TooManyInterim(most);
                return Poll::Ready(Err(self.stream.fail(Kind::Response(error), phase)));
            }
        }
        polled
    }

    async fn send(&mut self, request: &mut Request) -> Result<()> {
        let asks = request.expects_continue && !request.body.is_empty();
        if asks && matches!(self.ask_leave().await?, Going::No) {
            return Ok(());
        }
        if matches!(self.body(&mut request.body).await?, Going::No) {
            return Ok(());
        }
        let Some(trailers) = &mut request.trailers else { return self.stream.send(Bytes::new(), true) };
        let lines = trailers.lines(self.stream.patience.until()).and_then(|lines| fields::request_trailers(&lines));
        let lines = lines.map_err(|kind| self.stream.fail(kind, Phase::Send))?;
        if lines.is_empty() { self.stream.send(Bytes::new(), true) } else { self.stream.send_trailers(lines) }
    }

    async fn body(&mut self, body: &mut RequestBody) -> Result<Going> {
        match body {
            RequestBody::Bytes(bytes) => self.piece(bytes.clone()).await,
            RequestBody::File(file) => {
                let (mut offset, end) = (file.offset, file.offset.saturating_add(file.length));
                while offset < end {
                    let room = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
                    let piece = file.read_at(offset, room);
                    let piece = piece.map_err(|error| self.stream.fail(Kind::Caller(error.into()), Phase::Send))?;
                    if piece.is_empty() {
                        let what = Kind::Misuse("the file ended before its length was sent");
                        return Err(self.stream.fail(what, Phase::Send));
                    }
                    offset += piece.len() as u64;
                    if matches!(self.piece(piece).await?, Going::No) {
                        return Ok(Going::No);
                    }
                }
                Ok(Going::On)
            }
            RequestBody::Chunked(source) => {
                while let Some(piece) = self.next_piece(source).await? {
                    if matches!(self.piece(piece).await?, Going::No) {
                        return Ok(Going::No);
                    }
                }
                Ok(Going::On)
            }
            RequestBody::Counted(source, length) => {
                let mut left = *length;
                while let Some(piece) = self.next_piece(source).await? {
                    left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                        let what = Kind::Misuse("the body is longer than its Content-Length");
                        self.stream.fail(what, Phase::Send)
                    })?;
                    if matches!(self.piece(piece).await?, Going::No) {
                        return Ok(Going::No);
                    }
                }
                if left > 0 {
                    let what = Kind::Misuse("the body is shorter than its Content-Length");
                    return Err(self.stream.fail(what, Phase::Send));
                }
                Ok(Going::On)
            }
        }
    }

    async fn next_piece(&mut self, source: &mut Box<dyn crate::BodySource>) -> Result<Option<Bytes>> {
        self.touched = true;
        let until = self.stream.patience.until();
        let piece = poll_fn(|cx| source.poll_next(cx, until)).await;
        piece.transpose().map_err(|kind| self.stream.fail(kind, Phase::Send))
    }

    async fn piece(&mut self, mut piece: Bytes) -> Result<Going> {
        self.stream.check_deadline(Phase::Send)?;
        poll_fn(|cx| {
            if let Poll::Ready(going) = self.poll_listen(cx) {
                return Poll::Ready(going);
            }
            while !piece.is_empty() {
                match self.stream.poll_room(cx, piece.len().min(PIECE)) {
                    // It wants no more, and has said why or will.
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Going::No)),
                    Poll::Ready(Ok(room)) => {
                        self.body_bytes += room as u64;
                        self.stream.send(piece.split_to(room), false)?;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.stream.poll_patience(cx, Phase::Send),
                }
            }
            Poll::Ready(Ok(Going::On))
        })
        .await
    }

    /// Ready when the peer has answered in a way that there is no use in sending on.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<Result<Going>> {
        while self.early.is_none() {
            match self.poll_head(cx, Phase::Send) {
                Poll::Ready(Ok(Head::Interim(_))) => {}
                Poll::Ready(Ok(Head::Final(status, fields))) => {
                    self.early = Some((status, fields));
                    if status.as_u16() >= 400 {
                        return Poll::Ready(Ok(Going::No));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Waits for leave to send the body: a final head means that it is not wanted.
    async fn ask_leave(&mut self) -> Result<Going> {
        let mut patience = Patience::new(self.reactor, None);
        patience.set(Some(CONTINUE_TIMEOUT), self.stream.patience.until());
        poll_fn(|cx| {
            loop {
                match self.poll_head(cx, Phase::Head) {
                    Poll::Ready(Ok(Head::Interim(StatusCode::CONTINUE))) => return Poll::Ready(Ok(Going::On)),
                    Poll::Ready(Ok(Head::Interim(_))) => {}
                    Poll::Ready(Ok(Head::Final(status, fields))) => {
                        self.early = Some((status, fields));
                        return Poll::Ready(Ok(Going::No));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if patience.poll_exhausted(cx) => {
                        self.stream.check_deadline(Phase::Head)?;
                        return Poll::Ready(Ok(Going::On));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}
