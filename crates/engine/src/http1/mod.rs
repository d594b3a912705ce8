//! HTTP/1.1 (RFC 9112): one connection, the exchange on it, and the body of the response.

pub(crate) mod body;
pub mod connection;
pub mod exchange;
pub mod raw;
pub mod send;
