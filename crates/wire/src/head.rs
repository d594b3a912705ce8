//! Reads the head of a response with `httparse`: RFC 9112 sections 4 and 5.

use std::borrow::Cow;
use std::mem::MaybeUninit;

use bytes::Bytes;

use crate::error::ResponseError;
use crate::headers::HeaderMap;
use crate::limits::Limits;
use crate::token::line_feed;

/// HTTP version of a response.
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
    /// Returns the version as in a status line; HTTP/2 has no status line.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// Status line and header fields of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status code, from 100 to 999.
    pub status: u16,
    /// Version that the peer announced; [`Version::Http11`] for a later minor version.
    pub version: Version,
    /// Header lines.
    pub headers: HeaderMap,
    reason: Bytes,
}

impl ResponseHead {
    /// Returns the head of an HTTP/2 message, which arrives as fields and not as text (RFC 9113 section 8.3.2). HTTP/2
    /// has no reason phrase; `reason` replaces it.
    pub fn of_http2<'a>(
        status: u16,
        reason: &'static str,
        lines: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> ResponseHead {
        let headers = HeaderMap::from_lines(lines);
        ResponseHead { status, version: Version::Http2, headers, reason: Bytes::from_static(reason.as_bytes()) }
    }

    /// Returns the reason phrase, which may be empty (RFC 9112 section 4).
    pub fn reason(&self) -> &[u8] {
        &self.reason
    }

    /// Returns true if another response to the same request follows (RFC 9110 section 15.2). 101 is final: the bytes
    /// after it are no longer HTTP/1.1.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Finds the end of a head in a buffer that grows, examining each byte once, and parses the head when it is complete.
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    /// Length of the empty lines before the status line.
    blank: usize,
    scanned: usize,
}

impl HeadReader {
    /// Reads from all bytes since the last complete message. Returns `Some((head, n))` if the first `n` of them are a
    /// head, and `None` if more are needed. The reader is ready for the next head afterwards.
    ///
    /// The parser is lenient where RFC 9112 asks for it: empty lines before the status line (section 2.2), a bare LF as
    /// the end of a line (section 2.2), obs-fold (section 5.2), no reason phrase (section 4).
    ///
    /// # Errors
    /// Those of a malformed head, and of one that exceeds the limits.
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
        let text = of_known_version(input.get(blank..length).unwrap_or_default());
        parse(&text, limits).map(|head| Some((head, length)))
    }
}

/// Refuses bytes that cannot become a status line, without waiting for the rest of the line.
fn check_start(start: &[u8]) -> Result<(), ResponseError> {
    const NAME: &[u8] = b"HTTP/";
    let n = start.len().min(NAME.len());
    if start[..n] != NAME[..n] {
        let shown = start.get(..start.len().min(20)).unwrap_or_default();
        return Err(ResponseError::NotHttp(String::from_utf8_lossy(shown).into_owned()));
    }
    match start.get(NAME.len()..) {
        Some([b'1', b'.', b'0'..=b'9', ..] | [b'1', b'.'] | [b'1'] | []) | None => Ok(()),
        Some(_) => Err(ResponseError::Version),
    }
}

/// Returns the head as HTTP/1.1 if it has a later minor version: a recipient treats such a message as one of the
/// highest minor version that it implements (RFC 9110 section 2.5).
fn of_known_version(text: &[u8]) -> Cow<'_, [u8]> {
    const MINOR: usize = b"HTTP/1.".len();
    match text.get(MINOR) {
        Some(b'2'..=b'9') => {
            let mut known = text.to_vec();
            known[MINOR] = b'1';
            Cow::Owned(known)
        }
        _ => Cow::Borrowed(text),
    }
}

/// Returns the end of the lines up to and including a blank one, searching from `from` on.
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
    // Most heads have at most 32 lines; others are parsed again with as many as the limit allows.
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

/// Parses a head; returns `None` for an invalid status code.
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
        // httparse returns an empty phrase if it has bytes above 0x7F: find it in the status line.
        _ => bytes.slice(raw_reason(&bytes)),
    };
    let headers = HeaderMap::over(bytes, response.headers, text);
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    Ok(Some(ResponseHead { status, version, headers, reason }))
}

/// Returns the position of the third part of the status line.
fn raw_reason(text: &[u8]) -> std::ops::Range<usize> {
    let line = line_feed(text).unwrap_or(text.len());
    let line = if line > 0 && text.get(line - 1) == Some(&b'\r') { line - 1 } else { line };
    let start = "HTTP/1.1 200 ".len().min(line);
    start..line
}

