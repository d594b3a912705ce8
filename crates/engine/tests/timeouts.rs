//! Timeouts, with peers that let the client wait.
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
use engine::connect::Resolution;
use engine::rt::timeout::{Deadline, sleep};
use engine::{
    BodySource, Client, Config, Error, Kind, Phase, Reactor, Request, RequestBody, Resolver, SystemResolver, Timeouts,
};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const LIMIT: Duration = Duration::from_millis(200);

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
fn test_connect_without_an_answer_times_out() {
    let (address, _full) = deaf_address();
    let (reactor, client) = client_with(address, 1, |config| config.timeouts.connection = Some(LIMIT));
    let started = Instant::now();
    let failed = run(&reactor, answer(&client, get())).expect_err("a peer that does not answer");
    assert_timeout(&failed, Phase::Connect);
    assert!(started.elapsed() >= LIMIT && failed.elapsed().is_some_and(|elapsed| elapsed >= LIMIT));
    assert_free(&client);
}

#[test]
fn test_missing_or_half_head_times_out() {
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
fn test_silent_reused_connection_is_not_retried() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Head, Step::Closed]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    let failed = run(&reactor, answer(&client, get())).expect_err("no answer");
    assert_timeout(&failed, Phase::Head);
    assert_free(&client);
    peer.finish();
}

#[test]
fn test_body_that_stops_times_out() {
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
fn test_peer_that_stops_reading_times_out() {
    let peer = Peer::new([vec![Step::Head, Step::Gone]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(LIMIT));
    // The peer must read on at the end, to see the close behind all that it was sent.
    let (notify, notified) = tell();
    let (closed, open) = gate();
    let deaf = Peer::new([vec![Step::Head, notify, closed, Step::Gone]]);
    let (deaf_reactor, deaf_client) = client_with(deaf.address, 1, |config| config.timeouts.network = Some(LIMIT));
    let failed = run(&deaf_reactor, answer(&deaf_client, post(vec![0; 32 * 1024 * 1024]))).expect_err("stuck");
    assert_timeout(&failed, Phase::Send);
    notified.wait();
    assert_free(&deaf_client);
    open.send(()).expect("a peer that waits");
    deaf.finish();
    // A body that is read in time does not time out.
    let failed = run(&reactor, answer(&client, post(vec![0; 1024 * 1024]))).expect_err("no answer");
    assert_timeout(&failed, Phase::Head);
    drop(client);
    peer.finish();
}

#[test]
fn test_network_timeout_holds_for_each_wait() {
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
fn test_limit_of_zero_fails_at_the_first_wait() {
    let peer = Peer::new([vec![Step::Gone]]);
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts.network = Some(Duration::ZERO));
    let failed = run(&reactor, answer(&client, get())).expect_err("no time");
    assert!(matches!(failed.kind(), Kind::Timeout(Duration::ZERO)), "{failed}");
    assert_free(&client);
    peer.finish();
}

#[test]
fn test_cancelled_read_does_not_count_for_the_next() {
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
fn test_cancelled_wait_is_not_woken() {
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
    assert_eq!(Arc::strong_count(&witness), 1, "no reference to the waker remains");
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

/// Starts a peer that plays the script once, and serves all connections after that.
fn bad_then_good(script: Vec<Step>) -> Peer {
    Peer::new([script, vec![serve(OK)]])
}

fn assert_whole_again(reactor: &Rc<Reactor>, client: &Client) {
    assert_free(client);
    let again = Request { timeouts: Some(Box::default()), ..get() };
    assert_eq!(run(reactor, answer(client, again)).expect("an answer"), (200, "ok".into()));
}

#[test]
fn test_connection_timeout_holds_for_the_whole_dial() {
    let (address, _full) = deaf_address();
    let (reactor, client) = client_with(address, 1, |config| {
        hurried(config);
        config.timeouts.connection = Some(BOUND);
    });
    let failed = run(&reactor, answer(&client, get())).expect_err("a peer that does not answer");
    assert_deadline(&failed, Phase::Connect);
    assert_free(&client);

    let (reactor, client) = client_with(address, 1, |config| {
        config.timeouts.total = Some(BOUND);
        config.timeouts.connection = Some(LIMIT);
    });
    let failed = run(&reactor, answer(&client, get())).expect_err("a peer that does not answer");
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
fn test_slow_resolver_times_out() {
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
fn test_wait_in_the_queue_times_out() {
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
fn test_slow_sending_exceeds_the_total_timeout() {
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

/// Blocks for a moment before each piece, and ends only long after the deadline.
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
fn test_upload_that_never_waits_exceeds_the_total_timeout() {
    let peer = bad_then_good(vec![Step::Head, Step::Gone]);
    let (reactor, client) = client_with(peer.address, 1, hurried);
    let endless = request("POST", "Transfer-Encoding: chunked\r\n", RequestBody::Chunked(Box::<Drops>::default()));
    let failed = run(&reactor, answer(&client, endless)).expect_err("no end");
    assert_deadline(&failed, Phase::Send);
    assert_whole_again(&reactor, &client);
    drop(client);
    peer.finish();
}

/// The wait for 100 Continue has a limit of its own, of a second.
#[test]
fn test_missing_100_continue_exceeds_the_total_timeout() {
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

/// Starts a peer that answers with `start` and then sends `piece` every `pause` until the client closes. It serves the
/// next connection, and ends with that.
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
            assert!(started.elapsed() < BOUND, "the client never stops reading");
            std::thread::sleep(pause);
        }
        accept().write_all(OK.as_bytes()).expect("a client that reads");
    });
    (address, peer)
}

#[test]
fn test_trickled_body_exceeds_the_total_timeout() {
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
fn test_endless_body_exceeds_the_total_timeout() {
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

/// The whole body arrives in time but is not read: bytes that were not delivered before the deadline are not delivered.
#[test]
fn test_reader_that_never_waits_exceeds_the_total_timeout() {
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
fn test_request_with_an_expired_deadline_sends_nothing() {
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
        // The second time there is a connection, which stays usable.
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    }
    assert_eq!(peer.connections(), 1);
    drop(client);
    peer.finish();
}

/// A request's own timeouts replace all those of the client.
#[test]
fn test_requests_own_timeouts_replace_the_clients() {
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
    let unlimited = Request { timeouts: Some(Box::default()), ..get() };
    let opening = async {
        sleep(&reactor, LIMIT * 2).await;
        open.send(()).expect("a peer that waits");
    };
    let (answered, ()) = run(&reactor, join(answer(&client, unlimited), opening));
    assert_eq!(answered.expect("an answer").0, 200);
    // On the same connection, the next has the client's again.
    let failed = run(&reactor, answer(&client, get())).expect_err("no answer");
    assert!(matches!(failed.kind(), Kind::Timeout(_) | Kind::Deadline(_)), "{failed}");
    assert_eq!(failed.phase(), Phase::Head);
    drop(client);
    peer.finish();
}

#[test]
fn test_limit_beyond_all_clocks_is_no_limit() {
    let peer = Peer::new([vec![serve(OK)]]);
    let longest = Some(Duration::MAX);
    let timeouts = Timeouts { connection: longest, network: longest, pool: longest, total: longest };
    let (reactor, client) = client_with(peer.address, 1, |config| config.timeouts = timeouts);
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    drop(client);
    peer.finish();
}
