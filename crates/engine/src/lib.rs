//! An HTTP/1.1 client that any event loop can drive: async, on one thread, with no runtime of its own.
//!
//! The trip of one request, each step in its file: [`exchange`] tells the story; [`pool`] hands out a connection or
//! [`dial`] opens one; [`send`] writes the request; [`connection`] reads the head; [`response`] delivers the body and
//! gives the connection back. All of it waits on one [`reactor`], whose owner calls [`Reactor::turn`] whenever its
//! descriptor is readable. [`executor::block_on`] is such an owner for plain threads.
//!
//! A future of this crate may be dropped at any point: its connection is closed and its place in the pool goes to the
//! next in the queue.
#![deny(unsafe_code)]

pub mod buffer;
pub mod config;
pub mod connection;
pub mod conversation;
pub mod dial;
pub mod ending;
pub mod error;
pub mod exchange;
pub mod executor;
pub mod http2;
pub mod idle;
pub mod pool;
pub mod proxy;
mod race;
pub mod reactor;
pub mod request;
pub mod response;
mod send;
pub mod socket;
mod stop;
pub mod stream;
mod sys;
mod tasks;
pub mod timers;
pub mod timings;
pub mod tls;

pub use config::{Config, Timeouts};
pub use connection::Connection;
pub use conversation::{Conversation, Turn};
pub use dial::{Resolver, SystemResolver};
pub use ending::{Ending, Journal};
pub use error::{BoxError, Error, Kind, Phase, Result};
pub use exchange::Client;
pub use idle::IdleGroup;
pub use reactor::Reactor;
pub use request::{BodySource, FileBody, Opened, Request, RequestBody, TrailerSource};
pub use response::{Incoming, Response};
pub use stop::Stop;
pub use timings::{Address, Dialled, Timings};
