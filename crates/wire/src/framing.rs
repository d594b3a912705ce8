//! Length of the body of a response (RFC 9112 section 6.3), and reuse of the connection after it (section 9.3).

use crate::error::ResponseError;
use crate::head::{ResponseHead, Version};
use crate::token;

/// Method by which the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Number of bytes.
    Counted(u64),
    /// No body, regardless of the header fields.
    None,
    /// All bytes until the peer closes the connection.
    UntilClose,
}

/// Meaning of the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next bytes, at most this many, are content of the body.
    Data(u64),
    /// The message is complete: bytes that follow do not belong to it.
    End,
    /// More bytes are needed to continue.
    More,
}

/// Reason not to use a connection for a second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The head had a framing that RFC 9112 section 6.1 warns not to trust.
    AmbiguousFraming,
    /// The request had `Connection: close`.
    AskedByUs,
    /// The response had `Connection: close`.
    AskedByPeer,
    /// The end of the connection was the end of the body.
    CloseDelimitedBody,
    /// The peer speaks HTTP/1.0 and did not send `Connection: keep-alive`.
    Http10,
    /// The protocol was switched: 101, or a tunnel.
    Upgraded,
}

impl CloseCause {
    /// Returns one line for logs and statistics.
    pub fn explain(self) -> &'static str {
        match self {
            CloseCause::AmbiguousFraming => "the response's framing was ambiguous",
            CloseCause::AskedByUs => "the request asked for it",
            CloseCause::AskedByPeer => "the response asked for it",
            CloseCause::CloseDelimitedBody => "the body ended with the connection",
            CloseCause::Http10 => "the peer speaks HTTP/1.0 without keep-alive",
            CloseCause::Upgraded => "the connection no longer speaks HTTP/1.1",
        }
    }
}

/// Request methods by their effect on the framing of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// CONNECT: a 2xx turns the connection into a tunnel.
    Connect,
    /// HEAD: no body follows the head.
    Head,
    /// Any other method.
    Other,
}

impl MethodKind {
    /// Returns the kind of a method, whose name is case-sensitive.
    pub fn by(method: &[u8]) -> Self {
        match method {
            b"CONNECT" => MethodKind::Connect,
            b"HEAD" => MethodKind::Head,
            _ => MethodKind::Other,
        }
    }
}

impl Framing {
    /// Determines the framing of a response by the rules of RFC 9112 section 6.3, in their order. The sixth and seventh
    /// rules are for requests.
    ///
    /// # Errors
    /// [`ResponseError::TransferEncoding`] for a coding other than chunked, [`ResponseError::ContentLength`] for an
    /// invalid length.
    pub fn of(method: MethodKind, head: &ResponseHead) -> Result<Framing, ResponseError> {
        let length = head.headers.get(b"content-length").is_some();
        let coding = head.headers.get(b"transfer-encoding").is_some();
        // 1. No body after HEAD, nor with 1xx, 204 and 304.
        if method == MethodKind::Head || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Framing::None);
        }
        // 2. A 2xx to CONNECT: a tunnel begins, and the length fields are to be ignored.
        if method == MethodKind::Connect && matches!(head.status, 200..=299) {
            return Ok(Framing::None);
        }
        // 3. Transfer-Encoding overrides Content-Length; see `close_cause` for the connection.
        if coding {
            // 4. chunked must be the last coding, else the body ends with the connection.
            return transfer_coding(head);
        }
        if length {
            // 5. A Content-Length that is not a number, or differs from another, is an unrecoverable error.
            // 6. A valid Content-Length is the length of the body.
            return content_length(head).map(Framing::Counted);
        }
        // 8. Neither: until the peer closes.
        Ok(Framing::UntilClose)
    }
}

