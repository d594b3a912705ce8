//! One HTTP/1.x connection: its stream, the bytes read ahead of their reader, and the patience with its peer.

use std::future::poll_fn;
use std::io;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;
use wire::{HeadReader, Limits, ResponseHead};

use crate::buffer::try_extend;
use crate::idle::IdlePlace;
use crate::reactor::{Keeper, Reactor};
use crate::socket::Descriptor;
use crate::stream::Stream;
use crate::timers::Patience;
use crate::timings::Dialled;
use crate::tls::{Facts, Tls};
use crate::{Error, Kind, Phase, Result};

/// A connection. Dropping it closes it.
pub struct Connection {
    pub(crate) stream: Stream,
    /// Read and not yet consumed. Empty, and without memory, while the connection is idle.
    pub(crate) buffer: BytesMut,
    pub(crate) patience: Patience,
    reactor: Rc<Reactor>,
    peer: Rc<str>,
    head: HeadReader,
    interim: usize,
    /// The stream ended where its own protocol forbids it: bytes may be missing (RFC 8446 section 6.1).
    pub(crate) is_cut: bool,
    facts: Option<Rc<Facts>>,
    descriptor: Option<Descriptor>,
    dialled: Option<Rc<Dialled>>,
    /// Bytes since the request under way was begun, below no layer of ours: as TLS was given them, or gave them.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// When it last had something to do; of no account while it has.
    pub(crate) idle_since: Instant,
    /// Its place among the idle connections of its pool's group, while it is one of them.
    pub(crate) idle_place: Option<IdlePlace>,
}

