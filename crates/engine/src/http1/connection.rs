//! One HTTP/1.x connection: its stream, the bytes read ahead, and the time limits of its waits.

use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use wire::{HeadReader, InterimCount, Limits, ResponseHead};

use crate::buffer::try_extend;
use crate::error::{Error, Kind, Phase, Result};
use crate::pool::idle::IdlePlace;
use crate::rt::reactor::{IdleOwner, Reactor};
use crate::rt::socket::Descriptor;
use crate::rt::stream::Stream;
use crate::rt::timeout::WaitTimeout;
use crate::timings::{Dialled, Timings};
use crate::tls::{Offer, Tls, TlsInfo};

/// A connection. Dropping it closes it.
pub struct Connection {
    pub(crate) stream: Stream,
    /// Read and not yet consumed. Empty, and without memory, while the connection is idle.
    pub(crate) buffer: BytesMut,
    pub(crate) wait_timeout: WaitTimeout,
    reactor: Rc<Reactor>,
    peer: Rc<str>,
    head: HeadReader,
    interim: InterimCount,
    /// The stream ended where its own protocol forbids it: bytes may be missing (RFC 8446 section 6.1).
    pub(crate) is_cut: bool,
    facts: Option<Rc<TlsInfo>>,
    descriptor: Option<Descriptor>,
    dialled: Option<Rc<Dialled>>,
    /// Bytes since the start of the current request, without the overhead of TLS.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Start of its idle time; meaningless while it is in use.
    pub(crate) idle_since: Instant,
    /// Its entry among the idle connections of its pool's group, while it is one of them.
    pub(crate) idle_place: Option<IdlePlace>,
}

impl Connection {
    /// Creates a connection over a stream that is ready for HTTP. `peer` names the other end in errors.
    pub fn new(reactor: &Rc<Reactor>, stream: Stream, peer: Rc<str>, wait_timeout: WaitTimeout) -> Self {
        let descriptor = stream.descriptor();
        Connection {
            stream,
            buffer: BytesMut::new(),
            wait_timeout,
            reactor: reactor.clone(),
            peer,
            head: HeadReader::default(),
            interim: InterimCount::default(),
            is_cut: false,
            facts: None,
            descriptor,
            dialled: None,
            sent: 0,
            received: 0,
            idle_since: reactor.now(),
            idle_place: None,
        }
    }

    /// Returns the same connection with the facts of its TLS and its socket.
    pub(crate) fn with_facts(self, facts: Option<Rc<TlsInfo>>, descriptor: Option<Descriptor>) -> Self {
        Connection { facts, descriptor, ..self }
    }

    /// Returns the same connection with the steps of its dial.
    pub(crate) fn dialled_as(self, dialled: Dialled) -> Self {
        Connection { dialled: Some(Rc::new(dialled)), ..self }
    }

    /// Notes in `timings` how it was opened, and how much was sent on it.
    pub(crate) fn note_in(&self, timings: &mut Timings) {
        timings.dialled = self.dialled.clone();
        timings.bytes_sent = self.sent;
    }

    /// Returns how it was opened, if the engine has opened it.
    pub fn dialled(&self) -> Option<&Rc<Dialled>> {
        self.dialled.as_ref()
    }

    /// Performs a TLS handshake within `limit`, and returns the connection over TLS. Drops bytes that have been read
    /// ahead, since they were not sent over TLS.
    pub(crate) async fn secured(self: Box<Self>, tls: &dyn Tls, limit: Option<Duration>) -> Result<Box<Self>> {
        let Connection { stream, peer, reactor, descriptor, dialled, .. } = *self;
        let begun = Instant::now();
        let secured = WaitTimeout::new(&reactor, limit).bound(tls.handshake(stream, Offer::All)).await;
        let secured = secured.map_err(|kind| Error::new(kind, Phase::Tls).with_peer(&peer))?;
        let connection = Connection::new(&reactor, secured.stream, peer, WaitTimeout::new(&reactor, None));
        let connection = connection.with_facts(Some(secured.facts), descriptor);
        let tls = Some(begun.elapsed());
        Ok(Box::new(connection.dialled_as(Dialled { tls, ..dialled.as_deref().cloned().unwrap_or_default() })))
    }

    /// Returns its stream, for another protocol.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Returns the descriptor of its socket, if that is one of the reactor's.
    pub(crate) fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// Returns the bytes that were read and not consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Returns the result of its TLS handshake, if there was one.
    pub fn facts(&self) -> Option<&Rc<TlsInfo>> {
        self.facts.as_ref()
    }

    /// Returns `host:port` of the other end.
    pub fn peer(&self) -> &Rc<str> {
        &self.peer
    }

    #[cold]
    pub(crate) fn fail(&self, kind: Kind, phase: Phase) -> Error {
        Error::new(kind, phase).with_peer(&self.peer)
    }

    /// Returns the outcome of a wait without a result: an error once its time limit has passed.
    pub(crate) fn poll_timeout<T>(&mut self, cx: &Context<'_>, phase: Phase) -> Poll<Result<T>> {
        if self.wait_timeout.poll_elapsed(cx) {
            self.wait_timeout.reset();
            return Poll::Ready(Err(self.fail(self.wait_timeout.elapsed_error(), phase)));
        }
        Poll::Pending
    }

