//! One request on a stream: sends it while listening for an early response, and reads the head.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, StatusCode};
use wire::framing::MethodKind;
use wire::{Framing, InterimCount, ResponseHead};

use super::body::Body;
use super::connection::StreamPermit;
use super::error::{HTTP_1_1_REQUIRED, REFUSED_STREAM, What};
use super::fields;
use super::stream::{Head, Stream};
use crate::config::Config;
use crate::error::{Error, Kind, Phase, Result};
use crate::http1::send::CONTINUE_TIMEOUT;
use crate::pool::held::Sending;
use crate::request::{Request, RequestBody};
use crate::rt::reactor::Reactor;
use crate::rt::timeout::{WaitLimits, WaitTimeout};
use crate::timings::Timings;
use crate::tls::TlsInfo;

/// The largest piece that a body is sent in.
const PIECE: usize = 64 * 1024;

/// A request that failed.
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// True if the peer has not processed it and will not: it can be sent again, even if it is not idempotent.
    pub(crate) unseen: bool,
}

/// The head of a response, and the body behind it.
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    pub(crate) framing: Framing,
    pub(crate) body: Body,
    /// Arrival of the head.
    pub(crate) answered: Instant,
    pub(crate) facts: Option<Rc<TlsInfo>>,
}

/// Sends `request` on a stream, and waits for the head of its response.
pub(crate) async fn exchange(
    reactor: &Rc<Reactor>,
    config: &Config,
    permit: StreamPermit,
    request: &mut Request,
    wait_limits: WaitLimits,
    timings: &mut Timings,
) -> std::result::Result<Answer, Failed> {
    request.enter(Phase::Send, true).map_err(|error| Failed { error, unseen: false })?;
    let scheme = if config.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let fail = |kind| Error::new(kind, Phase::Send).with_peer(&permit.connection.peer);
    let message = fields::request(&request.head, &scheme, &config.origin.peer);
    let message = message.map_err(|kind| Failed { error: fail(kind), unseen: false })?;
    let ends = request.body.is_empty() && request.trailers.is_none();
    let facts = permit.connection.facts.clone();
    timings.dialled = permit.connection.dialled.clone();
    let peer = permit.connection.peer.clone();
    let stream = Stream::begin(permit, message, ends).map_err(|kind| {
        // Not begun because the connection has ended meanwhile, or a request that cannot be sent.
        let unseen = !matches!(kind, Kind::Misuse(_));
        Failed { error: Error::new(kind, Phase::Send).with_peer(&peer), unseen }
    })?;
    let mut exchange = Exchange {
        reactor,
        config,
        stream,
        early: None,
        interim: InterimCount::default(),
        source_read: false,
        sent: None,
        body_bytes: 0,
    };
    exchange.stream.wait_timeout.set(wait_limits.network, wait_limits.until);
    if request.runs_code() {
        exchange.stream.permit.hold(Box::new(Sending(reactor.current_task())));
    }
    let outcome = exchange.run(request, ends).await;
    exchange.stream.permit.release();
    exchange.stream.stop_waiting();
    let (status, fields) = match outcome {
        Ok(answer) => answer,
        Err(error) => {
            let can_be_sent = !exchange.source_read || request.body.can_be_repeated();
            return Err(Failed { unseen: can_be_sent && exchange.is_unseen(&error), error });
        }
    };
    let limits = &config.limits;
    let head = fields::head(status, &fields, limits);
    let framing = head.and_then(|head| framing(request.method_kind, &head).map(|framing| (head, framing)));
    let (head, framing) = framing.map_err(|error| {
        let error = exchange.stream.fail(Kind::Response(error), Phase::Head);
        Failed { error, unseen: false }
    })?;
    let now = Instant::now();
    timings.answered = now.saturating_duration_since(timings.started);
    timings.sent = exchange.sent.map_or(timings.answered, |sent| sent.saturating_duration_since(timings.started));
    timings.bytes_sent = request.head.len() as u64 + exchange.body_bytes;
    let body = Body::new(exchange.stream, framing, *limits, head.headers.bytes());
    Ok(Answer { head, framing, body, answered: now, facts })
}

