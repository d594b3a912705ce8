//! Writing a request, with an ear to the peer: it may answer before it has heard all (RFC 9112 section 9.5).

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wire::{Limits, ResponseHead, chunked};

use crate::stream::Stream;
use crate::timers::Patience;
use crate::{Connection, Error, FileBody, Kind, Phase, Reactor, Request, RequestBody, Result, TrailerSource};
use std::rc::Rc;

/// How long the body waits for a `100 Continue` that may never come (RFC 9110 section 10.1.1 leaves the time to the
/// client; curl and Go wait that long as well).
pub(crate) const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a file that are read at once where the kernel cannot send them by itself.
const FILE_PIECE: usize = 64 * 1024;

/// How a request went out.
pub(crate) enum Sent {
    /// All of it; perhaps with an early answer that did not stop us. Heads are boxed here, since these are rare, and
    /// room is kept for them wherever a request waits.
    Whole(Option<Box<ResponseHead>>),
    /// The final response came first, and the rest was not sent: the connection cannot be used again.
    Cut(Box<ResponseHead>),
}

/// A failure to send, and whether the peer may have seen any of the request.
pub(crate) struct SendError {
    pub(crate) error: Error,
    pub(crate) nothing_left: bool,
}

struct Sender<'a> {
    connection: &'a mut Connection,
    limits: &'a Limits,
    /// Bytes that the kernel has taken.
    sent: u64,
    /// Whether an early answer is still looked for.
    listening: bool,
    /// A final head that came early but does not stop us.
    early: Option<Box<ResponseHead>>,
}

/// Writes the request.
pub(crate) async fn send(
    reactor: &Rc<Reactor>,
    connection: &mut Connection,
    request: &mut Request,
    limits: &Limits,
) -> std::result::Result<Sent, SendError> {
    let mut sender = Sender { connection, limits, sent: 0, listening: true, early: None };
    let sent = sender.send(reactor, request).await;
    let nothing_left = sender.sent == 0;
    match sent {
        Ok(None) => Ok(Sent::Whole(sender.early.take())),
        Ok(Some(head)) => Ok(Sent::Cut(head)),
        Err(error) if nothing_left || !error.is_disconnect() => Err(SendError { error, nothing_left }),
        // The peer has closed on us; it may have said why before that.
        Err(error) => match Box::pin(sender.last_words()).await {
            Ok(head) => Ok(Sent::Cut(Box::new(head))),
            // An alert says why.
            Err(why) if matches!(why.kind(), Kind::Tls(_) | Kind::Io(_)) && !why.is_disconnect() => {
                Err(SendError { error: why, nothing_left })
            }
            Err(_) => Err(SendError { error, nothing_left }),
        },
    }
}

/// Writes bytes as they are, with no ear to what the peer says meanwhile.
pub(crate) async fn send_bytes(connection: &mut Connection, bytes: &[u8]) -> Result<()> {
    let limits = &Limits::default();
    let mut sender = Sender { connection, limits, sent: 0, listening: false, early: None };
    sender.write([bytes, b"", b""]).await.map(drop)
}

