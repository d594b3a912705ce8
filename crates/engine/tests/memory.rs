//! A large body takes no more memory than a small one.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use engine::SystemResolver;
use support::*;

/// Counts the memory that this thread holds, and its maximum.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    HELD.set(HELD.get() + change);
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: every call goes on to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MIB: usize = 1024 * 1024;

#[test]
fn test_body_of_64_mib_in_pieces_of_16_kib_takes_little_memory() {
    let counted = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 * MIB);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"100000\r\n".as_slice(), &vec![b'x'; MIB], b"\r\n"].concat();
    let small = [b"10\r\n".as_slice(), &[b'x'; 16], b"\r\n"].concat().repeat(MIB / 16);
    for steps in [
        vec![send(counted), Step::Repeat(vec![b'x'; MIB], 64)],
        vec![send(chunked), Step::Repeat(chunk, 64), send("0\r\n\r\n")],
        vec![send(chunked), Step::Repeat(small, 64), send("0\r\n\r\n")],
        vec![send("HTTP/1.1 200 OK\r\n\r\n"), Step::Repeat(vec![b'x'; MIB], 64)],
    ] {
        let peer = Peer::new([[Step::Head].into_iter().chain(steps).collect()]);
        let (reactor, client) = client(&peer, 1);
        let mut room = vec![0; 16 * 1024];
        let before = HELD.get();
        MOST.set(before);
        run(&reactor, async {
            let mut response = client.send(get(), &SystemResolver).await.expect("a head");
            let mut length = 0;
            loop {
                match read_piece(&mut response.body, &mut room).await.expect("a body") {
                    0 => break,
                    read => length += read,
                }
            }
            assert_eq!(length, 64 * MIB);
        });
        let most = MOST.get() - before;
        assert!(most < 512 * 1024, "{most} bytes more than before");
        drop(client);
        peer.finish();
    }
}

#[test]
fn test_idle_connections_and_finished_requests_hold_little_memory() {
    let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".as_slice(), &[b'x'; 100_000]].concat();
    let peer = Peer::new([vec![serve(answer)]]);
    let (reactor, client) = client(&peer, 1);
    let request = || run(&reactor, fetch(&client, get())).map(|(_, body)| body.len()).expect("an answer");
    request();
    let before = HELD.get();
    for _ in 0..1000 {
        assert_eq!(request(), 100_000);
    }
    let kept = HELD.get() - before;
    assert!(kept < 1024, "{kept} bytes more than before");
    drop(client);
    peer.finish();
}
