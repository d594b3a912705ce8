//! The pool: which request gets a connection, when, and that no slot leaks.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use engine::connect::Resolution;
use engine::pool::exhaustion::Exhaustion;
use engine::rt::timeout::Deadline;
use engine::{
    Client, CloseReason, ConnectionObserver, Error, Kind, Phase, Reactor, Request, RequestBody, Resolver, Response,
    SystemResolver,
};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn assert_free(client: &Client) {
    let statistics = client.pool().statistics();
    assert_eq!((statistics.in_use, statistics.waiting), (0, 0), "{statistics:?}");
}

fn assert_pool_closed(error: Error) {
    assert!(matches!(error.kind(), Kind::PoolClosed), "{error}");
    assert_eq!(error.phase(), Phase::Pool);
}

/// A client with one connection, held by a response whose last byte is still to come.
struct Busy {
    peer: Peer,
    reactor: Rc<Reactor>,
    client: Client,
    response: Response,
    /// Lets the peer send the last byte.
    last_byte: Sender<()>,
}

impl Busy {
    /// Starts the peer. `then` are its steps after the last byte, `next` those on its next connection.
    fn new(then: Vec<Step>, next: Option<Vec<Step>>) -> Busy {
        let (closed, last_byte) = gate();
        let script = [Step::Head, send(&OK[..OK.len() - 1]), closed, send("k")].into_iter().chain(then).collect();
        let peer = Peer::new([script].into_iter().chain(next));
        let (reactor, client) = client(&peer, 1);
        let response = run(&reactor, client.send(get(), &SystemResolver)).expect("an answer");
        assert_eq!(client.pool().statistics().in_use, 1);
        Busy { peer, reactor, client, response, last_byte }
    }

    /// Returns the slot, together with its connection.
    fn finish_response(&mut self) {
        self.last_byte.send(()).expect("a peer that waits");
        assert_eq!(run(&self.reactor, read_all(&mut self.response.body, 100)).expect("a body"), b"ok");
    }
}

#[test]
fn test_connections_never_exceed_the_limit() {
    let peer = Peer::new([vec![serve(OK)], vec![serve(OK)], vec![serve(OK)]]);
    let (reactor, client) = client(&peer, 3);
    let answers = run(&reactor, join_all((0..50).map(|_| answer(&client, get()))));
    for answer in answers {
        assert_eq!(answer.expect("an answer"), (200, "ok".into()));
    }
    let statistics = client.pool().statistics();
    assert_eq!((statistics.opened, statistics.reused, statistics.idle), (3, 47, 3));
    assert_eq!((statistics.in_use, statistics.waiting, statistics.limit), (0, 0, 3));
    assert_eq!(reactor.passive_waits(), 0);
    drop(client);
    peer.finish();
}

#[test]
fn test_connection_returned_last_is_used_next() {
    let (closed, open) = gate();
    let marked = send(OK.replace("ok", "1!"));
    let peer = Peer::new([
        vec![Step::Head, send(&OK[..OK.len() - 1]), closed, send("k"), Step::Head, marked, Step::Closed],
        vec![Step::Head, send(OK), Step::Closed],
    ]);
    let (reactor, client) = client(&peer, 2);
    run(&reactor, async {
        let mut first = client.send(get(), &SystemResolver).await.expect("an answer");
        assert_eq!(answer(&client, get()).await.expect("an answer").1, "ok");
        open.send(()).expect("a peer that waits");
        assert_eq!(read_all(&mut first.body, 100).await.expect("a body"), b"ok");
        assert_eq!(answer(&client, get()).await.expect("an answer").1, "1!");
    });
    drop(client);
    peer.finish();
}

#[test]
fn test_queue_is_served_in_order() {
    let peer = Peer::new([vec![serve(OK)]]);
    let (reactor, client) = client(&peer, 1);
    let order = RefCell::new(Vec::new());
    let numbered = |number: usize| {
        let (client, order) = (&client, &order);
        async move {
            answer(client, get()).await.expect("an answer");
            order.borrow_mut().push(number);
        }
    };
    run(&reactor, join_all((0..20).map(numbered)));
    assert_eq!(*order.borrow(), (0..20).collect::<Vec<_>>());
    drop(client);
    peer.finish();
}