    /// Reads at most `limit` bytes into `out`. Returns their number: 0 after the peer has closed, which may be a
    /// truncation.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        match self.stream.poll_receive(cx, out, limit) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.is_cut = true;
                Poll::Ready(Ok(0))
            }
            Poll::Ready(Ok(received)) => {
                self.received += received as u64;
                Poll::Ready(Ok(received))
            }
            polled => polled,
        }
    }

    /// Reads the available bytes into the buffer. Returns their number: 0 after the peer has closed.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = self.reactor.take_scratch();
        let mut room = ReadBuf::new(&mut scratch);
        let polled = self.poll_receive(cx, &mut room, usize::MAX);
        let kept = try_extend(&mut self.buffer, room.filled());
        self.reactor.return_scratch(scratch);
        if polled.is_ready() {
            self.wait_timeout.reset();
        }
        kept?;
        polled
    }

    /// Reads the available bytes into `out`, first those that were read ahead. Reads nothing only after the peer has
    /// closed.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, phase: Phase) -> Poll<Result<()>> {
        if !self.buffer.is_empty() || out.remaining() == 0 {
            let length = self.buffer.len().min(out.remaining());
            out.put_slice(&self.buffer.split_to(length));
            return Poll::Ready(Ok(()));
        }
        match self.poll_receive(cx, out, usize::MAX) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error.into(), phase))),
            Poll::Pending => self.poll_timeout(cx, phase),
        }
    }

    /// Fails if the deadline of the request has passed, even if there is nothing to wait for.
    pub(crate) fn check_deadline(&self, phase: Phase) -> Result<()> {
        self.wait_timeout.check_deadline().map_err(|kind| self.fail(kind, phase))
    }

    /// Fills the buffer as [`poll_fill`](Self::poll_fill) does, with a time limit.
    pub(crate) fn poll_fill_or_time_out(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<usize>> {
        self.check_deadline(phase)?;
        match self.poll_fill(cx) {
            Poll::Ready(Ok(filled)) => Poll::Ready(Ok(filled)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error.into(), phase))),
            Poll::Pending => self.poll_timeout(cx, phase),
        }
    }

    /// Takes the next head out of the buffer, interim or final.
    pub(crate) fn next_head(&mut self, limits: &Limits) -> Result<Option<ResponseHead>> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let parsed = self.head.read(&self.buffer, limits);
        let Some((head, length)) = parsed.map_err(|error| self.fail(Kind::Response(error), Phase::Head))? else {
            return Ok(None);
        };
        self.buffer.advance(length);
        if !head.is_interim() {
            self.interim = InterimCount::default();
            return Ok(Some(head));
        }
        let counted = self.interim.add(length, limits);
        counted.map_err(|error| self.fail(Kind::Response(error), Phase::Head))?;
        Ok(Some(head))
    }

    /// Waits for the final head, and skips interim ones (RFC 9110 section 15.2).
    pub async fn read_head(&mut self, limits: &Limits) -> Result<ResponseHead> {
        loop {
            while let Some(head) = self.next_head(limits)? {
                if !head.is_interim() {
                    return Ok(head);
                }
            }
            let filled = poll_fn(|cx| self.poll_fill_or_time_out(cx, Phase::Head)).await?;
            if filled == 0 {
                return Err(self.ended_in_head());
            }
        }
    }

    #[cold]
    pub(crate) fn ended_in_head(&self) -> Error {
        // Interim responses do not complete the exchange, but they prove that the request arrived: it must not be sent
        // again.
        if self.buffer.is_empty() && self.interim.is_empty() {
            return self.fail(Kind::Closed, Phase::Head);
        }
        let error = wire::ResponseError::EarlyEnd("the response's head is not complete");
        self.fail(Kind::Response(error), Phase::Head)
    }

    /// Returns whether it can carry another request. Called before each, though it costs a system call: unsolicited
    /// bytes must not be taken for the response (RFC 9112 section 9.2), and the loop may not have run to report them.
    pub(crate) fn is_reusable(&mut self) -> bool {
        self.stream.is_idle_clean()
    }

    /// Sets the owner that checks it after an event while it is idle; `None` once it is not idle.
    pub(crate) fn set_idle_owner(&mut self, idle_owner: Option<Weak<dyn IdleOwner>>) {
        if let Some(descriptor) = &self.descriptor {
            descriptor.set_idle_owner(idle_owner);
        }
        self.idle_since = self.reactor.now();
        self.idle_place = None;
    }

    /// Returns whether the peer has closed it, as far as the kernel has reported.
    pub(crate) fn is_closing(&self) -> bool {
        self.descriptor.as_ref().is_some_and(Descriptor::is_closing)
    }

    /// Returns whether the kernel has reported an event while it was idle.
    pub(crate) fn has_event(&self) -> bool {
        self.descriptor.as_ref().is_some_and(Descriptor::has_event)
    }

    /// Clears the event, after a check.
    pub(crate) fn clear_event(&self) {
        if let Some(descriptor) = &self.descriptor {
            descriptor.clear_event();
        }
    }

    /// Ends all waits for its peer.
    pub(crate) fn stop_waiting(&mut self) {
        self.wait_timeout.reset();
        self.stream.forget_waiters();
    }

    /// Makes it ready to be idle in the pool.
    pub(crate) fn become_idle(&mut self) {
        self.stop_waiting();
        self.stream.release_buffers();
        self.buffer = BytesMut::new();
        self.head = HeadReader::default();
    }
}
