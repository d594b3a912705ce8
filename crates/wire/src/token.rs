//! Classes of bytes, as tables.

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

/// Whether these bytes are a `token` (RFC 9110 section 5.6.2): at least one `tchar` and nothing else.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| TCHAR[byte as usize])
}

/// The first byte that no field value may hold (RFC 9110 section 5.5): a control other than HTAB.
pub fn forbidden_in_value(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f)
}

/// Whether these bytes can stand in a request line: no white space and no controls. Bytes above 0x7F are let through,
/// as every server reads them.
pub fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| byte > 0x20 && byte != 0x7f)
}

/// Without the `OWS` of RFC 9110 section 5.6.3 (SP and HTAB) at both ends.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma-separated list (RFC 9110 section 5.6.1), trimmed, empty ones left out.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Where the next LF is.
pub(crate) fn line_feed(bytes: &[u8]) -> Option<usize> {
    let found = memchr::memchr(b'\n', bytes);
    #[cfg(test)]
    SEARCHED.with(|searched| searched.set(searched.get() + found.map_or(bytes.len(), |at| at + 1)));
    found
}

#[cfg(test)]
thread_local! {
    /// Bytes that `line_feed` has looked at, for tests that count work.
    pub(crate) static SEARCHED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_what_the_rfc_lists() {
        for byte in 0..=255u8 {
            let listed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(&[b'x', byte]), listed, "{byte:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn values_hold_no_controls_but_tab() {
        assert_eq!(forbidden_in_value(b"a\tb \xff\x80"), None);
        for byte in (0..0x20).filter(|&byte| byte != b'\t').chain([0x7f]) {
            assert_eq!(forbidden_in_value(&[b'a', byte]), Some(byte));
        }
    }

    #[test]
    fn lists_are_trimmed_and_skip_empty_members() {
        let members: Vec<&[u8]> = list(b" a , ,b\t,").collect();
        assert_eq!(members, [b"a", b"b"]);
    }
}
