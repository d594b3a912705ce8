//! The reactor: its end, its deadlines, and fairness between tasks.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::rt::timeout::sleep;
use engine::{Kind, Phase, Reactor, RequestBody, SystemResolver};
use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const MIB: usize = 1024 * 1024;

/// Counts the turns that others get while `future` runs.
async fn turns_during<F: Future>(reactor: &std::rc::Rc<Reactor>, future: F) -> (F::Output, usize) {
    let (over, turns) = (Cell::new(false), Cell::new(0));
    let counting = async {
        while !over.get() {
            turn(reactor).await;
            turns.set(turns.get() + 1);
        }
    };
    let counted = async {
        let output = future.await;
        over.set(true);
        output
    };
    let (output, ()) = join(counted, counting).await;
    (output, turns.get())
}

#[test]
fn test_busy_task_does_not_starve_others() {
    let reactor = Reactor::new().expect("a reactor");
    let over = Cell::new(false);
    let mut polls = 0;
    let busy = std::future::poll_fn(|cx| {
        polls += 1;
        assert!(polls < 10_000_000, "the timer never had its turn");
        if over.get() {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    });
    let timer = async {
        sleep(&reactor, Duration::from_millis(1)).await;
        over.set(true);
    };
    run(&reactor, join(busy, timer));
}

#[test]
fn test_fast_download_does_not_starve_others() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 * MIB);
    let peer = Peer::new([vec![Step::Head, send(head), Step::Repeat(vec![b'x'; MIB], 64), Step::Closed]]);
    let (reactor, client) = client(&peer, 1);
    let download = async {
        let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
        let (mut length, mut room) = (0, vec![0; 64 * 1024]);
        loop {
            match read_piece(&mut response.body, &mut room).await.expect("a body") {
                0 => return length,
                read => length += read,
            }
        }
    };
    let (length, turns) = run(&reactor, turns_during(&reactor, download));
    assert_eq!(length, 64 * MIB);
    assert!(turns >= 32, "{turns} turns");
    drop(client);
    peer.finish();
}

#[test]
fn test_fast_upload_does_not_starve_others() {
    let peer = Peer::new([vec![
        Step::Head,
        Step::Drain(64 * (MIB + "100000\r\n\r\n".len()) + "0\r\n\r\n".len()),
        send(OK),
        Step::Closed,
    ]]);
    let (reactor, client) = client(&peer, 1);
    let piece = Bytes::from(vec![b'x'; MIB]);
    let body = RequestBody::Chunked(Pieces::of(std::iter::repeat_n(piece, 64)));
    let upload = answer(&client, request("POST", "Transfer-Encoding: chunked\r\n", body));
    let (answer, turns) = run(&reactor, turns_during(&reactor, upload));
    assert_eq!(answer.expect("an answer").0, 200);
    assert!(turns >= 32, "{turns} turns");
    drop(client);
    peer.finish();
}

#[test]
fn test_closed_reactor_fails_all_waits() {
    let ((came, has_come), length) = (tell(), 8 * MIB);
    let peer = Peer::new([
        vec![Step::Head, came, Step::Gone],
        vec![Step::Head, send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1"), Step::Gone],
        vec![Step::Gone],
    ]);
    let (reactor, client) = client(&peer, 3);
    run(&reactor, async {
        let mut head = pin!(answer(&client, get()));
        assert!(poll_once(head.as_mut()).is_pending());
        turn(&reactor).await;
        assert!(poll_once(head.as_mut()).is_pending());
        has_come.wait();
        let mut response = client.send(get(), &SystemResolver).await.expect("an answer");
        let mut body = pin!(read_all(&mut response.body, 100));
        assert!(poll_once(body.as_mut()).is_pending());
        let large = post(vec![0; length]);
        let mut sending = pin!(answer(&client, large));
        assert!(poll_once(sending.as_mut()).is_pending());
        turn(&reactor).await;
        assert!(poll_once(sending.as_mut()).is_pending());
        let mut queued = pin!(answer(&client, get()));
        assert!(poll_once(queued.as_mut()).is_pending());

        let closing = async { reactor.close() };
        let ((failed_head, failed_body), ((failed_send, failed_queued), ())) =
            join(join(head, body), join(join(sending, queued), closing)).await;
        for (failure, phase) in [
            (failed_head.expect_err("closed"), Phase::Head),
            (failed_body.expect_err("closed"), Phase::Body),
            (failed_send.expect_err("closed"), Phase::Send),
            (failed_queued.expect_err("closed"), Phase::Connect),
        ] {
            assert!(matches!(failure.kind(), Kind::Io(error) if error.kind() == ErrorKind::NotConnected), "{failure}");
            assert_eq!(failure.phase(), phase, "{failure}");
        }
        let after = answer(&client, get()).await.expect_err("closed");
        assert_eq!(after.phase(), Phase::Connect);
    });
    let statistics = client.pool().statistics();
    assert_eq!((statistics.idle, statistics.in_use, statistics.waiting), (0, 0, 0));
    peer.finish();
}

#[test]
fn test_many_deadlines_pass_at_once() {
    const REQUESTS: usize = 200;
    // Only the kernel accepts connections here: no request is answered.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket2::SockRef::from(&listener).listen(REQUESTS as i32).expect("a listening socket");
    let limit = Duration::from_millis(100);
    let address = listener.local_addr().expect("bound");
    let (reactor, client) = client_with(address, REQUESTS, |config| config.timeouts.network = Some(limit));
    let started = Instant::now();
    let failures = run(&reactor, join_all((0..REQUESTS).map(|_| answer(&client, get()))));
    for failure in failures {
        let failure = failure.expect_err("a peer that does not answer");
        assert!(matches!(failure.kind(), Kind::Timeout(after) if *after == limit), "{failure}");
        assert_eq!(failure.phase(), Phase::Head);
    }
    assert!(started.elapsed() >= limit);
    assert_eq!(client.pool().statistics().in_use, 0);
}

#[test]
fn test_each_deadline_passes_in_time() {
    let reactor = Reactor::new().expect("a reactor");
    let sleeping = async |millis| {
        let started = Instant::now();
        sleep(&reactor, Duration::from_millis(millis)).await;
        assert!(started.elapsed() >= Duration::from_millis(millis), "{millis} ms");
    };
    run(&reactor, join_all([30, 10, 20, 0, 25, 5, 10].map(sleeping)));
}

#[test]
fn test_timeout_longer_than_any_clock_is_no_limit() {
    for huge in [Duration::MAX, Duration::from_secs(u64::MAX / 4), Duration::from_secs(60 * 60 * 24 * 365 * 50)] {
        let peer = Peer::new([vec![Step::Head, trickle(OK), Step::Closed]]);
        let (reactor, client) = client_with(peer.address, 1, |config| {
            config.timeouts.network = Some(huge);
            config.timeouts.connection = Some(huge);
        });
        assert_eq!(run(&reactor, answer(&client, get())).expect("an answer"), (200, "ok".into()));
        drop(client);
        peer.finish();
    }
}
