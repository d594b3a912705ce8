//! A request, ready to be written.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use wire::framing::Asked;

use crate::timers::Deadline;
use crate::timings::Dialled;
use crate::tls::Facts;
use crate::{Kind, Timeouts};

/// Where the pieces of a streamed body come from.
pub trait BodySource {
    /// The next piece; `None` at the end. An error ends the request, and goes through to its maker. `until` is for
    /// sources that wait by themselves, where nobody can drop them: the end of their time.
    fn poll_next(&mut self, cx: &mut Context<'_>, until: Option<Deadline>) -> Poll<Option<Result<Bytes, Kind>>>;
}

/// What a request says behind its body (RFC 9110 section 6.5).
pub trait TrailerSource {
    /// Names and values, checked by [`wire::request::check_trailer`]. Asked once the last byte of the body is out, each
    /// time that the request is sent. An error ends the request, and goes through to its maker; `until` as in
    /// [`BodySource::poll_next`].
    fn lines(&mut self, until: Option<Deadline>) -> Result<Vec<(Bytes, Bytes)>, Kind>;
}

/// A part of an open file, sent by the kernel where it can.
#[derive(Debug)]
pub struct FileBody {
    /// A descriptor of our own: the maker may close its.
    pub file: File,
    /// Where in the file the body begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl FileBody {
    /// At most `room` bytes from that place of the file; none at its end.
    pub fn read_at(&self, offset: u64, room: usize) -> io::Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let mut piece = vec![0; room];
        let read = self.file.read_at(&mut piece, offset)?;
        piece.truncate(read);
        Ok(Bytes::from(piece))
    }
}

/// A request's body. Its framing stands in the head, which the maker has written to match. With trailers that is always
/// the chunked coding, and bytes or a file are one chunk.
pub enum RequestBody {
    /// All of it, in memory; empty for none.
    Bytes(Bytes),
    /// Pieces of unknown number, each a chunk (RFC 9112 section 7.1).
    Chunked(Box<dyn BodySource>),
    /// Pieces that have to add up to that many bytes.
    Counted(Box<dyn BodySource>, u64),
    /// From a file.
    File(FileBody),
}

impl RequestBody {
    /// Whether the head alone is the whole request.
    pub fn is_empty(&self) -> bool {
        match self {
            RequestBody::Bytes(bytes) => bytes.is_empty(),
            RequestBody::Counted(_, length) => *length == 0,
            RequestBody::File(file) => file.length == 0,
            RequestBody::Chunked(_) => false,
        }
    }

    /// Whether it can be sent a second time.
    pub fn can_be_repeated(&self) -> bool {
        matches!(self, RequestBody::Bytes(_) | RequestBody::File(_))
    }
}

/// A request, checked and encoded.
pub struct Request {
    /// From the request line to the blank line.
    pub head: Vec<u8>,
    /// The value of Proxy-Authorization, for the tunnel of a connection that is opened for this request. It takes the
    /// place of the proxy's own credentials.
    pub for_proxy: Option<Vec<u8>>,
    /// What follows it.
    pub body: RequestBody,
    /// What of the method bears on the response's framing.
    pub asked: Asked,
    /// RFC 9110 section 9.2.2: whether it may be sent again when nobody knows whether it arrived.
    pub idempotent: bool,
    /// The head says `Expect: 100-continue`.
    pub expects_continue: bool,
    /// The head says `Connection: close`.
    pub closes: bool,
    /// Its own timeouts, in place of all those of the client.
    pub timeouts: Option<Box<Timeouts>>,
    /// What follows the body.
    pub trailers: Option<Box<dyn TrailerSource>>,
    /// Where the connections are noted that are opened for it, by whoever wants to know.
    pub opened: Option<Rc<RefCell<Vec<Opened>>>>,
}

/// A connection that was opened for a request.
pub struct Opened {
    /// How that went.
    pub dialled: Rc<Dialled>,
    /// What its TLS handshake has come to, if there was one.
    pub tls: Option<Rc<Facts>>,
    /// Whether HTTP/2 is spoken on it.
    pub http2: bool,
}

impl Request {
    /// Whether it may be sent again, to the same effect, when nobody knows whether it arrived.
    pub fn can_be_repeated(&self) -> bool {
        self.idempotent && self.body.can_be_repeated()
    }
}
