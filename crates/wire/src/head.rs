//! The head of a response: RFC 9112 sections 4 and 5, on `httparse`.

use std::mem::MaybeUninit;

use crate::token::line_feed;
use crate::{HeaderMap, Limits, ResponseError};
use bytes::Bytes;

/// The versions of HTTP that a response may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As it stands in a status line; HTTP/2 has none.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// A response's status line and header fields.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// From 100 to 999.
    pub status: u16,
    /// What the peer says that it speaks.
    pub version: Version,
    /// The header lines.
    pub headers: HeaderMap,
    reason: Bytes,
}

impl ResponseHead {
    /// Of a message that came as fields and not as text: that of HTTP/2 (RFC 9113 section 8.3.2), which has no reason
    /// phrase; `reason` stands for it.
    pub fn of_http2<'a>(
        status: u16,
        reason: &'static str,
        lines: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> ResponseHead {
        let headers = HeaderMap::from_lines(lines);
        ResponseHead { status, version: Version::Http2, headers, reason: Bytes::from_static(reason.as_bytes()) }
    }

    /// The reason phrase, which may be empty (RFC 9112 section 4).
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Whether another response to the same request follows (RFC 9110 section 15.2). 101 is final: what follows it is
    /// no longer HTTP/1.1.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Finds the end of a head in a buffer that grows, looking at each byte once, and parses it when it is all there.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    /// Empty lines before the status line.
    blank: usize,
    scanned: usize,
}

impl HeadReader {
    /// Looks at all bytes since the last complete message. `Some((head, n))` when the first `n` of them are a head;
    /// `None` when more are needed. After a head, start anew with a fresh reader.
    ///
    /// Read leniently where RFC 9112 says so: empty lines before the status line (section 2.2), a bare LF as a line's
    /// end (section 2.2), obs-fold (section 5.2), no reason phrase (section 4).
    pub fn read(&mut self, input: &[u8], limits: &Limits) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        let start = loop {
            self.blank += match input.get(self.blank..).unwrap_or_default() {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                start => break start,
            };
        };
        let blank = self.blank;
        if start != b"\r" {
            check_start(start)?;
        }
        let Some(length) = end_of_lines(input, self.scanned.max(blank)) else {
            self.scanned = input.len().saturating_sub(2);
            if input.len() > limits.head_bytes {
                return Err(ResponseError::HeadTooLarge(limits.head_bytes));
            }
            return Ok(None);
        };
        if length > limits.head_bytes {
            return Err(ResponseError::HeadTooLarge(limits.head_bytes));
        }
        *self = HeadReader::default();
        let text = input.get(blank..length).unwrap_or_default();
        parse(text, limits).map(|head| Some((head, length)))
    }
}

/// Refuses at the first bytes what will never become a status line, so that nobody waits for the rest of it.
fn check_start(start: &[u8]) -> Result<(), ResponseError> {
    const NAME: &[u8] = b"HTTP/";
    let n = start.len().min(NAME.len());
    if start[..n] != NAME[..n] {
        let shown = start.get(..start.len().min(20)).unwrap_or_default();
        return Err(ResponseError::NotHttp(String::from_utf8_lossy(shown).into_owned()));
    }
    match start.get(NAME.len()..) {
        Some([b'1', b'.', b'0' | b'1', ..] | [b'1', b'.'] | [b'1'] | []) | None => Ok(()),
        Some(_) => Err(ResponseError::Version),
    }
}

/// Where the lines that end with a blank one end, looking from `from` on.
fn end_of_lines(input: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += line_feed(input.get(at..)?)? + 1;
        match input.get(at..) {
            Some([b'\n', ..]) => return Some(at + 1),
            Some([b'\r', b'\n', ..]) => return Some(at + 2),
            _ => {}
        }
    }
}

fn parse(text: &[u8], limits: &Limits) -> Result<ResponseHead, ResponseError> {
    // Most heads fit in 32 lines; the rest are parsed again into as many as the limit allows.
    let mut few = [const { MaybeUninit::uninit() }; 32];
    let at_most = few.len().min(limits.header_count);
    match parse_into(text, &mut few[..at_most]) {
        Err(httparse::Error::TooManyHeaders) if limits.header_count > at_most => {
            let mut many = vec![const { MaybeUninit::uninit() }; limits.header_count];
            parse_into(text, &mut many).map_err(|error| refusal(error, limits))
        }
        other => other.map_err(|error| refusal(error, limits)),
    }?
    .ok_or(ResponseError::Status)
}

