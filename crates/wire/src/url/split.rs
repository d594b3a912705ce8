//! Splits a text into the five components of RFC 3986 section 3, and joins them (section 5.3).

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2, memchr3};

use super::authority::{Authority, LOOKALIKES, check_literal};
use super::error::UrlError;
use super::userinfo::{HIDDEN, redact_authority};

/// Schemes whose last path segment may have `;parameters`, the sixth field of Python's `urlparse`.
const WITH_PARAMS: [&str; 15] = [
    "", "ftp", "hdl", "http", "https", "mms", "prospero", "rtsp", "rtsps", "rtspu", "sftp", "shttp", "sip", "sips",
    "tel",
];

/// Schemes that are written with `//` even without an authority (`file:///etc`).
const WITH_AUTHORITY: [&str; 26] = [
    "file",
    "ftp",
    "git",
    "git+ssh",
    "gopher",
    "http",
    "https",
    "imap",
    "itms-services",
    "mms",
    "nfs",
    "nntp",
    "prospero",
    "rsync",
    "rtsp",
    "rtsps",
    "rtspu",
    "sftp",
    "shttp",
    "snews",
    "svn",
    "svn+ssh",
    "telnet",
    "wais",
    "ws",
    "wss",
];

/// Components of a URL or of a relative reference, borrowed from the text if possible.
///
/// `None` means absent, `Some("")` present and empty (`http://h/?`). Nothing is decoded; the scheme is in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Scheme in lower case, without the colon; empty in a relative reference.
    pub scheme: Cow<'a, str>,
    /// Authority, `user:password@host:port`, without the slashes.
    pub authority: Option<Cow<'a, str>>,
    /// Path, parameters included.
    pub path: Cow<'a, str>,
    /// Query, without the question mark.
    pub query: Option<Cow<'a, str>>,
    /// Fragment, without the number sign.
    pub fragment: Option<Cow<'a, str>>,
}

impl<'a> Parts<'a> {
    /// Returns the components of Python's six fields, in which an empty field means a missing component.
    pub fn from_fields([scheme, netloc, path, params, query, fragment]: [&'a str; 6]) -> Parts<'a> {
        let path = match params {
            "" => Cow::Borrowed(path),
            params => Cow::Owned([path, ";", params].concat()),
        };
        let bare = netloc.is_empty() && !(has_authority(scheme) && (path.is_empty() || path.starts_with('/')));
        let present = |field: &'a str| (!field.is_empty()).then_some(Cow::Borrowed(field));
        Parts {
            scheme: Cow::Borrowed(scheme),
            authority: (!bare).then_some(Cow::Borrowed(netloc)),
            path,
            query: present(query),
            fragment: present(fragment),
        }
    }

    /// Returns the path without the parameters of its last segment, and the parameters, for schemes that have them.
    pub fn path_and_params(&self) -> (&str, &str) {
        let path = &*self.path;
        if !WITH_PARAMS.contains(&&*self.scheme) {
            return (path, "");
        }
        let segment = path.rfind('/').unwrap_or(0);
        match path[segment..].find(';') {
            Some(at) => (&path[..segment + at], &path[segment + at + 1..]),
            None => (path, ""),
        }
    }

    /// Returns the same components, owned.
    pub fn into_owned(self) -> Parts<'static> {
        let owned = |part: Cow<'_, str>| Cow::Owned(part.into_owned());
        Parts {
            scheme: owned(self.scheme),
            authority: self.authority.map(owned),
            path: owned(self.path),
            query: self.query.map(owned),
            fragment: self.fragment.map(owned),
        }
    }
}

impl fmt::Display for Parts<'_> {
    /// Recomposes the components, RFC 3986 section 5.3. Two cases that its grammar excludes are made safe: a path after
    /// an authority gets its slash, and a path that begins with `//` gets an empty authority before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scheme.is_empty() {
            f.write_str(&self.scheme)?;
            f.write_str(":")?;
        }
        match &self.authority {
            Some(authority) => {
                f.write_str("//")?;
                f.write_str(authority)?;
                if !self.path.is_empty() && !self.path.starts_with('/') {
                    f.write_str("/")?;
                }
            }
            None if self.path.starts_with("//") => f.write_str("//")?,
            None => {}
        }
        f.write_str(&self.path)?;
        if let Some(query) = &self.query {
            f.write_str("?")?;
            f.write_str(query)?;
        }
        if let Some(fragment) = &self.fragment {
            f.write_str("#")?;
            f.write_str(fragment)?;
        }
        Ok(())
    }
}

