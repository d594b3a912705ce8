//! Peers that keep us waiting.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::dial::Resolution;
use engine::timers::{Deadline, sleep};
use engine::{
    BodySource, Client, Config, Error, Kind, Phase, Reactor, Request, RequestBody, Resolver, SystemResolver, Timeouts,
};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LIMIT: Duration = Duration::from_millis(100);

fn assert_timeout(error: &Error, phase: Phase) {
    assert!(matches!(error.kind(), Kind::Timeout(limit) if *limit == LIMIT), "{error}");
    assert_eq!(error.phase(), phase, "{error}");
    assert!(error.peer().is_some());
}

fn assert_free(client: &Client) {
    let statistics = client.pool().statistics();
    assert_eq!((statistics.in_use, statistics.waiting, statistics.idle), (0, 0, 0), "{statistics:?}");
}

#[test]
fn nobody_takes_the_connection() {
    let (address, _full) = deaf_address();
    let (reactor, client) = client_with(address, 1, |config| config.timeouts.connection = Some(LIMIT));
    let started = Instant::now();
    let failed = run(&reactor, answer(&client, get())).expect_err("nobody answers");
    assert_timeout(&failed, Phase::Connect);
    assert!(started.elapsed() >= LIMIT && failed.elapsed().is_some_and(|elapsed| elapsed >= LIMIT));
    assert_free(&client);
}

#[test]
fn no_head_comes_or_half_of_one() {
    for words in ["", "HTTP/1.1 200 OK\r\nConte", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let peer = Peer::new([vec![Step::Head, send(words), Step::Gone], vec![serve(OK)]]);
        let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
        let started = Instant::now();
        let failed = run(&reactor, answer(&client, get())).expect_err("no answer");
        assert_timeout(&failed, Phase::Head);
        assert!(started.elapsed() >= LIMIT);
        assert_free(&client);
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
        drop(client);
        peer.finish();
    }
}

#[test]
fn a_reused_connection_that_stays_silent_is_not_tried_again() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, Step::Closed]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    let failed = run(&reactor, answer(&client, get())).expect_err("no answer");
    assert_timeout(&failed, Phase::Head);
    assert_free(&client);
    peer.finish();
}

#[test]
fn the_body_stops_coming() {
    let counted = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n";
    let endless = "HTTP/1.1 200 OK\r\n\r\nsome";
    for text in [counted, chunked, endless] {
        for room in [100, 100_000] {
            let peer = Peer::new([vec![Step::Head, send(text), Step::Closed]]);
            let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
            run(&reactor, async {
                let mut response = client.send(get(), &SystemResolver).await.expect("a head");
                let mut room = vec![0; room];
                assert_eq!(read_piece(&mut response.body, &mut room).await.expect("some of it"), 4);
                let failed = read_piece(&mut response.body, &mut room).await.expect_err("no more of it");
                assert_timeout(&failed, Phase::Body);
                assert_free(&client);
                let again = read_piece(&mut response.body, &mut room).await.expect_err("still no more");
                assert!(matches!(again.kind(), Kind::Response(_)), "{again}");
            });
            peer.finish();
        }
    }
}

