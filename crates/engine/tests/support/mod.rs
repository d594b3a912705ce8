//! A peer that plays a script, and helpers to drive a client against it.
//!
//! Nothing here sleeps to wait for a thread: threads meet over channels and sockets, and every wait has a limit.
#![allow(dead_code, reason = "each file of tests uses its part of this")]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod program_tls;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use bytes::Bytes;
use engine::response::Incoming;
use engine::rt::timeout::{Deadline, sleep};
use engine::{
    BodySource, BoxError, Client, Config, Kind, Reactor, Request, RequestBody, Response, Result, SystemResolver,
    rt::executor,
};
use tokio::io::ReadBuf;
use wire::framing::MethodKind;

/// The limit of every wait in the tests.
pub const BOUND: Duration = Duration::from_secs(20);

/// The steps of a peer on one connection, in order. At the script's end the connection is closed.
pub enum Step {
    /// Reads a request's head.
    Head,
    /// Reads this many bytes.
    Drain(usize),
    /// Reads these bytes.
    Expect(Vec<u8>),
    /// Writes, in one piece.
    Send(Vec<u8>),
    /// Writes a piece this many times.
    Repeat(Vec<u8>, usize),
    /// Writes, each byte in a packet of its own.
    Trickle(Vec<u8>),
    /// Answers every request that has no body with these bytes, until the client closes.
    Serve(Vec<u8>),
    /// Notifies the test that the script has reached this step.
    Tell(Sender<()>),
    /// Waits for the test.
    Await(Receiver<()>),
    /// Sends FIN, and continues to read.
    HalfClose,
    /// Closes. Only [`Step::Tell`] can follow.
    Close,
    /// Sends RST. Only [`Step::Tell`] can follow.
    Reset,
    /// Reads to the client's close, and fails if anything arrives before it.
    Closed,
    /// Reads to the client's close, and ignores the bytes before it.
    Gone,
}

pub fn send(text: impl AsRef<[u8]>) -> Step {
    Step::Send(text.as_ref().to_vec())
}

pub fn expect(text: impl AsRef<[u8]>) -> Step {
    Step::Expect(text.as_ref().to_vec())
}

pub fn trickle(text: impl AsRef<[u8]>) -> Step {
    Step::Trickle(text.as_ref().to_vec())
}

pub fn serve(text: impl AsRef<[u8]>) -> Step {
    Step::Serve(text.as_ref().to_vec())
}

/// Returns a step that notifies the test, and the receiver.
pub fn tell() -> (Step, Heard) {
    let (sender, receiver) = channel();
    (Step::Tell(sender), Heard(receiver))
}

/// Returns a step that waits, and the sender that ends the wait.
pub fn gate() -> (Step, Sender<()>) {
    let (sender, receiver) = channel();
    (Step::Await(receiver), sender)
}

pub struct Heard(Receiver<()>);

impl Heard {
    /// Blocks the test's thread, and so its reactor.
    pub fn wait(&self) {
        self.0.recv_timeout(BOUND).expect("the peer's script comes so far");
    }
}

/// A listening socket on a port of the kernel's choice, with a script for each connection in their order.
pub struct Peer {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// The port of the connection that ends it; 0 before that.
    end: Arc<AtomicU16>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub fn new(scripts: impl IntoIterator<Item = Vec<Step>>) -> Peer {
        let mut scripts: VecDeque<Vec<Step>> = scripts.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (accepted, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU16::new(0)));
        let (count, last) = (accepted.clone(), end.clone());
        let thread = spawn(move || {
            let mut players = Vec::new();
            loop {
                let (stream, from) = listener.accept().expect("a connection");
                if from.port() == last.load(Ordering::SeqCst) {
                    break;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let script = scripts.pop_front().expect("no connection more than there are scripts");
                players.push(spawn(move || play(stream, script)));
            }
            assert!(scripts.is_empty(), "{} scripts were not played", scripts.len());
            let failures: Vec<_> = players.into_iter().filter_map(|player| player.join().err()).collect();
            assert!(failures.is_empty(), "{} scripts failed", failures.len());
        });
        Peer { address, accepted, end, thread: Some(thread) }
    }

    /// Returns the number of connections so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits for the ends of all scripts, and fails if one of them failed or none played it.
    pub fn finish(mut self) {
        self.stop();
        let thread = self.thread.take().expect("finished once");
        thread.join().expect("a script that was followed");
    }