/// Splits a URL or a relative reference.
///
/// # Errors
/// [`UrlError::Brackets`], [`UrlError::Delimiter`], [`UrlError::Ipv6`] and [`UrlError::Lookalike`], all for the
/// authority. [`Authority::port`] reports a bad port.
pub fn split(text: &str) -> Result<Parts<'_>, UrlError> {
    match clean(text) {
        Cow::Borrowed(text) => split_clean(text),
        Cow::Owned(text) => Ok(split_clean(&text)?.into_owned()),
    }
}

/// Removes leading controls and blanks, and tabs and line ends anywhere, as the WHATWG URL parser does, so programs
/// agree on the target of such a URL.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    let text = text.trim_start_matches(|c: char| c <= ' ');
    match memchr3(b'\t', b'\r', b'\n', text.as_bytes()) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(text.replace(['\t', '\r', '\n'], "")),
    }
}

fn split_clean(text: &str) -> Result<Parts<'_>, UrlError> {
    let (scheme, whole) = split_scheme(text);
    let (rest, fragment) = cut(whole, b'#');
    // RFC 3986 section 3.2: the authority ends at the first "/", "?" or "#".
    let (authority, rest) = match rest.strip_prefix("//") {
        None => (None, rest),
        Some(rest) => {
            let (authority, rest) = rest.split_at(memchr2(b'/', b'?', rest.as_bytes()).unwrap_or(rest.len()));
            check_authority(authority).map_err(|error| redacted(error, authority, &whole[2 + authority.len()..]))?;
            (Some(Cow::Borrowed(authority)), rest)
        }
    };
    let (path, query) = cut(rest, b'?');
    Ok(Parts {
        scheme,
        authority,
        path: Cow::Borrowed(path),
        query: query.map(Cow::Borrowed),
        fragment: fragment.map(Cow::Borrowed),
    })
}

/// Splits off `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." ) ":"`, RFC 3986 section 3.1.
fn split_scheme(text: &str) -> (Cow<'_, str>, &str) {
    let none = (Cow::Borrowed(""), text);
    let Some(end) = memchr(b':', text.as_bytes()) else {
        return none;
    };
    let scheme = &text[..end];
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(fits) {
        return none;
    }
    let scheme = match scheme.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(scheme.to_ascii_lowercase()),
        false => Cow::Borrowed(scheme),
    };
    (scheme, &text[end + 1..])
}

fn cut(text: &str, at: u8) -> (&str, Option<&str>) {
    match memchr(at, text.as_bytes()) {
        Some(found) => (&text[..found], Some(&text[found + 1..])),
        None => (text, None),
    }
}

/// Returns true if this scheme is written with `//` even if the authority is empty.
fn has_authority(scheme: &str) -> bool {
    matches!(scheme, "http" | "https") || WITH_AUTHORITY.contains(&scheme)
}

/// Redacts the error; `behind` is the part of the URL after the authority.
#[cold]
fn redacted(error: UrlError, authority: &str, behind: &str) -> UrlError {
    let netloc = redact_authority(authority, behind);
    match error {
        UrlError::Brackets { .. } => UrlError::Brackets { netloc },
        UrlError::Delimiter { delimiter, .. } => UrlError::Delimiter { netloc, delimiter },
        UrlError::Lookalike { .. } => UrlError::Lookalike { netloc },
        UrlError::Ipv6 { host } if netloc.contains(&host) => UrlError::Ipv6 { host },
        UrlError::Ipv6 { .. } => UrlError::Ipv6 { host: HIDDEN.to_owned() },
        error => error,
    }
}

fn check_authority(netloc: &str) -> Result<(), UrlError> {
    // The WHATWG URL parser treats a backslash as a slash, which ends the authority: the host would be another one.
    Authority::check(netloc)?;
    if memchr2(b'[', b']', netloc.as_bytes()).is_some() {
        check_brackets(netloc)?;
    }
    if !netloc.is_ascii() && netloc.contains(LOOKALIKES) {
        return Err(UrlError::Lookalike { netloc: netloc.into() });
    }
    Ok(())
}

