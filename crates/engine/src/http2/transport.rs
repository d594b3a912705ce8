//! The transport between h2 and the stream below. The bytes that h2 writes are buffered, and written to the stream in
//! one piece after h2 has released its lock, since the stream may run the program's code (an SSLContext). The bytes
//! that it reads are checked as they pass.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::Limits;

use super::blocks::Fault;
use super::error::{Http2Error, What};
use super::frames::{self, Frames};
use crate::error::Kind;
use crate::rt::stream::{MOST_UNSOLICITED, Stream};

/// Maximum number of bytes that are buffered before h2 has to wait. h2 has a buffer of its own in front of this one.
const ASIDE: usize = 64 * 1024;

/// Maximum number of bytes that are read in one poll. Readers copy them while they are still in the processor's cache,
/// and the peer can continue to send meanwhile: with one megabyte per poll, a large download took 1.5 times as long.
const READ_AT_ONCE: usize = 256 * 1024;

/// Maximum capacity of the buffer of an idle connection.
const KEPT: usize = 4 * 1024;

/// The stream, and the data that waits to be written. Only the connection's task borrows it.
pub(super) struct Transport {
    stream: RefCell<Stream>,
    aside: RefCell<BytesMut>,
    /// h2 waits until there is room.
    is_full: Cell<bool>,
    frames: RefCell<Frames>,
    /// Bytes that h2 reads next, instead of the received ones.
    instead: RefCell<BytesMut>,
    /// Number of requests so far.
    pub(super) begun: Cell<u64>,
    /// Bytes were received since [`Self::has_heard`] was last called.
    heard: Cell<bool>,
    /// The reason why nothing more can be read, in more detail than h2 reports.
    failure: RefCell<Option<Kind>>,
    ended: Cell<bool>,
    /// Number of bytes read since other tasks had a turn.
    read: Cell<usize>,
}

impl Transport {
    /// Creates a transport for responses within those limits.
    pub(super) fn new(stream: Stream, limits: &Limits) -> Rc<Self> {
        Rc::new(Transport {
            stream: RefCell::new(stream),
            aside: RefCell::default(),
            is_full: Cell::new(false),
            frames: RefCell::new(Frames::new(limits)),
            instead: RefCell::default(),
            begun: Cell::new(0),
            heard: Cell::new(false),
            failure: RefCell::default(),
            ended: Cell::new(false),
            read: Cell::new(0),
        })
    }