#[test]
fn the_peer_stops_reading() {
    let peer = Peer::new([vec![Step::Head, Step::Gone]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
    // The peer must read on at the end, to see the close behind all that it was sent.
    let (told, was_told) = tell();
    let (closed, open) = gate();
    let deaf = Peer::new([vec![Step::Head, told, closed, Step::Gone]]);
    let (deaf_reactor, deaf_client) = client_with(deaf.address, 1, |config| config.timeouts.network = Some(LIMIT));
    let failed = run(&deaf_reactor, answer(&deaf_client, post(vec![0; 32 * 1024 * 1024]))).expect_err("stuck");
    assert_timeout(&failed, Phase::Send);
    was_told.wait();
    assert_free(&deaf_client);
    open.send(()).expect("a peer that waits");
    deaf.finish();
    // And a body that is read in time is no reason for one.
    let failed = run(&reactor, answer(&client, post(vec![0; 1024 * 1024]))).expect_err("no answer");
    assert_timeout(&failed, Phase::Head);
    drop(client);
    peer.finish();
}

#[test]
fn the_limit_is_for_each_wait_and_not_for_all() {
    let (gates, keys): (Vec<Step>, Vec<_>) = (0..OK.len().min(8)).map(|_| gate()).unzip();
    let mut script = vec![Step::Head];
    let mut rest = OK.as_bytes();
    for gate in gates {
        script.extend([gate, send(&rest[..1])]);
        rest = &rest[1..];
    }
    script.extend([send(rest), Step::Closed]);
    let peer = Peer::new([script]);
    let limit = Duration::from_millis(500);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(limit));
    let opening = async {
        for key in keys {
            sleep(&reactor, Duration::from_millis(100)).await;
            key.send(()).expect("a peer that waits");
        }
    };
    let started = Instant::now();
    let (answer, ()) = run(&reactor, join(answer(&client, get()), opening));
    assert_eq!(answer.expect("an answer"), (200, "ok".into()));
    assert!(started.elapsed() > limit);
    drop(client);
    peer.finish();
}

#[test]
fn a_limit_of_nothing_fails_at_the_first_wait() {
    let peer = Peer::new([vec![Step::Gone]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(Duration::ZERO));
    let failed = run(&reactor, answer(&client, get())).expect_err("no time");
    assert!(matches!(failed.kind(), Kind::Timeout(Duration::ZERO)), "{failed}");
    assert_free(&client);
    peer.finish();
}

#[test]
fn a_read_that_was_given_up_does_not_count_against_the_next() {
    let (closed, open) = gate();
    let peer = Peer::new([vec![Step::Head, send(&OK[..OK.len() - 1]), closed, send("k"), Step::Closed]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
    run(&reactor, async {
        let mut response = client.send(get(), &SystemResolver).await.expect("a head");
        response.body.ready().clear();
        assert!(poll_once(pin!(response.body.fetch())).is_pending());
        sleep(&reactor, LIMIT * 2).await;
        assert!(poll_once(pin!(response.body.fetch())).is_pending(), "a wait of its own");
        sleep(&reactor, LIMIT * 2).await;
        let (fetched, ()) = join(response.body.fetch(), async { open.send(()).expect("a peer that waits") }).await;
        assert!(fetched.expect("the last byte"));
        assert_eq!(&response.body.ready()[..], b"k");
    });
    drop(client);
    peer.finish();
}

#[test]
fn who_gave_up_is_not_woken() {
    let (closed, open) = gate();
    let (sent, was_sent) = tell();
    let peer = Peer::new([vec![Step::Head, send(&OK[..OK.len() - 1]), closed, send("k"), sent, Step::Gone]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
    let mut response = run(&reactor, client.send(get(), &SystemResolver)).expect("a head");
    response.body.ready().clear();
    let witness = Arc::new(Witness::default());
    let waker = Waker::from(witness.clone());
    assert!(pin!(response.body.fetch()).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert_eq!(Arc::strong_count(&witness), 1, "nobody keeps the waker");
    open.send(()).expect("a peer that waits");
    was_sent.wait();
    run(&reactor, sleep(&reactor, LIMIT * 2));
    assert_eq!(witness.0.load(Ordering::SeqCst), 0);
    drop(response);
    peer.finish();
}

/// Counts how often it is woken.
#[derive(Default)]
struct Witness(AtomicUsize);

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// ------------------------------------------------------------------------------------ the deadline of a whole request

fn hurried(config: &mut Config) {
    config.timeouts.total = Some(LIMIT);
}

fn assert_deadline(error: &Error, phase: Phase) {
    assert!(matches!(error.kind(), Kind::Deadline(limit) if *limit == LIMIT), "{error}");
    assert_eq!(error.phase(), phase, "{error}");
    assert!(error.peer().is_some() && error.elapsed().is_none_or(|elapsed| elapsed >= LIMIT));
}

/// A peer whose script is followed once, and that is a good one from then on.
fn bad_then_good(script: Vec<Step>) -> Peer {
    Peer::new([script, vec![serve(OK)]])
}

fn assert_whole_again(reactor: &Rc<Reactor>, client: &Client) {
    assert_free(client);
    let again = Request { timeouts: Some(Box::default()), ..get() };
    assert_eq!(run(reactor, answer(client, again)).expect("an answer"), (200, "ok".into()));
}

#[test]
fn the_whole_request_has_no_more_time_than_its_connection() {
    let (address, _full) = deaf_address();
    let (reactor, client) = client_with(address, 1, |config| {
        hurried(config);
        config.timeouts.connection = Some(BOUND);
    });
    let failed = run(&reactor, answer(&client, get())).expect_err("nobody answers");
    assert_deadline(&failed, Phase::Connect);
    assert_free(&client);

    let (reactor, client) = client_with(address, 1, |config| {
        config.timeouts.total = Some(BOUND);
        config.timeouts.connection = Some(LIMIT);
    });
    let failed = run(&reactor, answer(&client, get())).expect_err("nobody answers");
    assert_timeout(&failed, Phase::Connect);
}

/// A resolver that never answers, or blocks its thread for too long.
struct Slow {
    blocks: bool,
}

impl Resolver for Slow {
    fn resolve(&self, _: &str, port: u16, until: Option<Deadline>) -> Resolution {
        let left = until.expect("a limit").left();
        assert!(left <= LIMIT);
        if self.blocks {
            std::thread::sleep(left);
            return Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) });
        }
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_resolver_takes_too_long() {
    for blocks in [false, true] {
        let peer = Peer::new([vec![serve(OK)]]);
        let (reactor, client) = client_with(peer.address, 1, hurried);
        let failed = run(&reactor, client.send(get(), &Slow { blocks })).err().expect("no address");
        assert_deadline(&failed, Phase::Resolve);
        assert_whole_again(&reactor, &client);

        let timeouts = Timeouts { connection: Some(LIMIT), total: Some(BOUND), ..Timeouts::default() };
        let own = Request { timeouts: Some(Box::new(timeouts)), ..get() };
        client.pool().close_idle();
        let failed = run(&reactor, client.send(own, &Slow { blocks })).err().expect("no address");
        assert_timeout(&failed, Phase::Resolve);
        drop(client);
        peer.finish();
    }
}

#[test]
fn the_queue_takes_too_long() {
    let (closed, open) = gate();
    let peer = Peer::new([vec![Step::Head, closed, send(OK), Step::Closed]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(BOUND));
    let mut first = pin!(answer(&client, get()));
    run_until(&reactor, first.as_mut(), || client.pool().statistics().opened == 1);
    let total = Timeouts { total: Some(LIMIT), ..Timeouts::default() };
    let both = Timeouts { total: Some(LIMIT), pool: Some(BOUND), ..Timeouts::default() };
    let pool = Timeouts { total: Some(BOUND), pool: Some(LIMIT), ..Timeouts::default() };
    for timeouts in [total, both] {
        let late = Request { timeouts: Some(Box::new(timeouts)), ..get() };
        let failed = run(&reactor, answer(&client, late)).expect_err("all are in use");
        assert_deadline(&failed, Phase::Pool);
    }
    let late = Request { timeouts: Some(Box::new(pool)), ..get() };
    assert_timeout(&run(&reactor, answer(&client, late)).expect_err("all are in use"), Phase::Pool);
    assert_eq!(client.pool().statistics().waiting, 0);
    open.send(()).expect("a peer that waits");
    assert_eq!(run(&reactor, first).expect("an answer").0, 200);
    client.pool().close();
    peer.finish();
}

#[test]
fn sending_takes_too_long() {
    let (closed, open) = gate();
    let peer = bad_then_good(vec![Step::Head, closed, Step::Gone]);
    let (reactor, client) = client_with(peer.address, 1, hurried);
    let failed = run(&reactor, answer(&client, post(vec![0; 32 * 1024 * 1024]))).expect_err("stuck");
    assert_deadline(&failed, Phase::Send);
    open.send(()).expect("a peer that waits");
    assert_whole_again(&reactor, &client);
    drop(client);
    peer.finish();
}

/// Blocks for a moment before each piece, and comes to its end only when it should have been ended long before.
#[derive(Default)]
struct Drops(u32);

impl BodySource for Drops {
    fn poll_next(&mut self, _: &mut Context<'_>, _: Option<Deadline>) -> Poll<Option<Result<Bytes, Kind>>> {
        std::thread::sleep(LIMIT / 20);
        self.0 += 1;
        Poll::Ready((self.0 < 100).then(|| Ok(Bytes::from_static(b"drop"))))
    }
}

#[test]
fn a_body_that_never_has_to_wait_for_the_peer_is_ended() {
    let peer = bad_then_good(vec![Step::Head, Step::Gone]);
    let (reactor, client) = client_with(peer.address, 1, hurried);
    let endless = request("POST", "Transfer-Encoding: chunked\r\n", RequestBody::Chunked(Box::<Drops>::default()));
    let failed = run(&reactor, answer(&client, endless)).expect_err("no end");
    assert_deadline(&failed, Phase::Send);
    assert_whole_again(&reactor, &client);
    drop(client);
    peer.finish();
}

/// Waiting for leave has a limit of its own, of a second.
#[test]
fn leave_to_send_the_body_does_not_come() {
    let peer = bad_then_good(vec![Step::Head, Step::Closed]);
    let (reactor, client) = client_with(peer.address, 1, hurried);
    let lines = "Content-Length: 2\r\nExpect: 100-continue\r\n";
    let asking = request("PUT", lines, RequestBody::Bytes(Bytes::from_static(b"ok")));
    let started = Instant::now();
    let failed = run(&reactor, answer(&client, asking)).expect_err("no leave");
    assert_deadline(&failed, Phase::Head);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_whole_again(&reactor, &client);
    drop(client);
    peer.finish();
}

/// A peer that answers with `start` and then goes on to say `piece` every `pause` for as long as it is heard; to the
/// next connection it is a good one. It ends with that.
fn endless(start: &'static str, piece: Vec<u8>, pause: Duration) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let accept = move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(BOUND)).expect("a good timeout");
        stream.set_write_timeout(Some(BOUND)).expect("a good timeout");
        assert!(stream.read(&mut [0; 1024]).expect("a request") > 0);
        stream
    };
    let peer = std::thread::spawn(move || {
        let started = Instant::now();
        let mut stream = accept();
        stream.write_all(start.as_bytes()).expect("a client that reads");
        while stream.write_all(&piece).is_ok() {
            assert!(started.elapsed() < BOUND, "heard for ever");
            std::thread::sleep(pause);
        }
        accept().write_all(OK.as_bytes()).expect("a client that reads");
    });
    (address, peer)
}

#[test]
fn a_byte_now_and_then_outlives_nothing() {
    for (start, piece, phase) in [
        ("HTTP/1.1 200 OK\r\nX: ", "y", Phase::Head),
        ("", "HTTP/1.1 103 Early Hints\r\n\r\n", Phase::Head),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "z", Phase::Body),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nz\r\n", Phase::Body),
    ] {
        let (address, peer) = endless(start, piece.into(), LIMIT / 10);
        let (reactor, client) = client_with(address, 1, |config| {
            hurried(config);
            config.timeouts.network = Some(LIMIT);
        });
        let failed = run(&reactor, answer(&client, get())).expect_err("no end");
        assert_deadline(&failed, phase);
        assert_whole_again(&reactor, &client);
        peer.join().expect("a peer");
    }
}

#[test]
fn an_endless_body_is_ended_however_it_is_read() {
    // A reader that is slower than its peer never waits for it.
    for (room, pause) in [(64 * 1024, Duration::ZERO), (64 * 1024, LIMIT / 10), (4096, LIMIT / 10)] {
        let (address, peer) = endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'z'; 64 * 1024], Duration::ZERO);
        let (reactor, client) = client_with(address, 1, hurried);
        run(&reactor, async {
            let mut response = client.send(get(), &SystemResolver).await.expect("a head");
            let mut room = vec![0; room];
            let failed = loop {
                if !pause.is_zero() {
                    sleep(&reactor, pause).await;
                }
                match read_piece(&mut response.body, &mut room).await {
                    Ok(read) => assert!(read > 0),
                    Err(failed) => break failed,
                }
                response.body.ready().clear();
            };
            assert_deadline(&failed, Phase::Body);
        });
        assert_whole_again(&reactor, &client);
        peer.join().expect("a peer");
    }
}

/// All of the body is there in time, but not taken: what is not delivered when the time is over is not delivered.
#[test]
fn a_reader_that_never_waits_is_told() {
    for room in [64, 16 * 1024] {
        let body = vec![b'z'; 256 * 1024];
        let peer = bad_then_good(vec![Step::Head, send("HTTP/1.1 200 OK\r\n\r\n"), Step::Send(body), Step::Close]);
        let (reactor, client) = client_with(peer.address, 1, hurried);
        run(&reactor, async {
            let mut response = client.send(get(), &SystemResolver).await.expect("a head");
            let mut room = vec![0; room];
            sleep(&reactor, LIMIT / 2).await;
            assert!(read_piece(&mut response.body, &mut room).await.expect("some of it") > 0);
            sleep(&reactor, LIMIT).await;
            response.body.ready().clear();
            let failed = read_piece(&mut response.body, &mut room).await.expect_err("too late");
            assert_deadline(&failed, Phase::Body);
        });
        assert_whole_again(&reactor, &client);
        drop(client);
        peer.finish();
    }
}

#[test]
fn a_request_without_time_says_nothing() {
    let peer = Peer::new([vec![serve(OK)]]);
    let (reactor, client) = client_with(peer.address, 1, |_| ());
    let hopeless = || {
        let timeouts = Timeouts { total: Some(Duration::ZERO), ..Timeouts::default() };
        Request { timeouts: Some(Box::new(timeouts)), ..get() }
    };
    for _ in 0..2 {
        let failed = run(&reactor, answer(&client, hopeless())).expect_err("no time");
        assert!(matches!(failed.kind(), Kind::Deadline(Duration::ZERO)), "{failed}");
        assert_eq!(failed.phase(), Phase::Pool);
        // The second time there is a connection, which this does no harm.
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    }
    assert_eq!(peer.connections(), 1);
    drop(client);
    peer.finish();
}

/// A request's own timeouts are in place of the client's, all of them.
#[test]
fn a_request_brings_its_own() {
    let (closed, open) = gate();
    let peer = Peer::new([vec![Step::Head, Step::Gone], vec![Step::Head, closed, send(OK), Step::Head, Step::Gone]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(BOUND));
    let shorter = Timeouts { network: Some(LIMIT), ..Timeouts::default() };
    let failed = run(&reactor, answer(&client, Request { timeouts: Some(Box::new(shorter)), ..get() }));
    assert_timeout(&failed.expect_err("no answer"), Phase::Head);
    drop(client);

    let (reactor, client) = client_with(peer.address, 1, |config| {
        config.timeouts = Timeouts { network: Some(LIMIT), total: Some(LIMIT), ..Timeouts::default() };
    });
    let patient = Request { timeouts: Some(Box::default()), ..get() };
    let opening = async {
        sleep(&reactor, LIMIT * 2).await;
        open.send(()).expect("a peer that waits");
    };
    let (patiently, ()) = run(&reactor, join(answer(&client, patient), opening));
    assert_eq!(patiently.expect("an answer").0, 200);
    // On the same connection, the next has the client's again.
    let failed = run(&reactor, answer(&client, get())).expect_err("no answer");
    assert!(matches!(failed.kind(), Kind::Timeout(_) | Kind::Deadline(_)), "{failed}");
    assert_eq!(failed.phase(), Phase::Head);
    drop(client);
    peer.finish();
}

#[test]
fn a_limit_beyond_all_clocks_is_none() {
    let peer = Peer::new([vec![serve(OK)]]);
    let longest = Some(Duration::MAX);
    let timeouts = Timeouts { connection: longest, network: longest, pool: longest, total: longest };
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts = timeouts);
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    drop(client);
    peer.finish();
}
