//! A request's head from Python's values: which lines, in which order, and the framing of the body that follows.

use std::ops::Range;

use pyo3::prelude::*;
use wire::{request, token};

use crate::error::InvalidRequest;
use crate::request::fields::{HEADERS, each_line, latin1};
use crate::request::trailers::Trailers;

const PROXY_AUTHORIZATION: &[u8] = b"Proxy-Authorization";
const TRAILER: &[u8] = b"Trailer";
const TRANSFER_ENCODING: &[u8] = b"Transfer-Encoding";
const CHUNKED_LINE: &[u8] = b"Transfer-Encoding: chunked\r\n";

/// Size of a body, as far as the head depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodySize {
    /// No body.
    None,
    /// A number of bytes.
    Known(u64),
    /// Known only at the body's end.
    Unknown,
}

/// How the body has to be sent, to match the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// In chunks.
    Chunked,
    /// With that Content-Length.
    Counted(u64),
    /// In chunks, followed by trailers. The engine makes these chunks itself, from any body.
    Trailed,
}

/// The origin of a request, as its head names it.
pub(crate) struct Origin {
    /// The value of Host.
    pub(crate) host: Option<String>,
    /// The beginnings of absolute targets that are accepted, such as `http://host`, in any case. A proxy gets the first.
    pub(crate) origin_prefixes: Vec<String>,
    /// True if the target is sent in absolute form (RFC 9112 section 3.2.2).
    pub(crate) absolute: bool,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub(crate) version: String,
    /// The value of Proxy-Authorization, for a target in absolute form.
    pub(crate) proxy_authorization: Option<String>,
}

/// A head, and the properties of it that affect the exchange.
pub(crate) struct Head {
    pub(crate) text: Vec<u8>,
    /// The value of the caller's own Proxy-Authorization, which is not sent to the origin.
    pub(crate) for_proxy: Option<Vec<u8>>,
    pub(crate) outgoing: BodyFraming,
    pub(crate) closes: bool,
    pub(crate) expects_continue: bool,
}

/// Encodes a head: the request line, the default fields with those of the caller that have the same names, the
/// caller's other fields, Host unless given, and the body's framing unless given. Transfer-Encoding decides over Content-Length:
/// one of the two is sent. With trailers the body is chunked, and Trailer has their names unless it is given.
///
/// Proxy-Authorization is part of the head if the target is in absolute form. Otherwise the head is read by the origin,
/// and the field is handed out by itself, for a proxy that is asked for a tunnel.
pub(crate) fn encode(
    origin: &Origin,
    method: &str,
    target: &str,
    defaults: &Bound<'_, PyAny>,
    fields: Option<&Bound<'_, PyAny>>,
    extent: BodySize,
    trailers: Option<&Trailers>,
) -> PyResult<Head> {
    let mut writer = Writer { text: Vec::with_capacity(256), absolute: origin.absolute, ..Writer::default() };
    writer.request_line(origin, method, target)?;
    match fields {
        None => each_line(&HEADERS, defaults, &mut |name, value| match value {
            Some(value) => writer.field(name, value),
            None => Ok(()),
        })?,
        Some(fields) => {
            let mut given = Lines::default();
            each_line(&HEADERS, fields, &mut |name, value| {
                given.push(name, value);
                Ok(())
            })?;
            each_line(&HEADERS, defaults, &mut |name, value| match (given.take(name), value) {
                (lines, Some(value)) if lines.is_empty() => writer.field(name, value),
                (lines, _) => lines.into_iter().try_for_each(|line| given.write(line, &mut writer)),
            })?;
            given.rest().try_for_each(|line| given.write(line, &mut writer))?;
        }
    }
    // HTTP/1.0 knows no Host.
    if let (Some(host), false, "HTTP/1.1") = (&origin.host, writer.has_host, origin.version.as_str()) {
        writer.field(b"Host", latin1("Host", host)?.as_ref())?;
    }
    if let (Some(credentials), false) = (&origin.proxy_authorization, writer.has_proxy_authorization) {
        writer.field(PROXY_AUTHORIZATION, credentials.as_bytes())?;
    }
    let outgoing = match trailers {
        None => writer.framing(method, &origin.version, extent)?,
        Some(trailers) => writer.framing_with(trailers, &origin.version)?,
    };
    writer.text.extend_from_slice(b"\r\n");
    let Writer { text, for_proxy, closes, expects_continue, .. } = writer;
    // RFC 9110 section 10.1.1: HTTP/1.0 knows no 100.
    let expects_continue = expects_continue && origin.version == "HTTP/1.1";
    Ok(Head { text, for_proxy, outgoing, closes, expects_continue })
}

