//! One connection whose owner alternates between sending and receiving: bytes are sent as given, and a response is read
//! on request. For programs that write their requests themselves.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::ReadBuf;
use wire::Limits;
use wire::framing::MethodKind;

use crate::config::Config;
use crate::connect::{Resolver, dial};
use crate::error::{Error, Kind, Phase, Result};
use crate::http1::connection::Connection;
use crate::http1::exchange::{Unanswered, read_response_or_upgrade};
use crate::http1::send::send_bytes;
use crate::pool::close_reason::CloseReason;
use crate::pool::held::{Held, Holding};
use crate::pool::lease::{Lease, LeaseOwner};
use crate::response::Response;
use crate::rt::reactor::Reactor;
use crate::rt::socket::Descriptor;
use crate::timings::Timings;
use crate::tls::{Offer, Tls, TlsInfo};

/// A connection and its state. Dropping it closes the connection, unless a response is still read from it: then it is
/// closed after that.
pub struct RawConnection {
    slot: Rc<ReturnSlot>,
    lease: Option<Lease>,
    descriptor: Option<Descriptor>,
    facts: Option<Rc<TlsInfo>>,
    /// The timings of the request that is being sent.
    timings: Option<Timings>,
    /// Whether it has carried a request before.
    reused: bool,
}

/// The next step that a connection allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoState {
    /// A request can be sent: no response is outstanding.
    Send,
    /// The last response has to be received to its end first.
    Receive,
    /// Nothing: it is closed, or the peer has sent something unsolicited.
    Unusable,
}

impl RawConnection {
    /// Opens a connection as `config` says, within its connection timeout. `resolver` is called for addresses.
    pub async fn open(reactor: &Rc<Reactor>, config: &Config, resolver: &dyn Resolver) -> Result<Self> {
        let connection = dial(reactor, config, None, Offer::All, config.timeouts.connection, None, resolver).await?;
        let slot = Rc::<ReturnSlot>::default();
        let (descriptor, facts) = (connection.descriptor().cloned(), connection.facts().cloned());
        let lease = Lease::new(Some(slot.clone()), Some(connection));
        Ok(RawConnection { slot, lease: Some(lease), descriptor, facts, timings: None, reused: false })
    }

    /// Returns the descriptor of its socket, as long as that is open.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.as_ref()
    }

    /// Returns the result of its TLS handshake, if there was one.
    pub fn facts(&self) -> Option<&Rc<TlsInfo>> {
        self.facts.as_ref()
    }

    /// Returns its state. A connection that a response has returned is checked like one of a pool.
    pub fn io_state(&mut self) -> IoState {
        if self.lease.is_none() {
            self.lease = self.slot.take();
        }
        match &self.lease {
            None => IoState::Receive,
            Some(lease) if lease.is_connected() => IoState::Send,
            Some(_) => IoState::Unusable,
        }
    }

    fn connection(&mut self, phase: Phase) -> Result<&mut Connection> {
        if self.io_state() == IoState::Receive {
            return Err(Error::new(Kind::Misuse("the response before has not been read"), phase));
        }
        let connection = self.lease.as_mut().and_then(Lease::connection);
        connection.ok_or_else(|| {
            let closed = io::Error::new(io::ErrorKind::NotConnected, "the connection is closed");
            Error::new(Kind::Io(closed), phase)
        })
    }

    /// Performs a TLS handshake within `limit`. If that fails, the connection is closed.
    pub async fn secure(&mut self, tls: &dyn Tls, limit: Option<Duration>) -> Result<()> {
        self.connection(Phase::Tls)?;
        let taken = self.lease.as_mut().and_then(Lease::take);
        let Some(connection) = taken else { return Ok(()) };
        let connection = connection.secured(tls, limit).await?;
        // The request for this is complete.
        self.timings = None;
        self.facts = connection.facts().cloned();
        if let Some(lease) = &mut self.lease {
            lease.replace(Some(connection));
        }
        Ok(())
    }

    /// Sends all of `bytes`, waiting at most `limit` for the peer to take some. After an error, bytes of the peer can
    /// still be read.
    pub async fn send(&mut self, bytes: &[u8], limit: Option<Duration>) -> Result<()> {
        let mut timings = self.timings.take();
        let connection = self.connection(Phase::Send)?;
        connection.wait_timeout.set(limit, None);
        let course = timings.get_or_insert_with(|| {
            (connection.sent, connection.received) = (0, 0);
            Timings::begun(Instant::now())
        });
        let sent = send_bytes(connection, bytes).await;
        course.sent = course.elapsed();
        self.timings = timings;
        sent
    }

    /// Reads the available bytes into `room`, waiting at most `limit` for the first ones. Reads nothing only after the
    /// peer has closed. Heads and framing are not parsed.
    pub async fn receive(&mut self, room: &mut ReadBuf<'_>, limit: Option<Duration>) -> Result<()> {
        // This is the answer to what was sent, a CONNECT for example: the next request begins with the next bytes.
        self.timings = None;
        let connection = self.connection(Phase::Body)?;
        connection.wait_timeout.set(limit, None);
        let received = poll_fn(|cx| connection.poll_take(cx, room, Phase::Body)).await;
        connection.stop_waiting();
        received
    }

    /// Waits for the response to a request that was sent, at most `limit` for each read. Its body is read from the
    /// response, which returns the connection at its end. After 101 the connection is returned at once, for the
    /// protocol that was switched to (RFC 9110 section 7.8).
    pub async fn answer(
        &mut self,
        method_kind: MethodKind,
        limits: &Limits,
        limit: Option<Duration>,
    ) -> std::result::Result<Response, Unanswered> {
        self.connection(Phase::Head)?.wait_timeout.set(limit, None);
        let lease = self.lease.take().ok_or_else(|| Error::new(Kind::Closed, Phase::Head))?;
        let mut timings = self.timings.take().unwrap_or_else(|| Timings::begun(Instant::now()));
        timings.reused = std::mem::replace(&mut self.reused, true);
        let (response, upgraded) = read_response_or_upgrade(lease, method_kind, limits, timings).await?;
        self.lease = upgraded;
        Ok(response)
    }
}

/// Slot into which a response returns the connection. The connection stays there until its owner takes it, even if the
/// peer closes it.
#[derive(Default)]
struct ReturnSlot {
    /// None while the connection is in use. Otherwise the connection, or None if it was closed.
    returned: Cell<Option<Option<Box<Connection>>>>,
    /// The owner is gone.
    closed: Cell<bool>,
}

impl ReturnSlot {
    /// Returns a lease of the returned connection: without a connection if that was closed, or is not reusable.
    fn take(self: &Rc<Self>) -> Option<Lease> {
        let mut connection = self.returned.take()?;
        let connection = connection.take_if(|connection| connection.is_reusable());
        Some(Lease::new(Some(self.clone()), connection))
    }

    fn close(&self) {
        self.closed.set(true);
        let returned = self.returned.take();
        drop(returned);
    }
}

impl LeaseOwner for ReturnSlot {
    fn give_back(self: Rc<Self>, connection: Option<Box<Connection>>) {
        if !self.closed.get() {
            self.returned.set(Some(connection));
        }
    }

    fn end(&self, connection: Box<Connection>, _: CloseReason) {
        drop(connection);
    }

    fn hold(&self, _: Box<dyn Held>) -> Option<Holding> {
        None
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        self.slot.close();
    }
}
