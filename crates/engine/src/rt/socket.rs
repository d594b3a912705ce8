//! Stream sockets on the reactor: TCP, and Unix domain sockets.

use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use mio::net::TcpStream as Handle;
use socket2::{Domain, Protocol, SockAddr, SockRef, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::rt::reactor::{IdleOwner, Reactor, Registration};
use crate::rt::sys;
use crate::rt::timeout::sleep;

/// Bytes that one task may move through a fast socket before other tasks get their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// The time without data after which the kernel probes whether the peer still exists.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The pauses between attempts to connect to a Unix domain socket whose queue is full: the first, and the longest.
const QUEUE_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// A direction of a byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Receive,
    /// To the peer.
    Send,
}

impl Direction {
    pub(crate) fn other(self) -> Self {
        match self {
            Direction::Receive => Direction::Send,
            Direction::Send => Direction::Receive,
        }
    }
}

/// A connected socket. Dropping it closes it.
///
/// To mio it is a TCP stream, whatever its address family: only calls that work for all of them are made.
pub struct Socket {
    source: Rc<Registration>,
    reactor: Rc<Reactor>,
}

impl Socket {
    /// Connects over TCP, without Nagle's delay and with the kernel's keep-alive probes. `from` is the local address,
    /// with port 0 for any port.
    pub async fn connect(reactor: &Rc<Reactor>, address: SocketAddr, from: Option<SocketAddr>) -> io::Result<Self> {
        Socket::begin(reactor, address, from)?.connected().await
    }

    /// Begins to connect. [`poll_connected`](Self::poll_connected) waits for the result.
    pub(crate) fn begin(reactor: &Rc<Reactor>, address: SocketAddr, from: Option<SocketAddr>) -> io::Result<Self> {
        reactor.check_open()?;
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
        if let Some(from) = from {
            // A fixed local port is needed again after a connection was closed, also while that is in TIME_WAIT.
            socket.set_reuse_address(from.port() != 0)?;
            socket.bind(&from.into())?;
        }
        Socket::start(reactor, socket, &address.into())
    }

    /// Connects to a Unix domain socket. On Linux a path that begins with a NUL byte is an abstract name.
    pub async fn connect_unix(reactor: &Rc<Reactor>, path: &Path) -> io::Result<Self> {
        let address = SockAddr::unix(path)?;
        let mut pause = QUEUE_PAUSE;
        loop {
            reactor.check_open()?;
            let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
            match Socket::start(reactor, socket, &address) {
                // The listener's queue is full. A blocking connect would wait; a non-blocking one fails, and no event
                // says when there is room again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(reactor, pause).await,
                started => return started?.connected().await,
            }
            pause = (pause * 2).min(LONGEST_QUEUE_PAUSE);
        }
    }

    /// Checks whether a path can be that of a Unix domain socket: the system has room for about a hundred bytes.
    pub fn check_unix_path(path: &Path) -> io::Result<()> {
        SockAddr::unix(path).map(drop)
    }

    fn start(reactor: &Rc<Reactor>, socket: socket2::Socket, address: &SockAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        match socket.connect(address) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let source = reactor.register(Handle::from_std(socket.into()))?;
        Ok(Socket { source, reactor: reactor.clone() })
    }

    /// Creates a second handle on a connected socket of another owner, which may close it or change its mode. It must
    /// only be read from: bytes of two writers would mix.
    pub fn sharing(reactor: &Rc<Reactor>, descriptor: OwnedFd) -> io::Result<Self> {
        let source = reactor.register(Handle::from_std(descriptor.into()))?;
        Ok(Socket { source, reactor: reactor.clone() })
    }