/// Returns a copy of the head in which every fold inside a value (CRLF and the blanks after it, RFC 9112 section 5.2)
/// is replaced by as many blanks.
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
    fn test_head_reader_plain_head_is_parsed() {
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
    fn test_head_reader_truncated_head_is_incomplete() {
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
    fn test_head_reader_bare_lf_and_unusual_reasons_are_accepted() {
        assert_eq!(head(b"HTTP/1.0 204\nA: b\n\n").headers.get(b"A"), Some(b"b".as_slice()));
        assert_eq!(head(b"HTTP/1.1 200\r\n\r\n").reason(), b"");
        assert_eq!(head(b"HTTP/1.1 200 \r\n\r\n").reason(), b"");
        assert_eq!(head(b"HTTP/1.1 200 caf\xe9\r\n\r\n").reason(), b"caf\xe9");
    }

    #[test]
    fn test_head_reader_blanks_around_values_are_removed() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nA:  b \t \r\n\r\n").headers.get(b"a"), Some(b"b".as_slice()));
    }

    #[test]
    fn test_head_reader_other_protocol_is_refused_at_its_first_bytes() {
        assert!(matches!(read(b"SSH-2.0"), Err(ResponseError::NotHttp(_))));
        assert!(matches!(read(b"I"), Err(ResponseError::NotHttp(_))));
        assert!(matches!(read(b"RTSP/1.0 200 OK\r\n\r\n"), Err(ResponseError::NotHttp(_))));
        assert!(matches!(read(b"ICY 200 OK\r\n\r\n"), Err(ResponseError::NotHttp(_))));
        assert_eq!(read(b"HTTP/2").map(|_| ()), Err(ResponseError::Version));
        for line in ["HTTP/0.9", "HTTP/2.0", "HTTP/3", "HTTP/1.x", "HTTP/1. 1", "HTTP/11", "HTTP/10.1", "HTTP/1.-"] {
            let text = format!("{line} 200 OK\r\n\r\n");
            assert_eq!(read(text.as_bytes()).map(|_| ()), Err(ResponseError::Version), "{line}");
        }
        for line in ["HTTP/1.10", "HTTP/1.12", "HTTP/1.2x", "HTTP/1.2.1"] {
            assert!(read(format!("{line} 200 OK\r\n\r\n").as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn test_head_reader_later_minor_version_is_http_1_1() {
        for minor in 2..=9 {
            let later = head(format!("HTTP/1.{minor} 200 caf\u{e9}\r\nA: b\r\n c\r\n\r\n").as_bytes());
            assert_eq!((later.status, later.version), (200, Version::Http11));
            assert_eq!(later.headers.get(b"a"), Some(b"b   c".as_slice()));
            assert_eq!(later.reason(), "caf\u{e9}".as_bytes());
        }
    }

    #[test]
    fn test_head_reader_malformed_head_is_refused() {
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
    fn test_head_reader_head_byte_by_byte_is_searched_once() {
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
                // The last bytes received before are examined again: a blank line may span the pieces.
                let count = searched(&text);
                assert!(count <= 4 * text.len(), "{count} bytes of {}", text.len());
            }
        }
    }

    #[test]
    fn test_head_reader_head_beyond_limits_is_refused() {
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

    #[test]
    fn test_version_as_in_a_status_line() {
        let texts = [Version::Http10, Version::Http11, Version::Http2].map(Version::as_str);
        assert_eq!(texts, ["HTTP/1.0", "HTTP/1.1", "HTTP/2"]);
        assert_eq!(head(b"HTTP/1.0 200 OK\r\n\r\n").version, Version::Http10);
        assert_eq!(head(b"HTTP/1.1 200 OK\r\n\r\n").version, Version::Http11);
    }

    #[test]
    fn test_of_http2_has_fields_and_reason() {
        let lines: [(&[u8], &[u8]); 1] = [(b"server", b"x")];
        let head = ResponseHead::of_http2(404, "Not Found", lines.into_iter());
        assert_eq!((head.status, head.version, head.reason()), (404, Version::Http2, b"Not Found".as_slice()));
        assert_eq!(head.headers.get(b"server"), Some(b"x".as_slice()));
    }

    #[test]
    fn test_is_interim_below_200_except_101() {
        for (status, is_interim) in [(100, true), (101, false), (102, true), (199, true), (200, false), (999, false)] {
            assert_eq!(head(format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes()).is_interim(), is_interim, "{status}");
        }
    }

    #[test]
    fn test_head_reader_limit_of_bytes_is_exact() {
        let text = b"\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\n";
        let read = |text: &[u8], head_bytes| {
            let limits = Limits { head_bytes, ..Limits::default() };
            HeadReader::default().read(text, &limits).map(|found| found.map(|(_, length)| length))
        };
        assert_eq!(read(text, text.len()), Ok(Some(text.len())));
        assert_eq!(read(text, text.len() - 1), Err(ResponseError::HeadTooLarge(text.len() - 1)));
        let part = &text[..text.len() - 2];
        assert_eq!(read(part, part.len()), Ok(None));
        assert_eq!(read(part, part.len() - 1), Err(ResponseError::HeadTooLarge(part.len() - 1)));
    }

    #[test]
    fn test_head_reader_limit_of_lines_is_exact() {
        let text = |lines: usize| [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"A: b\r\n".repeat(lines), b"\r\n"].concat();
        for count in [0, 1, 20, 31, 32, 33, 100] {
            let limits = Limits { header_count: count, ..Limits::default() };
            let read = |lines| HeadReader::default().read(&text(lines), &limits).map(|found| found.expect("whole").0);
            assert_eq!(read(count).expect("within the limit").headers.len(), count);
            assert_eq!(read(count + 1).map(|_| ()), Err(ResponseError::TooManyHeaders(count)));
        }
    }

    #[test]
    fn test_head_reader_other_protocol_quotes_20_bytes() {
        let quoted = |text: &[u8]| match read(text) {
            Err(ResponseError::NotHttp(quoted)) => quoted,
            other => panic!("accepted: {other:?}"),
        };
        assert_eq!(quoted(b"SSH-2.0-OpenSSH_9.6p1 Debian"), "SSH-2.0-OpenSSH_9.6p");
        assert_eq!(quoted(b"\r\n\nHTTQ"), "HTTQ");
        assert_eq!(quoted(b"\rX"), "\rX");
    }

    #[test]
    fn test_head_reader_is_ready_for_the_next_head() {
        let mut reader = HeadReader::default();
        let text = b"\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\n\r\nbody";
        assert!(reader.read(&text[..20], &Limits::default()).expect("no error").is_none());
        let (head, length) = reader.read(text, &Limits::default()).expect("valid").expect("whole");
        assert_eq!((head.status, length), (100, 27));
        let (head, length) = reader.read(&text[27..], &Limits::default()).expect("valid").expect("whole");
        assert_eq!((head.status, length), (200, 25));
    }

    #[test]
    fn test_head_reader_folds_become_blanks() {
        let head = head(b"HTTP/1.1 200 caf\xe9\r\nA: b\r\n\t c d\r\nB: e f\r\nC: g\n h\r\n\r\n");
        assert_eq!(head.headers.get(b"a"), Some(b"b    c d".as_slice()));
        assert_eq!(head.headers.get(b"b"), Some(b"e f".as_slice()));
        assert_eq!(head.headers.get(b"c"), Some(b"g  h".as_slice()));
        assert_eq!(head.reason(), b"caf\xe9");
    }

    #[test]
    fn test_raw_reason_is_the_third_part_of_the_line() {
        assert_eq!(head(b"HTTP/1.1 200 caf\xe9\n\n").reason(), b"caf\xe9");
        assert_eq!(head(b"HTTP/1.1 200 \xe9\r\n\r\n").reason(), b"\xe9");
        assert_eq!(head(b"HTTP/1.1 200\n\n").reason(), b"");
        assert_eq!(raw_reason(b""), 0..0);
        assert_eq!(raw_reason(b"\n"), 0..0);
        assert_eq!(raw_reason(b"HTTP/1.1 200 x"), 13..14);
    }

    #[test]
    fn test_parse_trailers_incomplete_or_malformed_are_refused() {
        let parsed = |text: &[u8]| parse_trailers(text, &Limits::default()).map(|headers| headers.len());
        assert_eq!(parsed(b"A: b\r\nC: d\r\n\r\n"), Ok(2));
        assert_eq!(parsed(b"A: b\r\n"), Err(ResponseError::HeaderToken));
        assert_eq!(parsed(b"A: \0\r\n\r\n"), Err(ResponseError::HeaderValue));
        let limits = Limits { header_count: 1, ..Limits::default() };
        let refused = parse_trailers(b"A: b\r\nC: d\r\n\r\n", &limits).map(|_| ());
        assert_eq!(refused, Err(ResponseError::TooManyHeaders(1)));
    }
}
