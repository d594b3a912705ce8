//! One stream of the crate h2, with the waits of its owner.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream};
use http::{HeaderMap, StatusCode};

use super::blocks::Fault;
use super::connection::StreamPermit;
use super::error::{Http2Error, NO_ERROR, What};
use super::outlet::Outlet;
use crate::error::{Error, Kind, Phase, Result};
use crate::rt::tasks::WakerProxy;
use crate::rt::timeout::WaitTimeout;

/// A stream. All calls into h2 use the waker proxy, and the recorded wake-ups are delivered after h2 has returned.
pub(super) struct Stream {
    response: Option<ResponseFuture>,
    outlet: Outlet,
    receive: Option<RecvStream>,
    waker_proxy: WakerProxy,
    pub(super) wait_timeout: WaitTimeout,
    pub(super) permit: StreamPermit,
    id: u32,
}

/// Size of a field beyond its name and value.
const FIELD_OVERHEAD: usize = 32;

/// A received head.
pub(super) enum Head {
    /// Status and size in bytes, as SETTINGS_MAX_HEADER_LIST_SIZE counts them (RFC 9113 section 6.5.2).
    Interim(StatusCode, usize),
    Final(StatusCode, HeaderMap),
}

impl Stream {
    /// Opens a stream. `ends` is true if the request has only a head.
    pub(super) fn begin(
        permit: StreamPermit,
        request: http::Request<()>,
        ends: bool,
    ) -> std::result::Result<Self, Kind> {
        let connection = permit.connection.clone();
        let begun = connection.request(request, ends);
        let waker_proxy = WakerProxy::new(&connection.reactor.tasks);
        let wait_timeout = WaitTimeout::new(&connection.reactor, None);
        let stream = begun.map(|(response, send)| {
            let id = u32::from(send.stream_id());
            Stream {
                response: Some(response),
                outlet: Outlet::new(send),
                receive: None,
                waker_proxy,
                wait_timeout,
                permit,
                id,
            }
        });
        connection.reactor.tasks.deliver();
        stream
    }

    fn deliver(&self) {
        self.permit.connection.reactor.tasks.deliver();
    }

    /// Returns true if the peer has sent a GOAWAY that excludes this stream.
    pub(super) fn is_beyond_last(&self) -> bool {
        self.permit.connection.transport.last_stream().is_some_and(|last| self.id > last)
    }

    #[cold]
    pub(super) fn fail(&self, kind: Kind, phase: Phase) -> Error {
        Error::new(kind, phase).with_peer(&self.permit.connection.peer)
    }

    #[cold]
    fn explain(&self, error: h2::Error, phase: Phase) -> Error {
        let connection = &self.permit.connection;
        let is_malformed = error.is_reset() && !error.is_remote() && error.reason() == Some(Reason::PROTOCOL_ERROR);
        let mut kind = connection.explain(error);
        if is_malformed && connection.transport.is_complete(self.id) {
            return self.fail(Kind::Http2(Http2Error::of_peer(What::Reset, NO_ERROR, None, b"")), phase);
        }
        if let Kind::Http2(violation) = &mut kind
            && is_malformed
        {
            let fault = connection.transport.fault(self.id);
            violation.words = fault.map_or("the response is malformed, or its head too large", Fault::words).to_owned();
        }
        self.fail(kind, phase)
    }

    /// Ends a poll without progress: returns an error once the timeout has elapsed.
    pub(super) fn poll_timeout<T>(&mut self, cx: &Context<'_>, phase: Phase) -> Poll<Result<T>> {
        if self.wait_timeout.poll_elapsed(cx) {
            self.wait_timeout.reset();
            return Poll::Ready(Err(self.fail(self.wait_timeout.elapsed_error(), phase)));
        }
        Poll::Pending
    }

    /// Returns an error if the deadline of the request has passed.
    pub(super) fn check_deadline(&self, phase: Phase) -> Result<()> {
        self.wait_timeout.check_deadline().map_err(|kind| self.fail(kind, phase))
    }

    /// Ends a wait: resets its timeout, and forgets its waker.
    pub(super) fn stop_waiting(&mut self) {
        self.wait_timeout.reset();
        self.waker_proxy.forget();
    }

