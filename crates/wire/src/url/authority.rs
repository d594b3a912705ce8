//! Parses the authority, `[ userinfo "@" ] host [ ":" port ]` (RFC 3986 section 3.2), and replaces parts of it.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::error::UrlError;
use super::percent::{self, USERINFO};
use super::userinfo::{HIDDEN, has_at, redact_part};

/// Characters that NFKC (Unicode 15.1) turns into one of `/?#@:`, or into several characters with one of these.
pub(super) const LOOKALIKES: [char; 19] = [
    '\u{2047}', '\u{2048}', '\u{2049}', '\u{2100}', '\u{2101}', '\u{2105}', '\u{2106}', '\u{2a74}', '\u{fe13}',
    '\u{fe16}', '\u{fe55}', '\u{fe56}', '\u{fe5f}', '\u{fe6b}', '\u{ff03}', '\u{ff0f}', '\u{ff1a}', '\u{ff1f}',
    '\u{ff20}',
];

/// Parts of an authority, as written.
///
/// Parsing never fails: the host is the text between the last `@` and the first `:` after it. [`super::split`] has
/// checked the brackets; [`Authority::port`] checks the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    userinfo: Option<&'a str>,
    /// Host and port, as written.
    address: &'a str,
    host: &'a str,
    port: &'a str,
}

impl<'a> Authority<'a> {
    /// Parses the text between `//` and the path.
    pub fn read(netloc: &'a str) -> Authority<'a> {
        let (userinfo, address) = match netloc.rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, netloc),
        };
        let (host, behind) = match address.split_once('[') {
            Some((_, literal)) => literal.split_once(']').unwrap_or((literal, "")),
            None => address.split_at(address.find(':').unwrap_or(address.len())),
        };
        let port = behind.split_once(':').map_or("", |(_, port)| port);
        Authority { userinfo, address, host, port }
    }

    /// Checks that a text can be an authority: that it contains no delimiter that would end it. [`super::split`] never
    /// returns one that does; a program can set one.
    ///
    /// # Errors
    /// [`UrlError::Delimiter`] for a slash, a question mark, a number sign or a backslash.
    pub fn check(netloc: &str) -> Result<(), UrlError> {
        match netloc.bytes().find(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\')) {
            None => Ok(()),
            Some(found) => {
                Err(UrlError::Delimiter { netloc: redact_part(netloc).into_owned(), delimiter: char::from(found) })
            }
        }
    }

    /// Returns host and port, without the userinfo.
    pub fn address(&self) -> &'a str {
        self.address
    }

    /// Returns the user name, still percent-encoded; `None` without an `@`.
    pub fn username(&self) -> Option<&'a str> {
        let userinfo = self.userinfo?;
        Some(userinfo.split_once(':').map_or(userinfo, |(username, _)| username))
    }

    /// Returns the password, still percent-encoded; `None` if no colon follows the user name.
    pub fn password(&self) -> Option<&'a str> {
        self.userinfo?.split_once(':').map(|(_, password)| password)
    }

    /// Returns the host in lower case and without brackets. The zone of an IPv6 address (RFC 6874) stays as written.
    pub fn host(&self) -> Cow<'a, str> {
        let (name, zone) = self.host.split_at(self.host.find('%').unwrap_or(self.host.len()));
        if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
            return Cow::Borrowed(self.host);
        }
        Cow::Owned(name.to_lowercase() + zone)
    }

    /// Returns the port, `None` if there is none.
    ///
    /// # Errors
    /// [`UrlError::PortNotNumber`] for anything but ASCII digits, [`UrlError::PortOutOfRange`] above 65535. Both quote
    /// it.
    pub fn port(&self) -> Result<Option<u16>, UrlError> {
        if self.port.is_empty() {
            return Ok(None);
        }
        if !self.port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(UrlError::PortNotNumber { port: self.port.into() });
        }
        match self.port.parse() {
            Ok(port) => Ok(Some(port)),
            Err(_) => Err(UrlError::PortOutOfRange { port: self.port.into() }),
        }
    }

    /// Returns the port as [`Authority::port`], with redacted errors. `behind` is the part of the URL after the
    /// authority. An invalid port may be the first half of a password.
    ///
    /// # Errors
    /// Those of [`Authority::port`], without text that may be secret.
    pub fn port_of_url(&self, behind: &str) -> Result<Option<u16>, UrlError> {
        let shown = |port: String| if has_at(&port) || has_at(behind) { HIDDEN.to_owned() } else { port };
        self.port().map_err(|error| match error {
            UrlError::PortNotNumber { port } => UrlError::PortNotNumber { port: shown(port) },
            UrlError::PortOutOfRange { port } => UrlError::PortOutOfRange { port: shown(port) },
            error => error,
        })
    }

    /// Returns the authority with another host; user and port stay. Brackets are added around an IPv6 address.
    ///
    /// # Errors
    /// [`UrlError::Host`] if it contains a character that would end the host or the authority, [`UrlError::Ipv6`] if it
    /// contains a colon or has brackets but is not an IPv6 address.
    pub fn with_host(&self, host: &str) -> Result<String, UrlError> {
        let bare = host.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(host);
        if bare.contains(|c: char| c <= ' ' || c == '\x7f' || "/?#@[]\\".contains(c) || LOOKALIKES.contains(&c)) {
            return Err(UrlError::Host { host: redact_part(host).into() });
        }
        let literal = bare.contains(':') || bare.len() != host.len();
        if literal {
            check_literal(bare).map_err(|_| UrlError::Ipv6 { host: redact_part(bare).into() })?;
        }
        let (open, close) = if literal { ("[", "]") } else { ("", "") };
        let (colon, port) = if self.port.is_empty() { ("", "") } else { (":", self.port) };
        Ok([&self.userinfo_prefix(), open, bare, close, colon, port].concat())
    }

    /// Returns the authority with another port, or without one.
    pub fn with_port(&self, port: Option<u16>) -> String {
        let (open, close) = if self.address.starts_with('[') { ("[", "]") } else { ("", "") };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        [&self.userinfo_prefix(), open, self.host, close, &port].concat()
    }

    /// Returns the authority with another user and password. Reserved characters are escaped, existing escapes stay.
    /// Without either there is no userinfo.
    pub fn with_user(&self, username: Option<&str>, password: Option<&str>) -> String {
        let escaped = |text| percent::escape(text, &USERINFO);
        match (username, password) {
            (None, None) => self.address.into(),
            (username, None) => [&escaped(username.unwrap_or_default()), "@", self.address].concat(),
            (username, Some(password)) => {
                [&escaped(username.unwrap_or_default()), ":", &escaped(password), "@", self.address].concat()
            }
        }
    }

    fn userinfo_prefix(&self) -> String {
        self.userinfo.map_or_else(String::new, |userinfo| [userinfo, "@"].concat())
    }
}

