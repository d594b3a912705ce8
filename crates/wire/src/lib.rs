//! HTTP/1.1 and URLs as functions of bytes.
//!
//! Nothing here owns a socket, reads a clock or has heard of Python, and nothing is `unsafe`: every function can be
//! replayed, fed in pieces, and fuzzed.
#![forbid(unsafe_code)]

pub mod url;
