//! A request, ready to be written.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use wire::framing::MethodKind;

use crate::config::Timeouts;
use crate::error::{Error, Kind, Phase};
use crate::rt::timeout::Deadline;
use crate::timings::Dialled;
use crate::tls::TlsInfo;

/// The source of a streamed body.
pub trait BodySource {
    /// Returns the next piece; `None` at the end. An error ends the request, and reaches the caller unchanged. `until`
    /// is the deadline for sources that block, which cannot be dropped while they wait.
    fn poll_next(&mut self, cx: &mut Context<'_>, until: Option<Deadline>) -> Poll<Option<Result<Bytes, Kind>>>;
}

/// The source of a request's trailers (RFC 9110 section 6.5).
pub trait TrailerSource {
    /// Returns names and values, checked by [`wire::request::check_trailer`]. Called after the last byte of the body
    /// was sent, each time that the request is sent. An error ends the request, and reaches the caller unchanged;
    /// `until` as in [`BodySource::poll_next`].
    fn lines(&mut self, until: Option<Deadline>) -> Result<Vec<(Bytes, Bytes)>, Kind>;
}

/// A part of an open file, which the kernel sends if it can.
#[derive(Debug)]
pub struct FileBody {
    /// A descriptor of our own: the caller may close its own.
    pub file: File,
    /// The offset in the file at which the body begins.
    pub offset: u64,
    /// The length in bytes.
    pub length: u64,
}

impl FileBody {
    /// Reads at most `room` bytes at that offset of the file; none at its end.
    pub fn read_at(&self, offset: u64, room: usize) -> io::Result<Bytes> {
        use std::os::unix::fs::FileExt;
        let mut piece = vec![0; room];
        let read = self.file.read_at(&mut piece, offset)?;
        piece.truncate(read);
        Ok(Bytes::from(piece))
    }
}

/// A request's body. Its framing is in the head, which the caller has written to match. With trailers the coding is
/// always chunked, and bytes or a file are one chunk.
pub enum RequestBody {
    /// All of it, in memory; empty for none.
    Bytes(Bytes),
    /// Pieces of unknown number, each a chunk (RFC 9112 section 7.1).
    Chunked(Box<dyn BodySource>),
    /// Pieces that have to add up to this many bytes.
    Counted(Box<dyn BodySource>, u64),
    /// A file.
    File(FileBody),
}

impl RequestBody {
    /// Returns whether the head alone is the whole request.
    pub fn is_empty(&self) -> bool {
        match self {
            RequestBody::Bytes(bytes) => bytes.is_empty(),
            RequestBody::Counted(_, length) => *length == 0,
            RequestBody::File(file) => file.length == 0,
            RequestBody::Chunked(_) => false,
        }
    }

    /// Returns whether it can be sent a second time.
    pub fn can_be_repeated(&self) -> bool {
        matches!(self, RequestBody::Bytes(_) | RequestBody::File(_))
    }
}

/// A request, checked and encoded.
pub struct Request {
    /// The head, from the request line to the blank line.
    pub head: Vec<u8>,
    /// The value of Proxy-Authorization for the tunnel of a connection that is opened for this request, in place of the
    /// proxy's own credentials.
    pub for_proxy: Option<Vec<u8>>,
    /// The body.
    pub body: RequestBody,
    /// The method, as far as the response's framing depends on it.
    pub method_kind: MethodKind,
    /// Whether it may be sent again if the server may have acted on it (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// Whether the head has `Expect: 100-continue`.
    pub expects_continue: bool,
    /// Whether the head has `Connection: close`.
    pub closes: bool,
    /// Whether the response keeps its connection after 101, or a 2xx to CONNECT, for another protocol.
    pub keeps_upgrade: bool,
    /// The request's own timeouts, in place of all those of the client.
    pub timeouts: Option<Box<Timeouts>>,
    /// The trailers.
    pub trailers: Option<Box<dyn TrailerSource>>,
    /// A list to which the connections are added that are opened for it.
    pub opened: Option<Rc<RefCell<Vec<Opened>>>>,
    /// Called at the start of each phase.
    pub observer: Option<Rc<dyn PhaseObserver>>,
}

/// Observer of one request's phases.
pub trait PhaseObserver {
    /// Called when a phase begins, which ends the one before. `http2` says that it is a step of an HTTP/2 stream. An
    /// error ends the request, and reaches the caller unchanged. It may switch to other tasks.
    fn enter(&self, phase: Phase, http2: bool) -> Result<(), Kind>;
}

/// A connection that was opened for a request.
pub struct Opened {
    /// How it was opened.
    pub dialled: Rc<Dialled>,
    /// The result of its TLS handshake, if there was one.
    pub tls: Option<Rc<TlsInfo>>,
    /// Whether HTTP/2 is spoken on it.
    pub http2: bool,
}

impl Request {
    /// Returns whether code of the program makes a part of it while it is sent.
    pub(crate) fn runs_code(&self) -> bool {
        self.trailers.is_some() || matches!(self.body, RequestBody::Chunked(_) | RequestBody::Counted(..))
    }

    /// Returns whether it may be sent again, to the same effect, if the server may have acted on it.
    pub fn can_be_repeated(&self) -> bool {
        self.idempotent && self.body.can_be_repeated()
    }

    /// Notifies the observer that a phase begins.
    pub(crate) fn enter(&self, phase: Phase, http2: bool) -> crate::Result<()> {
        let Some(observer) = &self.observer else { return Ok(()) };
        observer.enter(phase, http2).map_err(|kind| Error::new(kind, phase))
    }
}
