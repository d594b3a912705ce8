//! How long a response's body is (RFC 9112 section 6.3), and whether the connection survives it (section 9.3).

use crate::{ResponseError, ResponseHead, Version, token};

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// That many bytes.
    Counted(u64),
    /// No body, whatever the header fields say.
    None,
    /// All that comes until the peer closes.
    UntilClose,
}

/// Why a connection is not used for a second request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The head's framing was one that RFC 9112 section 6.1 tells us not to trust further.
    AmbiguousFraming,
    /// The request said `Connection: close`.
    AskedByUs,
    /// The response said `Connection: close`.
    AskedByPeer,
    /// The body ended where the peer closed.
    CloseDelimitedBody,
    /// The peer speaks HTTP/1.0 and did not say `Connection: keep-alive`.
    Http10,
    /// The protocol was switched: 101, or a tunnel.
    Upgraded,
}

impl CloseReason {
    /// One line for logs and statistics.
    pub fn explain(self) -> &'static str {
        match self {
            CloseReason::AmbiguousFraming => "the response's framing was ambiguous",
            CloseReason::AskedByUs => "the request asked for it",
            CloseReason::AskedByPeer => "the response asked for it",
            CloseReason::CloseDelimitedBody => "the body ended with the connection",
            CloseReason::Http10 => "the peer speaks HTTP/1.0 without keep-alive",
            CloseReason::Upgraded => "the connection no longer speaks HTTP/1.1",
        }
    }
}

/// What of the request bears on the framing of its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// CONNECT: a 2xx turns the connection into a tunnel.
    Connect,
    /// HEAD: no body follows the head.
    Head,
    /// Any other method.
    Other,
}

impl Asked {
    /// By the method's name, which is case-sensitive.
    pub fn by(method: &[u8]) -> Self {
        match method {
            b"CONNECT" => Asked::Connect,
            b"HEAD" => Asked::Head,
            _ => Asked::Other,
        }
    }
}

impl Framing {
    /// RFC 9112 section 6.3, in its own order. Its sixth and seventh rules are for requests.
    pub fn of(asked: Asked, head: &ResponseHead) -> Result<Framing, ResponseError> {
        let length = head.headers.get(b"content-length").is_some();
        let coding = head.headers.get(b"transfer-encoding").is_some();
        // 1. No body after HEAD, nor with 1xx, 204 and 304.
        if asked == Asked::Head || matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Framing::None);
        }
        // 2. A 2xx to CONNECT: a tunnel begins, and the length fields are to be ignored.
        if asked == Asked::Connect && matches!(head.status, 200..=299) {
            return Ok(Framing::None);
        }
        // 3. Transfer-Encoding overrides Content-Length; see `close_reason` for what becomes of the connection.
        if coding {
            // 4. chunked must be the last coding, else the body ends with the connection.
            return transfer_coding(head);
        }
        if length {
            // 5. A Content-Length that is no number, or differs from another, cannot be recovered from.
            // 6. One that is valid counts the body.
            return content_length(head).map(Framing::Counted);
        }
        // 8. Neither: until the peer closes.
        Ok(Framing::UntilClose)
    }
}

fn transfer_coding(head: &ResponseHead) -> Result<Framing, ResponseError> {
    let mut codings = head.headers.get_all(b"transfer-encoding").flat_map(token::list);
    match (codings.next(), codings.next()) {
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (Some(only), None) if only.eq_ignore_ascii_case(b"identity") => Ok(Framing::UntilClose),
        // No TE was sent, so no other coding was offered: its bytes would be delivered undecoded.
        _ => Err(ResponseError::TransferEncoding(shown(head, b"transfer-encoding"))),
    }
}

fn content_length(head: &ResponseHead) -> Result<u64, ResponseError> {
    let refuse = || ResponseError::ContentLength(shown(head, b"content-length"));
    let mut length = None;
    // Section 6.3, rule 5: a list of the same valid number is that number.
    for value in head.headers.get_all(b"content-length").flat_map(|line| line.split(|&byte| byte == b',')) {
        let found = decimal(token::trim(value)).ok_or_else(refuse)?;
        if *length.get_or_insert(found) != found {
            return Err(refuse());
        }
    }
    length.ok_or_else(refuse)
}