/// A head as programs may log it: what it tells a proxy of us is masked.
pub(crate) fn for_logs(head: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(head.len());
    for line in head.split_inclusive(|&byte| byte == b'\n') {
        match line.split_at_checked(PROXY_AUTHORIZATION.len()) {
            Some((name, [b':', ..])) if name.eq_ignore_ascii_case(PROXY_AUTHORIZATION) => {
                shown.extend_from_slice(name);
                shown.extend_from_slice(b": ***\r\n");
            }
            _ => shown.extend_from_slice(line),
        }
    }
    shown
}

#[derive(Default)]
struct Writer {
    text: Vec<u8>,
    absolute: bool,
    for_proxy: Option<Vec<u8>>,
    has_host: bool,
    has_proxy_authorization: bool,
    has_trailer: bool,
    closes: bool,
    expects_continue: bool,
    length: Option<u64>,
    /// Positions of the Content-Length lines.
    length_lines: Vec<Range<usize>>,
    coding: Option<Coding>,
}

/// The value of Transfer-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// The body goes out in chunks, whatever it is.
    Chunked,
    /// The body goes out as it is, with its length. RFC 9112 has no such coding any more, and the field is not sent.
    Identity,
}

impl Coding {
    /// From one line of the field. `chunked` may be said twice, and is sent once.
    fn of(value: &[u8]) -> PyResult<Self> {
        let mut codings = token::list(value).map(|name| match name {
            _ if name.eq_ignore_ascii_case(b"chunked") => Some(Coding::Chunked),
            _ if name.eq_ignore_ascii_case(b"identity") => Some(Coding::Identity),
            _ => None,
        });
        let first = codings.next().flatten();
        first.filter(|_| codings.all(|coding| coding == first)).ok_or_else(|| {
            InvalidRequest::new_err(
                "Invalid Transfer-Encoding: a request may say chunked, or identity, and nothing else",
            )
        })
    }
}