    fn stop(&self) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        let port = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound").port();
        self.end.store(port, Ordering::SeqCst);
        drop(socket.connect(&self.address.into()));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

fn play(stream: TcpStream, script: Vec<Step>) {
    let mut steps = script.into_iter();
    if follow(stream, &mut steps) {
        return;
    }
    for step in steps {
        let Step::Tell(sender) = step else { panic!("a step of a closed connection") };
        let _ = sender.send(());
    }
}

/// Returns `false` if steps are left for which no connection is needed.
fn follow(mut stream: TcpStream, steps: &mut impl Iterator<Item = Step>) -> bool {
    stream.set_nodelay(true).expect("a TCP socket");
    stream.set_read_timeout(Some(BOUND)).expect("a good timeout");
    stream.set_write_timeout(Some(BOUND)).expect("a good timeout");
    for (number, step) in steps.enumerate() {
        match step {
            Step::Head => {
                read_head(&mut stream).unwrap_or_else(|| panic!("step {number}: closed instead of a request"));
            }
            Step::Drain(length) => drain(&mut stream, length),
            Step::Expect(bytes) => {
                let mut read = vec![0; bytes.len()];
                stream.read_exact(&mut read).unwrap_or_else(|error| panic!("step {number}: {error}"));
                assert_eq!(read.escape_ascii().to_string(), bytes.escape_ascii().to_string(), "step {number}");
            }
            Step::Send(bytes) => stream.write_all(&bytes).expect("a client that reads"),
            Step::Repeat(piece, times) => {
                for _ in 0..times {
                    stream.write_all(&piece).expect("a client that reads");
                }
            }
            Step::Trickle(bytes) => {
                for byte in bytes {
                    stream.write_all(&[byte]).expect("a client that reads");
                    std::thread::yield_now();
                }
            }
            Step::Serve(answer) => {
                while read_head(&mut stream).is_some() {
                    stream.write_all(&answer).expect("a client that reads");
                }
            }
            // A test that no longer receives has failed, and reports that itself.
            Step::Tell(sender) => {
                let _ = sender.send(());
            }
            Step::Await(receiver) => receiver.recv_timeout(BOUND).expect("the test goes on"),
            Step::HalfClose => stream.shutdown(std::net::Shutdown::Write).expect("an open socket"),
            Step::Close => return false,
            Step::Reset => {
                let linger = Some(Duration::ZERO);
                socket2::SockRef::from(&stream).set_linger(linger).expect("a TCP socket");
                return false;
            }
            Step::Closed => {
                let mut rest = Vec::new();
                read_to_close(&mut stream, &mut rest);
                assert_eq!(rest.escape_ascii().to_string(), "", "step {number}");
            }
            Step::Gone => read_to_close(&mut stream, &mut Vec::new()),
        }
    }
    true
}

/// Reads a head; `None` if the client closes instead.
fn read_head(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(0) if head.is_empty() => return None,
            Err(error) if head.is_empty() && error.kind() == ErrorKind::ConnectionReset => return None,
            Ok(1) => head.extend(byte),
            other => panic!("a request's head ends with {other:?} after {:?}", head.escape_ascii().to_string()),
        }
    }
    Some(head)
}

fn drain(stream: &mut TcpStream, mut length: usize) {
    let mut room = vec![0; 64 * 1024];
    while length > 0 {
        let most = length.min(room.len());
        let read = stream.read(&mut room[..most]).expect("a client that writes");
        assert!(read > 0, "closed with {length} bytes to come");
        length -= read;
    }
}

fn read_to_close(stream: &mut TcpStream, rest: &mut Vec<u8>) {
    match stream.read_to_end(rest) {
        // A client that closes with something unread resets the connection.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => drop(other.expect("the client closes")),
    }
}

/// Returns an address at which connections are refused: the port is taken, and no socket listens. It stays so as long
/// as the returned guard lives.
pub fn refusing_address() -> (SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
    (address, socket)
}

/// Returns an address at which no connection attempt is answered: its queue is full. It stays so as long as the
/// returned guard lives.
pub fn deaf_address() -> (SocketAddr, impl Sized) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("bound");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
    let mut fillers = Vec::new();
    while let Ok(filler) = TcpStream::connect_timeout(&address, Duration::from_millis(50)) {
        fillers.push(filler);
    }
    (address, (socket, fillers))
}

/// Returns a reactor and a client of the peer with at most that many connections.
pub fn client(peer: &Peer, connections: usize) -> (Rc<Reactor>, Client) {
    client_with(peer.address, connections, |_| ())
}

/// Returns a reactor and a client, with changed settings.
pub fn client_with(address: SocketAddr, connections: usize, change: impl FnOnce(&mut Config)) -> (Rc<Reactor>, Client) {
    let reactor = Reactor::new().expect("a reactor");
    let mut config = Config::new(&address.ip().to_string(), address.port());
    change(&mut config);
    let client = Client::new(&reactor, config, connections);
    (reactor, client)
}

/// Runs a future to its end, within the limit.
pub fn run<F: Future>(reactor: &Rc<Reactor>, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut bound = pin!(sleep(reactor, BOUND));
    let both = poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(output),
        Poll::Pending => {
            assert!(bound.as_mut().poll(cx).is_pending(), "the future does not complete");
            Poll::Pending
        }
    });
    executor::block_on(reactor, both).expect("a reactor that turns")
}