#[test]
fn test_late_request_does_not_overtake_the_queue() {
    let mut busy = Busy::new(vec![serve(OK)], None);
    let order = RefCell::new(Vec::new());
    {
        let numbered = |number: usize| {
            let (client, order) = (&busy.client, &order);
            Box::pin(async move {
                answer(client, get()).await.expect("an answer");
                order.borrow_mut().push(number);
            })
        };
        let (mut first, late) = (numbered(1), numbered(2));
        assert!(poll_once(first.as_mut()).is_pending());
        // The slot was granted to the first, which has not run since.
        busy.last_byte.send(()).expect("a peer that waits");
        assert_eq!(run(&busy.reactor, read_all(&mut busy.response.body, 100)).expect("a body"), b"ok");
        run(&busy.reactor, join(late, first));
    }
    assert_eq!(*order.borrow(), [1, 2]);
    assert_eq!(busy.client.pool().statistics().opened, 1);
    drop(busy.client);
    busy.peer.finish();
}

#[test]
fn test_request_that_leaves_the_queue_is_forgotten() {
    let mut busy = Busy::new(vec![serve(OK)], None);
    let queue = |client: &Client| {
        let statistics = client.pool().statistics();
        (statistics.in_use, statistics.waiting)
    };
    {
        let mut leaving = Box::pin(answer(&busy.client, get()));
        let mut staying = Box::pin(answer(&busy.client, get()));
        assert!(poll_once(leaving.as_mut()).is_pending() && poll_once(staying.as_mut()).is_pending());
        assert_eq!((queue(&busy.client), busy.reactor.passive_waits()), ((1, 2), 2));
        drop(leaving);
        assert_eq!((queue(&busy.client), busy.reactor.passive_waits()), ((1, 1), 1));
        busy.last_byte.send(()).expect("a peer that waits");
        assert_eq!(run(&busy.reactor, read_all(&mut busy.response.body, 100)).expect("a body"), b"ok");
        assert_eq!(run(&busy.reactor, staying).expect("an answer").0, 200);
    }
    assert_free(&busy.client);
    drop(busy.client);
    busy.peer.finish();
}

#[test]
fn test_untaken_grant_is_passed_on_with_its_connection() {
    let mut busy = Busy::new(vec![serve(OK)], None);
    {
        let mut leaving = Box::pin(answer(&busy.client, get()));
        let mut staying = Box::pin(answer(&busy.client, get()));
        assert!(poll_once(leaving.as_mut()).is_pending() && poll_once(staying.as_mut()).is_pending());
        busy.last_byte.send(()).expect("a peer that waits");
        assert_eq!(run(&busy.reactor, read_all(&mut busy.response.body, 100)).expect("a body"), b"ok");
        assert_eq!(busy.client.pool().statistics().waiting, 1, "the place is granted");
        drop(leaving);
        assert_eq!(run(&busy.reactor, staying).expect("an answer").0, 200);
    }
    assert_free(&busy.client);
    assert_eq!(busy.client.pool().statistics().opened, 1);
    drop(busy.client);
    busy.peer.finish();
}

#[test]
fn test_untaken_grant_without_a_connection_is_passed_on() {
    let busy = Busy::new(Vec::new(), Some(vec![serve(OK)]));
    let Busy { peer, reactor, client, response, last_byte } = busy;
    {
        let mut leaving = Box::pin(answer(&client, get()));
        let mut staying = Box::pin(answer(&client, get()));
        assert!(poll_once(leaving.as_mut()).is_pending() && poll_once(staying.as_mut()).is_pending());
        drop(response);
        drop(leaving);
        assert_eq!(run(&reactor, staying).expect("an answer").0, 200);
    }
    assert_free(&client);
    last_byte.send(()).expect("a peer that waits");
    drop(client);
    drop(peer);
}

#[test]
fn test_closed_pool_fails_the_queue_and_lets_the_rest_finish() {
    let mut busy = Busy::new(vec![Step::Closed], None);
    let queued = {
        let mut queued = Box::pin(answer(&busy.client, get()));
        assert!(poll_once(queued.as_mut()).is_pending());
        let (queued, ()) = run(&busy.reactor, join(queued, async { busy.client.pool().close() }));
        queued
    };
    assert_pool_closed(queued.expect_err("closed"));
    assert_pool_closed(run(&busy.reactor, answer(&busy.client, get())).expect_err("closed"));
    busy.finish_response();
    assert_free(&busy.client);
    assert_eq!(busy.client.pool().statistics().idle, 0);
    // The client is still there: its connection was closed all the same.
    busy.peer.finish();
}

#[test]
fn test_closed_pool_closes_its_idle_connections() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    assert_eq!(run(&reactor, answer(&client, get())).expect("an answer").0, 200);
    client.pool().close();
    peer.finish();
    assert_pool_closed(run(&reactor, answer(&client, get())).expect_err("closed"));
}

