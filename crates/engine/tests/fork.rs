//! Two processes after a fork: neither takes the other's events, sockets or answers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

mod support;

use support::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Runs `child` in a forked process, and returns its exit code, which shows how far it got.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child has this thread only; it allocates, which glibc and musl allow after a fork, prints nothing,
    // and leaves without running any exit handlers.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            libc::_exit(outcome.unwrap_or(100));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }
}

#[test]
fn test_parent_and_child_continue_with_connections_of_their_own() {
    let (closed, open) = gate();
    let peer = Peer::new([
        vec![Step::Head, closed, send(OK), Step::Head, send(OK), Step::Closed],
        vec![Step::Head, send(OK), Step::Head, send(OK), Step::Closed],
        vec![Step::Head, trickle(OK), Step::Closed],
    ]);
    let (reactor, client) = client(&peer, 2);
    // At the fork, one connection of the parent waits for a response, and one is idle.
    let mut waiting = Box::pin(answer(&client, get()));
    run_until(&reactor, waiting.as_mut(), || client.pool().statistics().opened == 1);
    run(&reactor, answer(&client, get())).expect("an answer");
    assert_eq!(client.pool().statistics().idle, 1);
    let exit = in_child(|| {
        reactor.after_fork_in_child();
        match run(&reactor, answer(&client, get())) {
            Ok((200, body)) if body == "ok" => 7,
            Ok(_) => 1,
            Err(_) => 2,
        }
    });
    assert_eq!(exit, 7, "the child's own request");
    open.send(()).expect("a peer that waits");
    assert_eq!(run(&reactor, waiting).expect("an answer"), (200, "ok".into()));
    run(&reactor, async {
        for answer in join_all([answer(&client, get()), answer(&client, get())]).await {
            assert_eq!(answer.expect("an answer"), (200, "ok".into()));
        }
    });
    assert_eq!(client.pool().statistics().opened, 2);
    drop(client);
    peer.finish();
}

#[test]
fn test_child_without_notification_keeps_its_parents_connections() {
    let (closed, open) = gate();
    let peer = Peer::new([
        vec![Step::Head, closed, send(OK), Step::Head, send(OK), Step::Closed],
        vec![Step::Head, send(OK), Step::Head, send(OK), Step::Closed],
    ]);
    let (reactor, client) = client(&peer, 2);
    let mut waiting = Box::pin(answer(&client, get()));
    run_until(&reactor, waiting.as_mut(), || client.pool().statistics().opened == 1);
    run(&reactor, answer(&client, get())).expect("an answer");
    let exit = in_child(|| {
        if !reactor.is_inherited() {
            return 1;
        }
        client.pool().close_idle();
        // Neither uses a connection of the parent, nor is it registered with the parent's polling instance.
        match run(&reactor, answer(&client, get())) {
            Ok(_) => 2,
            Err(_) => 7,
        }
    });
    assert_eq!(exit, 7);
    open.send(()).expect("a peer that waits");
    assert_eq!(run(&reactor, waiting).expect("an answer"), (200, "ok".into()));
    run(&reactor, async {
        for answer in join_all([answer(&client, get()), answer(&client, get())]).await {
            assert_eq!(answer.expect("an answer"), (200, "ok".into()));
        }
    });
    assert_eq!(client.pool().statistics().opened, 2);
    drop(client);
    peer.finish();
}