impl Connection {
    /// Over a stream that is ready for HTTP. `peer` names the other end in errors.
    pub fn new(reactor: &Rc<Reactor>, stream: Stream, peer: Rc<str>, patience: Patience) -> Self {
        let descriptor = stream.descriptor();
        Connection {
            stream,
            buffer: BytesMut::new(),
            patience,
            reactor: reactor.clone(),
            peer,
            head: HeadReader::default(),
            interim: 0,
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

    /// The same connection, private as those facts say, on that socket.
    pub(crate) fn with_facts(self, facts: Option<Rc<Facts>>, descriptor: Option<Descriptor>) -> Self {
        Connection { facts, descriptor, ..self }
    }

    /// The same connection, made as is said there.
    pub(crate) fn dialled_as(self, dialled: Dialled) -> Self {
        Connection { dialled: Some(Rc::new(dialled)), ..self }
    }

    /// How it was made, where that was done here.
    pub fn dialled(&self) -> Option<&Rc<Dialled>> {
        self.dialled.as_ref()
    }

    /// The same connection made private, within `limit`. For the bytes that have been read ahead it is too late: they
    /// are not taken for what the peer says in private.
    pub(crate) async fn secured(self: Box<Self>, tls: &dyn Tls, limit: Option<Duration>) -> Result<Box<Self>> {
        let Connection { stream, peer, reactor, descriptor, dialled, .. } = *self;
        let begun = Instant::now();
        let secured = Patience::new(&reactor, limit).bound(tls.handshake(stream)).await;
        let secured = secured.map_err(|kind| Error::new(kind, Phase::Tls).with_peer(&peer))?;
        let connection = Connection::new(&reactor, secured.stream, peer, Patience::new(&reactor, None));
        let connection = connection.with_facts(Some(secured.facts), descriptor);
        let tls = Some(begun.elapsed());
        Ok(Box::new(connection.dialled_as(Dialled { tls, ..dialled.as_deref().cloned().unwrap_or_default() })))
    }

    /// What it runs on, for another protocol.
    pub(crate) fn into_stream(self) -> Stream {
        self.stream
    }

    /// The number that the system knows its socket by, where it is one of the reactor's.
    pub(crate) fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// What has been read and not been made use of.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// What its TLS handshake has come to, if there was one.
    pub fn facts(&self) -> Option<&Rc<Facts>> {
        self.facts.as_ref()
    }

    /// `host:port` of the other end.
    pub fn peer(&self) -> &Rc<str> {
        &self.peer
    }

    #[cold]
    pub(crate) fn fail(&self, kind: Kind, phase: Phase) -> Error {
        Error::new(kind, phase).with_peer(&self.peer)
    }

    /// What a wait comes to when nothing has happened: an error once patience is exhausted.
    pub(crate) fn poll_patience<T>(&mut self, cx: &Context<'_>, phase: Phase) -> Poll<Result<T>> {
        if self.patience.poll_exhausted(cx) {
            self.patience.reset();
            return Poll::Ready(Err(self.fail(self.patience.exhausted(), phase)));
        }
        Poll::Pending
    }

    /// Reads at most `limit` bytes into `out`: how many, 0 at the peer's end, which may be a cut.
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

    /// Reads what there is into the buffer: how many bytes, 0 at the peer's end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = self.reactor.take_scratch();
        let mut room = ReadBuf::new(&mut scratch);
        let polled = self.poll_receive(cx, &mut room, usize::MAX);
        let kept = try_extend(&mut self.buffer, room.filled());
        self.reactor.return_scratch(scratch);
        if polled.is_ready() {
            self.patience.reset();
        }
        kept?;
        polled
    }

    /// Reads what there is into `out`, first what was read ahead; nothing only at the peer's end.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>, phase: Phase) -> Poll<Result<()>> {
        if !self.buffer.is_empty() || out.remaining() == 0 {
            let length = self.buffer.len().min(out.remaining());
            out.put_slice(&self.buffer.split_to(length));
            return Poll::Ready(Ok(()));
        }
        match self.poll_receive(cx, out, usize::MAX) {
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error.into(), phase))),
            Poll::Pending => self.poll_patience(cx, phase),
        }
    }

    /// Fails when the time of the whole request is over, whether or not there is anything to wait for.
    pub(crate) fn check_deadline(&self, phase: Phase) -> Result<()> {
        self.patience.check_deadline().map_err(|kind| self.fail(kind, phase))
    }

    /// [`poll_fill`](Self::poll_fill) with a limit to how long it takes.
    pub(crate) fn poll_fill_patiently(&mut self, cx: &mut Context<'_>, phase: Phase) -> Poll<Result<usize>> {
        self.check_deadline(phase)?;
        match self.poll_fill(cx) {
            Poll::Ready(Ok(filled)) => Poll::Ready(Ok(filled)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error.into(), phase))),
            Poll::Pending => self.poll_patience(cx, phase),
        }
    }

    /// The next head in the buffer, interim or final, taken out of it.
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
            self.interim = 0;
            return Ok(Some(head));
        }
        self.interim += 1;
        if self.interim > limits.interim_responses {
            let error = wire::ResponseError::TooManyInterim(limits.interim_responses);
            return Err(self.fail(Kind::Response(error), Phase::Head));
        }
        Ok(Some(head))
    }

    /// Waits for the final head, passing over interim ones (RFC 9110 section 15.2).
    pub async fn read_head(&mut self, limits: &Limits) -> Result<ResponseHead> {
        loop {
            while let Some(head) = self.next_head(limits)? {
                if !head.is_interim() {
                    return Ok(head);
                }
            }
            let filled = poll_fn(|cx| self.poll_fill_patiently(cx, Phase::Head)).await?;
            if filled == 0 {
                return Err(self.ended_in_head());
            }
        }
    }

    #[cold]
    pub(crate) fn ended_in_head(&self) -> Error {
        // Interim responses are no answer, but they are proof that the request arrived: it must not be sent again.
        if self.buffer.is_empty() && self.interim == 0 {
            return self.fail(Kind::Closed, Phase::Head);
        }
        let error = wire::ResponseError::EarlyEnd("the response's head is not complete");
        self.fail(Kind::Response(error), Phase::Head)
    }

    /// Whether it can carry another request. Asked before each, though it costs a system call: bytes that came unasked
    /// must not be taken for the answer to it (RFC 9112 section 9.2), and the loop may not have had a turn to see them.
    pub(crate) fn is_fit(&mut self) -> bool {
        self.stream.is_quiet()
    }

    /// Says who keeps it while it is idle, and has to look when something happens; `None` once it is not.
    pub(crate) fn keep(&mut self, keeper: Option<Weak<dyn Keeper>>) {
        if let Some(descriptor) = &self.descriptor {
            descriptor.keep(keeper);
        }
        self.idle_since = self.reactor.now();
        self.idle_place = None;
    }

    /// Whether the peer has closed it, as far as the kernel has told.
    pub(crate) fn is_closing(&self) -> bool {
        self.descriptor.as_ref().is_some_and(Descriptor::is_closing)
    }

    /// Whether something has happened to it since it was idle.
    pub(crate) fn has_stirred(&self) -> bool {
        self.descriptor.as_ref().is_some_and(Descriptor::has_stirred)
    }

    /// Forgets that, once somebody has looked.
    pub(crate) fn unstir(&self) {
        if let Some(descriptor) = &self.descriptor {
            descriptor.unstir();
        }
    }

    /// Nobody waits for its peer any more.
    pub(crate) fn stop_waiting(&mut self) {
        self.patience.reset();
        self.stream.forget_waiters();
    }

    /// Makes it ready to wait in the pool.
    pub(crate) fn rest(&mut self) {
        self.stop_waiting();
        self.stream.rest();
        self.buffer = BytesMut::new();
        self.head = HeadReader::default();
    }
}
