//! Removes the framing from the body of a response.

use crate::chunked::Decoder;
use crate::error::ResponseError;
use crate::framing::{Framing, Step};
use crate::headers::HeaderMap;
use crate::limits::Limits;

/// State of the body of one response while it arrives. Call [`step`](Body::step), then report with
/// [`taken`](Body::taken) how much of the data was consumed, from the buffered bytes or directly from the socket.
#[derive(Clone, Debug)]
pub enum Body {
    /// `Transfer-Encoding: chunked`.
    Chunked(Box<Decoder>),
    /// Number of bytes that are still expected.
    Counted(u64),
    /// Ends when the peer closes the connection.
    UntilClose,
    /// The peer has closed the connection and so ended a body of the kind above.
    Closed,
}

impl Body {
    /// Returns the state at the start of a body with this framing.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        match framing {
            Framing::Chunked => Body::Chunked(Box::new(Decoder::new(*limits))),
            Framing::Counted(length) => Body::Counted(length),
            Framing::None => Body::Counted(0),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    /// Reads framing from the start of `input`. Returns how many bytes of it were framing, which are consumed, and the
    /// meaning of those that follow.
    ///
    /// # Errors
    /// Those of a malformed chunked body; the other framings have none.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), ResponseError> {
        match self {
            Body::Chunked(decoder) => decoder.step(input),
            Body::Counted(0) | Body::Closed => Ok((0, Step::End)),
            Body::Counted(left) => Ok((0, Step::Data(*left))),
            Body::UntilClose => Ok((0, Step::Data(u64::MAX))),
        }
    }

    /// Records that this many bytes of the announced data were consumed.
    pub fn taken(&mut self, length: u64) {
        match self {
            Body::Chunked(decoder) => decoder.taken(length),
            Body::Counted(left) => *left = left.saturating_sub(length),
            Body::UntilClose | Body::Closed => {}
        }
    }

    /// Records that the peer has closed the connection.
    ///
    /// # Errors
    /// [`ResponseError::EarlyEnd`] if the framing promised more (RFC 9112 section 8).
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

    /// Returns how many bytes are still expected; `None` if the framing does not say.
    pub fn remaining(&self) -> Option<u64> {
        match self {
            Body::Counted(left) => Some(*left),
            Body::Closed => Some(0),
            Body::Chunked(_) | Body::UntilClose => None,
        }
    }

    /// Returns the trailers of a chunked body, empty before its end; `None` for the other framings.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        match self {
            Body::Chunked(decoder) => Some(decoder.trailers()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(framing: Framing) -> Body {
        Body::new(framing, &Limits::default())
    }

    #[test]
    fn test_body_counted_ends_after_its_bytes() {
        let mut body = body(Framing::Counted(5));
        assert_eq!((body.step(b"abc"), body.remaining()), (Ok((0, Step::Data(5))), Some(5)));
        body.taken(3);
        assert_eq!((body.step(b"de"), body.remaining()), (Ok((0, Step::Data(2))), Some(2)));
        assert!(matches!(body.end_of_input(), Err(ResponseError::EarlyEnd(_))));
        body.taken(2);
        assert_eq!((body.step(b"next"), body.remaining()), (Ok((0, Step::End)), Some(0)));
        assert_eq!(body.end_of_input(), Ok(()));
        assert!(body.trailers().is_none());
    }

    #[test]
    fn test_body_none_is_complete_at_once() {
        let mut body = body(Framing::None);
        assert_eq!((body.step(b"next"), body.remaining()), (Ok((0, Step::End)), Some(0)));
        assert_eq!(body.end_of_input(), Ok(()));
    }

    #[test]
    fn test_body_until_close_ends_with_the_input() {
        let mut body = body(Framing::UntilClose);
        assert_eq!((body.step(b"abc"), body.remaining()), (Ok((0, Step::Data(u64::MAX))), None));
        body.taken(3);
        assert_eq!(body.step(b""), Ok((0, Step::Data(u64::MAX))));
        assert_eq!(body.end_of_input(), Ok(()));
        assert_eq!((body.step(b""), body.remaining()), (Ok((0, Step::End)), Some(0)));
        assert_eq!(body.end_of_input(), Ok(()));
        assert!(body.trailers().is_none());
    }

    #[test]
    fn test_body_chunked_ends_after_its_trailers() {
        let mut body = body(Framing::Chunked);
        assert_eq!((body.step(b"3\r\nabc"), body.remaining()), (Ok((3, Step::Data(3))), None));
        body.taken(3);
        assert_eq!(body.step(b"\r\n0\r\nA"), Ok((6, Step::More)));
        assert!(matches!(body.end_of_input(), Err(ResponseError::EarlyEnd(_))));
        assert!(body.trailers().is_some_and(HeaderMap::is_empty));
        assert_eq!(body.step(b": b\r\n\r\nnext"), Ok((7, Step::End)));
        assert_eq!(body.trailers().and_then(|trailers| trailers.get(b"a")), Some(b"b".as_slice()));
    }
}