    /// Returns the descriptor, which is valid as long as the socket is open.
    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor(Rc::downgrade(&self.source))
    }

    async fn connected(self) -> io::Result<Self> {
        poll_fn(|cx| self.poll_connected(cx)).await?;
        Ok(self)
    }

    /// Returns whether it is connected, or cannot be.
    pub(crate) fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.source.writable.get() {
            self.source.writer.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(self.with_socket(|socket| match socket.take_error()? {
            Some(error) => Err(error),
            // Writable and without an error, yet not connected: the other end existed and has gone.
            None => SockRef::from(socket).peer_addr().map(drop),
        }))
    }

    /// Runs `f` on the socket. No other code runs meanwhile.
    fn with_socket<T>(&self, f: impl FnOnce(&Handle) -> io::Result<T>) -> io::Result<T> {
        match self.source.socket.borrow().as_ref() {
            Some(socket) if !self.source.is_inherited() => f(socket),
            _ => {
                let reason = "the connection was closed together with its event loop, or belongs to another process";
                Err(io::Error::new(io::ErrorKind::NotConnected, reason))
            }
        }
    }

    /// Returns whether an idle connection has no bytes or end to read: after unsolicited bytes or an end it cannot be
    /// reused.
    pub(crate) fn is_idle_clean(&self) -> bool {
        if self.source.closing.get() {
            return false;
        }
        let peeked = self.with_socket(|socket| socket.peek(&mut [0; 1]));
        let quiet = matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        if quiet {
            // A read that filled all of its room leaves the flag set, with nothing behind it.
            self.source.readable.set(false);
        }
        quiet
    }

    /// Reads at most `limit` bytes into `buffer`; none after the peer has closed.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.source.readable.get() {
            self.source.moved.set(0);
            self.source.reader.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        if self.must_pause() {
            self.source.readable.set(false);
            self.source.reader.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        let room = limit.min(buffer.remaining());
        loop {
            match self.with_socket(|socket| sys::receive(socket, buffer, room)) {
                Ok(received) => {
                    self.source.add_moved(received);
                    self.source.drained.set(false);
                    if received < room && !self.source.closing.get() {
                        self.source.readable.set(false);
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source.moved.set(0);
                    self.source.readable.set(false);
                    self.source.drained.set(true);
                    self.source.reader.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Returns whether the last read was of all that the kernel had.
    pub(crate) fn is_drained(&self) -> bool {
        self.source.drained.get()
    }

    /// Returns whether this task has used up its turn. It then waits until the kernel reports again what it has
    /// reported already, with the loop's next events. Woken by itself it would run on within this turn, and timers and
    /// other sockets would wait for as long as the peer keeps up.
    fn must_pause(&self) -> bool {
        if self.source.moved.get() <= TURN_BYTES {
            return false;
        }
        self.source.moved.set(0);
        // If the kernel refuses, or the socket was closed, there is nothing to wait for.
        self.reactor.rearm(&self.source).is_ok()
    }

    /// Runs one kind of write once the socket takes bytes. Fewer than `wanted` mean that it is full.
    fn poll_put(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        mut put: impl FnMut(&Handle) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.must_pause() {
            self.source.writable.set(false);
            self.source.writer.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        while self.source.writable.get() {
            match self.with_socket(&mut put) {
                Ok(written) => {
                    self.source.add_moved(written);
                    if written < wanted && written > 0 {
                        self.source.writable.set(false);
                    }
                    return Poll::Ready(Ok(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.source.writable.set(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.source.moved.set(0);
        self.source.writer.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Sends from a file without copying its bytes to user space. Returns 0 at the file's end.
    #[cfg(target_os = "linux")]
    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: std::os::fd::RawFd,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        // A short count may also be a short file: only a refusal shows that the socket is full.
        self.poll_put(cx, 0, |socket| sys::send_file(sys::descriptor(socket), file, offset, length))
    }

    /// Asks the kernel at the next read, regardless of its events: the loop may not have run since.
    pub(crate) fn mark_readable(&self) {
        self.source.mark_readable();
    }

    /// Forgets the task that waits in that direction: the next wait may be another task's.
    pub(crate) fn forget_waiter(&self, direction: Direction) {
        let waiting = match direction {
            Direction::Receive => self.source.reader.take(),
            Direction::Send => self.source.writer.take(),
        };
        drop(waiting);
    }

    /// Returns the address of the other end.
    pub fn peer_address(&self) -> io::Result<SocketAddr> {
        self.with_socket(Handle::peer_addr)
    }

    /// Returns the address of this end.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.with_socket(Handle::local_addr)
    }
}

/// The descriptor of a [`Socket`] that may have another owner, which may close it.
#[derive(Clone)]
pub struct Descriptor(Weak<Registration>);

impl Descriptor {
    /// Returns the number, `None` once the socket is closed.
    pub fn number(&self) -> Option<RawFd> {
        self.0.upgrade()?.socket.borrow().as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Sets the owner that checks the connection while it is idle; `None` once it is not.
    pub(crate) fn set_idle_owner(&self, idle_owner: Option<Weak<dyn IdleOwner>>) {
        if let Some(source) = self.0.upgrade() {
            source.has_event.set(false);
            source.idle_owner.set(idle_owner);
        }
    }

    /// Returns whether the peer has closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.0.upgrade().is_some_and(|source| source.closing.get())
    }

    /// Returns whether an event was reported while it was idle.
    pub(crate) fn has_event(&self) -> bool {
        self.0.upgrade().is_some_and(|source| source.has_event.get())
    }

    pub(crate) fn clear_event(&self) {
        if let Some(source) = self.0.upgrade() {
            source.has_event.set(false);
        }
    }

    /// Returns whether there is something to read, or an end, which the loop may not have run to report. If so, the
    /// next read asks the kernel.
    pub(crate) fn has_more(&self) -> bool {
        let Some(source) = self.0.upgrade() else { return false };
        let has_more = match source.socket.borrow().as_ref() {
            Some(socket) if !source.is_inherited() => {
                let peeked = socket.peek(&mut [0; 1]);
                source.closing.get() || !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            _ => false,
        };
        if has_more {
            source.mark_readable();
        }
        has_more
    }

    /// Ends the connection for the tasks that wait on it: they read its end, and cannot write any more.
    pub fn shut_down(&self) {
        let source = self.0.upgrade();
        let source = source.as_ref().filter(|source| !source.is_inherited());
        if let Some(socket) = source.and_then(|source| source.socket.try_borrow().ok())
            && let Some(socket) = socket.as_ref()
        {
            // It may have ended by itself.
            let _ = SockRef::from(socket).shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reactor.deregister(&self.source);
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_receive(cx, buf, usize::MAX).map_ok(drop)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_put(cx, buf.len(), |mut socket| socket.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_put(cx, wanted, |mut socket| socket.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.with_socket(|socket| SockRef::from(socket).shutdown(std::net::Shutdown::Write)))
    }
}
