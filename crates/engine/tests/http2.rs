//! HTTP/2 as the engine's owner sees it, against a peer that says the frames it is told to: who opens connections, who
//! shares them, who waits, and what is left of a request that was dropped.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use engine::http2::Options;
use engine::pool::Statistics;
use engine::stream::{Layer, Stream};
use engine::tls::{Facts, Handshake, Secured, Tls};
use engine::{
    Client, Config, Ending, IdleGroup, Kind, Phase, Reactor, Request, RequestBody, Response, Result, SystemResolver,
    Timeouts,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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
    /// Bytes, unless the client closes before they have come.
    fn read(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).ok().map(|()| bytes)
    }

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        // Whether anybody hears it is for the test to say.
        let _ = self.stream.write_all(&frame);
    }

    /// The client's preface, and the peer's.
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

    /// Whatever comes next; `None` when the client closes.
    fn frame(&mut self) -> Option<Frame> {
        let head = self.read(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.read(length as usize)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is about more than the connection's upkeep.
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

    /// The next head of a request: its stream.
    fn head(&mut self) -> u32 {
        loop {
            let frame = self.next().expect("a request");
            if frame.kind == HEADERS {
                return frame.stream;
            }
        }
    }

    /// Reads up to the frame by which that stream is cancelled.
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

    /// Answers whatever is asked, until the client closes. A stream that is cancelled is none to answer.
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

/// Plays a script on each connection in the order they come; those beyond them are served.
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

    /// A client of it, with at most that many connections.
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

/// Unless the client has closed before it said anything.
fn serving(mut talk: Talk) {
    if talk.stream.peek(&mut [0]).is_ok_and(|length| length > 0) {
        talk.start(&[]);
        talk.serve();
    }
}

/// What the test tells a script, or the other way round.
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

/// What there is at this moment; what there has been so far is left out.
fn present(client: &Client) -> (usize, usize, usize, usize) {
    let Statistics { idle, in_use, streams, waiting, .. } = client.statistics();
    (idle, in_use, streams, waiting)
}

const AT_REST: (usize, usize, usize, usize) = (1, 0, 0, 0);

// ------------------------------------------------------------------------------------------------------- who opens

#[test]
fn opened_once_and_shared_by_all() {
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
fn an_opener_that_is_dropped_hands_the_task_on() {
    let peer = Peer::new([]);
    let (reactor, client) = peer.client(1);
    let mut openers: Vec<_> = (0..3).map(|_| Box::pin(ask(&client))).collect();
    for opener in &mut openers {
        assert!(poll_once(opener.as_mut()).is_pending());
    }
    assert_eq!(present(&client), (0, 1, 0, 2));
    let mut last = openers.pop().expect("the last one");
    // The second was told, and is dropped before it knows.
    drop(openers.remove(0));
    drop(openers);
    assert_eq!(run(&reactor, last.as_mut()).expect("an answer"), "ok");
    assert_eq!(present(&client), AT_REST);
}

/// Whatever it waits for when it is dropped, a request leaves everything as it was; the connection goes on, once open.
#[test]
fn dropped_at_each_point() {
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
fn a_response_that_is_dropped_cancels_its_stream_alone() {
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

/// Frames of streams that we have ended are on their way for a while. They are no offence, however many there are.
#[test]
fn thousands_of_streams_are_cancelled() {
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
fn the_next_in_the_queue_has_the_room_that_is_made() {
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
    // Whoever gives up leaves the queue.
    drop(waiting.remove(0));
    assert_eq!(present(&client), (0, 1, 1, 2));
    first_may.send(()).expect("a script that listens");
    assert_eq!(run(&reactor, first).expect("an answer"), "first");
    assert_eq!(present(&client), (0, 1, 1, 1));
    // Room that was granted and not taken is the next one's.
    drop(waiting.remove(0));
    assert_eq!(present(&client), (0, 1, 1, 0));
    let last = waiting.remove(0);
    assert_eq!(run(&reactor, last).expect("an answer"), "ok");
    assert_eq!(present(&client), AT_REST);
}

/// Whoever waits for room alone waits for other tasks; whoever waits for the peer's SETTINGS waits for the peer.
#[test]
fn the_queue_keeps_no_loop_alive() {
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
    // Its body was there with its head: its stream is over.
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
fn a_place_in_the_queue_is_waited_for_as_long_as_asked() {
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
fn a_further_connection_for_those_who_find_no_room() {
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
fn a_goodbye_parts_what_was_seen_from_what_was_not() {
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
    assert_eq!(client.statistics().closed.of(Ending::Response(wire::framing::CloseReason::AskedByPeer)), 1);
}

/// A write that fails is the first to tell of a connection's end, unless the peer has given its reasons: they are there
/// to be read.
#[test]
fn a_goodbye_is_heard_although_nothing_can_be_written_any_more() {
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
    // No turn of the loop since.
    let mut second = Box::pin(answer(&client, post("body")));
    assert!(poll_once(second.as_mut()).is_pending());
    reactor.run_tasks();
    assert_eq!(run(&reactor, second).expect("sent again, for it was not seen").1, "ok");
    drop(held);
}

#[test]
fn an_idle_connection_that_has_ended_is_found_out_wherever_it_stands() {
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
    // What must not be sent twice is not sent to nobody.
    assert_eq!(run(&reactor, answer(&client, post("body"))).expect("an answer").1, "ok");
    assert_eq!(client.statistics().repeated, 0);
    drop(held);
}

#[test]
fn an_idle_connection_expires_with_a_goodbye() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let first = talk.head();
        talk.respond(first, "ok");
        while let Some(frame) = talk.next() {
            if frame.kind == GOAWAY {
                assert!(talk.frame().is_none(), "something behind a goodbye");
                return;
            }
        }
        panic!("no goodbye");
    })]);
    let (reactor, client) = peer.client_with(1, |config| config.idle_timeout = Some(Duration::from_secs(60)));
    assert_eq!(run(&reactor, ask(&client)).expect("an answer"), "ok");
    assert!(reactor.next_deadline().is_some());
    reactor.expire(Instant::now() + Duration::from_secs(30));
    assert_eq!(present(&client), AT_REST);
    reactor.expire(Instant::now() + Duration::from_secs(61));
    assert_eq!(present(&client), (0, 0, 0, 0));
    assert_eq!(client.statistics().closed.of(Ending::IdleTimeout), 1);
    peer.finish();
}

/// The connections of HTTP/2 count as the others do, while they are without a request.
#[test]
fn an_idle_connection_over_the_limit_of_its_group_is_closed_with_a_goodbye() {
    fn serve_until_goodbye(mut talk: Talk) {
        while let Some(frame) = talk.next() {
            match frame.kind {
                HEADERS => talk.respond(frame.stream, "ok"),
                GOAWAY => return assert!(talk.frame().is_none(), "something behind a goodbye"),
                _ => {}
            }
        }
        panic!("no goodbye");
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
    // While it has a request it neither counts nor is closed.
    let mut held = run(&reactor, open(&first, get())).expect("a head");
    assert_eq!(group.idle(), 0);
    assert_eq!(run(&reactor, ask(&second)).expect("an answer"), "ok");
    assert_eq!((present(&second), first.statistics().closed.total(), group.idle()), (AT_REST, 0, 1));
    go_on.send(()).expect("a script that listens");
    assert_eq!(run(&reactor, read_all(&mut held.body, 100)).expect("a body"), b"ok");
    drop(held);
    reactor.run_tasks();
    assert_eq!((present(&first), present(&second), group.idle()), (AT_REST, (0, 0, 0, 0), 1));
    assert_eq!(second.statistics().closed.of(Ending::IdleLimit), 1);
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

/// The loop may have had no turn since the answer came.
#[test]
fn a_ping_that_was_answered_in_time_is_an_answer_whenever_it_is_read() {
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
fn a_peer_that_does_not_answer_a_ping_is_dead() {
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
    assert_eq!(client.statistics().closed.of(Ending::TimedOut), 1);
}

#[test]
fn a_reactor_that_is_closed_ends_streams_and_leaves_nothing() {
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
    assert!(watched.upgrade().is_none(), "somebody holds the reactor");
    peer.finish();
}

/// Where nobody turns: the end has to be there already.
fn run_closed<F: Future>(mut future: Pin<Box<F>>) -> F::Output {
    match poll_once(future.as_mut()) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for a reactor that was closed"),
    }
}

#[test]
fn nothing_holds_on_to_a_client_that_is_dropped() {
    let peer = Peer::new([]);
    let (reactor, client) = peer.client(2);
    let response = {
        let (_, _) = run(&reactor, answer(&client, get())).expect("an answer");
        run(&reactor, open(&client, get())).expect("a head")
    };
    drop(client);
    drop(response);
    run(&reactor, support::turn(&reactor));
    // An answer that had not come whole is cancelled first: h2 wakes its task once more then.
    for _ in 0..20 {
        reactor.turn(Some(Duration::ZERO)).expect("a turn");
    }
    assert!(!reactor.has_work(), "a task that wakes itself");
    let watched = Rc::downgrade(&reactor);
    drop(reactor);
    assert!(watched.upgrade().is_none(), "somebody holds the reactor");
    peer.finish();
}

// --------------------------------------------------------------------------------------------------- nothing to be done

/// A loop that waits is not woken while nothing happens.
#[test]
fn nobody_is_busy_while_nothing_happens() {
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let (first, second) = (talk.head(), talk.head());
        // More than anybody has asked for, and nobody reads it.
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

/// Below is code of the program's, in which anything may be raised at any time.
struct Failing {
    stream: Stream,
    fails: Rc<Cell<bool>>,
}

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.fails.get() {
            return Poll::Ready(Err(io::Error::other("raised in the program's code")));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Failing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Layer for Failing {}

struct ByTheProgram(Rc<Cell<bool>>);

impl Tls for ByTheProgram {
    fn handshake(&self, stream: Stream) -> Handshake {
        let stream = Stream::Layer(Box::new(Failing { stream, fails: self.0.clone() }));
        Box::pin(async { Ok(Secured { stream, facts: Rc::new(Facts::default()) }) })
    }
}

/// It may be what ends the program, and is one object: one of those who wait has to get it. The others are told that
/// their connection is gone.
#[test]
fn what_is_raised_below_is_not_lost() {
    let (go_on, wait) = signal();
    let peer = Peer::new([script(|mut talk| {
        talk.start(&[]);
        let heads: Vec<u32> = (0..4).map(|_| talk.head()).collect();
        talk.respond(heads[0], "all are there");
        wait();
        talk.respond(heads[1], "never read");
        talk.wait_closed();
    })]);
    let fails = Rc::new(Cell::new(false));
    let (reactor, client) = peer.client_with(1, |config| config.tls = Some(Rc::new(ByTheProgram(fails.clone()))));
    let mut first = Box::pin(answer(&client, post("body")));
    run_until(&reactor, first.as_mut(), || client.statistics().streams == 1);
    let mut calls = Box::pin(join_all((0..3).map(|_| answer(&client, post("body")))));
    let both = std::future::poll_fn(|cx| {
        assert!(calls.as_mut().poll(cx).is_pending());
        first.as_mut().poll(cx)
    });
    assert_eq!(run(&reactor, both).expect("an answer").1, "all are there");
    fails.set(true);
    go_on.send(()).expect("a script that listens");
    let errors: Vec<_> = run(&reactor, calls).into_iter().map(|answer| answer.expect_err("a failure")).collect();
    let raised = errors.iter().filter(|error| error.to_string().starts_with("raised in the program's code"));
    assert_eq!(raised.count(), 1, "{errors:?}");
    assert_eq!(errors.iter().filter(|error| error.is_disconnect()).count(), 2, "{errors:?}");
    peer.finish();
}