#[test]
fn test_close_idle_leaves_the_rest_alone() {
    let mut busy = Busy::new(vec![Step::Head, send(OK), Step::Closed], Some(vec![serve(OK)]));
    busy.client.pool().close_idle();
    busy.finish_response();
    run(&busy.reactor, async {
        assert_eq!(answer(&busy.client, get()).await.expect("on the same").0, 200);
        busy.client.pool().close_idle();
        assert_eq!(busy.client.pool().statistics().idle, 0);
        assert_eq!(answer(&busy.client, get()).await.expect("on another").0, 200);
    });
    assert_eq!(busy.client.pool().statistics().opened, 2);
    drop(busy.client);
    busy.peer.finish();
}

#[test]
fn test_pool_closed_between_grant_and_use_keeps_nothing() {
    for polled in [true, false] {
        let mut busy = Busy::new(if polled { vec![serve(OK)] } else { vec![Step::Closed] }, None);
        {
            let mut granted = Box::pin(answer(&busy.client, get()));
            assert!(poll_once(granted.as_mut()).is_pending());
            busy.last_byte.send(()).expect("a peer that waits");
            assert_eq!(run(&busy.reactor, read_all(&mut busy.response.body, 100)).expect("a body"), b"ok");
            busy.client.pool().close();
            if polled {
                assert_eq!(run(&busy.reactor, granted).expect("an answer").0, 200);
            }
        }
        assert_free(&busy.client);
        assert_eq!(busy.client.pool().statistics().idle, 0);
        busy.peer.finish();
    }
}

/// Never returns an address.
struct Clueless;

impl Resolver for Clueless {
    fn resolve(&self, _: &str, _: u16, _: Option<Deadline>) -> Resolution {
        Box::pin(std::future::pending())
    }
}

#[test]
fn test_request_dropped_while_it_resolves_or_connects_frees_its_slot() {
    let (address, _full) = deaf_address();
    let (reactor, client) = client_with(address, 1, |_| ());
    let resolvers: [&dyn Resolver; 2] = [&Clueless, &SystemResolver];
    for resolver in resolvers {
        let mut first = Box::pin(client.send(get(), resolver));
        let mut second = Box::pin(client.send(get(), resolver));
        for _ in 0..2 {
            assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
            run(&reactor, turn(&reactor));
        }
        let statistics = client.pool().statistics();
        assert_eq!((statistics.in_use, statistics.waiting, statistics.opened), (1, 1, 0));
        drop(first);
        assert!(poll_once(second.as_mut()).is_pending());
        let statistics = client.pool().statistics();
        assert_eq!((statistics.in_use, statistics.waiting, statistics.opened), (1, 0, 0));
        drop(second);
        assert_free(&client);
    }
}