/// What all lines of a field say, for an error: its beginning, where a peer has written more than anybody reads.
fn shown(head: &ResponseHead, name: &[u8]) -> String {
    const MOST: usize = 80;
    let all = head.headers.get_all(name).collect::<Vec<_>>().join(b", ".as_slice());
    match all.get(..MOST) {
        Some(start) if all.len() > MOST => format!("{}...", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(&all).into_owned(),
    }
}

/// `1*DIGIT` that fits: no sign, no blank, no `0x`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, &digit| {
        digit.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Why the connection must not be used again after this response, or `None` when it may (RFC 9112 section 9.3).
pub fn close_reason(asked: Asked, head: &ResponseHead, framing: Framing) -> Option<CloseReason> {
    let coding = head.headers.get(b"transfer-encoding").is_some();
    if head.status == 101 || (asked == Asked::Connect && matches!(head.status, 200..=299)) {
        return Some(CloseReason::Upgraded);
    }
    // Section 6.1: HTTP/1.0 knows no transfer codings, and both lengths at once smell of smuggling.
    if coding && (head.version == Version::Http10 || head.headers.get(b"content-length").is_some()) {
        return Some(CloseReason::AmbiguousFraming);
    }
    if framing == Framing::UntilClose {
        return Some(CloseReason::CloseDelimitedBody);
    }
    if head.headers.lists(b"connection", b"close") {
        return Some(CloseReason::AskedByPeer);
    }
    if head.version == Version::Http10 && !head.headers.lists(b"connection", b"keep-alive") {
        return Some(CloseReason::Http10);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HeadReader, Limits};

    fn head(lines: &str) -> ResponseHead {
        let text = format!("{lines}\r\n\r\n");
        HeadReader::default().read(text.as_bytes(), &Limits::default()).expect("good").expect("whole").0
    }

    fn framing(lines: &str) -> Result<Framing, ResponseError> {
        Framing::of(Asked::Other, &head(lines))
    }

    #[test]
    fn each_rule_in_its_turn() {
        let counted = "HTTP/1.1 200 OK\r\nContent-Length: 5";
        assert_eq!(Framing::of(Asked::Head, &head(counted)), Ok(Framing::None));
        assert_eq!(Framing::of(Asked::Connect, &head(counted)), Ok(Framing::None));
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
    fn equal_lengths_are_one_and_different_ones_are_refused() {
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5, 5"), Ok(Framing::Counted(5)));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5"), Ok(Framing::Counted(5)));
        for value in ["5, 6", "", "+5", "-1", "0x5", "5 5", "5,", "18446744073709551616", "5a", "\u{b2}"] {
            let refused = framing(&format!("HTTP/1.1 200 OK\r\nContent-Length: {value}"));
            assert!(matches!(refused, Err(ResponseError::ContentLength(_))), "{value:?}: {refused:?}");
        }
    }

    #[test]
    fn codings_that_were_never_offered_are_refused() {
        for value in ["gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked;q=1", "xchunked", ""] {
            let refused = framing(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {value}"));
            assert!(matches!(refused, Err(ResponseError::TransferEncoding(_))), "{value:?}: {refused:?}");
        }
    }

    #[test]
    fn an_error_shows_the_beginning_of_what_was_said() {
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
    fn connections_are_kept_where_section_9_3_says_so() {
        let reason = |lines: &str| {
            let head = head(lines);
            let framing = Framing::of(Asked::Other, &head).expect("framed");
            close_reason(Asked::Other, &head, framing)
        };
        assert_eq!(reason("HTTP/1.1 200 OK\r\nContent-Length: 0"), None);
        assert_eq!(reason("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive"), None);
        assert_eq!(reason("HTTP/1.0 200 OK\r\nContent-Length: 0"), Some(CloseReason::Http10));
        let asked = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE";
        assert_eq!(reason(asked), Some(CloseReason::AskedByPeer));
        assert_eq!(reason("HTTP/1.1 200 OK"), Some(CloseReason::CloseDelimitedBody));
        assert_eq!(reason("HTTP/1.1 101 Switching"), Some(CloseReason::Upgraded));
        let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5";
        assert_eq!(reason(both), Some(CloseReason::AmbiguousFraming));
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive";
        assert_eq!(reason(old), Some(CloseReason::AmbiguousFraming));
    }
}
