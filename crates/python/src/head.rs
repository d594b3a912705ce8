//! A request's head from Python's values: which lines, in which order, and the framing of the body that follows.

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use wire::url::redact;
use wire::{request, token};

use crate::trailers::Trailers;
use crate::types;

const PROXY_AUTHORIZATION: &[u8] = b"Proxy-Authorization";
const TRAILER: &[u8] = b"Trailer";

/// What errors call a collection of fields, and the name of one of them.
pub(crate) struct Words {
    all: &'static str,
    name: &'static str,
}

const HEADERS: Words = Words { all: "headers", name: "header name" };
pub(crate) const TRAILERS: Words = Words { all: "trailers", name: "trailer name" };

/// What the head has to know of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// There is none.
    None,
    /// So many bytes.
    Known(u64),
    /// As many as come.
    Unknown,
}

/// How the body has to be sent, to match the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// In chunks.
    Chunked,
    /// As so many bytes.
    Counted(u64),
    /// In chunks before trailers: those the engine makes itself, of any body.
    Trailed,
}

/// Where a request goes, as its head says it.
pub(crate) struct Origin<'a> {
    /// The value of Host.
    pub(crate) host: Option<&'a str>,
    /// `http://host` and the like: what an absolute target may begin with, in any case. The first is what a proxy is
    /// told.
    pub(crate) bases: &'a Bound<'a, PyList>,
    /// Whether the target goes out in absolute form (RFC 9112 section 3.2.2).
    pub(crate) absolute: bool,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub(crate) version: &'a str,
    /// The value of Proxy-Authorization, for a target in absolute form.
    pub(crate) proxy_authorization: Option<&'a str>,
}

/// A head, and what of it bears on the exchange.
pub(crate) struct Head {
    pub(crate) text: Vec<u8>,
    /// The value of the caller's own Proxy-Authorization, which is no part of what the origin is sent.
    pub(crate) for_proxy: Option<Vec<u8>>,
    pub(crate) outgoing: Outgoing,
    pub(crate) closes: bool,
    pub(crate) expects_continue: bool,
}

