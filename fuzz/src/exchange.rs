//! For any response of a peer, the client returns what its framing says, and the next request gets its own response.
//!
//! The client of the engine runs on a stream in memory: its handshake replaces the socket by a stream whose other end
//! is the target's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::mem::{Discriminant, discriminant};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use engine::rt::stream::{Layer, Stream};
use engine::tls::{Handshake, Offer, Secured, Tls, TlsInfo};
use engine::{Client, Config, Kind, Reactor, Request, RequestBody, Response, SystemResolver};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::framing::MethodKind;
use wire::{Framing, ResponseError};

use crate::framing::{EOF, Received, method_kind, receive};
use crate::{divisions, mode};

/// Bit of the first byte: the connection has served a request before.
const WARM: u8 = 8;
/// Bit of the first byte: the peer reads the body of the request slowly, and responds before its end.
const EARLY: u8 = 16;

/// Limit of polls, more than any of these exchanges takes.
const BOUND: usize = 100_000;

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let (mode, data) = mode(data);
    for (number, pieces) in divisions(data).into_iter().enumerate() {
        let room = [16 * 1024, 7, 300][number];
        let (answer, opened) = exchange(mode, &pieces, room);
        if mode & EARLY == 0 {
            let (expected, _) = receive(method_kind(mode), &[data], mode & EOF != 0);
            check(mode, &expected, &answer, opened);
        }
    }
}

/// Result of a request.
#[derive(Debug)]
enum Answer {
    /// The peer sends no more, but has not closed the connection.
    Waits,
    Failed(Kind),
    /// The status, and the received part of the body.
    Got(u16, Vec<u8>, End),
}

#[derive(Debug)]
enum End {
    Whole,
    Waits,
    Failed(Kind),
}

/// Sends one request that is answered by `pieces`, then one with a valid response. Returns the result of the first, and
/// the number of connections that both took.
fn exchange(mode: u8, pieces: &[&[u8]], room: usize) -> (Answer, usize) {
    let peer = Rc::new(Peer {
        pieces: RefCell::new(Some(pieces.iter().map(|piece| piece.to_vec()).collect())),
        target: if mode & WARM == 0 { "/0" } else { "/1" },
        is_closed: mode & EOF != 0,
        is_early: mode & EARLY != 0,
        opened: Cell::new(0),
        is_starved: Cell::new(false),
    });
    PLACE.with(|place| {
        let client = place.client(&peer);
        if mode & WARM != 0 {
            check_good(place.ask(&client, &peer, request("GET", "/0", 0), room), "/0");
        }
        let method = match method_kind(mode) {
            MethodKind::Head => "HEAD",
            MethodKind::Connect => "CONNECT",
            MethodKind::Other if mode & EARLY != 0 => "POST",
            MethodKind::Other => "GET",
        };
        let answer =
            place.ask(&client, &peer, request(method, peer.target, if mode & EARLY == 0 { 0 } else { 40 }), room);
        check_good(place.ask(&client, &peer, request("GET", "/2", 0), room), "/2");
        let statistics = client.pool().statistics();
        assert_eq!((statistics.in_use, statistics.waiting), (0, 0), "slots are released");
        (answer, peer.opened.get())
    })
}

fn check_good(answer: Answer, target: &str) {
    let is_good = matches!(&answer, Answer::Got(200, body, End::Whole) if body == target.as_bytes());
    assert!(is_good, "{target} is answered by {answer:?}");
}

