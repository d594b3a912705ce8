//! HTTP/2 as the engine's owner sees it, against a scripted peer: which request opens a connection,
//! which ones share it or wait, and the state after a request was dropped.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use engine::http2::Options;
use engine::pool::Statistics;
use engine::{
    Client, CloseReason, Config, IdleGroup, Kind, Phase, Reactor, Request, RequestBody, Response, Result,
    SystemResolver, Timeouts,
};

use support::program_tls::ProgramTls;
use support::{BOUND, Pieces, answer, client_with, get, join_all, poll_once, post, read_all, request, run, run_until};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const MAX_CONCURRENT_STREAMS: u16 = 3;
const CANCEL: u32 = 8;

/// `:status: 200`, by its number in HPACK's table.
const OK: &[u8] = &[0x88];

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// The peer's end of one connection.
struct Talk {
    stream: TcpStream,
}

impl Talk {
    /// Reads bytes, unless the client closes before they arrive.
    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        // The test finds out whether the client reads it.
        let _ = self.stream.write_all(&frame);
    }

    /// Reads the client's preface, and sends the peer's.
    fn start(&mut self, settings: &[(u16, u32)]) {
        self.preface();
        self.settings(settings);
    }

    fn preface(&mut self) {
        assert_eq!(self.read(24).expect("a preface"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(self.frame().expect("a frame").kind, SETTINGS);
    }

    fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat())
            .collect();
        self.say(SETTINGS, 0, 0, &payload);
    }

    /// Reads any frame; `None` when the client closes.
    fn frame(&mut self) -> Option<Frame> {
        let head = self.read(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.read(length as usize)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads the next frame that is about a stream or the end of the connection.
    fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.frame()?;
            match frame.kind {
                SETTINGS | WINDOW_UPDATE => {}
                PING if frame.flags & ACK == 0 => self.say(PING, ACK, 0, &frame.payload),
                _ => return Some(frame),
            }
        }
    }

    /// Reads the next head of a request, and returns its stream.
    fn head(&mut self) -> u32 {
        loop {
            let frame = self.next().expect("a request");
            if frame.kind == HEADERS {
                return frame.stream;
            }
        }
    }

    /// Reads up to the frame that cancels that stream.
    fn cancelled(&mut self, stream: u32) {
        loop {
            let frame = self.next().expect("RST_STREAM");
            if frame.kind == RST_STREAM && frame.stream == stream {
                assert_eq!(frame.payload, CANCEL.to_be_bytes());
                return;
            }
        }
    }

    fn respond(&mut self, stream: u32, body: &str) {
        self.say(HEADERS, END_HEADERS, stream, OK);
        self.say(DATA, END_STREAM, stream, body.as_bytes());
    }

    fn go_away(&mut self, last: u32) {
        self.say(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    }

    /// Answers all requests until the client closes, except those that are cancelled.
    fn serve(&mut self) {
        while let Some(frame) = self.next() {
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                self.respond(frame.stream, "ok");
            }
        }
    }

    fn wait_closed(&mut self) {
        while self.frame().is_some() {}
    }

    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }
}

type Script = Box<dyn FnOnce(Talk) + Send>;

fn script(script: impl FnOnce(Talk) + Send + 'static) -> Script {
    Box::new(script)
}

/// Plays a script on each connection in their order, and serves those beyond them.
struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    players: Receiver<JoinHandle<()>>,
}

impl Peer {
    fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        let scripts: Vec<Script> = scripts.into_iter().collect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let (sender, players) = channel();
        spawn(move || {
            let mut scripts = scripts.into_iter();
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nodelay(true).expect("a TCP socket");
                stream.set_read_timeout(Some(BOUND)).expect("a good timeout");
                count.fetch_add(1, Ordering::SeqCst);
                let talk = Talk { stream };
                let player = match scripts.next() {
                    Some(script) => spawn(move || script(talk)),
                    None => spawn(move || serving(talk)),
                };
                if sender.send(player).is_err() {
                    return;
                }
            }
        });
        Peer { address, accepted, players }
    }

    fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Returns a client of the peer, with at most that many connections.
    fn client(&self, connections: usize) -> (Rc<Reactor>, Client) {
        self.client_with(connections, |_| ())
    }

    fn client_with(&self, connections: usize, change: impl FnOnce(&mut Config)) -> (Rc<Reactor>, Client) {
        client_with(self.address, connections, |config| {
            config.http2 = Some(Options { prior_knowledge: true, ping_interval: None });
            change(config);
        })
    }

    /// Waits for the ends of all scripts, and fails if one of them did.
    fn finish(self) {
        for player in self.players.try_iter() {
            player.join().expect("a script that was followed");
        }
    }
}