/// Checks `IP-literal = "[" ( IPv6address / IPvFuture ) "]"`, RFC 3986 section 3.2.2, with nothing but a port after it.
fn check_brackets(netloc: &str) -> Result<(), UrlError> {
    let mismatch = || UrlError::Brackets { netloc: netloc.into() };
    let address = Authority::read(netloc).address();
    let inside = address.strip_prefix('[').ok_or_else(mismatch)?;
    let (host, behind) = inside.split_once(']').ok_or_else(mismatch)?;
    let is_port = behind.is_empty() || behind.starts_with(':');
    // The first pair of brackets is the host. A second pair would become the host once `with_host` replaced the first.
    if !is_port || behind.contains(['[', ']']) {
        return Err(mismatch());
    }
    check_literal(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> [String; 5] {
        let parts = split(text).unwrap();
        let or_none = |part: &Option<Cow<'_, str>>| part.as_deref().unwrap_or("-").to_owned();
        [
            parts.scheme.to_string(),
            or_none(&parts.authority),
            parts.path.to_string(),
            or_none(&parts.query),
            or_none(&parts.fragment),
        ]
    }

    #[test]
    fn test_from_fields_empty_authority_is_written_for_schemes_that_have_one() {
        for (scheme, path, expected) in [
            ("http", "/x", Some("")),
            ("https", "", Some("")),
            ("ftp", "/x", Some("")),
            ("file", "/x", Some("")),
            ("mailto", "/x", None),
            ("", "/x", None),
            ("ftp", "x", None),
        ] {
            let parts = Parts::from_fields([scheme, "", path, "", "", ""]);
            assert_eq!(parts.authority.as_deref(), expected, "{scheme}:{path}");
        }
    }

    #[test]
    fn test_split_example_of_the_rfc() {
        // RFC 3986 section 3.
        assert_eq!(
            fields("foo://example.com:8042/over/there?name=ferret#nose"),
            ["foo", "example.com:8042", "/over/there", "name=ferret", "nose"]
        );
        assert_eq!(fields("urn:example:animal"), ["urn", "-", "example:animal", "-", "-"]);
    }

    #[test]
    fn test_split_delimiters_in_every_position() {
        for (text, expected) in [
            ("", ["", "-", "", "-", "-"]),
            ("//", ["", "", "", "-", "-"]),
            ("?", ["", "-", "", "", "-"]),
            ("#?", ["", "-", "", "-", "?"]),
            ("http://h?a/b", ["http", "h", "", "a/b", "-"]),
            ("http://h#a/b?c", ["http", "h", "", "-", "a/b?c"]),
            ("http://a/b?c?d#e#f", ["http", "a", "/b", "c?d", "e#f"]),
            ("HtTp://A/", ["http", "A", "/", "-", "-"]),
            ("1http://a", ["", "-", "1http://a", "-", "-"]),
            ("a_b://c", ["", "-", "a_b://c", "-", "-"]),
            (":x", ["", "-", ":x", "-", "-"]),
            ("/a:b", ["", "-", "/a:b", "-", "-"]),
            ("http:a", ["http", "-", "a", "-", "-"]),
        ] {
            assert_eq!(fields(text), expected, "{text:?}");
        }
    }

    #[test]
    fn test_split_drops_controls() {
        assert_eq!(fields("\x00 \x1fht\ntp://a\t/b\r\n?c"), ["http", "a", "/b", "c", "-"]);
        assert_eq!(fields("http://a/ "), ["http", "a", "/ ", "-", "-"]);
    }

    #[test]
    fn test_split_borrows_a_clean_text() {
        let parts = split("http://a/b").unwrap();
        assert!(matches!(parts.scheme, Cow::Borrowed(_)) && matches!(parts.path, Cow::Borrowed(_)));
    }

    #[test]
    fn test_split_bad_brackets_are_refused() {
        for good in ["[::1]", "u@[::1]:80", "[1:2::3.4.5.6]", "[fe80::1%eth0]", "[v1.a]", "[::1]:"] {
            assert_eq!(fields(&format!("http://{good}/"))[1], good);
        }
        for bad in [
            "[",
            "]",
            "]::1[",
            "[::1",
            "::1]",
            "a[::1]",
            "[::1]a",
            "[::1]]:80",
            "[a]",
            "[]",
            "[1.2.3.4]",
            "u[]:p@h",
            "[::1]:[::2]",
        ] {
            assert!(split(&format!("http://{bad}/")).is_err(), "{bad}");
        }
        for bad in ["[v.a]", "[v1.]", "[vg.a]", "[v1]", "[::1%]", "[::1%a%b]", "[1::2::3]", "[12345::]"] {
            assert!(matches!(split(&format!("//{bad}")), Err(UrlError::Ipv6 { .. })), "{bad}");
        }
    }

    #[test]
    fn test_split_backslash_in_the_authority_is_refused() {
        for bad in ["h\\", "127.0.0.1:80\\@evil", "a\\b@h", "h:80\\"] {
            assert!(matches!(split(&format!("http://{bad}/")), Err(UrlError::Delimiter { .. })), "{bad}");
        }
        assert_eq!(fields("http://h/a\\b?c\\d"), ["http", "h", "/a\\b", "c\\d", "-"]);
        assert_eq!(fields("http:\\\\h/"), ["http", "-", "\\\\h/", "-", "-"]);
    }

    #[test]
    fn test_split_errors_contain_no_password() {
        for (url, error) in [
            ("http://me:secret@[bad/", "Invalid IPv6 URL: brackets do not match in '***@[bad'"),
            ("http://me:se[cr/et@h/", "Invalid IPv6 URL: brackets do not match in '***'"),
            ("http://me:se[cr#et@h/", "Invalid IPv6 URL: brackets do not match in '***'"),
            ("http://me:secret@[nope]/", "Invalid IPv6 URL: 'nope' is not an IPv6 address"),
            ("http://[secret]/x@h/", "Invalid IPv6 URL: '***' is not an IPv6 address"),
            (
                "http://me:secret\u{ff20}h/",
                "netloc '***\u{ff20}h' contains invalid characters under NFKC normalization",
            ),
        ] {
            assert_eq!(split(url).unwrap_err().to_string(), error, "{url}");
        }
        let shown = split("http://me:secret\\@h/").unwrap_err().to_string();
        assert!(shown.starts_with("netloc '***@h' contains '\\\\', which"), "{shown}");
    }

    #[test]
    fn test_split_lookalikes_of_delimiters_are_refused() {
        assert!(matches!(split("http://a\u{2100}b/"), Err(UrlError::Lookalike { .. })));
        assert!(matches!(split("http://a\u{ff0f}b/"), Err(UrlError::Lookalike { .. })));
        assert_eq!(fields("http://m\u{fc}nchen/\u{ff0f}")[1], "m\u{fc}nchen");
    }

    #[test]
    fn test_path_and_params_splits_the_last_segment() {
        for (text, expected) in [
            ("http://h/a;p", ("/a", "p")),
            ("http://h/a;p/b", ("/a;p/b", "")),
            ("/a;p/b;q;r", ("/a;p/b", "q;r")),
            (";p", ("", "p")),
            ("ws://h/a;p", ("/a;p", "")),
        ] {
            assert_eq!(split(text).unwrap().path_and_params(), expected, "{text}");
        }
    }

    #[test]
    fn test_parts_display_recomposes_the_url() {
        for text in ["http://h/?", "http://h#", "file:///x", "//h", "a:b", "", "?q", "http://u@h:1/p;q?r#s", "x:////y"]
        {
            assert_eq!(split(text).unwrap().to_string(), text);
        }
        for (fields, text) in [
            (["http", "h", "p", "", "", ""], "http://h/p"),
            (["http", "", "/p", "", "", ""], "http:///p"),
            (["http", "", "p", "", "", ""], "http:p"),
            (["http", "", "", "", "", ""], "http://"),
            (["http", "", "", "p", "", ""], "http:;p"),
            (["", "", "//p", "", "", ""], "////p"),
            (["mailto", "", "a@b", "", "", ""], "mailto:a@b"),
            (["http", "h", "/p", "q", "r", "s"], "http://h/p;q?r#s"),
            (["http", "h", "", "q", "", ""], "http://h/;q"),
        ] {
            assert_eq!(Parts::from_fields(fields).to_string(), text);
        }
    }
}