/// Compares the result with that of the wire crate for the same bytes.
fn check(mode: u8, expected: &Received, answer: &Answer, opened: usize) {
    let kind = |error: &ResponseError| discriminant(error);
    match (answer, &expected.head) {
        // A reused connection that ends without a byte of a response: the request is sent again, and gets a response.
        (Answer::Got(200, body, End::Whole), None) if mode & WARM != 0 && mode & EOF != 0 => {
            assert_eq!(body.as_slice(), if method_kind(mode) == MethodKind::Head { b"".as_slice() } else { b"/1" });
        }
        (Answer::Got(status, body, end), Some((expected_status, ..))) => {
            assert_eq!((status, body), (expected_status, &expected.body));
            match end {
                End::Whole => assert!(expected.is_complete, "more should come"),
                End::Waits => assert!(!expected.is_complete && expected.error.is_none(), "nothing more should come"),
                End::Failed(Kind::Response(error)) => assert_eq!(expected.error, Some(kind(error)), "{error}"),
                End::Failed(other) => panic!("{other:?}"),
            }
            let is_kept = matches!(end, End::Whole) && expected.is_kept && expected.left == 0 && mode & EOF == 0;
            assert_eq!(opened, if is_kept { 1 } else { 2 }, "connections");
        }
        (Answer::Failed(Kind::Response(error)), _) => assert_eq!(expected.error, Some(kind(error)), "{error}"),
        (Answer::Failed(Kind::Closed), None) => {
            assert_eq!(expected.error, Some(early_end()), "closed, and not cut");
        }
        (Answer::Waits, None) => assert_eq!(expected.error, None, "waits"),
        (answer, head) => panic!("{answer:?}, and {head:?} was expected"),
    }
    if let (Some(Framing::Counted(_)), Answer::Got(_, body, End::Whole)) = (expected.framing, answer) {
        assert_eq!(body.len(), expected.body.len());
    }
}

fn early_end() -> Discriminant<ResponseError> {
    discriminant(&ResponseError::EarlyEnd(""))
}

fn request(method: &str, target: &str, length: usize) -> Request {
    let mut head = Vec::new();
    wire::request::line(&mut head, method.as_bytes(), target.as_bytes(), b"HTTP/1.1").expect("a good request line");
    if length > 0 {
        wire::request::field(&mut head, b"Content-Length", length.to_string().as_bytes()).expect("a good line");
    }
    head.extend_from_slice(b"\r\n");
    Request {
        head,
        body: RequestBody::Bytes(Bytes::from(vec![b'b'; length])),
        method_kind: MethodKind::by(method.as_bytes()),
        idempotent: wire::request::is_idempotent(method.as_bytes()),
        expects_continue: false,
        closes: false,
        keeps_upgrade: false,
        timeouts: None,
        trailers: None,
        for_proxy: None,
        opened: None,
        observer: None,
    }
}

thread_local! {
    static PLACE: Place = Place::new();
}

/// Objects that all exchanges of a thread share.
struct Place {
    reactor: Rc<Reactor>,
    listener: Rc<UnixListener>,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let name = format!("geventhttpclient-fuzz-{}-{:?}", std::process::id(), thread::current().id());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("a name of our own");
        listener.set_nonblocking(true).expect("a socket");
        let reactor = Reactor::new().expect("a reactor");
        Place { reactor, listener: Rc::new(listener), path: PathBuf::from(format!("\0{name}")) }
    }

    fn client(&self, peer: &Rc<Peer>) -> Client {
        let mut config = Config::new("peer", 80);
        config.route.unix_socket = Some(self.path.clone());
        config.tls = Some(Rc::new(InMemory { listener: self.listener.clone(), peer: peer.clone() }));
        Client::new(&self.reactor, config, 1)
    }

    fn ask(&self, client: &Client, peer: &Peer, request: Request, room: usize) -> Answer {
        let Some(sent) = self.drive(peer, client.send(request, &SystemResolver)) else { return Answer::Waits };
        let mut response: Response = match sent {
            Ok(response) => response,
            Err(error) => return Answer::Failed(error.into_kind()),
        };
        let (mut body, mut room) = (Vec::new(), vec![0; room]);
        let end = loop {
            let mut out = ReadBuf::new(&mut room);
            match self.drive(peer, poll_fn(|cx| response.body.poll_read(cx, &mut out))) {
                None => break End::Waits,
                Some(Err(error)) => break End::Failed(error.into_kind()),
                Some(Ok(())) if out.filled().is_empty() => break End::Whole,
                Some(Ok(())) => body.extend_from_slice(out.filled()),
            }
        };
        assert_eq!(
            response.body.is_complete(),
            matches!(end, End::Whole),
            "is_complete is wrong at the end of the body"
        );
        Answer::Got(response.head.status, body, end)
    }

    /// Runs a future to its end, or until it waits for a peer that sends no more.
    fn drive<F: Future>(&self, peer: &Peer, future: F) -> Option<F::Output> {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut future = pin!(future);
        for _ in 0..BOUND {
            if woken.0.swap(false, Ordering::Relaxed) {
                peer.is_starved.set(false);
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Some(output);
                }
            }
            if !woken.0.load(Ordering::Relaxed) {
                if peer.is_starved.get() {
                    return None;
                }
                self.reactor.turn(Some(Duration::ZERO)).expect("a reactor that turns");
            }
        }
        panic!("too many polls");
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Other end of all connections of one client. It answers one request with the input of the target, and each other one
/// with the request's own target.
struct Peer {
    /// Input of the target, until it is sent.
    pieces: RefCell<Option<VecDeque<Vec<u8>>>>,
    /// Target of the request that they answer.
    target: &'static str,
    /// True if the peer closes the connection after them.
    is_closed: bool,
    /// True if the peer responds when it has the head, and reads the rest slowly.
    is_early: bool,
    opened: Cell<usize>,
    /// True after a read for which the peer has nothing to send.
    is_starved: Cell<bool>,
}