    /// [`Frames::last_stream`].
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.frames.borrow().last_stream()
    }

    /// [`Frames::has_settings`].
    pub(super) fn has_settings(&self) -> bool {
        self.frames.borrow().has_settings()
    }

    /// [`Frames::requires_http1`].
    pub(super) fn requires_http1(&self) -> bool {
        self.frames.borrow().requires_http1()
    }

    /// [`Frames::is_complete`].
    pub(super) fn is_complete(&self, stream: u32) -> bool {
        self.frames.borrow().is_complete(stream)
    }

    /// [`Frames::begin`].
    pub(super) fn begin(&self, stream: u32) {
        self.frames.borrow_mut().begin(stream);
    }

    /// [`Frames::forget`].
    pub(super) fn forget(&self, stream: u32) {
        self.frames.borrow_mut().forget(stream);
    }

    /// [`Frames::fault`].
    pub(super) fn fault(&self, stream: u32) -> Option<Fault> {
        self.frames.borrow().fault(stream)
    }

    /// Returns the peer's GOAWAY as an error, with that code.
    pub(super) fn go_away(&self, code: u32) -> Http2Error {
        let frames = self.frames.borrow();
        Http2Error::of_peer(What::GoAway, code, frames.last_stream(), frames.words())
    }

    /// [`Frames::forgive`].
    pub(super) fn forgive(&self) {
        self.frames.borrow_mut().forgive();
    }

    /// Returns the peer's GOAWAY as an error, None if it sent none.
    pub(super) fn peer_goaway(&self) -> Option<Http2Error> {
        let code = self.frames.borrow().code();
        self.last_stream().map(|_| self.go_away(code))
    }

    /// Returns true if any data was received since the last call.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.replace(false)
    }

    /// Returns the reason why nothing more can be read; [`Kind::Closed`] if the peer has just closed the connection.
    pub(super) fn failure(&self) -> Option<Kind> {
        self.failure.take().or_else(|| self.ended.get().then_some(Kind::Closed))
    }

    /// Makes the next read ask the kernel, even if it has not reported any event.
    pub(super) fn mark_readable(&self) {
        self.stream.borrow().mark_readable();
    }

    /// Returns true if the peer has sent more TLS records without data than it may on an idle connection.
    pub(super) fn is_flooded(&self) -> bool {
        self.stream.borrow().unsolicited() > MOST_UNSOLICITED
    }

    /// Returns true if h2 waits for room, and there is room now.
    pub(super) fn has_made_room(&self) -> bool {
        self.is_full.get() && self.aside.borrow().len() < ASIDE
    }

    /// Writes the buffered data, down to the socket.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut aside = self.aside.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        while !aside.is_empty() {
            match ready!(stream.poll_send(cx, &[IoSlice::new(&aside)])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => aside.advance(written),
                Err(error) => {
                    // Nothing more can be sent.
                    *aside = BytesMut::new();
                    return Poll::Ready(Err(error));
                }
            }
        }
        if stream.holds_back() { Pin::new(&mut *stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Frees the memory that an idle connection does not need.
    pub(super) fn release_buffers(&self) {
        let mut aside = self.aside.borrow_mut();
        if aside.is_empty() && aside.capacity() > KEPT {
            *aside = BytesMut::new();
        }
        drop(aside);
        self.stream.borrow_mut().release_buffers();
    }

    /// Moves the bytes that h2 reads instead of the received ones into `buf`.
    fn read_instead(&self, buf: &mut ReadBuf<'_>) {
        let mut instead = self.instead.borrow_mut();
        let length = instead.len().min(buf.remaining());
        buf.put_slice(instead.get(..length).unwrap_or_default());
        instead.advance(length);
        if instead.is_empty() {
            *instead = BytesMut::new();
        }
    }

    /// Fails the connection for a protocol violation of the peer, and sends GOAWAY, unless the buffer is full: then its
    /// data may end in the middle of a frame.
    fn fail_connection(&self, violation: Http2Error) -> io::Error {
        if !self.is_full.get() {
            self.aside.borrow_mut().extend_from_slice(&frames::go_away(violation.code));
        }
        self.fail(Kind::Http2(violation))
    }

    fn fail(&self, failure: Kind) -> io::Error {
        self.failure.replace(Some(failure));
        io::ErrorKind::ConnectionAborted.into()
    }
}

/// The stream that h2 reads from and writes to.
pub(super) struct Wire(pub(super) Rc<Transport>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let transport = &self.0;
        let before = buf.filled().len();
        // If all received bytes are held back or dropped, reading continues: an empty read would mean the end.
        loop {
            transport.read_instead(buf);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            let violation = transport.frames.borrow_mut().violation();
            if let Some(violation) = violation {
                return Poll::Ready(Err(transport.fail_connection(violation)));
            }
            if transport.read.get() >= READ_AT_ONCE {
                transport.read.set(0);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let polled = transport.stream.borrow_mut().poll_receive(cx, buf, usize::MAX);
            if polled.is_pending() {
                transport.read.set(0);
            }
            match ready!(polled) {
                Ok(0) => transport.ended.set(true),
                Ok(received) => {
                    transport.read.set(transport.read.get() + received);
                    transport.heard.set(true);
                    let new = buf.filled().get(before..).unwrap_or_default();
                    let mut instead = transport.instead.borrow_mut();
                    let kept = transport.frames.borrow_mut().pass(new, transport.begun.get(), &mut instead);
                    drop(instead);
                    buf.set_filled(before + kept);
                    if kept == 0 {
                        continue;
                    }
                }
                // A TLS stream that ends without close_notify is a normal end: no HTTP/2 message is delimited by it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => transport.ended.set(true),
                Err(error) => return Poll::Ready(Err(transport.fail(error.into()))),
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut aside = self.0.aside.borrow_mut();
        let room = ASIDE.saturating_sub(aside.len()).min(buf.len());
        // The task that drains the buffer polls h2 again, so no waker is needed.
        self.0.is_full.set(room == 0);
        if room == 0 {
            return Poll::Pending;
        }
        aside.extend_from_slice(buf.get(..room).unwrap_or_default());
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