impl Writer {
    fn request_line(&mut self, origin: &Origin, method: &str, target: &str) -> PyResult<()> {
        let refuse = |error: wire::RequestError| InvalidRequest::new_err(error.to_string());
        let path = request::path_of_target(method, target, &origin.origin_prefixes).map_err(refuse)?;
        let path = latin1("the request target", &path)?;
        let own = origin.origin_prefixes.first().filter(|_| origin.absolute && method != "CONNECT");
        let mut full = own.map_or_else(Vec::new, |own| own.as_bytes().to_vec());
        // In absolute form, the target that is `*` has no path (RFC 9112 section 3.2.4).
        if own.is_none() || &*path != b"*" {
            full.extend_from_slice(&path);
        }
        request::line(&mut self.text, method.as_bytes(), &full, origin.version.as_bytes()).map_err(refuse)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        let refuse = |error: wire::RequestError| InvalidRequest::new_err(error.to_string());
        if !self.absolute && name.eq_ignore_ascii_case(PROXY_AUTHORIZATION) {
            request::field(&mut Vec::new(), name, value).map_err(refuse)?;
            self.for_proxy = Some(value.to_vec());
            return Ok(());
        }
        if name.eq_ignore_ascii_case(TRANSFER_ENCODING) {
            request::field(&mut Vec::new(), name, value).map_err(refuse)?;
            return self.transfer_encoding(value);
        }
        let start = self.text.len();
        request::field(&mut self.text, name, value).map_err(refuse)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.has_host = true,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects_continue = token::trim(value).eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(TRAILER) => self.has_trailer = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.closes |= token::list(value).any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.content_length(value)?;
                self.length_lines.push(start..self.text.len());
            }
            19 if name.eq_ignore_ascii_case(PROXY_AUTHORIZATION) => self.has_proxy_authorization = true,
            _ => {}
        }
        Ok(())
    }

    /// Takes one line of Transfer-Encoding. A `chunked` is sent, unless it repeats an earlier one.
    fn transfer_encoding(&mut self, value: &[u8]) -> PyResult<()> {
        let coding = Coding::of(value)?;
        match self.coding.replace(coding) {
            None if coding == Coding::Chunked => self.text.extend_from_slice(CHUNKED_LINE),
            None => {}
            Some(before) if before == coding => {}
            Some(_) => {
                return Err(InvalidRequest::new_err("Invalid Transfer-Encoding: chunked and identity at once"));
            }
        }
        Ok(())
    }

    /// RFC 9112 section 6.2: no Content-Length beside Transfer-Encoding. Two readers could go by one each.
    fn drop_lengths(&mut self) {
        self.length = None;
        while let Some(line) = self.length_lines.pop() {
            self.text.drain(line);
        }
    }

    fn content_length(&mut self, value: &[u8]) -> PyResult<()> {
        let text = String::from_utf8_lossy(token::trim(value));
        let length = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let length = length.ok_or_else(|| InvalidRequest::new_err(format!("Invalid Content-Length {text:?}")))?;
        match self.length.replace(length) {
            Some(other) if other != length => {
                Err(InvalidRequest::new_err(format!("Invalid Content-Length: {other} and {length} at once")))
            }
            _ => Ok(()),
        }
    }

    /// Announces the trailers, if their names are known (RFC 9110 section 6.6.2). They need chunks, even if there is no
    /// body (RFC 9112 section 7.1.2).
    fn framing_with(&mut self, trailers: &Trailers, version: &str) -> PyResult<BodyFraming> {
        if version != "HTTP/1.1" {
            return Err(InvalidRequest::new_err("trailers need HTTP/1.1"));
        }
        match (self.coding, self.length) {
            (Some(Coding::Identity), _) => {
                return Err(InvalidRequest::new_err(
                    "Transfer-Encoding: identity and trailers at once: what has trailers is chunked",
                ));
            }
            (None, Some(_)) => {
                return Err(InvalidRequest::new_err(
                    "Content-Length and trailers at once: what has trailers is chunked",
                ));
            }
            _ => self.drop_lengths(),
        }
        if let (Some(names), false) = (trailers.names(), self.has_trailer) {
            self.field(TRAILER, &names)?;
        }
        if self.coding.is_none() {
            self.text.extend_from_slice(CHUNKED_LINE);
        }
        Ok(BodyFraming::Trailed)
    }

    /// Adds the fields of the body's framing that the caller has not set, and checks the others against the body
    /// (RFC 9112 section 6).
    fn framing(&mut self, method: &str, version: &str, extent: BodySize) -> PyResult<BodyFraming> {
        let refuse = |problem: String| Err(InvalidRequest::new_err(problem));
        if self.coding == Some(Coding::Chunked) {
            if version == "HTTP/1.0" {
                return refuse("Transfer-Encoding: chunked needs HTTP/1.1".to_owned());
            }
            self.drop_lengths();
            return Ok(BodyFraming::Chunked);
        }
        match (self.length, extent) {
            (None, BodySize::Unknown) if version == "HTTP/1.0" => {
                refuse("a body of unknown length needs HTTP/1.1, or a Content-Length header".to_owned())
            }
            (None, BodySize::Unknown) if self.coding == Some(Coding::Identity) => {
                let problem = "a body of unknown length needs a Content-Length header beside it, or to be chunked";
                refuse(format!("Transfer-Encoding: identity: {problem}"))
            }
            (Some(said), BodySize::Unknown) => Ok(BodyFraming::Counted(said)),
            (Some(0), BodySize::None) => Ok(BodyFraming::Counted(0)),
            (Some(said), BodySize::None) => refuse(format!("Content-Length says {said}, but there is no body")),
            (Some(said), BodySize::Known(length)) if said == length => Ok(BodyFraming::Counted(said)),
            (Some(said), BodySize::Known(length)) => {
                refuse(format!("Content-Length says {said}, but the body has {length} bytes"))
            }
            (None, BodySize::Unknown) => {
                self.text.extend_from_slice(CHUNKED_LINE);
                Ok(BodyFraming::Chunked)
            }
            (None, BodySize::Known(length)) => {
                self.text.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
                Ok(BodyFraming::Counted(length))
            }
            (None, BodySize::None) => {
                // RFC 9110 section 8.6: a method that usually has a body gets a length of 0 without one.
                if matches!(method, "POST" | "PUT" | "PATCH") {
                    self.text.extend_from_slice(b"Content-Length: 0\r\n");
                }
                Ok(BodyFraming::Counted(0))
            }
        }
    }
}

/// The caller's lines, to be merged with the defaults.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
struct Line {
    start: usize,
    name_end: usize,
    end: usize,
    /// True if the value is None, which removes every line of that name.
    absent: bool,
    written: bool,
}

impl Lines {
    fn push(&mut self, name: &[u8], value: Option<&[u8]>) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value.unwrap_or_default());
        let (name_end, end) = (start.saturating_add(name.len()), self.text.len());
        self.lines.push(Line { start, name_end, end, absent: value.is_none(), written: false });
    }

    fn part(&self, start: usize, end: usize) -> &[u8] {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The lines of that name that were not taken before.
    fn take(&mut self, name: &[u8]) -> Vec<Line> {
        let Lines { text, lines } = self;
        let same = |line: &Line| {
            let own = text.get(line.start..line.name_end).unwrap_or_default();
            !line.written && own.eq_ignore_ascii_case(name)
        };
        let mut taken = Vec::new();
        for line in lines.iter_mut().filter(|line| same(line)) {
            taken.push(*line);
            line.written = true;
        }
        taken
    }

    fn rest(&self) -> impl Iterator<Item = Line> {
        self.lines.iter().filter(|line| !line.written).copied()
    }

    fn write(&self, line: Line, writer: &mut Writer) -> PyResult<()> {
        if line.absent {
            return Ok(());
        }
        writer.field(self.part(line.start, line.name_end), self.part(line.name_end, line.end))
    }
}
