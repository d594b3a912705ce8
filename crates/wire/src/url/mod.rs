//! URLs (RFC 3986), read the way Python's `urllib.parse` reads them.
//!
//! | module | what it knows | where it is written |
//! |---|---|---|
//! | [`split`](mod@split) | five components from a text, and back | RFC 3986 sections 3 and 5.3 |
//! | [`authority`] | user, password, host and port, and edits of them | RFC 3986 section 3.2 |
//! | [`idna`] | names with letters beyond ASCII | UTS 46 |
//! | [`percent`] | escapes: which characters, in which component | RFC 3986 section 2 |
//! | [`query`] | a query as a form: `key=value&key=value` | WHATWG URL, application/x-www-form-urlencoded |
//! | [`redact`](mod@redact) | URLs without user and password, for errors and logs | |
//! | [`resolve`](mod@resolve) | a reference against a base; paths | RFC 3986 section 5.2 |
//!
//! Python's own readings differ from version to version; this one is the same everywhere, and follows the latest:
//! leading controls and blanks are dropped, as are tabs and line ends anywhere (3.11.4 and later); a scheme begins with
//! a letter (3.11); what stands in brackets is an IPv6 address or an "IPvFuture", with nothing but a port behind
//! it (3.13.4); a path that begins with `//` never turns into an authority (3.12.4).
//!
//! ```
//! use wire::url::{Authority, resolve, split};
//!
//! let base = split("http://me@Example.org:8080/a/b?x=1")?;
//! let authority = Authority::read(base.authority.as_deref().unwrap_or_default());
//! assert_eq!(authority.host(), "example.org");
//! assert_eq!(authority.port()?, Some(8080));
//! assert_eq!(resolve(&base, &split("../c?y#z")?).to_string(), "http://me@Example.org:8080/c?y#z");
//! # Ok::<(), wire::url::UrlError>(())
//! ```

pub mod authority;
pub mod idna;
pub mod percent;
pub mod query;
pub mod redact;
pub mod resolve;
pub mod split;

pub use authority::Authority;
pub use redact::{redact, redact_all, redact_part};
pub use resolve::resolve;
pub use split::{Parts, split};

/// What can be wrong with a URL, or with a value that is put into one.
///
/// What is quoted has been redacted: it is part of a text in which a password may stand anywhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// A bracket without its partner, or with something other than a port beside it.
    #[error("Invalid IPv6 URL: brackets do not match in '{netloc}'")]
    Brackets {
        /// The authority as it was given.
        netloc: String,
    },
    /// A character in the authority that ends it, or that other programs take for one which does.
    #[error(
        "netloc '{netloc}' contains {delimiter:?}, which must be percent-encoded in user and password, and is part of no host"
    )]
    Delimiter {
        /// The authority as it was given.
        netloc: String,
        /// The first such character.
        delimiter: char,
    },
    /// An escape that is not followed by two hexadecimal digits but by two other letters.
    #[error("Invalid percent-escape sequence: '{digits}'")]
    Escape {
        /// The two characters after the percent sign.
        digits: String,
    },
    /// A host that cannot stand in an authority.
    #[error("Invalid host: '{host}'")]
    Host {
        /// The host as it was given.
        host: String,
    },
    /// Brackets that hold neither an IPv6 address nor an "IPvFuture" (RFC 3986 section 3.2.2).
    #[error("Invalid IPv6 URL: '{host}' is not an IPv6 address")]
    Ipv6 {
        /// What stands in the brackets.
        host: String,
    },
    /// Characters that turn into delimiters when the host is normalised: the name read is not the name resolved.
    #[error("netloc '{netloc}' contains invalid characters under NFKC normalization")]
    Lookalike {
        /// The authority as it was given.
        netloc: String,
    },
    /// A port that is no number.
    #[error("Port could not be cast to integer value as '{port}'")]
    PortNotNumber {
        /// The port as it was given.
        port: String,
    },
    /// A port that no host has.
    #[error("Port out of range 0-65535: {port}")]
    PortOutOfRange {
        /// The port as it was given.
        port: String,
    },
}