/// Serves a connection, unless the client closes it first.
fn serving(mut talk: Talk) {
    if talk.stream.peek(&mut [0]).is_ok_and(|length| length > 0) {
        talk.start(&[]);
        talk.serve();
    }
}

/// Creates a signal from the test to a script, or in the other direction.
fn signal() -> (Sender<()>, impl FnOnce() + Send) {
    let (sender, receiver) = channel();
    (sender, move || receiver.recv_timeout(BOUND).expect("a signal"))
}

async fn ask(client: &Client) -> Result<String> {
    answer(client, get()).await.map(|(_, body)| body)
}

async fn open(client: &Client, request: Request) -> Result<Response> {
    client.send(request, &SystemResolver).await
}

/// Returns the gauges at this moment, without the counts.
fn present(client: &Client) -> (usize, usize, usize, usize) {
    let Statistics { idle, in_use, streams, waiting, .. } = client.statistics();
    (idle, in_use, streams, waiting)
}

const AT_REST: (usize, usize, usize, usize) = (1, 0, 0, 0);

// ------------------------------------------------------------------------------------------------------- who opens

#[test]
fn test_connection_is_opened_once_and_shared() {
    let peer = Peer::new([script(serving)]);
    let (reactor, client) = peer.client(10);
    let answers = run(&reactor, join_all((0..100).map(|_| ask(&client))));
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|body| body == "ok")), "{answers:?}");
    assert_eq!(peer.connections(), 1);
    assert_eq!(present(&client), AT_REST);
    let Statistics { opened, reused, repeated, .. } = client.statistics();
    assert_eq!((opened, reused, repeated), (1, 99, 0));
    drop(client);
    run(&reactor, async {});
    reactor.close();
    peer.finish();
}

#[test]
fn test_dropped_opener_hands_on_its_dial_permit() {
    let peer = Peer::new([]);
    let (reactor, client) = peer.client(1);
    let mut openers: Vec<_> = (0..3).map(|_| Box::pin(ask(&client))).collect();
    for opener in &mut openers {
        assert!(poll_once(opener.as_mut()).is_pending());
    }
    assert_eq!(present(&client), (0, 1, 0, 2));
    let mut last = openers.pop().expect("the last one");
    // The second was granted the permit, and is dropped before it knows.
    drop(openers.remove(0));
    drop(openers);
    assert_eq!(run(&reactor, last.as_mut()).expect("an answer"), "ok");
    assert_eq!(present(&client), AT_REST);
}

/// A request that is dropped in any wait leaves everything as it was, and the connection stays open once it is.
#[test]
fn test_request_dropped_at_each_point_leaves_the_connection_usable() {
    let peer = Peer::new([]);
    for kind in ["GET", "bytes", "pieces", "100-continue"] {
        let ask_for = || match kind {
            "GET" => get(),
            "bytes" => post(vec![b'x'; 200_000]),
            "pieces" => request("POST", "", RequestBody::Chunked(Pieces::of((0..20).map(|_| vec![b'y'; 10_000])))),
            _ => request("POST", "Content-Length: 1\r\nExpect: 100-continue\r\n", RequestBody::Bytes("x".into())),
        };
        let (reactor, client) = peer.client(1);
        for polls in 1..40 {
            let (before, was_open) = (client.statistics().opened, client.statistics().idle);
            let mut call: Pin<Box<_>> = Box::pin(answer(&client, ask_for()));
            let mut done = false;
            for _ in 0..polls {
                if poll_once(call.as_mut()).is_ready() {
                    done = true;
                    break;
                }
                reactor.turn(Some(Duration::from_millis(1))).expect("a turn");
            }
            drop(call);
            let idle = client.statistics().idle;
            assert_eq!(present(&client), (idle, 0, 0, 0), "{kind} after {polls} polls");
            assert!(idle >= was_open, "{kind} after {polls} polls");
            assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok", "{kind} after {polls} polls");
            assert_eq!(present(&client), AT_REST, "{kind} after {polls} polls");
            let opened = client.statistics().opened - before;
            assert_eq!(opened, 1 - was_open as u64, "{kind} after {polls} polls");
            if done {
                break;
            }
        }
        client.close();
        assert_eq!(client.statistics().closed.total(), client.statistics().opened);
    }
}