impl Peer {
    /// Returns the response to a request with this head, and true if the peer closes the connection after it.
    fn answer(&self, head: &str) -> (VecDeque<Vec<u8>>, bool) {
        let mut words = head.split(' ');
        let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
        if target == self.target
            && let Some(pieces) = self.pieces.borrow_mut().take()
        {
            return (pieces, self.is_closed);
        }
        let body = if method == "HEAD" { "" } else { target };
        (VecDeque::from([format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}").into_bytes()]), false)
    }
}

/// TLS without a handshake: returns a new connection to the peer.
struct InMemory {
    listener: Rc<UnixListener>,
    peer: Rc<Peer>,
}

impl Tls for InMemory {
    fn handshake(&self, _: Stream, _: Offer) -> Handshake {
        self.listener.accept().expect("the connection that was just made");
        self.peer.opened.set(self.peer.opened.get() + 1);
        let line = Line {
            peer: self.peer.clone(),
            received: Vec::new(),
            unsent: 0,
            incoming: VecDeque::new(),
            is_ended: false,
            is_ready: false,
        };
        let secured = Secured { stream: Stream::Layer(Box::new(line)), facts: Rc::new(TlsInfo::default()) };
        Box::pin(async { Ok(secured) })
    }
}

/// Connection to the peer.
struct Line {
    peer: Rc<Peer>,
    /// Received part of a head.
    received: Vec<u8>,
    /// Number of bytes of the request's body that are still expected.
    unsent: usize,
    incoming: VecDeque<Vec<u8>>,
    is_ended: bool,
    /// True if the next write is accepted: a slow connection delays every other write.
    is_ready: bool,
}

impl Line {
    fn take(&mut self, byte: u8) {
        if self.unsent > 0 {
            self.unsent -= 1;
            return;
        }
        self.received.push(byte);
        if self.received.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8(std::mem::take(&mut self.received)).expect("ASCII");
            let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            self.unsent = length.map_or(0, |digits| digits.parse().expect("a number"));
            let (pieces, is_ended) = self.peer.answer(&head);
            self.incoming.extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
            self.is_ended |= is_ended;
        }
    }
}

impl Layer for Line {
    fn is_idle_clean(&mut self) -> bool {
        self.incoming.is_empty() && !self.is_ended
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.incoming.pop_front() else {
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            self.peer.is_starved.set(true);
            return Poll::Pending;
        };
        let rest = piece.split_off(piece.len().min(out.remaining()));
        if !rest.is_empty() {
            self.incoming.push_front(rest);
        }
        out.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut length = bytes.len();
        if self.peer.is_early {
            self.is_ready = !self.is_ready;
            if !self.is_ready {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            length = length.min(5);
        }
        bytes[..length].iter().for_each(|&byte| self.take(byte));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
