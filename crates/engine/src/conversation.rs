//! One connection whose owner sends and reads by turns: bytes go out as they come, and an answer is read when it is
//! asked for. For programs that put their requests together themselves.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use wire::Limits;
use wire::framing::Asked;

use crate::dial::dial;
use crate::exchange::{Unanswered, read_response_or_upgrade};
use crate::pool::{Lease, Pool};
use crate::send::send_bytes;
use crate::socket::Descriptor;
use crate::tls::{Facts, Tls};
use crate::{Config, Connection, Error, Kind, Phase, Reactor, Resolver, Response, Result, Timings};

/// A connection, and whose turn it is on it. Dropping it closes the connection, unless a response is still read from
/// it: then it is closed after that.
pub struct Conversation {
    /// Where a response gives the connection back.
    slot: Rc<Pool>,
    lease: Option<Lease>,
    descriptor: Option<Descriptor>,
    facts: Option<Rc<Facts>>,
    /// Of the request that is being sent.
    timings: Option<Timings>,
    /// Whether there was another before it.
    reused: bool,
}

/// Who may say something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nobody: the connection is closed, or the peer has said something unasked.
    Nobody,
    /// We: nothing is owed.
    Ours,
    /// The peer: its last response has not been read to the end.
    Theirs,
}

impl Conversation {
    /// Opens a connection as `config` says, within its timeout for that. `resolver` is asked for addresses.
    pub async fn open(reactor: &Rc<Reactor>, config: &Config, resolver: &dyn Resolver) -> Result<Self> {
        let connection = dial(reactor, config, None, config.timeouts.connection, None, resolver).await?;
        let slot = Pool::slot(reactor);
        let (descriptor, facts) = (connection.descriptor().cloned(), connection.facts().cloned());
        let mut lease = slot.lease(None, None).await?;
        lease.replace(Some(connection));
        Ok(Conversation { slot, lease: Some(lease), descriptor, facts, timings: None, reused: false })
    }

    /// The number that the system knows its socket by, as long as that is open.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// What its TLS handshake has come to, if there was one.
    pub fn facts(&self) -> Option<&Rc<Facts>> {
        self.facts.as_ref()
    }

    /// Whose turn it is. A connection that comes back from a response is looked at, as one of a pool is.
    pub fn turn(&mut self) -> Turn {
        if self.lease.is_none() {
            self.lease = self.slot.lease_now();
        }
        match &self.lease {
            None => Turn::Theirs,
            Some(lease) if lease.is_connected() => Turn::Ours,
            Some(_) => Turn::Nobody,
        }
    }

    fn connection(&mut self, phase: Phase) -> Result<&mut Connection> {
        if self.turn() == Turn::Theirs {
            return Err(Error::new(Kind::Misuse("the response before has not been read"), phase));
        }
        let connection = self.lease.as_mut().and_then(Lease::connection);
        connection.ok_or_else(|| {
            let closed = io::Error::new(io::ErrorKind::NotConnected, "the connection is closed");
            Error::new(Kind::Io(closed), phase)
        })
    }

    /// Makes the connection a private one, within `limit`. When that fails, the connection is closed.
    pub async fn secure(&mut self, tls: &dyn Tls, limit: Option<Duration>) -> Result<()> {
        self.connection(Phase::Tls)?;
        let taken = self.lease.as_mut().and_then(Lease::take);
        let Some(connection) = taken else { return Ok(()) };
        let connection = connection.secured(tls, limit).await?;
        // What asked for this was a request of its own.
        self.timings = None;
        self.facts = connection.facts().cloned();
        if let Some(lease) = &mut self.lease {
            lease.replace(Some(connection));
        }
        Ok(())
    }

    /// Sends all of `bytes`, waiting at most `limit` for the peer to take some. After an error what has come from the
    /// peer can still be read.
    pub async fn send(&mut self, bytes: &[u8], limit: Option<Duration>) -> Result<()> {
        let mut timings = self.timings.take();
        let connection = self.connection(Phase::Send)?;
        connection.patience.set(limit, None);
        let course = timings.get_or_insert_with(|| {
            (connection.sent, connection.received) = (0, 0);
            Timings::begun(Instant::now())
        });
        let sent = send_bytes(connection, bytes).await;
        course.sent = course.elapsed();
        self.timings = timings;
        sent
    }

    /// Reads what there is into `room`, waiting at most `limit` for some; nothing only at the peer's end. What a head
    /// or a body would take comes out here as it is.
    pub async fn receive(&mut self, room: &mut ReadBuf<'_>, limit: Option<Duration>) -> Result<()> {
        // This is the answer to what was sent, say to a CONNECT: the next request begins with what is sent next.
        self.timings = None;
        let connection = self.connection(Phase::Body)?;
        connection.patience.set(limit, None);
        let received = poll_fn(|cx| connection.poll_take(cx, room, Phase::Body)).await;
        connection.stop_waiting();
        received
    }

    /// Waits at most `limit` at a time for the answer to a request that has been sent. Its body is read from the
    /// response, which gives the connection back for the next turn. After 101 the connection is ours at once, for
    /// whatever is spoken on it now (RFC 9110 section 7.8).
    pub async fn answer(
        &mut self,
        asked: Asked,
        limits: &Limits,
        limit: Option<Duration>,
    ) -> std::result::Result<Response, Unanswered> {
        self.connection(Phase::Head)?.patience.set(limit, None);
        let lease = self.lease.take().ok_or_else(|| Error::new(Kind::Closed, Phase::Head))?;
        let mut timings = self.timings.take().unwrap_or_else(|| Timings::begun(Instant::now()));
        timings.reused = std::mem::replace(&mut self.reused, true);
        let (response, upgraded) = read_response_or_upgrade(lease, asked, limits, timings).await?;
        self.lease = upgraded;
        Ok(response)
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.slot.close();
    }
}