#[test]
fn test_dropped_response_cancels_only_its_stream() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let (first, second) = (talk.head(), talk.head());
        for stream in [first, second] {
            talk.say(HEADERS, END_HEADERS, stream, OK);
            talk.say(DATA, 0, stream, b"begun");
        }
        talk.cancelled(first);
        talk.say(DATA, END_STREAM, second, b" and ended");
        talk.serve();
    })]);
    let (reactor, client) = peer.client(1);
    let mut both = run(&reactor, join_all((0..2).map(|_| open(&client, get()))));
    let mut second = both.pop().expect("two").expect("an answer");
    assert_eq!(present(&client), (0, 1, 2, 0));
    drop(both);
    assert_eq!(present(&client), (0, 1, 1, 0));
    assert_eq!(run(&reactor, read_all(&mut second.body, 100)).expect("all of it"), b"begun and ended");
    assert_eq!(present(&client), AT_REST);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert_eq!(peer.connections(), 1);
}

/// Frames of cancelled streams are in flight for a while. They are no violation, however many there are.
#[test]
fn test_thousands_of_streams_can_be_cancelled() {
    const MANY: u32 = 3000;
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        loop {
            let Some(frame) = talk.next() else { return };
            match frame.kind {
                HEADERS if frame.stream <= 2 * MANY => talk.say(HEADERS, END_HEADERS, frame.stream, OK),
                HEADERS => talk.respond(frame.stream, "ok"),
                RST_STREAM => talk.say(DATA, 0, frame.stream, b"late"),
                GOAWAY => return,
                kind => panic!("a frame of kind {kind}"),
            }
        }
    })]);
    let (reactor, client) = peer.client(1);
    for _ in 0..MANY {
        drop(run(&reactor, open(&client, get())).expect("a head"));
    }
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert_eq!(peer.connections(), 1);
}

// -------------------------------------------------------------------------------------------------------- who waits

#[test]
fn test_freed_room_goes_to_the_next_in_the_queue() {
    let (first_may, wait_first) = signal();
    let peer = Peer::new([script(move |mut talk| {
        talk.start(&[(MAX_CONCURRENT_STREAMS, 1)]);
        let first = talk.head();
        wait_first();
        talk.respond(first, "first");
        talk.serve();
    })]);
    let (reactor, client) = peer.client(1);
    let mut first = pin!(ask(&client));
    run_until(&reactor, first.as_mut(), || client.statistics().streams == 1);
    let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(ask(&client))).collect();
    for call in &mut waiting {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    assert_eq!(present(&client), (0, 1, 1, 3));
    // A request that is dropped leaves the queue.
    drop(waiting.remove(0));
    assert_eq!(present(&client), (0, 1, 1, 2));
    first_may.send(()).expect("a script that listens");
    assert_eq!(run(&reactor, first).expect("an answer"), "first");
    assert_eq!(present(&client), (0, 1, 1, 1));
    // Room that was granted and not taken goes to the next one.
    drop(waiting.remove(0));
    assert_eq!(present(&client), (0, 1, 1, 0));
    let last = waiting.remove(0);
    assert_eq!(run(&reactor, last).expect("an answer"), "ok");
    assert_eq!(present(&client), AT_REST);
}

