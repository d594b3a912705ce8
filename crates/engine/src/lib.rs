//! An HTTP client that any event loop can drive: async, on one thread, without a runtime of its own.
//!
//! The path of one request, each step in its file: [`client`] chooses HTTP/1.1 or HTTP/2 and retries; [`pool`] hands
//! out a connection or [`connect`] opens one; [`http1`] and [`http2`] send the request and read the head; [`response`]
//! delivers the body and gives the connection back. All of it waits on one [`Reactor`], whose owner calls
//! [`Reactor::turn`] whenever its descriptor is readable. [`rt::executor::block_on`] is such an owner for plain
//! threads.
//!
//! A future of this crate may be dropped at any point: its connection is closed and its place in the pool goes to the
//! next in the queue.
#![deny(unsafe_code)]

pub mod buffer;
pub mod client;
pub mod config;
pub mod connect;
pub mod error;
pub mod http1;
pub mod http2;
pub mod origin;
pub mod pool;
pub mod request;
pub mod response;
pub mod rt;
pub mod timings;
pub mod tls;

pub use client::Client;
pub use config::{Config, Timeouts};
pub use connect::{Resolver, SystemResolver};
pub use error::{BoxError, Error, Kind, Phase, Result};
pub use http1::connection::Connection;
pub use http1::raw::{IoState, RawConnection};
pub use origin::Origin;
pub use pool::close_reason::{CloseReason, ConnectionObserver};
pub use pool::idle::IdleGroup;
pub use request::{BodySource, FileBody, Opened, PhaseObserver, Request, RequestBody, TrailerSource};
pub use response::{Incoming, Response};
pub use rt::cancel::CancelToken;
pub use rt::reactor::Reactor;
pub use timings::{Address, Dialled, Timings};