/// Returns the framing. In HTTP/2 only the stream frames a message; h2 checks its Content-Length.
fn framing(method_kind: MethodKind, head: &ResponseHead) -> std::result::Result<Framing, wire::ResponseError> {
    if head.headers.get(b"transfer-encoding").is_some() {
        // RFC 9113 section 8.2.2: h2 has refused it already.
        return Ok(Framing::UntilClose);
    }
    Framing::of(method_kind, head)
}

struct Exchange<'a> {
    reactor: &'a Rc<Reactor>,
    config: &'a Config,
    stream: Stream,
    /// A final head that came before the request was sent completely, and does not stop it.
    early: Option<(StatusCode, HeaderMap)>,
    interim: InterimCount,
    /// True if a piece was read from the body's source.
    source_read: bool,
    /// Time at which the request was sent completely.
    sent: Option<Instant>,
    body_bytes: u64,
}

/// Decision on sending after the peer has been checked.
enum Upload {
    Continue,
    /// The peer has answered, and does not want the rest.
    Stop,
}

impl Exchange<'_> {
    async fn run(&mut self, request: &mut Request, ends: bool) -> Result<(StatusCode, HeaderMap)> {
        if !ends {
            Box::pin(self.send(request)).await?;
        }
        self.sent = Some(Instant::now());
        request.enter(Phase::Head, true)?;
        match self.early.take() {
            Some(head) => Ok(head),
            None => self.head().await,
        }
    }

    /// Returns whether the peer has not acted on the request (RFC 9113 section 8.7).
    fn is_unseen(&self, error: &Error) -> bool {
        match error.kind() {
            // The stream was refused, or the peer requires another version (section 7).
            Kind::Http2(error) if error.what == What::Reset => {
                matches!(error.code, REFUSED_STREAM | HTTP_1_1_REQUIRED)
            }
            Kind::Closed | Kind::Http2(_) | Kind::Io(_) => self.stream.is_beyond_last(),
            // The client's own failure.
            _ => false,
        }
    }

    /// Waits for the final head, and skips interim ones.
    async fn head(&mut self) -> Result<(StatusCode, HeaderMap)> {
        poll_fn(|cx| {
            self.stream.check_deadline(Phase::Head)?;
            loop {
                match self.poll_head(cx, Phase::Head) {
                    Poll::Ready(Ok(Head::Interim(..))) => {}
                    Poll::Ready(Ok(Head::Final(status, fields))) => return Poll::Ready(Ok((status, fields))),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.stream.poll_timeout(cx, Phase::Head),
                }
            }
        })
        .await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<Head>> {
        let polled = self.stream.poll_head(cx, phase);
        if let Poll::Ready(Ok(Head::Interim(_, bytes))) = polled {
            let counted = self.interim.add(bytes, &self.config.limits);
            counted.map_err(|error| self.stream.fail(Kind::Response(error), phase))?;
        }
        polled
    }

    async fn send(&mut self, request: &mut Request) -> Result<()> {
        let asks = request.expects_continue && !request.body.is_empty();
        if asks && matches!(self.await_continue().await?, Upload::Stop) {
            return Ok(());
        }
        let ends = request.trailers.is_none();
        if matches!(self.body(&mut request.body, ends).await?, Upload::Stop) {
            return Ok(());
        }
        let Some(trailers) = &mut request.trailers else { return self.stream.finish() };
        self.stream.lend();
        let lines = trailers.lines(self.stream.wait_timeout.until()).and_then(|lines| fields::request_trailers(&lines));
        let lines = lines.map_err(|kind| self.stream.fail(kind, Phase::Send))?;
        if lines.is_empty() { self.stream.finish() } else { self.stream.send_trailers(lines) }
    }

    /// Sends the body. `ends` says that nothing follows it.
    async fn body(&mut self, body: &mut RequestBody, ends: bool) -> Result<Upload> {
        match body {
            RequestBody::Bytes(bytes) => self.piece(bytes.clone(), false).await,
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
                    if matches!(self.piece(piece, false).await?, Upload::Stop) {
                        return Ok(Upload::Stop);
                    }
                }
                Ok(Upload::Continue)
            }
            RequestBody::Chunked(source) => {
                while let Some(piece) = self.next_piece(source).await? {
                    if matches!(self.piece(piece, false).await?, Upload::Stop) {
                        return Ok(Upload::Stop);
                    }
                }
                Ok(Upload::Continue)
            }
            RequestBody::Counted(source, length) => {
                let mut left = *length;
                while let Some(piece) = self.next_piece(source).await? {
                    left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                        let what = Kind::Misuse("the body is longer than its Content-Length");
                        self.stream.fail(what, Phase::Send)
                    })?;
                    if matches!(self.piece(piece, ends && left == 0).await?, Upload::Stop) {
                        return Ok(Upload::Stop);
                    }
                }
                if left > 0 {
                    let what = Kind::Misuse("the body is shorter than its Content-Length");
                    return Err(self.stream.fail(what, Phase::Send));
                }
                Ok(Upload::Continue)
            }
        }
    }

    async fn next_piece(&mut self, source: &mut Box<dyn crate::request::BodySource>) -> Result<Option<Bytes>> {
        self.source_read = true;
        self.stream.lend();
        let until = self.stream.wait_timeout.until();
        let piece = poll_fn(|cx| source.poll_next(cx, until)).await;
        piece.transpose().map_err(|kind| self.stream.fail(kind, Phase::Send))
    }

    /// Sends a piece. `is_last` says that the body has no more bytes, though its source has not ended yet.
    async fn piece(&mut self, mut piece: Bytes, is_last: bool) -> Result<Upload> {
        self.stream.check_deadline(Phase::Send)?;
        poll_fn(|cx| {
            if let Poll::Ready(going) = self.poll_listen(cx) {
                return Poll::Ready(going);
            }
            while !piece.is_empty() {
                match self.stream.poll_room(cx, piece.len().min(PIECE)) {
                    // The peer does not want the rest; its response says why, now or later.
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Upload::Stop)),
                    Poll::Ready(Ok(room)) => {
                        self.body_bytes += room as u64;
                        let part = piece.split_to(room);
                        self.stream.hold(part, is_last && piece.is_empty())?;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return self.stream.poll_timeout(cx, Phase::Send),
                }
            }
            Poll::Ready(Ok(Upload::Continue))
        })
        .await
    }

    /// Becomes ready when the peer has answered and does not want the rest.
    fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<Result<Upload>> {
        while self.early.is_none() {
            match self.poll_head(cx, Phase::Send) {
                Poll::Ready(Ok(Head::Interim(..))) => {}
                Poll::Ready(Ok(Head::Final(status, fields))) => {
                    self.early = Some((status, fields));
                    if status.as_u16() >= 400 {
                        return Poll::Ready(Ok(Upload::Stop));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    /// Waits for `100 Continue`. A final head means that the peer does not want the body.
    async fn await_continue(&mut self) -> Result<Upload> {
        let mut wait_timeout = WaitTimeout::new(self.reactor, None);
        wait_timeout.set(Some(CONTINUE_TIMEOUT), self.stream.wait_timeout.until());
        poll_fn(|cx| {
            loop {
                match self.poll_head(cx, Phase::Head) {
                    Poll::Ready(Ok(Head::Interim(StatusCode::CONTINUE, _))) => {
                        return Poll::Ready(Ok(Upload::Continue));
                    }
                    Poll::Ready(Ok(Head::Interim(..))) => {}
                    Poll::Ready(Ok(Head::Final(status, fields))) => {
                        self.early = Some((status, fields));
                        return Poll::Ready(Ok(Upload::Stop));
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending if wait_timeout.poll_elapsed(cx) => {
                        self.stream.check_deadline(Phase::Head)?;
                        return Poll::Ready(Ok(Upload::Continue));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}
