//! Happy eyeballs (RFC 8305): connects to the first of several addresses that accepts, without waiting for those that
//! do not answer.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::rt::reactor::Reactor;
use crate::rt::socket::Socket;
use crate::rt::timeout::WaitTimeout;

/// Time after which the next address is tried as well: the Connection Attempt Delay that RFC 8305 section 5 recommends.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Maximum number of concurrent attempts. Beyond this, the next address waits for one of them to fail: a name with
/// hundreds of addresses, all behind one dead router, must not use as many sockets.
const MOST_ATTEMPTS: usize = 8;

/// Connects to the first of these addresses that accepts, tried in their order; returns the first one's error if none
/// does. With `from`, only those of its family are tried.
pub(crate) async fn connect(
    reactor: &Rc<Reactor>,
    from: Option<SocketAddr>,
    addresses: &[SocketAddr],
) -> io::Result<Socket> {
    let mut candidates =
        addresses.iter().copied().filter(|address| from.is_none_or(|from| from.is_ipv4() == address.is_ipv4()));
    let Some(first) = candidates.next() else { return Err(nowhere(from, addresses)) };
    let Some(second) = candidates.next() else { return Socket::connect(reactor, first, from).await };
    let mut race = Race {
        reactor,
        from,
        candidates: [first, second].into_iter().chain(candidates).enumerate().peekable(),
        running: Vec::with_capacity(2),
        latest: None,
        pause: WaitTimeout::new(reactor, Some(ATTEMPT_DELAY)),
        first_error: None,
    };
    poll_fn(|cx| race.poll(cx)).await
}

#[cold]
fn nowhere(from: Option<SocketAddr>, addresses: &[SocketAddr]) -> io::Error {
    let what = match from {
        Some(from) if !addresses.is_empty() => {
            let family = if from.is_ipv4() { "IPv4" } else { "IPv6" };
            format!("the host has no {family} address, and {} can reach no other", from.ip())
        }
        _ => "the host's name has no address".to_owned(),
    };
    io::Error::new(io::ErrorKind::NotFound, what)
}

/// The attempts to connect to one host. Dropping it closes all of them.
struct Race<'a, I: Iterator<Item = (usize, SocketAddr)>> {
    reactor: &'a Rc<Reactor>,
    from: Option<SocketAddr>,
    /// Addresses that were not tried yet, with their numbers.
    candidates: std::iter::Peekable<I>,
    /// Attempts in progress, in the order of their numbers.
    running: Vec<(usize, Socket)>,
    /// Number of the attempt that was started last.
    latest: Option<usize>,
    /// Time until the next attempt is started even if the latest one has not failed.
    pause: WaitTimeout,
    /// Error of the first address.
    first_error: Option<io::Error>,
}

impl<I: Iterator<Item = (usize, SocketAddr)>> Race<'_, I> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<io::Result<Socket>> {
        loop {
            if let Some(winner) = self.poll_running(cx) {
                return Poll::Ready(Ok(winner));
            }
            if self.candidates.peek().is_none() {
                return match self.running.is_empty() {
                    true => Poll::Ready(Err(self.first_error.take().unwrap_or_else(|| nowhere(None, &[])))),
                    false => Poll::Pending,
                };
            }
            if self.running.len() >= MOST_ATTEMPTS || (self.latest_is_running() && !self.pause.poll_elapsed(cx)) {
                return Poll::Pending;
            }
            self.start_next();
        }
    }

    /// Polls the attempts in progress, and returns the socket of one that is connected, if any.
    fn poll_running(&mut self, cx: &Context<'_>) -> Option<Socket> {
        let mut index = 0;
        while let Some((number, socket)) = self.running.get(index) {
            match socket.poll_connected(cx) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(())) => return Some(self.running.swap_remove(index).1),
                Poll::Ready(Err(error)) => {
                    self.note(*number, error);
                    self.running.remove(index);
                }
            }
        }
        None
    }

    fn latest_is_running(&self) -> bool {
        self.running.last().is_some_and(|(number, _)| Some(*number) == self.latest)
    }

    fn start_next(&mut self) {
        let Some((number, address)) = self.candidates.next() else { return };
        self.pause.reset();
        self.latest = Some(number);
        match Socket::begin(self.reactor, address, self.from) {
            Ok(socket) => self.running.push((number, socket)),
            Err(error) => self.note(number, error),
        }
    }

    fn note(&mut self, number: usize, error: io::Error) {
        if number == 0 {
            self.first_error = Some(error);
        }
    }
}