/// Encodes a head: the request line, the default fields with the caller's in place of those he names, the caller's
/// other fields, Host unless given, and the body's framing unless given. With trailers the body is chunked, and Trailer
/// has their names unless it is given.
///
/// Proxy-Authorization is part of the head if the target is in absolute form. Otherwise the head is read by the origin,
/// and the field is handed out by itself, for a proxy that is asked for a tunnel.
pub(crate) fn encode(
    origin: &Origin<'_>,
    method: &str,
    target: &str,
    defaults: &Bound<'_, PyAny>,
    fields: Option<&Bound<'_, PyAny>>,
    extent: Extent,
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
    if let (Some(host), false, "HTTP/1.1") = (origin.host, writer.has_host, origin.version) {
        writer.field(b"Host", latin1("Host", host)?.as_ref())?;
    }
    if let (Some(credentials), false) = (origin.proxy_authorization, writer.has_proxy_authorization) {
        writer.field(PROXY_AUTHORIZATION, credentials.as_bytes())?;
    }
    let outgoing = match trailers {
        None => writer.framing(method, origin.version, extent)?,
        Some(trailers) => writer.framing_with(trailers, origin.version)?,
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
    coding: bool,
}

impl Writer {
    fn request_line(&mut self, origin: &Origin<'_>, method: &str, target: &str) -> PyResult<()> {
        let refuse = |error: wire::RequestError| PyValueError::new_err(error.to_string());
        let path = if is_absolute(target) {
            // A connection goes to its own origin only; what is asked of another would reach the wrong server.
            let bases: Vec<PyBackedStr> = origin.bases.extract()?;
            let path = bases.iter().find_map(|base| path_below(target, base));
            path.ok_or_else(|| {
                let own = bases.first().map_or("", |base| base);
                let shown = redact(target);
                PyValueError::new_err(format!("Invalid host in URL {shown:?}: this client is for {own}"))
            })?
        } else if has_scheme(target) {
            let problem = "this client speaks http and https alone";
            return Err(PyValueError::new_err(format!("Invalid URL {:?}: {problem}", request::shown_target(target))));
        } else if target.starts_with("//") {
            let problem = "it would be read as another host";
            return Err(PyValueError::new_err(format!(
                "Invalid request target {:?}: {problem}",
                request::shown_target(target)
            )));
        } else {
            target
        };
        let path = latin1("the request target", path)?;
        let mut full = Vec::with_capacity(path.len().saturating_add(1));
        if origin.absolute {
            let base: PyBackedStr = origin.bases.get_item(0)?.extract()?;
            full.extend_from_slice(base.as_bytes());
        }
        // RFC 9112 section 3.2.4: the asterisk is for OPTIONS alone.
        if !(path.starts_with(b"/") || (method == "OPTIONS" && path.as_ref() == b"*")) {
            full.push(b'/');
        }
        full.extend_from_slice(&path);
        request::line(&mut self.text, method.as_bytes(), &full, origin.version.as_bytes()).map_err(refuse)
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> PyResult<()> {
        let refuse = |error: wire::RequestError| PyValueError::new_err(error.to_string());
        if !self.absolute && name.eq_ignore_ascii_case(PROXY_AUTHORIZATION) {
            request::field(&mut Vec::new(), name, value).map_err(refuse)?;
            self.for_proxy = Some(value.to_vec());
            return Ok(());
        }
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
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let last = token::list(value).last();
                if last.is_none_or(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
                    let problem = "chunked must be the last coding of a request";
                    return Err(PyValueError::new_err(format!("Invalid Transfer-Encoding: {problem}")));
                }
                self.coding = true;
            }
            19 if name.eq_ignore_ascii_case(PROXY_AUTHORIZATION) => self.has_proxy_authorization = true,
            _ => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> PyResult<()> {
        let text = String::from_utf8_lossy(token::trim(value));
        let length = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
        let length = length.ok_or_else(|| PyValueError::new_err(format!("Invalid Content-Length {text:?}")))?;
        match self.length.replace(length) {
            Some(other) if other != length => {
                Err(PyValueError::new_err(format!("Invalid Content-Length: {other} and {length} at once")))
            }
            _ => Ok(()),
        }
    }

    /// Says which trailers will come, where that is known (RFC 9110 section 6.6.2). They follow chunks alone, even where
    /// there is no body (RFC 9112 section 7.1.2).
    fn framing_with(&mut self, trailers: &Trailers, version: &str) -> PyResult<Outgoing> {
        if version != "HTTP/1.1" {
            return Err(PyValueError::new_err("trailers need HTTP/1.1"));
        }
        if self.length.is_some() {
            return Err(PyValueError::new_err("Content-Length and trailers at once: what has trailers is chunked"));
        }
        if let (Some(names), false) = (trailers.names(), self.has_trailer) {
            self.field(TRAILER, &names)?;
        }
        if !self.coding {
            self.text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        Ok(Outgoing::Trailed)
    }

    /// RFC 9112 section 6: adds what the caller has not said of the body's framing, and holds what he has said against
    /// the body.
    fn framing(&mut self, method: &str, version: &str, extent: Extent) -> PyResult<Outgoing> {
        let refuse = |problem: String| Err(PyValueError::new_err(problem));
        match (self.coding, self.length, extent) {
            (true, Some(_), _) => refuse("Content-Length and Transfer-Encoding at once".to_owned()),
            (true, None, _) | (false, None, Extent::Unknown) if version == "HTTP/1.0" => {
                refuse("a body of unknown length needs HTTP/1.1, or a Content-Length header".to_owned())
            }
            (true, None, _) => Ok(Outgoing::Chunked),
            (false, Some(said), Extent::Unknown) => Ok(Outgoing::Counted(said)),
            (false, Some(0), Extent::None) => Ok(Outgoing::Counted(0)),
            (false, Some(said), Extent::None) => refuse(format!("Content-Length says {said}, but there is no body")),
            (false, Some(said), Extent::Known(length)) if said == length => Ok(Outgoing::Counted(said)),
            (false, Some(said), Extent::Known(length)) => {
                refuse(format!("Content-Length says {said}, but the body has {length} bytes"))
            }
            (false, None, Extent::Unknown) => {
                self.text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                Ok(Outgoing::Chunked)
            }
            (false, None, Extent::Known(length)) => {
                self.text.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
                Ok(Outgoing::Counted(length))
            }
            (false, None, Extent::None) => {
                // RFC 9110 section 8.6: of methods that usually have a body, its absence is told.
                if matches!(method, "POST" | "PUT" | "PATCH") {
                    self.text.extend_from_slice(b"Content-Length: 0\r\n");
                }
                Ok(Outgoing::Counted(0))
            }
        }
    }
}

fn is_absolute(target: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// Whether a target begins with a scheme (RFC 3986 section 3.1) and `://`, of whatever protocol.
fn has_scheme(target: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let is_scheme = |scheme: &str| scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(fits);
    target.split_once("://").is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// What of `target` follows the origin `base`.
fn path_below<'a>(target: &'a str, base: &str) -> Option<&'a str> {
    let (start, path) = target.split_at_checked(base.len())?;
    let is_own = start.eq_ignore_ascii_case(base) && (path.is_empty() || path.starts_with(['/', '?']));
    is_own.then_some(path)
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
    /// None was given: the line stands for the absence of any of its name.
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

/// Takes the name and the value of a line; no value for a name that is to have no line.
type Sink<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> PyResult<()> + 'a;

/// Calls `sink` for each line of a Headers, another mapping, or an iterable of pairs. A value of None is no line, nor
/// one of the defaults of that name, a list or tuple one for each item.
pub(crate) fn each_line(words: &Words, fields: &Bound<'_, PyAny>, sink: &mut Sink<'_>) -> PyResult<()> {
    let py = fields.py();
    if let Ok(dict) = fields.cast::<PyDict>() {
        // Taken out first: what turns a value into text may be code of the program's that changes the dict, and PyO3's
        // iterator panics then.
        let entries: Vec<_> = dict.iter().collect();
        if !fields.is_instance(types::headers(py)?)? {
            return entries.iter().try_for_each(|(name, value)| lines_of(words, name, value, sink));
        }
        // A Headers has (name, value) under the lower-case name, or a list of such for several lines.
        for (_, entry) in entries {
            if let Ok(line) = entry.cast::<PyTuple>() {
                line_of(words, &line.get_item(0)?, &line.get_item(1)?, sink)?;
            } else {
                for line in entry.try_iter()? {
                    let line = line?;
                    line_of(words, &line.get_item(0)?, &line.get_item(1)?, sink)?;
                }
            }
        }
        return Ok(());
    }
    let pairs = if fields.is_instance(types::mapping(py)?)? { &fields.call_method0("items")? } else { fields };
    let not_pairs =
        || PyTypeError::new_err(format!("{} must be a mapping or an iterable of (name, value) pairs", words.all));
    for pair in pairs.try_iter().map_err(|_| not_pairs())? {
        let (name, value) = pair?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>().map_err(|_| not_pairs())?;
        lines_of(words, &name, &value, sink)?;
    }
    Ok(())
}

fn lines_of(words: &Words, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, sink: &mut Sink<'_>) -> PyResult<()> {
    if is_list(value) {
        return value.try_iter()?.try_for_each(|item| line_of(words, name, &item?, sink));
    }
    line_of(words, name, value, sink)
}

fn is_list(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()
}

fn line_of(words: &Words, name: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, sink: &mut Sink<'_>) -> PyResult<()> {
    // One level is all there is: a list may contain itself, and the C stack ends somewhere.
    if is_list(value) {
        let (words, kind) = (words.all, value.get_type().name()?);
        let problem = format!("{words}: a list of values must not contain a {kind}: give one flat list");
        return Err(PyTypeError::new_err(problem));
    }
    with_text(words.name, name, &mut |name| {
        if value.is_none() {
            return sink(name, None);
        }
        let label = String::from_utf8_lossy(name);
        if let Ok(text) = value.cast::<PyString>() {
            return sink(name, Some(&latin1(&label, characters(&label, text)?)?));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return sink(name, Some(bytes.as_bytes()));
        }
        sink(name, Some(&latin1(&label, value.str()?.to_str()?)?))
    })
}

fn with_text(what: &str, text: &Bound<'_, PyAny>, then: &mut dyn FnMut(&[u8]) -> PyResult<()>) -> PyResult<()> {
    if let Ok(text) = text.cast::<PyString>() {
        return then(&latin1(what, characters(what, text)?)?);
    }
    match text.cast::<PyBytes>() {
        Ok(bytes) => then(bytes.as_bytes()),
        Err(_) => Err(PyTypeError::new_err(format!("{what} must be a str or bytes, not {}", text.get_type().name()?))),
    }
}

/// The text of a str. ValueError when it has surrogates, which stand for no character.
pub(crate) fn characters<'a>(what: &str, text: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    // What it is stays unsaid: it may be a secret, such as the value of Authorization.
    text.to_str().map_err(|_| PyValueError::new_err(format!("Invalid value of {what}: it has lone surrogates")))
}

/// The bytes of a text in ISO-8859-1, which is what a head is made of.
fn latin1<'a>(what: &str, text: &'a str) -> PyResult<Cow<'a, [u8]>> {
    if text.is_ascii() {
        return Ok(text.as_bytes().into());
    }
    let bytes: Result<Vec<u8>, char> = text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| c)).collect();
    bytes.map(Into::into).map_err(|c| {
        PyValueError::new_err(format!("Invalid value of {what}: it has {c:?}, which is outside of ISO-8859-1"))
    })
}

/// A text from bytes in ISO-8859-1.
pub(crate) fn from_latin1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.is_ascii() => PyString::new(py, text),
        _ => PyString::new(py, &bytes.iter().map(|&byte| byte as char).collect::<String>()),
    }
}