    /// Receives the next head, interim or final. No head follows the final one.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<Head>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(self.fail(Kind::Misuse("the response was already received"), phase)));
        };
        let mut inner = Context::from_waker(self.waker_proxy.stand_for(cx));
        let head = match ready!(response.poll_informational(&mut inner)) {
            Some(interim) => interim.map(|interim| Head::Interim(interim.status(), size_of(interim.headers()))),
            None => ready!(Pin::new(response).poll(&mut inner)).map(|response| {
                let (parts, receive) = response.into_parts();
                self.receive = Some(receive);
                Head::Final(parts.status, parts.headers)
            }),
        };
        self.wait_timeout.reset();
        if matches!(head, Ok(Head::Final(..))) {
            let response = self.response.take();
            drop(response);
            self.deliver();
        }
        Poll::Ready(head.map_err(|error| self.explain(error, phase)))
    }

    /// Returns how many of `wanted` bytes the peer accepts now; 0 if it accepts no more data of this stream.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize>> {
        let mut inner = Context::from_waker(self.waker_proxy.stand_for(cx));
        let polled = self.outlet.with(|send, held| {
            let room = send.capacity().saturating_sub(held);
            if room > 0 {
                return Poll::Ready(Some(Ok(room)));
            }
            send.reserve_capacity(held + wanted);
            loop {
                match send.poll_capacity(&mut inner) {
                    // It also reports room that was there before.
                    Poll::Ready(Some(Ok(room))) if room <= held => {}
                    polled => return polled.map_ok(|room| room - held),
                }
            }
        });
        let polled = polled.unwrap_or(Poll::Ready(None));
        // The peer may make room only after it has received the held piece.
        let sent = if polled.is_pending() { self.outlet.flush() } else { Ok(()) };
        self.deliver();
        sent.map_err(|error| self.explain(error, Phase::Send))?;
        let room = ready!(polled);
        self.wait_timeout.reset();
        Poll::Ready(match room {
            None => Ok(0),
            Some(Ok(room)) => Ok(room.min(wanted)),
            Some(Err(error)) => Err(self.explain(error, Phase::Send)),
        })
    }

    /// Takes a piece, for which there is room, and sends it before the next one or with the end. `is_last` is true if
    /// the body ends with it.
    pub(super) fn hold(&self, piece: Bytes, is_last: bool) -> Result<()> {
        let sent = self.outlet.hold(piece, is_last);
        // The peer has made room for it, possibly with many small window updates.
        self.permit.connection.transport.forgive();
        self.sent(sent)
    }

    /// Lends the outlet to the connection's task, which sends the held piece if the owner has to wait for the next one.
    pub(super) fn lend(&self) {
        if let Some(outlet) = self.outlet.lend() {
            self.permit.connection.borrow_outlet(outlet);
            self.deliver();
        }
    }

    /// Ends the body, in one frame with the held piece.
    pub(super) fn finish(&self) -> Result<()> {
        self.sent(self.outlet.finish())
    }

    /// Sends the trailers, which end the request.
    pub(super) fn send_trailers(&self, trailers: HeaderMap) -> Result<()> {
        self.sent(self.outlet.send_trailers(trailers))
    }

    fn sent(&self, sent: std::result::Result<(), h2::Error>) -> Result<()> {
        self.deliver();
        sent.map_err(|error| self.explain(error, Phase::Send))
    }

    /// Receives the next bytes of the body; `None` at its end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(None)) };
        let mut inner = Context::from_waker(self.waker_proxy.stand_for(cx));
        let data = ready!(receive.poll_data(&mut inner));
        self.wait_timeout.reset();
        let data = data.transpose();
        if let Ok(Some(data)) = &data {
            // The data was taken, so the peer may send as much again.
            let _ = receive.flow_control().release_capacity(data.len());
            self.deliver();
        }
        Poll::Ready(data.map_err(|error| self.explain(error, Phase::Body)))
    }

    /// Receives the trailers, after the end of the body.
    pub(super) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(None)) };
        let mut inner = Context::from_waker(self.waker_proxy.stand_for(cx));
        let trailers = ready!(receive.poll_trailers(&mut inner));
        Poll::Ready(trailers.map_err(|error| self.explain(error, Phase::Body)))
    }

    /// Returns true if the peer has ended its message, and all of it was taken.
    pub(super) fn is_at_end(&self) -> bool {
        self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
    }
}

fn size_of(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum()
}

impl Drop for Stream {
    /// Cancels the stream if it has not ended in both directions: h2 sends RST_STREAM(CANCEL).
    fn drop(&mut self) {
        let parts = (self.response.take(), self.receive.take());
        drop(parts);
        self.outlet.close();
        self.permit.connection.transport.forget(self.id);
        self.waker_proxy.forget();
        self.deliver();
    }
}