#[test]
fn test_request_dropped_in_flight_closes_its_connection_and_frees_its_slot() {
    let lines = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let expecting = request("POST", lines, RequestBody::Bytes("hello".into()));
    let waits: [(Request, Vec<Step>); 4] = [
        // While sending, before 100 Continue, before the head, and in the middle of it.
        (post(vec![0; 32 * 1024 * 1024]), vec![Step::Head]),
        (expecting, vec![Step::Head]),
        (get(), vec![Step::Head]),
        (get(), vec![Step::Head, send("HTTP/1.1 200 OK\r\nConte")]),
    ];
    for (request, mut script) in waits {
        let (notify, notified) = tell();
        script.extend([notify, Step::Gone]);
        let peer = Peer::new([script, vec![serve(OK)]]);
        let (reactor, client) = client(&peer, 1);
        {
            let mut dropped = Box::pin(answer(&client, request));
            run_until(&reactor, dropped.as_mut(), || client.pool().statistics().opened == 1);
            notified.wait();
            run(&reactor, async {
                for _ in 0..3 {
                    turn(&reactor).await;
                    assert!(poll_once(dropped.as_mut()).is_pending());
                }
            });
            let mut next = Box::pin(answer(&client, get()));
            assert!(poll_once(next.as_mut()).is_pending());
            assert_eq!(client.pool().statistics().waiting, 1);
            drop(dropped);
            assert_eq!(run(&reactor, next).expect("an answer"), (200, "ok".into()));
        }
        assert_free(&client);
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_idle_connection_is_closed_when_its_peer_closes_it() {
    let (wait, go) = gate();
    let (notify, notified) = tell();
    let peer =
        Peer::new([vec![Step::Head, send(OK), wait, Step::Close, notify], vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) = client(&peer, 2);
    run(&reactor, answer(&client, get())).expect("an answer");
    assert_eq!(client.pool().statistics().idle, 1);
    go.send(()).expect("a peer that waits");
    notified.wait();
    while client.pool().statistics().idle > 0 {
        reactor.turn(Some(BOUND)).expect("events");
    }
    let statistics = client.pool().statistics();
    assert_eq!((statistics.closed.of(CloseReason::EndedWhileIdle), statistics.closed.total()), (1, 1));
    run(&reactor, answer(&client, get())).expect("an answer");
    drop(client);
    peer.finish();
}

#[test]
fn test_idle_connections_expire() {
    let peer = Peer::new([vec![Step::Head, send(OK), Step::Closed], vec![Step::Head, send(OK), Step::Closed]]);
    let (reactor, client) =
        client_with(peer.address, 2, |config| config.idle_timeout = Some(Duration::from_millis(20)));
    for times in 1..=2 {
        run(&reactor, answer(&client, get())).expect("an answer");
        assert_eq!(client.pool().statistics().idle, 1);
        while client.pool().statistics().idle > 0 {
            let next = reactor.next_deadline().expect("something to wait for");
            reactor.turn(Some(next.saturating_duration_since(Instant::now()))).expect("events");
            reactor.expire(Instant::now());
        }
        let statistics = client.pool().statistics();
        assert_eq!((statistics.closed.of(CloseReason::IdleTimeout), statistics.closed.total()), (times, times));
    }
    drop(client);
    peer.finish();
}

#[test]
fn test_connection_in_use_does_not_expire() {
    let mut busy = Busy::new(vec![Step::Head, send(OK), Step::Closed], None);
    busy.reactor.expire(Instant::now() + Duration::from_secs(3600));
    busy.finish_response();
    run(&busy.reactor, answer(&busy.client, get())).expect("an answer");
    let statistics = busy.client.pool().statistics();
    assert_eq!((statistics.opened, statistics.reused, statistics.closed.total()), (1, 1, 0));
    drop(busy.client);
    busy.peer.finish();
}

/// An observer that records its notifications.
#[derive(Default)]
struct Kept(RefCell<Vec<String>>);

impl ConnectionObserver for Kept {
    fn opened(&self, peer: &str, took: Duration) {
        assert!(took < BOUND);
        self.0.borrow_mut().push(format!("opened {}", peer.is_empty()));
    }

    fn closed(&self, _: &str, ending: CloseReason) {
        self.0.borrow_mut().push(format!("closed {}", ending.name()));
    }

    fn repeated(&self, _: &str, error: &Error) {
        assert!(error.is_disconnect(), "{error}");
        self.0.borrow_mut().push("repeated".to_owned());
    }

    fn waits(&self, _: &Exhaustion) {
        self.0.borrow_mut().push("waits".to_owned());
    }
}

#[test]
fn test_observer_receives_the_close_reasons() {
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    let glued = format!("{OK}more");
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (to_close, end) = gate();
    let peer = Peer::new([
        vec![Step::Head, send(last), Step::Closed],
        vec![Step::Head, send(&glued), Step::Closed],
        vec![Step::Head, send("HTTP/1.1 200 OK\r\n\r\nok")],
        vec![Step::Head, send(old), Step::Closed],
        // Answers once, hears the next request and closes: that one is sent again.
        vec![Step::Head, send(OK), Step::Head, Step::Close],
        vec![Step::Head, send(last), Step::Closed],
        vec![Step::Head, send("no http")],
        vec![Step::Head, to_close, Step::Gone],
    ]);
    let journal = Rc::new(Kept::default());
    let (reactor, client) = client_with(peer.address, 1, |config| config.observer = Some(journal.clone()));
    for _ in 0..6 {
        run(&reactor, answer(&client, get())).expect("an answer");
    }
    run(&reactor, answer(&client, get())).expect_err("no answer");
    {
        let given_up = client.send(get(), &SystemResolver);
        let mut given_up = std::pin::pin!(given_up);
        run_until(&reactor, given_up.as_mut(), || client.pool().statistics().opened == 8);
    }
    end.send(()).expect("a peer that waits");
    let expected = [
        "opened false",
        "closed asked_by_peer",
        "opened false",
        "closed bytes_behind_response",
        "opened false",
        "closed body_until_close",
        "opened false",
        "closed http_1_0",
        "opened false",
        "repeated",
        "closed ended_while_idle",
        "opened false",
        "closed asked_by_peer",
        "opened false",
        "closed broken",
        "opened false",
        "closed given_up",
    ];
    assert_eq!(*journal.0.borrow(), expected);
    let statistics = client.pool().statistics();
    assert_eq!((statistics.repeated, statistics.opened, statistics.closed.total()), (1, 8, 8));
    peer.finish();
}

#[test]
fn test_each_close_reason_has_a_name_of_its_own() {
    let mut names: Vec<_> = CloseReason::ALL.iter().map(|ending| ending.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CloseReason::ALL.len());
}