/// A request that waits for room waits for other tasks; one that waits for the peer's SETTINGS waits for the peer.
#[test]
fn test_queue_keeps_no_loop_alive() {
    let (go_on, wait) = signal();
    let peer = Peer::new([script(move |mut talk| {
        talk.preface();
        let first = talk.head();
        wait();
        talk.settings(&[(MAX_CONCURRENT_STREAMS, 1)]);
        talk.respond(first, "first");
        talk.serve();
    })]);
    let (reactor, client) = peer.client(1);
    let mut first = pin!(open(&client, get()));
    run_until(&reactor, first.as_mut(), || client.statistics().streams == 1);
    let mut second = pin!(ask(&client));
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(reactor.passive_waits(), 0);
    go_on.send(()).expect("a script that listens");
    // Its body came with its head: its stream has ended.
    drop(run(&reactor, first));
    assert_eq!(run(&reactor, second).expect("an answer"), "ok");

    let peer = Peer::new([script(|mut talk| {
        talk.start(&[(MAX_CONCURRENT_STREAMS, 1)]);
        let first = talk.head();
        talk.say(HEADERS, END_HEADERS, first, OK);
        talk.wait_closed();
    })]);
    let (reactor, client) = peer.client(1);
    let response = run(&reactor, open(&client, get())).expect("a head");
    let mut second = Box::pin(ask(&client));
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(reactor.passive_waits(), 1);
    drop(second);
    assert_eq!(reactor.passive_waits(), 0);
    drop(response);
}

#[test]
fn test_wait_in_the_queue_ends_with_the_pool_timeout() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[(MAX_CONCURRENT_STREAMS, 1)]);
        let first = talk.head();
        talk.say(HEADERS, END_HEADERS, first, OK);
        talk.wait_closed();
    })]);
    let (reactor, client) = peer.client(1);
    let held = run(&reactor, open(&client, get())).expect("a head");
    let short = Some(Duration::from_millis(20));
    for (timeouts, is_deadline) in [
        (Timeouts { pool: short, ..Timeouts::default() }, false),
        (Timeouts { total: short, ..Timeouts::default() }, true),
    ] {
        let late = run(&reactor, ask_within(&client, timeouts)).expect_err("no room");
        assert_eq!(late.phase(), Phase::Pool);
        assert_eq!(matches!(late.kind(), Kind::Deadline(_)), is_deadline, "{late}");
        assert_eq!(present(&client), (0, 1, 1, 0));
    }
    drop(held);
    assert_eq!(present(&client), AT_REST);
}

async fn ask_within(client: &Client, timeouts: Timeouts) -> Result<String> {
    let mut request = get();
    request.timeouts = Some(Box::new(timeouts));
    answer(client, request).await.map(|(_, body)| body)
}

#[test]
fn test_requests_without_room_open_a_further_connection() {
    let (all_there, wait) = signal();
    let held = move |mut talk: Talk| {
        talk.start(&[(MAX_CONCURRENT_STREAMS, 2)]);
        let (first, second) = (talk.head(), talk.head());
        wait();
        talk.respond(first, "ok");
        talk.respond(second, "ok");
        talk.serve();
    };
    let peer = Peer::new([script(held), script(serving)]);
    let (reactor, client) = peer.client(2);
    let mut first = Box::pin(join_all((0..2).map(|_| ask(&client))));
    run_until(&reactor, first.as_mut(), || client.statistics().streams == 2);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert_eq!(present(&client), (1, 1, 2, 0));
    all_there.send(()).expect("a script that listens");
    assert!(run(&reactor, first).iter().all(Result::is_ok));
    assert_eq!(peer.connections(), 2);
    assert_eq!(present(&client), (2, 0, 0, 0));
}

// ------------------------------------------------------------------------------------------------ connections that end

#[test]
fn test_goaway_separates_processed_from_unprocessed_requests() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let (first, _second) = (talk.head(), talk.head());
        talk.go_away(first);
        talk.respond(first, "seen");
        talk.wait_closed();
    })]);
    let (reactor, client) = peer.client(1);
    let answers = run(&reactor, join_all((0..2).map(|_| answer(&client, post("body")))));
    let bodies: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer").1).collect();
    assert_eq!(bodies, ["seen", "ok"]);
    assert_eq!((peer.connections(), client.statistics().repeated), (2, 1));
    assert_eq!(present(&client), AT_REST);
    assert_eq!(client.statistics().closed.of(CloseReason::Response(wire::framing::CloseCause::AskedByPeer)), 1);
}