/// Determines the framing by Transfer-Encoding. RFC 9112 section 6.1 forbids a sender to apply chunked twice, so a
/// second `chunked` means a body that was chunked once, by a server whose application also set the header. `identity`
/// meant no coding in RFC 2616; after `chunked` it is refused, since parsers disagree about which of the two counts.
fn transfer_coding(head: &ResponseHead) -> Result<Framing, ResponseError> {
    let mut codings = head.headers.get_all(b"transfer-encoding").flat_map(token::list).peekable();
    let is_identity = codings.next_if(|coding| coding.eq_ignore_ascii_case(b"identity")).is_some();
    if is_identity && codings.peek().is_none() {
        return Ok(Framing::UntilClose);
    }
    if codings.peek().is_some() && codings.all(|coding| coding.eq_ignore_ascii_case(b"chunked")) {
        return Ok(Framing::Chunked);
    }
    // Requests have no TE and so offer no other coding: its bytes would be returned undecoded.
    Err(ResponseError::TransferEncoding(shown(head, b"transfer-encoding")))
}

/// Returns true for `chunked`, once, as RFC 9112 demands. Otherwise another parser on the same connection may find
/// another end of the body.
fn is_plainly_chunked(head: &ResponseHead) -> bool {
    let mut codings = head.headers.get_all(b"transfer-encoding").flat_map(token::list);
    codings.next().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// Returns the value of Content-Length.
fn content_length(head: &ResponseHead) -> Result<u64, ResponseError> {
    let refuse = || ResponseError::ContentLength(shown(head, b"content-length"));
    let mut length = None;
    // Section 6.3, rule 5: a list of equal valid numbers is that number.
    for value in head.headers.get_all(b"content-length").flat_map(|line| line.split(|&byte| byte == b',')) {
        let found = decimal(token::trim(value)).ok_or_else(refuse)?;
        if *length.get_or_insert(found) != found {
            return Err(refuse());
        }
    }
    length.ok_or_else(refuse)
}

/// Returns the values of all lines of a field for an error, truncated to 80 bytes.
fn shown(head: &ResponseHead, name: &[u8]) -> String {
    const MOST: usize = 80;
    let all = head.headers.get_all(name).collect::<Vec<_>>().join(b", ".as_slice());
    match all.get(..MOST) {
        Some(start) if all.len() > MOST => format!("{}...", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(&all).into_owned(),
    }
}

/// Parses `1*DIGIT` without a sign, blanks or `0x`; returns `None` if it exceeds a `u64`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        digit.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Returns the reason not to use the connection after this response, or `None` if it may be used (RFC 9112 section
/// 9.3).
pub fn close_cause(method: MethodKind, head: &ResponseHead, framing: Framing) -> Option<CloseCause> {
    let coding = head.headers.get(b"transfer-encoding").is_some();
    if head.status == 101 || (method == MethodKind::Connect && matches!(head.status, 200..=299)) {
        return Some(CloseCause::Upgraded);
    }
    // Section 6.1: HTTP/1.0 has no transfer codings, and both lengths together may be an attempt at request smuggling.
    if coding && (head.version == Version::Http10 || head.headers.get(b"content-length").is_some()) {
        return Some(CloseCause::AmbiguousFraming);
    }
    if framing == Framing::UntilClose {
        return Some(CloseCause::CloseDelimitedBody);
    }
    if framing == Framing::Chunked && !is_plainly_chunked(head) {
        return Some(CloseCause::AmbiguousFraming);
    }
    if head.headers.lists(b"connection", b"close") {
        return Some(CloseCause::AskedByPeer);
    }
    if head.version == Version::Http10 && !head.headers.lists(b"connection", b"keep-alive") {
        return Some(CloseCause::Http10);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::HeadReader;
    use crate::limits::Limits;

    fn head(lines: &str) -> ResponseHead {
        let text = format!("{lines}\r\n\r\n");
        HeadReader::default().read(text.as_bytes(), &Limits::default()).expect("good").expect("whole").0
    }

    fn framing(lines: &str) -> Result<Framing, ResponseError> {
        Framing::of(MethodKind::Other, &head(lines))
    }

    #[test]
    fn test_framing_follows_each_rule() {
        let counted = "HTTP/1.1 200 OK\r\nContent-Length: 5";
        assert_eq!(Framing::of(MethodKind::Head, &head(counted)), Ok(Framing::None));
        assert_eq!(Framing::of(MethodKind::Connect, &head(counted)), Ok(Framing::None));
        for status in [100, 101, 103, 204, 304] {
            assert_eq!(framing(&format!("HTTP/1.1 {status} x\r\nContent-Length: 5")), Ok(Framing::None));
        }
        assert_eq!(framing(counted), Ok(Framing::Counted(5)));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked \t"), Ok(Framing::Chunked));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5"), Ok(Framing::Chunked));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity"), Ok(Framing::UntilClose));
        assert_eq!(framing("HTTP/1.1 200 OK"), Ok(Framing::UntilClose));
    }

    #[test]
    fn test_framing_equal_lengths_are_accepted_and_others_refused() {
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5, 5"), Ok(Framing::Counted(5)));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5"), Ok(Framing::Counted(5)));
        for value in ["5, 6", "", "+5", "-1", "0x5", "5 5", "5,", "18446744073709551616", "5a", "\u{b2}"] {
            let refused = framing(&format!("HTTP/1.1 200 OK\r\nContent-Length: {value}"));
            assert!(matches!(refused, Err(ResponseError::ContentLength(_))), "{value:?}: {refused:?}");
        }
    }

    #[test]
    fn test_framing_coding_other_than_chunked_is_refused() {
        for value in [
            "gzip",
            "gzip, chunked",
            "chunked, gzip",
            "chunked, gzip, chunked",
            "chunked, identity",
            "identity, gzip",
            "identity, identity",
            "chunked;q=1",
            "chunked chunked",
            "\"chunked\"",
            "xchunked",
            "",
            ",",
        ] {
            let refused = framing(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}"));
            assert!(matches!(refused, Err(ResponseError::TransferEncoding(_))), "{value:?}: {refused:?}");
        }
    }

    #[test]
    fn test_framing_chunked_twice_is_chunked_and_ambiguous() {
        for lines in [
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: Chunked",
            "transfer-encoding: CHUNKED ,\tchunked,chunked",
            "Transfer-Encoding: identity, chunked",
            "Transfer-Encoding: Identity\r\nTransfer-Encoding: chunked",
        ] {
            let head = head(&format!("HTTP/1.1 200 OK\r\n{lines}"));
            assert_eq!(Framing::of(MethodKind::Other, &head), Ok(Framing::Chunked), "{lines:?}");
            let reason = close_cause(MethodKind::Other, &head, Framing::Chunked);
            assert_eq!(reason, Some(CloseCause::AmbiguousFraming), "{lines:?}");
        }
        let once = head("HTTP/1.1 200 OK\r\nTransfer-Encoding: ,chunked,");
        assert_eq!(close_cause(MethodKind::Other, &once, Framing::Chunked), None);
    }

    #[test]
    fn test_framing_error_quotes_at_most_80_bytes() {
        let long = "9".repeat(100_000);
        let Err(ResponseError::ContentLength(said)) = framing(&format!("HTTP/1.1 200 OK\r\nContent-Length: {long}"))
        else {
            panic!("not refused");
        };
        assert_eq!(said, format!("{}...", &long[..80]));
        let refused = framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: a\r\nTransfer-Encoding: b");
        assert_eq!(refused, Err(ResponseError::TransferEncoding("a, b".into())));
    }

    #[test]
    fn test_close_cause_follows_section_9_3() {
        let reason = |lines: &str| {
            let head = head(lines);
            let framing = Framing::of(MethodKind::Other, &head).expect("framed");
            close_cause(MethodKind::Other, &head, framing)
        };
        assert_eq!(reason("HTTP/1.1 200 OK\r\nContent-Length: 0"), None);
        assert_eq!(reason("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive"), None);
        assert_eq!(reason("HTTP/1.0 200 OK\r\nContent-Length: 0"), Some(CloseCause::Http10));
        let asked = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE";
        assert_eq!(reason(asked), Some(CloseCause::AskedByPeer));
        assert_eq!(reason("HTTP/1.1 200 OK"), Some(CloseCause::CloseDelimitedBody));
        assert_eq!(reason("HTTP/1.1 101 Switching"), Some(CloseCause::Upgraded));
        let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5";
        assert_eq!(reason(both), Some(CloseCause::AmbiguousFraming));
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive";
        assert_eq!(reason(old), Some(CloseCause::AmbiguousFraming));
    }

    #[test]
    fn test_explain_gives_each_cause_its_own_line() {
        for (cause, line) in [
            (CloseCause::AmbiguousFraming, "the response's framing was ambiguous"),
            (CloseCause::AskedByUs, "the request asked for it"),
            (CloseCause::AskedByPeer, "the response asked for it"),
            (CloseCause::CloseDelimitedBody, "the body ended with the connection"),
            (CloseCause::Http10, "the peer speaks HTTP/1.0 without keep-alive"),
            (CloseCause::Upgraded, "the connection no longer speaks HTTP/1.1"),
        ] {
            assert_eq!(cause.explain(), line);
        }
    }

    #[test]
    fn test_method_kind_is_case_sensitive() {
        for (name, kind) in [
            (b"CONNECT".as_slice(), MethodKind::Connect),
            (b"HEAD", MethodKind::Head),
            (b"GET", MethodKind::Other),
            (b"head", MethodKind::Other),
        ] {
            assert_eq!(MethodKind::by(name), kind);
        }
    }

    #[test]
    fn test_close_cause_upgraded_by_status_and_method() {
        let cause = |kind, status: u16| {
            let head = head(&format!("HTTP/1.1 {status} x\r\nContent-Length: 0"));
            close_cause(kind, &head, Framing::of(kind, &head).expect("a framing"))
        };
        assert_eq!(cause(MethodKind::Other, 101), Some(CloseCause::Upgraded));
        for status in [200, 299] {
            assert_eq!(cause(MethodKind::Connect, status), Some(CloseCause::Upgraded));
            assert_eq!(cause(MethodKind::Other, status), None);
        }
        for status in [300, 407] {
            assert_eq!(cause(MethodKind::Connect, status), None);
        }
    }

    #[test]
    fn test_framing_connect_without_success_has_a_body() {
        let refused = head("HTTP/1.1 407 x\r\nContent-Length: 5");
        assert_eq!(Framing::of(MethodKind::Connect, &refused), Ok(Framing::Counted(5)));
        let head_of_connect = head("HTTP/1.1 300 x\r\nContent-Length: 5");
        assert_eq!(Framing::of(MethodKind::Connect, &head_of_connect), Ok(Framing::Counted(5)));
    }

    #[test]
    fn test_framing_error_of_80_bytes_is_quoted_whole() {
        let quoted = |length: usize| {
            let refused = framing(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}", "x".repeat(length)));
            let Err(ResponseError::ContentLength(text)) = refused else { panic!("accepted: {refused:?}") };
            text
        };
        assert_eq!(quoted(79), "x".repeat(79));
        assert_eq!(quoted(80), "x".repeat(80));
        assert_eq!(quoted(81), "x".repeat(80) + "...");
    }

    #[test]
    fn test_framing_content_length_up_to_64_bits() {
        let length = |text: &str| framing(&format!("HTTP/1.1 200 OK\r\nContent-Length: {text}"));
        assert_eq!(length("1234567890"), Ok(Framing::Counted(1_234_567_890)));
        assert_eq!(length("18446744073709551615"), Ok(Framing::Counted(u64::MAX)));
        assert_eq!(length("00000000000000000000000001"), Ok(Framing::Counted(1)));
    }
}
