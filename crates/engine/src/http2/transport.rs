//! Between h2 and the stream below: what h2 writes is put aside and leaves when h2 holds no lock any more, since the
//! stream may be code of the program's (an SSLContext), and in one piece; what it reads is looked at as it goes by.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::blocks::Fault;
use super::error::{Http2Error, What};
use super::frames::{self, Frames};
use crate::Kind;
use crate::stream::{MOST_UNASKED, Stream};

/// Bytes that are put aside before h2 has to wait. It has a buffer of its own in front of this one.
const ASIDE: usize = 64 * 1024;

/// Bytes that are read in one go. Readers get at them while they are still in the processor's cache, and the peer can
/// send on meanwhile: with a megabyte at a time a large download took half as long again.
const READ_AT_ONCE: usize = 256 * 1024;

/// What an idle connection keeps of that.
const KEPT: usize = 4 * 1024;

/// The stream, and what waits to be written. Borrowed by the connection's task alone.
pub(super) struct Transport {
    stream: RefCell<Stream>,
    aside: RefCell<BytesMut>,
    /// h2 was told to wait until there is room.
    is_full: Cell<bool>,
    frames: RefCell<Frames>,
    /// What h2 is to read next, where that is not what has come.
    instead: RefCell<BytesMut>,
    /// Requests so far.
    pub(super) begun: Cell<u64>,
    /// Bytes have come since somebody last asked.
    heard: Cell<bool>,
    /// Why nothing more can be read, in more detail than h2 passes on.
    failure: RefCell<Option<Kind>>,
    ended: Cell<bool>,
    /// Bytes read since others had a turn.
    read: Cell<usize>,
}

impl Transport {
    /// For responses whose heads have `head_bytes` at most.
    pub(super) fn new(stream: Stream, head_bytes: usize) -> Rc<Self> {
        Rc::new(Transport {
            stream: RefCell::new(stream),
            aside: RefCell::default(),
            is_full: Cell::new(false),
            frames: RefCell::new(Frames::new(head_bytes)),
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

    /// The peer's GOAWAY, with that code.
    pub(super) fn go_away(&self, code: u32) -> Http2Error {
        let frames = self.frames.borrow();
        Http2Error::of_peer(What::GoAway, code, frames.last_stream(), frames.words())
    }

    /// [`Frames::forgive`].
    pub(super) fn forgive(&self) {
        self.frames.borrow_mut().forgive();
    }

    /// The peer's GOAWAY, if it has said that.
    pub(super) fn goodbye(&self) -> Option<Http2Error> {
        let code = self.frames.borrow().code();
        self.last_stream().map(|_| self.go_away(code))
    }

    /// Whether anything has come since this was last asked.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.replace(false)
    }

    /// Why nothing more can be read; [`Kind::Closed`] when the peer has simply closed.
    pub(super) fn failure(&self) -> Option<Kind> {
        self.failure.take().or_else(|| self.ended.get().then_some(Kind::Closed))
    }

    /// Asks the kernel at the next read, whatever it has or has not told so far.
    pub(super) fn look_again(&self) {
        self.stream.borrow().look_again();
    }

    /// Whether the peer has sent more TLS records without data than it may on an idle connection.
    pub(super) fn is_flooded(&self) -> bool {
        self.stream.borrow().unasked() > MOST_UNASKED
    }

    /// Whether h2 waits for room that there is now.
    pub(super) fn has_made_room(&self) -> bool {
        self.is_full.get() && self.aside.borrow().len() < ASIDE
    }

    /// Writes what was put aside, down to the socket.
    pub(super) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut aside = self.aside.borrow_mut();
        let mut stream = self.stream.borrow_mut();
        while !aside.is_empty() {
            match ready!(stream.poll_send(cx, &[IoSlice::new(&aside)])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(written) => aside.advance(written),
                Err(error) => {
                    // Nothing more can leave.
                    *aside = BytesMut::new();
                    return Poll::Ready(Err(error));
                }
            }
        }
        if stream.holds_back() { Pin::new(&mut *stream).poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Gives back the memory that an idle connection does not need.
    pub(super) fn rest(&self) {
        let mut aside = self.aside.borrow_mut();
        if aside.is_empty() && aside.capacity() > KEPT {
            *aside = BytesMut::new();
        }
        drop(aside);
        self.stream.borrow_mut().rest();
    }

    /// Moves what h2 is to read instead of what has come.
    fn read_instead(&self, buf: &mut ReadBuf<'_>) {
        let mut instead = self.instead.borrow_mut();
        let length = instead.len().min(buf.remaining());
        buf.put_slice(instead.get(..length).unwrap_or_default());
        instead.advance(length);
        if instead.is_empty() {
            *instead = BytesMut::new();
        }
    }

    /// The peer has broken a rule of the connection's, which it is told, unless it does not take what was said before:
    /// then that may end in the middle of a frame.
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

/// What h2 takes for its stream.
pub(super) struct Wire(pub(super) Rc<Transport>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let transport = &self.0;
        let before = buf.filled().len();
        // What is held back or left out altogether is not the end.
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
                // A TLS stream that ends without a goodbye has ended all the same: no message of HTTP/2 ends that way.
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
        // Whoever drains polls h2 once more: no waker is needed.
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
