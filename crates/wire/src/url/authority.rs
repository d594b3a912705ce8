//! The authority, `[ userinfo "@" ] host [ ":" port ]` (RFC 3986 section 3.2), and edits of one part of it.

use std::borrow::Cow;

use super::UrlError;
use super::percent::{self, USERINFO};
use super::redact::{HIDDEN, has_at, redact_part};
use super::split::{LOOKALIKES, check_literal};

/// The parts of an authority, as they are written.
///
/// Reading never fails: whatever is between the last `@` and the first `:` behind it is the host. The brackets were
/// checked by [`super::split`], and the port is checked when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    userinfo: Option<&'a str>,
    /// Host and port.
    address: &'a str,
    host: &'a str,
    port: &'a str,
}

impl<'a> Authority<'a> {
    /// Reads what stands between `//` and the path.
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

    /// Checks what a program may have put in the place of an authority: one that [`super::split`] has found holds none
    /// of the delimiters that end it.
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

    /// Host and port, without the user.
    pub fn address(&self) -> &'a str {
        self.address
    }

    /// The user's name, escapes and all. `None` where there is no `@`.
    pub fn username(&self) -> Option<&'a str> {
        let userinfo = self.userinfo?;
        Some(userinfo.split_once(':').map_or(userinfo, |(username, _)| username))
    }

    /// The password, escapes and all. `None` where the user's name is not followed by a colon.
    pub fn password(&self) -> Option<&'a str> {
        self.userinfo?.split_once(':').map(|(_, password)| password)
    }

    /// The host in lower case and without brackets; the zone of an IPv6 address (RFC 6874) as it is written.
    pub fn host(&self) -> Cow<'a, str> {
        let (name, zone) = self.host.split_at(self.host.find('%').unwrap_or(self.host.len()));
        if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
            return Cow::Borrowed(self.host);
        }
        Cow::Owned(name.to_lowercase() + zone)
    }

    /// The port, where one is written.
    ///
    /// # Errors
    /// [`UrlError::PortNotNumber`] for anything but ASCII digits, [`UrlError::PortOutOfRange`] above 65535. Both name it.
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

    /// As [`Authority::port`], for an error that is going to be shown: `behind` is what follows the authority in its
    /// URL. A port that is none may be the first half of a password.
    ///
    /// # Errors
    /// Those of [`Authority::port`], without what may be secret.
    pub fn port_of_url(&self, behind: &str) -> Result<Option<u16>, UrlError> {
        let shown = |port: String| if has_at(&port) || has_at(behind) { HIDDEN.to_owned() } else { port };
        self.port().map_err(|error| match error {
            UrlError::PortNotNumber { port } => UrlError::PortNotNumber { port: shown(port) },
            UrlError::PortOutOfRange { port } => UrlError::PortOutOfRange { port: shown(port) },
            error => error,
        })
    }

    /// The authority with another host; user and port stay. An IPv6 address gets its brackets here.
    ///
    /// # Errors
    /// [`UrlError::Host`] for what would end the host or the authority, [`UrlError::Ipv6`] for a colon in no address.
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

    /// The authority with another port, or without one.
    pub fn with_port(&self, port: Option<u16>) -> String {
        let (open, close) = if self.address.starts_with('[') { ("[", "]") } else { ("", "") };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        [&self.userinfo_prefix(), open, self.host, close, &port].concat()
    }

    /// The authority with another user. What cannot stand there is escaped; an escape that is there stays.
    /// `None` takes the name away and, without a name, the password too.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts() {
        let authority = Authority::read("me:pa:ss@Example.ORG:8080");
        assert_eq!(authority.username(), Some("me"));
        assert_eq!(authority.password(), Some("pa:ss"));
        assert_eq!(authority.host(), "example.org");
        assert_eq!(authority.port(), Ok(Some(8080)));
        assert_eq!(authority.address(), "Example.ORG:8080");
    }

    #[test]
    fn missing_parts() {
        let authority = Authority::read("");
        assert_eq!((authority.username(), authority.password(), authority.port()), (None, None, Ok(None)));
        assert_eq!(authority.host(), "");
        assert_eq!(Authority::read("h:").port(), Ok(None));
        assert_eq!(Authority::read("@h").username(), Some(""));
        assert_eq!(Authority::read("u@h").password(), None);
        assert_eq!(Authority::read("a@b@h").username(), Some("a@b"));
    }

    #[test]
    fn hosts() {
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
    fn ports() {
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
    fn edits_keep_the_rest() {
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
    fn hosts_that_are_refused() {
        for bad in ["a/b", "a?b", "a#b", "a@b", "a b", "a\r\nb", "a\\b", "[a", "\x7f"] {
            assert!(matches!(Authority::read("h").with_host(bad), Err(UrlError::Host { .. })), "{bad:?}");
        }
        assert!(matches!(Authority::read("h").with_host("a:80"), Err(UrlError::Ipv6 { .. })));
        assert!(matches!(Authority::read("h").with_host("[a]"), Err(UrlError::Ipv6 { .. })));
    }
}
