//! HTTP/1.1 and URLs as functions of bytes.
//!
//! Nothing here owns a socket, reads a clock or has heard of Python, and nothing is `unsafe`: every function can be
//! replayed, fed in pieces, and fuzzed.
//!
//! A response is read in three steps, each in its file: [`head`] finds and parses the head, [`framing`] decides how long
//! the body is, [`body`] takes the framing off. What is in it may be compressed, which [`coding`] undoes. A request's head
//! is written by [`request`], its chunks by [`chunked`].
#![forbid(unsafe_code)]

pub mod body;
pub mod chunked;
pub mod coding;
pub mod error;
pub mod framing;
pub mod head;
pub mod headers;
pub mod limits;
pub mod request;
pub mod token;
pub mod url;

pub use body::Body;
pub use error::{CodingError, RequestError, ResponseError};
pub use framing::Framing;
pub use head::{HeadReader, ResponseHead, Version};
pub use headers::HeaderMap;
pub use limits::Limits;
