//! One stream, as far as the crate h2 has it, and how its owner waits for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, StatusCode};

use super::blocks::Fault;
use super::session::Slot;
use crate::tasks::Relay;
use crate::timers::Patience;
use crate::{Error, Kind, Phase, Result};

/// Whatever h2 is asked for here, it is asked for by way of the relay; and what that led to is delivered when h2 is done.
pub(super) struct Stream {
    response: Option<ResponseFuture>,
    send: Option<SendStream<Bytes>>,
    receive: Option<RecvStream>,
    relay: Relay,
    pub(super) patience: Patience,
    pub(super) slot: Slot,
    id: u32,
}

/// A head that came.
pub(super) enum Head {
    Interim(StatusCode),
    Final(StatusCode, HeaderMap),
}

impl Stream {
    /// Begins one. `ends` says that the head is all of the request.
    pub(super) fn begin(slot: Slot, request: http::Request<()>, ends: bool) -> std::result::Result<Self, Kind> {
        let session = slot.session.clone();
        let begun = session.request(request, ends);
        let relay = Relay::new(&session.reactor.tasks);
        let patience = Patience::new(&session.reactor, None);
        let stream = begun.map(|(response, send)| {
            let id = u32::from(send.stream_id());
            Stream { response: Some(response), send: Some(send), receive: None, relay, patience, slot, id }
        });
        session.reactor.tasks.deliver();
        stream
    }

    fn deliver(&self) {
        self.slot.session.reactor.tasks.deliver();
    }

    /// Whether the peer has said that it will not look at this stream.
    pub(super) fn is_beyond_last(&self) -> bool {
        self.slot.session.transport.last_stream().is_some_and(|last| self.id > last)
    }

    #[cold]
    pub(super) fn fail(&self, kind: Kind, phase: Phase) -> Error {
        Error::new(kind, phase).with_peer(&self.slot.session.peer)
    }

    #[cold]
    fn explain(&self, error: h2::Error, phase: Phase) -> Error {
        let session = &self.slot.session;
        let is_malformed = error.is_reset() && !error.is_remote() && error.reason() == Some(Reason::PROTOCOL_ERROR);
        let mut kind = session.explain(error);
        if let Kind::Http2(violation) = &mut kind
            && is_malformed
        {
            let fault = session.transport.fault(self.id);
            violation.words = fault.map_or("the response is malformed, or its head too large", Fault::words).to_owned();
        }
        self.fail(kind, phase)
    }

    /// What a wait comes to when nothing has happened: an error once patience is exhausted.
    pub(super) fn poll_patience<T>(&mut self, cx: &Context<'_>, phase: Phase) -> Poll<Result<T>> {
        if self.patience.poll_exhausted(cx) {
            self.patience.reset();
            return Poll::Ready(Err(self.fail(self.patience.exhausted(), phase)));
        }
        Poll::Pending
    }

    /// Fails when the time of the whole request is over.
    pub(super) fn check_deadline(&self, phase: Phase) -> Result<()> {
        self.patience.check_deadline().map_err(|kind| self.fail(kind, phase))
    }

    /// Nobody waits any more.
    pub(super) fn stop_waiting(&mut self) {
        self.patience.reset();
        self.relay.forget();
    }

    /// The next head, interim or final. After the final one there is none.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<Head>> {
        let Some(response) = &mut self.response else {
            return Poll::Ready(Err(self.fail(Kind::Misuse("the response has come already"), phase)));
        };
        let mut inner = Context::from_waker(self.relay.stand_for(cx));
        let head = match ready!(response.poll_informational(&mut inner)) {
            Some(interim) => interim.map(|interim| Head::Interim(interim.status())),
            None => ready!(Pin::new(response).poll(&mut inner)).map(|response| {
                let (parts, receive) = response.into_parts();
                self.receive = Some(receive);
                Head::Final(parts.status, parts.headers)
            }),
        };
        self.patience.reset();
        if matches!(head, Ok(Head::Final(..))) {
            let response = self.response.take();
            drop(response);
            self.deliver();
        }
        Poll::Ready(head.map_err(|error| self.explain(error, phase)))
    }

    /// How much of `wanted` bytes the peer takes now; 0 when it takes no more at all.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<Result<usize>> {
        let Some(send) = &mut self.send else { return Poll::Ready(Ok(0)) };
        if send.capacity() > 0 {
            return Poll::Ready(Ok(send.capacity().min(wanted)));
        }
        send.reserve_capacity(wanted);
        let mut inner = Context::from_waker(self.relay.stand_for(cx));
        let polled = send.poll_capacity(&mut inner);
        self.deliver();
        let room = ready!(polled);
        self.patience.reset();
        Poll::Ready(match room {
            None => Ok(0),
            Some(Ok(room)) => Ok(room.min(wanted)),
            Some(Err(error)) => Err(self.explain(error, Phase::Send)),
        })
    }

    /// Sends a piece, for which there is room.
    pub(super) fn send(&mut self, piece: Bytes, ends: bool) -> Result<()> {
        let sent = self.send.as_mut().map_or(Ok(()), |send| send.send_data(piece, ends));
        // The peer has made room for it, in as small steps as it likes.
        self.slot.session.transport.forgive();
        self.deliver();
        sent.map_err(|error| self.explain(error, Phase::Send))
    }

    /// Sends the fields behind the body, which end the request.
    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let sent = self.send.as_mut().map_or(Ok(()), |send| send.send_trailers(trailers));
        self.deliver();
        sent.map_err(|error| self.explain(error, Phase::Send))
    }

    /// The next bytes of the body; `None` at its end.
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(None)) };
        let mut inner = Context::from_waker(self.relay.stand_for(cx));
        let data = ready!(receive.poll_data(&mut inner));
        self.patience.reset();
        let data = data.transpose();
        if let Ok(Some(data)) = &data {
            // Taken is taken: the peer may send as much again.
            let _ = receive.flow_control().release_capacity(data.len());
            self.deliver();
        }
        Poll::Ready(data.map_err(|error| self.explain(error, Phase::Body)))
    }

    /// The fields behind the body, once that has ended.
    pub(super) fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(None)) };
        let mut inner = Context::from_waker(self.relay.stand_for(cx));
        let trailers = ready!(receive.poll_trailers(&mut inner));
        Poll::Ready(trailers.map_err(|error| self.explain(error, Phase::Body)))
    }

    /// Whether the peer has ended its message, and all of it was taken.
    pub(super) fn is_at_end(&self) -> bool {
        self.receive.as_ref().is_some_and(RecvStream::is_end_stream)
    }
}

impl Drop for Stream {
    /// One that is not at its end in both directions is cancelled by this: h2 sends RST_STREAM(CANCEL).
    fn drop(&mut self) {
        let parts = (self.response.take(), self.send.take(), self.receive.take());
        drop(parts);
        self.slot.session.transport.forget(self.id);
        self.relay.forget();
        self.deliver();
    }
}