/// Checks the content of brackets, RFC 3986 section 3.2.2. A zone may follow the address (RFC 6874).
pub(super) fn check_literal(host: &str) -> Result<(), UrlError> {
    let fits = if let Some(future) = host.strip_prefix('v') {
        future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit()) && !address.is_empty()
        })
    } else {
        let (address, zone) = match host.split_once('%') {
            Some((address, zone)) => (address, Some(zone)),
            None => (host, None),
        };
        address.parse::<Ipv6Addr>().is_ok() && zone.is_none_or(|zone| !zone.is_empty() && !zone.contains('%'))
    };
    fits.then_some(()).ok_or_else(|| UrlError::Ipv6 { host: host.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_read_all_parts_are_found() {
        let authority = Authority::read("me:pa:ss@Example.ORG:8080");
        assert_eq!(authority.username(), Some("me"));
        assert_eq!(authority.password(), Some("pa:ss"));
        assert_eq!(authority.host(), "example.org");
        assert_eq!(authority.port(), Ok(Some(8080)));
        assert_eq!(authority.address(), "Example.ORG:8080");
    }

    #[test]
    fn test_read_missing_parts_are_none() {
        let authority = Authority::read("");
        assert_eq!((authority.username(), authority.password(), authority.port()), (None, None, Ok(None)));
        assert_eq!(authority.host(), "");
        assert_eq!(Authority::read("h:").port(), Ok(None));
        assert_eq!(Authority::read("@h").username(), Some(""));
        assert_eq!(Authority::read("u@h").password(), None);
        assert_eq!(Authority::read("a@b@h").username(), Some("a@b"));
    }

    #[test]
    fn test_host_is_in_lower_case_without_brackets() {
        for (netloc, host) in [
            ("[FE80::1%Eth0]:1", "fe80::1%Eth0"),
            ("[::1]", "::1"),
            ("u@[::1]:80", "::1"),
            ("M\u{dc}NCHEN.de", "m\u{fc}nchen.de"),
            ("h:1:2", "h"),
        ] {
            assert_eq!(Authority::read(netloc).host(), host);
        }
    }

    #[test]
    fn test_port_other_than_a_number_in_range_is_refused() {
        assert_eq!(Authority::read("h:0").port(), Ok(Some(0)));
        assert_eq!(Authority::read("h:065535").port(), Ok(Some(65535)));
        for bad in ["x", "+1", "-1", " 1", "1_0", "\u{0663}", "80:80"] {
            let expected = Err(UrlError::PortNotNumber { port: bad.into() });
            assert_eq!(Authority::read(&format!("h:{bad}")).port(), expected);
        }
        for bad in ["65536", "99999999999999999999999"] {
            let error = Authority::read(&format!("h:{bad}")).port().unwrap_err();
            assert_eq!(error.to_string(), format!("Port out of range 0-65535: {bad}"));
        }
    }

    #[test]
    fn test_with_part_keeps_the_others() {
        let authority = Authority::read("u:p@[::1]:80");
        assert_eq!(authority.with_host("h").unwrap(), "u:p@h:80");
        assert_eq!(authority.with_host("::2").unwrap(), "u:p@[::2]:80");
        assert_eq!(authority.with_host("[::3]").unwrap(), "u:p@[::3]:80");
        assert_eq!(authority.with_port(None), "u:p@[::1]");
        assert_eq!(authority.with_port(Some(8080)), "u:p@[::1]:8080");
        assert_eq!(authority.with_user(Some("a b"), None), "a%20b@[::1]:80");
        assert_eq!(authority.with_user(None, Some("%41:@")), ":%41%3A%40@[::1]:80");
        assert_eq!(authority.with_user(None, None), "[::1]:80");
    }

    #[test]
    fn test_with_host_invalid_host_is_refused() {
        for bad in ["a/b", "a?b", "a#b", "a@b", "a b", "a\r\nb", "a\\b", "[a", "\x7f"] {
            assert!(matches!(Authority::read("h").with_host(bad), Err(UrlError::Host { .. })), "{bad:?}");
        }
        assert!(matches!(Authority::read("h").with_host("a:80"), Err(UrlError::Ipv6 { .. })));
        assert!(matches!(Authority::read("h").with_host("[a]"), Err(UrlError::Ipv6 { .. })));
    }

    #[test]
    fn test_port_of_url_redacts_what_may_be_a_password() {
        let port = |netloc: &'static str, behind| Authority::read(netloc).port_of_url(behind);
        assert_eq!((port("h:80", "/a@b"), port("h", ""), port("h:", "")), (Ok(Some(80)), Ok(None), Ok(None)));
        for (netloc, behind, shown) in
            [("h:x", "/", "x"), ("me:secret", "/x@h", HIDDEN), ("h:x%40y", "/", HIDDEN), ("me:x%40y", "/x@h", HIDDEN)]
        {
            assert_eq!(port(netloc, behind), Err(UrlError::PortNotNumber { port: shown.into() }), "{netloc}");
        }
        assert_eq!(port("h:99999", ""), Err(UrlError::PortOutOfRange { port: "99999".into() }));
        assert_eq!(port("me:99999", "/x@h"), Err(UrlError::PortOutOfRange { port: HIDDEN.into() }));
    }

    #[test]
    fn test_host_in_lower_case_is_borrowed() {
        let borrowed = |netloc: &'static str| matches!(Authority::read(netloc).host(), Cow::Borrowed(_));
        assert!(borrowed("example.org:80") && borrowed("[fe80::1%Eth0]") && borrowed(""));
        assert!(!borrowed("Example.org") && !borrowed("m\u{fc}nchen.de"));
    }

    #[test]
    fn test_check_names_the_first_delimiter() {
        for (netloc, delimiter) in [("a/b?c", '/'), ("a?b", '?'), ("a#b", '#'), ("a\\b", '\\')] {
            let refused = Err(UrlError::Delimiter { netloc: netloc.into(), delimiter });
            assert_eq!(Authority::check(netloc), refused);
        }
        assert_eq!(Authority::check("me:p@h:80"), Ok(()));
    }
}