impl Sender<'_> {
    /// The final head when it came before the end.
    async fn send(&mut self, reactor: &Rc<Reactor>, request: &mut Request) -> Result<Option<Box<ResponseHead>>> {
        if let Some(trailers) = request.trailers.as_mut() {
            let asks_leave = request.expects_continue && !request.body.is_empty();
            let reactor = asks_leave.then_some(reactor);
            return Box::pin(self.with_trailers(reactor, &request.head, &mut request.body, trailers.as_mut())).await;
        }
        if request.expects_continue && !request.body.is_empty() {
            let leave = Box::pin(self.ask_leave(reactor, &request.head)).await?;
            return if leave.is_some() { Ok(leave) } else { self.body(&[], &mut request.body).await };
        }
        self.body(&request.head, &mut request.body).await
    }

    /// The head, when it is not out yet, leaves in one write with the body's first bytes. What is rare is boxed, here
    /// and elsewhere on the way: a request that waits is this future, and a greenlet's stack is copied with it.
    async fn body(&mut self, head: &[u8], body: &mut RequestBody) -> Result<Option<Box<ResponseHead>>> {
        match body {
            RequestBody::Bytes(bytes) => self.write([head, bytes, b""]).await,
            streamed => Box::pin(self.streamed(head, streamed)).await,
        }
    }

    async fn streamed(&mut self, head: &[u8], body: &mut RequestBody) -> Result<Option<Box<ResponseHead>>> {
        match body {
            RequestBody::Bytes(bytes) => self.write([head, bytes, b""]).await,
            RequestBody::File(file) => {
                let stopped = self.write([head, b"", b""]).await?;
                if stopped.is_some() { Ok(stopped) } else { self.file(file).await }
            }
            RequestBody::Chunked(source) => {
                let stopped = self.write([head, b"", b""]).await?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                let stopped = self.chunks(source).await?;
                if stopped.is_some() { Ok(stopped) } else { self.write([chunked::LAST_CHUNK, b"", b""]).await }
            }
            RequestBody::Counted(source, length) => {
                let stopped = self.write([head, b"", b""]).await?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
                let mut left = *length;
                while let Some(piece) = self.next_piece(source).await? {
                    left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                        self.connection.fail(Kind::Misuse("the body is longer than its Content-Length"), Phase::Send)
                    })?;
                    let stopped = self.write([&piece, b"", b""]).await?;
                    if stopped.is_some() {
                        return Ok(stopped);
                    }
                }
                if left > 0 {
                    let what = Kind::Misuse("the body is shorter than its Content-Length");
                    return Err(self.connection.fail(what, Phase::Send));
                }
                Ok(None)
            }
        }
    }

    /// Each piece as a chunk, the last chunk left out.
    async fn chunks(&mut self, source: &mut Box<dyn crate::BodySource>) -> Result<Option<Box<ResponseHead>>> {
        while let Some(piece) = self.next_piece(source).await? {
            // An empty chunk would end the body.
            if !piece.is_empty() {
                let size = chunked::size_line(piece.len() as u64);
                let stopped = self.write([size.as_bytes(), &piece, b"\r\n"]).await?;
                if stopped.is_some() {
                    return Ok(stopped);
                }
            }
        }
        Ok(None)
    }

    /// The whole request, its body chunked whatever it is, and trailers behind that. With a `reactor` leave is asked for
    /// the body.
    async fn with_trailers(
        &mut self,
        reactor: Option<&Rc<Reactor>>,
        head: &[u8],
        body: &mut RequestBody,
        trailers: &mut dyn TrailerSource,
    ) -> Result<Option<Box<ResponseHead>>> {
        let stopped = match reactor {
            Some(reactor) => self.ask_leave(reactor, head).await?,
            None => self.write([head, b"", b""]).await?,
        };
        if stopped.is_some() {
            return Ok(stopped);
        }
        let stopped = match body {
            RequestBody::Bytes(bytes) if bytes.is_empty() => None,
            RequestBody::Bytes(bytes) => {
                let size = chunked::size_line(bytes.len() as u64);
                self.write([size.as_bytes(), bytes, b"\r\n"]).await?
            }
            RequestBody::File(file) if file.length == 0 => None,
            RequestBody::File(file) => self.file_as_chunk(file).await?,
            RequestBody::Chunked(source) => self.chunks(source).await?,
            RequestBody::Counted(..) => {
                let what = Kind::Misuse("trailers need a body that is not counted");
                return Err(self.connection.fail(what, Phase::Send));
            }
        };
        if stopped.is_some() {
            return Ok(stopped);
        }
        let end = self.last_chunk(trailers).map_err(|kind| self.connection.fail(kind, Phase::Send))?;
        self.write([&end, b"", b""]).await
    }

    fn last_chunk(&self, trailers: &mut dyn TrailerSource) -> std::result::Result<Vec<u8>, Kind> {
        let lines = trailers.lines(self.connection.patience.until())?;
        let end = chunked::last_chunk(lines.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
        end.map_err(|_| Kind::Misuse("a trailer that is no field line"))
    }

    async fn file_as_chunk(&mut self, file: &FileBody) -> Result<Option<Box<ResponseHead>>> {
        let size = chunked::size_line(file.length);
        let stopped = self.write([size.as_bytes(), b"", b""]).await?;
        if stopped.is_some() {
            return Ok(stopped);
        }
        let stopped = self.file(file).await?;
        if stopped.is_some() { Ok(stopped) } else { self.write([b"\r\n", b"", b""]).await }
    }

    async fn next_piece(&self, source: &mut Box<dyn crate::BodySource>) -> Result<Option<Bytes>> {
        let until = self.connection.patience.until();
        let piece = poll_fn(|cx| source.poll_next(cx, until)).await;
        piece.transpose().map_err(|kind| self.connection.fail(kind, Phase::Send))
    }

    /// Writes the parts one after the other, down to the socket.
    async fn write(&mut self, parts: [&[u8]; 3]) -> Result<Option<Box<ResponseHead>>> {
        self.connection.check_deadline(Phase::Send)?;
        let mut parts = parts.map(IoSlice::new);
        let mut parts = parts.as_mut_slice();
        // Empty parts in front would be counted as nothing written, those behind would cost a vectored write.
        IoSlice::advance_slices(&mut parts, 0);
        while parts.last().is_some_and(|part| part.is_empty()) {
            let length = parts.len() - 1;
            parts = parts.split_at_mut(length).0;
        }
        poll_fn(|cx| {
            while !parts.is_empty() {
                match self.connection.stream.poll_send(cx, parts) {
                    Poll::Ready(result) => {
                        let written = self.put(result)?;
                        IoSlice::advance_slices(&mut parts, written);
                    }
                    Poll::Pending => return self.poll_blocked(cx),
                }
            }
            if !self.connection.stream.holds_back() {
                return Poll::Ready(Ok(None));
            }
            match Pin::new(&mut self.connection.stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.connection.fail(error.into(), Phase::Send))),
                Poll::Pending => self.poll_blocked(cx),
            }
        })
        .await
    }

    async fn file(&mut self, body: &FileBody) -> Result<Option<Box<ResponseHead>>> {
        let (mut offset, end) = (body.offset, body.offset.saturating_add(body.length));
        while offset < end {
            let room = usize::try_from(end - offset).unwrap_or(usize::MAX);
            let (sent, stopped) = match &self.connection.stream {
                #[cfg(target_os = "linux")]
                Stream::Socket(_) => self.file_by_kernel(body, offset, room).await?,
                _ => self.file_by_hand(body, offset, room.min(FILE_PIECE)).await?,
            };
            if stopped.is_some() {
                return Ok(stopped);
            }
            if sent == 0 {
                let what = Kind::Misuse("the file ended before its length was sent");
                return Err(self.connection.fail(what, Phase::Send));
            }
            offset += sent as u64;
        }
        Ok(None)
    }

    #[cfg(target_os = "linux")]
    async fn file_by_kernel(
        &mut self,
        body: &FileBody,
        offset: u64,
        room: usize,
    ) -> Result<(usize, Option<Box<ResponseHead>>)> {
        use std::os::fd::AsRawFd;
        // The stream gives other tasks their turn between pieces, however fast the peer takes them.
        let room = room.min(1024 * 1024);
        poll_fn(|cx| {
            let Stream::Socket(socket) = &mut self.connection.stream else { return Poll::Ready(Ok((0, None))) };
            match socket.poll_send_file(cx, body.file.as_raw_fd(), offset, room) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok((0, None))),
                Poll::Ready(result) => Poll::Ready(self.put(result).map(|sent| (sent, None))),
                Poll::Pending => self.poll_blocked(cx).map_ok(|stopped| (0, stopped)),
            }
        })
        .await
    }

    async fn file_by_hand(
        &mut self,
        body: &FileBody,
        offset: u64,
        room: usize,
    ) -> Result<(usize, Option<Box<ResponseHead>>)> {
        let piece = body.read_at(offset, room);
        let piece = piece.map_err(|error| self.connection.fail(Kind::Caller(error.into()), Phase::Send))?;
        let stopped = self.write([&piece, b"", b""]).await?;
        Ok((piece.len(), stopped))
    }

    fn put(&mut self, result: io::Result<usize>) -> Result<usize> {
        let written = match result {
            Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)),
            other => other,
        };
        let written = written.map_err(|error| self.connection.fail(error.into(), Phase::Send))?;
        self.connection.patience.reset();
        self.sent += written as u64;
        self.connection.sent += written as u64;
        Ok(written)
    }

    /// The peer takes no more for now: has it answered instead?
    fn poll_blocked(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Box<ResponseHead>>>> {
        while self.listening {
            match self.connection.poll_fill(cx) {
                Poll::Pending => break,
                // No answer will come; whether the request still can go out, the writes will tell.
                Poll::Ready(Ok(0)) => self.listening = false,
                Poll::Ready(Err(error)) => {
                    let error = self.connection.fail(error.into(), Phase::Send);
                    // Anything else, a TLS alert say, is the end of the connection, and may be told only once.
                    if !error.is_disconnect() {
                        return Poll::Ready(Err(error));
                    }
                    self.listening = false;
                }
                Poll::Ready(Ok(_)) => {
                    if let Some(head) = self.final_head()? {
                        self.listening = false;
                        if refuses(&head) {
                            return Poll::Ready(Ok(Some(head)));
                        }
                        self.early = Some(head);
                    }
                }
            }
        }
        self.connection.poll_patience(cx, Phase::Send)
    }

    fn final_head(&mut self) -> Result<Option<Box<ResponseHead>>> {
        while let Some(head) = self.connection.next_head(self.limits)? {
            if !head.is_interim() {
                return Ok(Some(Box::new(head)));
            }
        }
        Ok(None)
    }

    /// Sends the head alone, and waits.
    async fn ask_leave(&mut self, reactor: &Rc<Reactor>, head: &[u8]) -> Result<Option<Box<ResponseHead>>> {
        let stopped = self.write([head, b"", b""]).await?;
        if stopped.is_some() { Ok(stopped) } else { self.await_continue(reactor).await }
    }

    /// Waits for leave to send the body: a final head means that it is not wanted.
    async fn await_continue(&mut self, reactor: &Rc<Reactor>) -> Result<Option<Box<ResponseHead>>> {
        let mut patience = Patience::new(reactor, None);
        patience.set(Some(CONTINUE_TIMEOUT), self.connection.patience.until());
        loop {
            while let Some(head) = self.connection.next_head(self.limits)? {
                if !head.is_interim() {
                    return Ok(Some(Box::new(head)));
                }
                if head.status == 100 {
                    return Ok(None);
                }
            }
            let filled = poll_fn(|cx| match self.connection.poll_fill(cx) {
                Poll::Ready(filled) => Poll::Ready(Some(filled)),
                Poll::Pending if patience.poll_exhausted(cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await;
            match filled {
                None => {
                    self.connection.check_deadline(Phase::Head)?;
                    return Ok(None);
                }
                Some(Ok(0)) => return Err(self.connection.ended_in_head()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(self.connection.fail(error.into(), Phase::Head)),
            }
        }
    }

    /// What the peer had sent before it closed: the final head, if that is among it.
    async fn last_words(&mut self) -> Result<ResponseHead> {
        match self.early.take() {
            Some(head) => Ok(*head),
            None => self.connection.read_head(self.limits).await,
        }
    }
}

/// Whether an early answer says that the rest of the body is not wanted. Any other may be the answer of a peer that
/// reads on: an echo, say.
fn refuses(head: &ResponseHead) -> bool {
    head.status >= 400 || head.headers.lists(b"connection", b"close")
}