/// A failed write is the first sign of a connection's end, but the peer may have sent its reasons before: they can
/// still be read.
#[test]
fn test_goaway_is_read_even_if_nothing_can_be_written() {
    let (go_on, wait) = signal();
    let (said, wait_said) = signal();
    let peer = Peer::new([script(move |mut talk| {
        talk.start(&[]);
        let first = talk.head();
        talk.respond(first, "ok");
        let held = talk.head();
        wait();
        talk.go_away(held);
        talk.reset();
        said.send(()).expect("a test that listens");
    })]);
    let (reactor, client) = peer.client(1);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    let mut held = Box::pin(ask(&client));
    run_until(&reactor, held.as_mut(), || client.statistics().streams == 1);
    reactor.run_tasks();
    assert!(poll_once(held.as_mut()).is_pending());
    go_on.send(()).expect("a script that listens");
    wait_said();
    // The loop has not run since.
    let mut second = Box::pin(answer(&client, post("body")));
    assert!(poll_once(second.as_mut()).is_pending());
    reactor.run_tasks();
    assert_eq!(run(&reactor, second).expect("sent again, for it was not seen").1, "ok");
    drop(held);
}

#[test]
fn test_ended_idle_connection_is_found_at_any_position_of_the_list() {
    let (go_on, wait) = signal();
    let (closed, wait_closed) = signal();
    let peer = Peer::new([
        script(|mut talk| {
            talk.start(&[(MAX_CONCURRENT_STREAMS, 1)]);
            let (first, _) = (talk.head(), talk.frame());
            talk.respond(first, "ok");
            let held = talk.head();
            talk.say(HEADERS, END_HEADERS, held, OK);
            talk.wait_closed();
        }),
        script(move |mut talk| {
            talk.start(&[(MAX_CONCURRENT_STREAMS, 1)]);
            let stream = talk.head();
            talk.respond(stream, "ok");
            wait();
            drop(talk);
            closed.send(()).expect("a test that listens");
        }),
    ]);
    let (reactor, client) = peer.client(2);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    let held = run(&reactor, open(&client, get())).expect("a head");
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert_eq!(present(&client), (1, 1, 1, 0));
    go_on.send(()).expect("a script that listens");
    wait_closed();
    // A request that must not be sent twice is not sent on a dead connection.
    assert_eq!(run(&reactor, answer(&client, post("body"))).expect("an answer").1, "ok");
    assert_eq!(client.statistics().repeated, 0);
    drop(held);
}

#[test]
fn test_expired_idle_connection_is_closed_with_goaway() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let first = talk.head();
        talk.respond(first, "ok");
        while let Some(frame) = talk.next() {
            if frame.kind == GOAWAY {
                assert!(talk.frame().is_none(), "a frame after GOAWAY");
                return;
            }
        }
        panic!("no GOAWAY");
    })]);
    let (reactor, client) = peer.client_with(1, |config| config.idle_timeout = Some(Duration::from_secs(60)));
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert!(reactor.next_deadline().is_some());
    reactor.expire(Instant::now() + Duration::from_secs(30));
    assert_eq!(present(&client), AT_REST);
    reactor.expire(Instant::now() + Duration::from_secs(61));
    assert_eq!(present(&client), (0, 0, 0, 0));
    assert_eq!(client.statistics().closed.of(CloseReason::IdleTimeout), 1);
    peer.finish();
}

