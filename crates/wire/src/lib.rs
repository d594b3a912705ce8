//! HTTP/1.1 and URLs as functions of bytes.
//!
//! Nothing here owns a socket, reads a clock or depends on Python, and nothing is `unsafe`: every function can be
//! replayed, fed in pieces, and fuzzed.
//!
//! A response is read in three steps, each in its own file: [`head`] finds and parses the head, [`framing`] determines
//! the length of the body, [`body`] removes the framing. [`coding`] decompresses the content; [`sse`] and [`lines`]
//! split a stream of events or of JSON. [`request`] writes the head of a request, [`chunked`] its chunks.
#![forbid(unsafe_code)]

pub mod body;
pub mod chunked;
pub mod coding;
pub mod error;
pub mod framing;
pub mod head;
pub mod headers;
pub mod limits;
pub mod lines;
pub mod request;
pub mod sse;
pub mod token;
pub mod url;

pub use body::Body;
pub use coding::CodingError;
pub use error::{RequestError, ResponseError};
pub use framing::Framing;
pub use head::{HeadReader, ResponseHead, Version};
pub use headers::HeaderMap;
pub use limits::{InterimCount, Limits};