/// Polls a future once, with a waker that does nothing.
pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Runs a future until the condition is true, and expects that it does not end before.
pub fn run_until<F: Future>(reactor: &Rc<Reactor>, future: Pin<&mut F>, mut reached: impl FnMut() -> bool) {
    let mut future = future;
    let stop = poll_fn(|cx| {
        if reached() {
            return Poll::Ready(());
        }
        assert!(future.as_mut().poll(cx).is_pending(), "the future completes too early");
        if reached() {
            return Poll::Ready(());
        }
        Poll::Pending
    });
    run(reactor, stop);
}

/// Runs the reactor once without waiting, for events that have arrived.
pub async fn turn(reactor: &Rc<Reactor>) {
    sleep(reactor, Duration::ZERO).await;
}

/// Runs futures concurrently.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().map(|output| output.expect("all are ready")).collect()
}

/// Runs two futures of different types concurrently.
pub async fn join<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut from_a, mut from_b) = (None, None);
    poll_fn(|cx| {
        if from_a.is_none()
            && let Poll::Ready(ready) = a.as_mut().poll(cx)
        {
            from_a = Some(ready);
        }
        if from_b.is_none()
            && let Poll::Ready(ready) = b.as_mut().poll(cx)
        {
            from_b = Some(ready);
        }
        if from_a.is_some() && from_b.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (from_a.expect("ready"), from_b.expect("ready"))
}

/// Returns a request with these lines behind the request line, and that body.
pub fn request(method: &str, lines: &str, body: RequestBody) -> Request {
    let mut head = Vec::new();
    wire::request::line(&mut head, method.as_bytes(), b"/", b"HTTP/1.1").expect("a good request line");
    head.extend_from_slice(lines.as_bytes());
    head.extend_from_slice(b"\r\n");
    Request {
        head,
        body,
        method_kind: MethodKind::by(method.as_bytes()),
        idempotent: wire::request::is_idempotent(method.as_bytes()),
        expects_continue: lines.contains("100-continue"),
        closes: false,
        keeps_upgrade: false,
        timeouts: None,
        trailers: None,
        for_proxy: None,
        opened: None,
        observer: None,
    }
}

pub fn get() -> Request {
    request("GET", "", RequestBody::Bytes(Bytes::new()))
}

pub fn post(body: impl Into<Bytes>) -> Request {
    let body = body.into();
    request("POST", &format!("Content-Length: {}\r\n", body.len()), RequestBody::Bytes(body))
}

/// Sends a request, and reads the whole body of its response.
pub async fn fetch(client: &Client, request: Request) -> Result<(Response, Vec<u8>)> {
    let mut response = client.send(request, &SystemResolver).await?;
    let body = read_all(&mut response.body, 16 * 1024).await?;
    Ok((response, body))
}

/// Returns the status and the whole body of the response.
pub async fn answer(client: &Client, request: Request) -> Result<(u16, String)> {
    let (response, body) = fetch(client, request).await?;
    Ok((response.head.status, String::from_utf8(body).expect("text")))
}

/// Reads to the end, in pieces of at most that size.
pub async fn read_all(body: &mut Incoming, piece: usize) -> Result<Vec<u8>> {
    let (mut all, mut room) = (Vec::new(), vec![0; piece]);
    loop {
        let read = read_piece(body, &mut room).await?;
        if read == 0 {
            return Ok(all);
        }
        all.extend_from_slice(&room[..read]);
    }
}

/// Reads the available bytes, and returns their number; 0 at the end.
pub async fn read_piece(body: &mut Incoming, room: &mut [u8]) -> Result<usize> {
    let mut out = ReadBuf::new(room);
    poll_fn(|cx| body.poll_read(cx, &mut out)).await?;
    Ok(out.filled().len())
}

/// A body from a list of pieces.
pub struct Pieces(VecDeque<std::result::Result<Bytes, BoxError>>);

impl Pieces {
    pub fn of<T: Into<Bytes>>(pieces: impl IntoIterator<Item = T>) -> Box<dyn BodySource> {
        Box::new(Pieces(pieces.into_iter().map(|piece| Ok(piece.into())).collect()))
    }

    pub fn failing(pieces: impl IntoIterator<Item = &'static str>, error: &str) -> Box<dyn BodySource> {
        let mut all: VecDeque<_> = pieces.into_iter().map(|piece| Ok(piece.into())).collect();
        all.push_back(Err(error.into()));
        Box::new(Pieces(all))
    }
}

impl BodySource for Pieces {
    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
        _: Option<Deadline>,
    ) -> Poll<Option<std::result::Result<Bytes, Kind>>> {
        Poll::Ready(self.0.pop_front().map(|piece| piece.map_err(Kind::Caller)))
    }
}