/// HTTP/2 connections count like others while they are idle.
#[test]
fn test_idle_connection_over_the_limit_of_its_group_is_closed_with_goaway() {
    fn serve_until_goodbye(mut talk: Talk) {
        while let Some(frame) = talk.next() {
            match frame.kind {
                HEADERS => talk.respond(frame.stream, "ok"),
                GOAWAY => return assert!(talk.frame().is_none(), "a frame after GOAWAY"),
                _ => {}
            }
        }
        panic!("no GOAWAY");
    }
    let (go_on, wait) = signal();
    let in_two = script(|mut talk: Talk| {
        talk.start(&[]);
        for _ in 0..2 {
            let stream = talk.head();
            talk.respond(stream, "ok");
        }
        let stream = talk.head();
        talk.say(HEADERS, END_HEADERS, stream, OK);
        wait();
        talk.say(DATA, END_STREAM, stream, b"ok");
        serve_until_goodbye(talk);
    });
    let whole = || {
        script(|mut talk: Talk| {
            talk.start(&[]);
            serve_until_goodbye(talk);
        })
    };
    let peer = Peer::new([in_two, whole(), whole()]);
    let group = IdleGroup::new(1);
    let joins = |config: &mut Config| config.idle_group = Some(group.clone());
    let (reactor, first) = peer.client_with(1, joins);
    let mut config = Config::new(&peer.address.ip().to_string(), peer.address.port());
    config.http2 = Some(Options { prior_knowledge: true, ping_interval: None });
    joins(&mut config);
    let second = Client::new(&reactor, config, 1);
    for times in 1..=2 {
        assert_eq!(run(&reactor, ask(&first)).expect("an answer"), "ok");
        assert_eq!((present(&first), first.statistics().reused, group.idle()), (AT_REST, times - 1, 1));
    }
    // With a request it neither counts nor is closed.
    let mut held = run(&reactor, open(&first, get())).expect("a head");
    assert_eq!(group.idle(), 0);
    assert_eq!(run(&reactor, ask(&second)).expect("an answer"), "ok");
    assert_eq!((present(&second), first.statistics().closed.total(), group.idle()), (AT_REST, 0, 1));
    go_on.send(()).expect("a script that listens");
    assert_eq!(run(&reactor, read_all(&mut held.body, 100)).expect("a body"), b"ok");
    drop(held);
    reactor.run_tasks();
    assert_eq!((present(&first), present(&second), group.idle()), (AT_REST, (0, 0, 0, 0), 1));
    assert_eq!(second.statistics().closed.of(CloseReason::IdleLimit), 1);
    assert_eq!(run(&reactor, ask(&second)).expect("an answer"), "ok");
    reactor.run_tasks();
    assert_eq!((present(&first), present(&second), group.idle()), ((0, 0, 0, 0), AT_REST, 1));
    second.close();
    assert_eq!(group.idle(), 0);
    peer.finish();
}

fn pinging(peer: &Peer) -> (Rc<Reactor>, Client) {
    peer.client_with(1, |config| {
        config.http2 = Some(Options { prior_knowledge: true, ping_interval: Some(Duration::from_secs(60)) });
    })
}

/// The loop may not have run since the response arrived.
#[test]
fn test_ping_answered_in_time_counts_even_if_it_is_read_late() {
    let (answered, wait) = signal();
    let peer = Peer::new([script(move |mut talk| {
        talk.start(&[]);
        let first = talk.head();
        talk.respond(first, "ok");
        loop {
            let frame = talk.frame().expect("a ping");
            if frame.kind == PING {
                talk.say(PING, ACK, 0, &frame.payload);
                answered.send(()).expect("a test that listens");
                return talk.serve();
            }
        }
    })]);
    let (reactor, client) = pinging(&peer);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    reactor.expire(Instant::now() + Duration::from_secs(61));
    reactor.run_tasks();
    wait();
    reactor.expire(Instant::now() + Duration::from_secs(122));
    assert_eq!(present(&client), AT_REST);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert_eq!(peer.connections(), 1);
}

#[test]
fn test_peer_that_does_not_answer_a_ping_is_dead() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let first = talk.head();
        talk.respond(first, "ok");
        talk.wait_closed();
    })]);
    let (reactor, client) = pinging(&peer);
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    for (seconds, idle) in [(61, 1), (122, 0)] {
        reactor.expire(Instant::now() + Duration::from_secs(seconds));
        assert_eq!(present(&client), (idle, 0, 0, 0));
    }
    assert_eq!(client.statistics().closed.of(CloseReason::TimedOut), 1);
}

#[test]
fn test_closed_reactor_ends_streams_and_leaves_nothing() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let (first, _second) = (talk.head(), talk.head());
        talk.say(HEADERS, END_HEADERS, first, OK);
        talk.wait_closed();
    })]);
    let (reactor, client) = peer.client(1);
    let watched = Rc::downgrade(&reactor);
    let mut response = {
        let mut first = Box::pin(open(&client, get()));
        run_until(&reactor, first.as_mut(), || client.statistics().streams == 1);
        let mut second = Box::pin(open(&client, get()));
        let both = std::future::poll_fn(|cx| {
            assert!(second.as_mut().poll(cx).is_pending());
            first.as_mut().poll(cx)
        });
        let response = run(&reactor, both).expect("a head");
        reactor.close();
        let Err(error) = run_closed(second) else { panic!("an answer of a closed connection") };
        assert!(matches!(error.kind(), Kind::Closed | Kind::Io(_) | Kind::PoolClosed), "{error}");
        response
    };
    let error = run_closed(Box::pin(read_all(&mut response.body, 10))).expect_err("closed");
    assert!(matches!(error.kind(), Kind::Response(_) | Kind::Io(_)), "{error}");
    drop((response, client, reactor));
    assert!(watched.upgrade().is_none(), "a reference to the reactor remains");
    peer.finish();
}