/// `None` for a status code that is none.
fn parse_into<'a>(
    text: &'a [u8],
    lines: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Option<ResponseHead>, httparse::Error> {
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response_with_uninit_headers(&mut response, text, lines)?;
    let (httparse::Status::Complete(_), Some(status @ 100..), Some(minor)) = (parsed, response.code, response.version)
    else {
        return Ok(None);
    };
    let bytes = unfolded(text, response.headers);
    let reason = response.reason.unwrap_or_default();
    let reason = match (reason.as_ptr() as usize).checked_sub(text.as_ptr() as usize) {
        Some(start) if !reason.is_empty() => bytes.slice(start..start + reason.len()),
        // httparse has an empty phrase for one with bytes above 0x7F: find it where it lies.
        _ => bytes.slice(raw_reason(&bytes)),
    };
    let headers = HeaderMap::over(bytes, response.headers, text);
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    Ok(Some(ResponseHead { status, version, headers, reason }))
}

/// Where the third part of the status line lies.
fn raw_reason(text: &[u8]) -> std::ops::Range<usize> {
    let line = line_feed(text).unwrap_or(text.len());
    let line = if line > 0 && text.get(line - 1) == Some(&b'\r') { line - 1 } else { line };
    let start = "HTTP/1.1 200 ".len().min(line);
    start..line
}

