//! Peers that keep us waiting.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use engine::timers::sleep;
use engine::{Client, Error, Kind, Phase, SystemResolver};
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
