//! Leases: the use of one connection by one request.

use std::rc::Rc;

use crate::http1::connection::Connection;
use crate::pool::close_reason::CloseReason;
use crate::pool::held::{Held, Holding};
use crate::rt::timeout::WaitLimits;

/// The owner of a leased connection.
pub(crate) trait LeaseOwner {
    /// Takes the slot back, with its connection if that can carry another request.
    fn give_back(self: Rc<Self>, connection: Option<Box<Connection>>);

    /// Closes a connection. The slot remains taken.
    fn end(&self, connection: Box<Connection>, reason: CloseReason);

    /// Registers the response that holds the lease.
    fn hold(&self, response: Box<dyn Held>) -> Option<Holding>;
}

/// A pool slot, for one request. If it is dropped without [`finish`](Lease::finish), its connection is closed: the rest
/// of a response may still be in flight.
pub struct Lease {
    owner: Option<Rc<dyn LeaseOwner>>,
    connection: Option<Box<Connection>>,
    /// The response that holds it.
    holding: Option<Holding>,
    /// Reason to report if the lease is dropped with its connection.
    reason: CloseReason,
    /// True if the request had to wait for it.
    pub(crate) has_waited: bool,
}

impl Lease {
    /// Creates the lease of a connection that belongs to no pool.
    pub fn of(connection: Connection) -> Self {
        Lease::new(None, Some(Box::new(connection)))
    }

    pub(crate) fn new(owner: Option<Rc<dyn LeaseOwner>>, connection: Option<Box<Connection>>) -> Self {
        Lease { owner, connection, holding: None, reason: CloseReason::GivenUp, has_waited: false }
    }

    /// Notifies its owner of the response that holds it from now on.
    pub(crate) fn hold(&mut self, response: Box<dyn Held>) {
        if let Some(owner) = &self.owner {
            self.holding = owner.hold(response);
        }
    }

    /// Ends the hold.
    pub(crate) fn release(&mut self) {
        self.holding = None;
    }

    /// Closes the connection for that reason. The slot remains taken.
    pub(crate) fn end_connection(&mut self, reason: CloseReason) {
        if let Some(connection) = self.connection.take() {
            match &self.owner {
                Some(owner) => owner.end(connection, reason),
                None => drop(connection),
            }
        }
    }

    /// Ends the lease, and closes the connection for that reason.
    pub(crate) fn end(mut self, reason: CloseReason) {
        self.reason = reason;
    }

    /// Sets the reason to report if the lease is dropped with its connection.
    pub(crate) fn set_close_reason(&mut self, reason: CloseReason) {
        self.reason = reason;
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.connection.as_deref_mut()
    }

    /// Sets the time limits of waits for the peer.
    pub(crate) fn set_wait_limits(&mut self, wait_limits: WaitLimits) {
        if let Some(connection) = &mut self.connection {
            connection.wait_timeout.set(wait_limits.network, wait_limits.until);
        }
    }

    /// Takes its connection out.
    pub(crate) fn take(&mut self) -> Option<Box<Connection>> {
        self.connection.take()
    }

    /// Replaces its connection, which is closed.
    pub(crate) fn replace(&mut self, connection: Option<Box<Connection>>) {
        self.connection = connection;
    }

    /// Ends the lease after the request, with a connection that can carry another one.
    pub(crate) fn finish(mut self) {
        self.holding = None;
        let connection = self.connection.take().map(|mut connection| {
            connection.become_idle();
            connection
        });
        if let Some(owner) = self.owner.take() {
            owner.give_back(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.holding = None;
        // Closed before the slot is given back: there are never more connections than slots.
        self.end_connection(self.reason);
        if let Some(owner) = self.owner.take() {
            owner.give_back(None);
        }
    }
}