/// A copy of the head of its own, in which every fold (CRLF and the blanks behind it, RFC 9112 section 5.2) inside a
/// value is as many blanks.
fn unfolded(text: &[u8], lines: &[httparse::Header<'_>]) -> Bytes {
    let folded = |line: &&httparse::Header<'_>| line.value.iter().any(|&byte| byte == b'\n' || byte == b'\r');
    if !lines.iter().any(|line| folded(&line)) {
        return Bytes::copy_from_slice(text);
    }
    let mut copy = text.to_vec();
    for line in lines.iter().filter(folded) {
        let start = (line.value.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        let mut in_fold = false;
        for byte in copy.iter_mut().skip(start).take(line.value.len()) {
            in_fold = matches!(byte, b'\r' | b'\n') || (in_fold && matches!(byte, b' ' | b'\t'));
            if in_fold {
                *byte = b' ';
            }
        }
    }
    Bytes::from(copy)
}

/// Parses the trailer section of a chunked body (RFC 9112 section 7.1.2): field lines, then a blank one.
pub(crate) fn parse_trailers(text: &[u8], limits: &Limits) -> Result<HeaderMap, ResponseError> {
    let mut lines = vec![httparse::EMPTY_HEADER; limits.header_count];
    match httparse::parse_headers(text, &mut lines) {
        Ok(httparse::Status::Complete((_, lines))) => Ok(HeaderMap::over(Bytes::copy_from_slice(text), lines, text)),
        Ok(httparse::Status::Partial) => Err(ResponseError::HeaderToken),
        Err(error) => Err(refusal(error, limits)),
    }
}

#[cold]
fn refusal(error: httparse::Error, limits: &Limits) -> ResponseError {
    match error {
        httparse::Error::HeaderValue => ResponseError::HeaderValue,
        httparse::Error::Status => ResponseError::Status,
        httparse::Error::TooManyHeaders => ResponseError::TooManyHeaders(limits.header_count),
        httparse::Error::Version => ResponseError::Version,
        httparse::Error::HeaderName | httparse::Error::NewLine | httparse::Error::Token => ResponseError::HeaderToken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SEARCHED;

    fn read(text: &[u8]) -> Result<Option<(ResponseHead, usize)>, ResponseError> {
        HeadReader::default().read(text, &Limits::default())
    }

    fn head(text: &[u8]) -> ResponseHead {
        let (head, length) = read(text).expect("a good head").expect("a whole head");
        assert_eq!(length, text.len());
        head
    }

    #[test]
    fn a_plain_head() {
        let head = head(b"HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a\r\nset-cookie:b\r\nEmpty:\r\n\r\n");
        assert_eq!((head.status, head.version, head.reason()), (200, Version::Http11, b"OK".as_slice()));
        let lines: Vec<_> = head.headers.iter().collect();
        assert_eq!(
            lines,
            [(b"Server".as_slice(), b"x".as_slice()), (b"Set-Cookie", b"a"), (b"set-cookie", b"b"), (b"Empty", b"")]
        );
        assert_eq!(head.headers.get_all(b"SET-COOKIE").collect::<Vec<_>>(), [b"a", b"b"]);
    }

    #[test]
    fn whatever_is_cut_off_is_partial_and_never_an_error() {
        let text = b"\r\nHTTP/1.1 404 Not Found\r\nA: 1\r\n\tfolded\r\nB: \xe9\r\n\r\n";
        let mut reader = HeadReader::default();
        for cut in 0..text.len() {
            assert!(reader.read(&text[..cut], &Limits::default()).expect("no error").is_none(), "{cut}");
        }
        let (head, length) = reader.read(text, &Limits::default()).expect("good").expect("whole");
        assert_eq!(length, text.len());
        assert_eq!(head.headers.get(b"a"), Some(b"1   folded".as_slice()));
        assert_eq!(head.headers.get(b"b"), Some(b"\xe9".as_slice()));
        assert_eq!(head.reason(), b"Not Found");
    }

    #[test]
    fn bare_line_feeds_missing_reasons_and_latin_1_reasons() {
        assert_eq!(head(b"HTTP/1.0 204\nA: b\n\n").headers.get(b"A"), Some(b"b".as_slice()));
        assert_eq!(head(b"HTTP/1.1 200\r\n\r\n").reason(), b"");
        assert_eq!(head(b"HTTP/1.1 200 \r\n\r\n").reason(), b"");
        assert_eq!(head(b"HTTP/1.1 200 caf\xe9\r\n\r\n").reason(), b"caf\xe9");
    }

    #[test]
    fn trailing_blanks_of_values_go() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nA:  b \t \r\n\r\n").headers.get(b"a"), Some(b"b".as_slice()));
    }

    #[test]
    fn what_is_no_response_is_refused_at_its_first_bytes() {
        assert!(matches!(read(b"SSH-2.0"), Err(ResponseError::NotHttp(_))));
        assert!(matches!(read(b"I"), Err(ResponseError::NotHttp(_))));
        assert!(matches!(read(b"RTSP/1.0 200 OK\r\n\r\n"), Err(ResponseError::NotHttp(_))));
        assert!(matches!(read(b"ICY 200 OK\r\n\r\n"), Err(ResponseError::NotHttp(_))));
        assert_eq!(read(b"HTTP/2").map(|_| ()), Err(ResponseError::Version));
        assert_eq!(read(b"HTTP/1.2 200 OK\r\n\r\n").map(|_| ()), Err(ResponseError::Version));
    }

    #[test]
    fn bad_heads_are_refused() {
        for (text, error) in [
            (b"HTTP/1.1 099 x\r\n\r\n".as_slice(), ResponseError::Status),
            (b"HTTP/1.1 2x0 x\r\n\r\n", ResponseError::Status),
            (b"HTTP/1.1 20\r\n\r\n", ResponseError::Status),
            (b"HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", ResponseError::HeaderToken),
            (b"HTTP/1.1 200 OK\r\nA : c\r\n\r\n", ResponseError::HeaderToken),
            (b"HTTP/1.1 200 OK\r\n: c\r\n\r\n", ResponseError::HeaderToken),
            (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ResponseError::HeaderToken),
            (b"HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", ResponseError::HeaderValue),
            (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", ResponseError::HeaderValue),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(error), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn head_that_comes_byte_by_byte_is_searched_once() {
        let limits = Limits::default();
        let line = |length: usize| [b"A: ".as_slice(), &vec![b'a'; length], b"\r\n"].concat();
        let searched = |text: &[u8]| {
            SEARCHED.with(|searched| searched.set(0));
            let mut reader = HeadReader::default();
            for end in 1..=text.len() {
                let read = reader.read(&text[..end], &limits).expect("good");
                assert_eq!(read.is_some(), end == text.len());
            }
            SEARCHED.with(std::cell::Cell::get)
        };
        for size in [16, 32, 64, 127].map(|kilobytes| kilobytes * 1024) {
            let whole = |lines: Vec<u8>| [b"HTTP/1.1 200 OK\r\n".as_slice(), &lines, b"\r\n"].concat();
            for text in [
                whole(line(size)),
                whole(line(size / 256).repeat(250)),
                [b"\r\n".repeat(size / 2), whole(Vec::new())].concat(),
            ] {
                // The last bytes of what came before are looked at again, for a blank line across.
                let count = searched(&text);
                assert!(count <= 4 * text.len(), "{count} bytes of {}", text.len());
            }
        }
    }

    #[test]
    fn the_limits_hold() {
        let limits = Limits { head_bytes: 100, header_count: 40, ..Limits::default() };
        let endless = [b"HTTP/1.1 200 OK\r\nA: ".as_slice(), &[b'a'; 200]].concat();
        let refused = HeadReader::default().read(&endless, &limits).map(|_| ());
        assert_eq!(refused, Err(ResponseError::HeadTooLarge(100)));
        let limits = Limits { head_bytes: 10_000, ..limits };
        let with = |n: usize| [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"A: b\r\n".repeat(n), b"\r\n"].concat();
        assert_eq!(HeadReader::default().read(&with(41), &limits).map(|_| ()), Err(ResponseError::TooManyHeaders(40)));
        let (head, _) = HeadReader::default().read(&with(40), &limits).expect("good").expect("whole");
        assert_eq!(head.headers.len(), 40);
    }
}
