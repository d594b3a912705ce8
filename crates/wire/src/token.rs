//! Classes of bytes: tokens, field values, request targets, lists.

/// `tchar` of RFC 9110 section 5.6.2:
/// `"!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA`.
const TCHAR: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let punctuation = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < punctuation.len() {
        table[punctuation[i] as usize] = true;
        i += 1;
    }
    table
};

/// Returns true for a `token` (RFC 9110 section 5.6.2): one or more `tchar` and nothing else.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TCHAR[byte as usize])
}

/// Returns the first byte that a field value must not contain (RFC 9110 section 5.5): a control other than HTAB.
pub fn forbidden_in_value(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
}

/// Returns true for a target that a request line can hold: not empty, no white space, no controls. Bytes above 0x7F are
/// allowed, since all servers read them.
pub fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| byte > 0x20 && byte != 0x7f)
}

/// Returns the bytes without the `OWS` (SP and HTAB, RFC 9110 section 5.6.3) at both ends.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Returns the members of a comma-separated list (RFC 9110 section 5.6.1), trimmed, without the empty ones.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Returns the position of the next LF.
pub(crate) fn line_feed(bytes: &[u8]) -> Option<usize> {
    let found = memchr::memchr(b'\n', bytes);
    #[cfg(test)]
    SEARCHED.with(|searched| searched.set(searched.get() + found.map_or(bytes.len(), |at| at + 1)));
    found
}

#[cfg(test)]
thread_local! {
    /// Number of bytes that `line_feed` has examined, for tests that count work.
    pub(crate) static SEARCHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_is_token_accepts_the_characters_of_the_rfc() {
        for byte in 0..=255u8 {
            let listed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(&[b'x', byte]), listed, "{byte:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn test_forbidden_in_value_finds_controls_except_tab() {
        assert_eq!(forbidden_in_value(b"a\tb \xff\x80"), None);
        for byte in (0..0x20).filter(|&byte| byte != b'\t').chain([0x7f]) {
            assert_eq!(forbidden_in_value(&[b'a', byte]), Some(byte));
        }
    }

    #[test]
    fn test_list_trims_and_skips_empty_members() {
        let members: Vec<&[u8]> = list(b" a , ,b\t,").collect();
        assert_eq!(members, [b"a", b"b"]);
    }

    #[test]
    fn test_is_target_refuses_white_space_and_controls() {
        for byte in 0..=255u8 {
            assert_eq!(is_target(&[b'/', byte]), byte > 0x20 && byte != 0x7f, "{byte:#x}");
        }
        assert!(!is_target(b""));
    }

    #[test]
    fn test_trim_removes_blanks_at_both_ends() {
        for (text, trimmed) in [(b"".as_slice(), b"".as_slice()), (b" \t", b""), (b"\t a b \t ", b"a b"), (b"a", b"a")]
        {
            assert_eq!(trim(text), trimmed);
        }
        assert_eq!(trim(b"\r a\n"), b"\r a\n");
    }

    #[test]
    fn test_line_feed_finds_the_first() {
        assert_eq!(
            (line_feed(b""), line_feed(b"abc"), line_feed(b"a\nb\n"), line_feed(b"\n")),
            (None, None, Some(1), Some(0))
        );
    }
}
