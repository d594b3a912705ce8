//! Taking the framing off a response's body, whichever it is.

use crate::chunked::Decoder;
use crate::{Framing, HeaderMap, Limits, ResponseError};

/// What the bytes at hand mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next bytes, at most that many, are the body's own.
    Data(u64),
    /// The message is complete: bytes that follow are not its.
    End,
    /// Nothing more can be said without more bytes.
    More,
}

/// The body of one response as it comes in. Ask with [`step`](Body::step), then say with [`taken`](Body::taken) how much
/// of the data was taken, from the bytes at hand or straight from the socket.
#[derive(Clone, Debug)]
pub enum Body {
    /// `Transfer-Encoding: chunked`.
    Chunked(Box<Decoder>),
    /// That many bytes still to come.
    Counted(u64),
    /// Until the peer closes.
    UntilClose,
    /// The peer has closed a body of the kind above.
    Closed,
}

impl Body {
    /// The beginning of a body of that framing.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        match framing {
            Framing::Chunked => Body::Chunked(Box::new(Decoder::new(*limits))),
            Framing::Counted(length) => Body::Counted(length),
            Framing::None => Body::Counted(0),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    /// Reads framing from the front of `input`: how many bytes of it were framing and are done with, and what follows
    /// them.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), ResponseError> {
        match self {
            Body::Chunked(decoder) => decoder.step(input),
            Body::Counted(0) | Body::Closed => Ok((0, Step::End)),
            Body::Counted(left) => Ok((0, Step::Data(*left))),
            Body::UntilClose => Ok((0, Step::Data(u64::MAX))),
        }
    }

    /// So many bytes of the announced data were taken.
    pub fn taken(&mut self, length: u64) {
        match self {
            Body::Chunked(decoder) => decoder.taken(length),
            Body::Counted(left) => *left = left.saturating_sub(length),
            Body::UntilClose | Body::Closed => {}
        }
    }

    /// The peer has closed. An error for every framing that promised more (RFC 9112 section 8).
    pub fn end_of_input(&mut self) -> Result<(), ResponseError> {
        match self {
            Body::Chunked(_) => Err(ResponseError::EarlyEnd("the last chunk is missing")),
            Body::Counted(0) => Ok(()),
            Body::Counted(_) => Err(ResponseError::EarlyEnd("fewer bytes than Content-Length says")),
            Body::UntilClose | Body::Closed => {
                *self = Body::Closed;
                Ok(())
            }
        }
    }

    /// How many bytes are still to come, where the framing says so.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Body::Counted(left) => Some(*left),
            Body::Closed => Some(0),
            Body::Chunked(_) | Body::UntilClose => None,
        }
    }

    /// What came behind a chunked body; empty before its end, and for the other framings.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        match self {
            Body::Chunked(decoder) => Some(decoder.trailers()),
            _ => None,
        }
    }
}