/// Polls a future whose reactor was closed: it has to be ready at once.
fn run_closed<F: Future>(mut future: Pin<Box<F>>) -> F::Output {
    match poll_once(future.as_mut()) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for a reactor that was closed"),
    }
}

#[test]
fn test_dropped_client_is_freed() {
    let peer = Peer::new([]);
    let (reactor, client) = peer.client(2);
    let response = {
        let (_, _) = run(&reactor, answer(&client, get())).expect("an answer");
        run(&reactor, open(&client, get())).expect("a head")
    };
    drop(client);
    drop(response);
    run(&reactor, support::turn(&reactor));
    // A response that is not complete is cancelled first: h2 wakes its task once more then.
    for _ in 0..20 {
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    assert!(!reactor.has_work(), "a task that wakes itself");
    let watched = Rc::downgrade(&reactor);
    drop(reactor);
    assert!(watched.upgrade().is_none(), "a reference to the reactor remains");
    peer.finish();
}

// ------------------------------------------------------------------------------------------------- nothing to be done

/// A loop that waits is not woken while nothing happens.
#[test]
fn test_blocked_connection_causes_no_work() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let (first, second) = (talk.head(), talk.head());
        // More than the client has asked for, and it is not read.
        talk.say(HEADERS, END_HEADERS, first, OK);
        for _ in 0..128 {
            talk.say(DATA, 0, first, &[b'x'; 16_384]);
        }
        talk.say(HEADERS, END_HEADERS, second, OK);
        talk.wait_closed();
    })]);
    let (reactor, client) = peer.client(1);
    let unread = run(&reactor, join_all((0..2).map(|_| open(&client, get()))));
    let mut blocked = Box::pin(answer(&client, post(vec![b'x'; 100_000])));
    for _ in 0..100 {
        assert!(poll_once(blocked.as_mut()).is_pending());
        reactor.turn(Some(Duration::from_millis(1))).expect("a turn");
    }
    for _ in 0..20 {
        assert!(!reactor.has_work(), "a task that wakes itself");
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    drop(unread);
}

// ------------------------------------------------------------------------------------------------- code of the owner's

/// The error may be the exception that ends the program, and is one object: one of the requests has to get it. The
/// others get the error of a closed connection.
#[test]
fn test_error_of_the_programs_tls_reaches_one_request() {
    let (go_on, wait) = signal();
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let heads: Vec<u32> = (0..4).map(|_| talk.head()).collect();
        talk.respond(heads[0], "all are there");
        wait();
        talk.respond(heads[1], "never read");
        talk.wait_closed();
    })]);
    let tls = ProgramTls::default();
    let (reactor, client) = peer.client_with(1, |config| config.tls = Some(Rc::new(tls.clone())));
    let mut first = Box::pin(answer(&client, post("body")));
    run_until(&reactor, first.as_mut(), || client.statistics().streams == 1);
    let mut calls = Box::pin(join_all((0..3).map(|_| answer(&client, post("body")))));
    let both = std::future::poll_fn(|cx| {
        assert!(calls.as_mut().poll(cx).is_pending());
        first.as_mut().poll(cx)
    });
    assert_eq!(run(&reactor, both).expect("an answer").1, "all are there");
    tls.fails.set(true);
    go_on.send(()).expect("a script that listens");
    let errors: Vec<_> = run(&reactor, calls).into_iter().map(|answer| answer.expect_err("a failure")).collect();
    let raised = errors.iter().filter(|error| error.to_string().starts_with("raised in the program's code"));
    assert_eq!(raised.count(), 1, "{errors:?}");
    assert_eq!(errors.iter().filter(|error| error.is_disconnect()).count(), 2, "{errors:?}");
    peer.finish();
}
