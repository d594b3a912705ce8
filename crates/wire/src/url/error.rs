//! Errors of URLs and of their components.

/// Errors of a URL, or of a value that replaces one of its components.
///
/// Quoted parts are redacted, since a password may be anywhere in a malformed URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// An unmatched bracket, or one with something other than a port after it.
    #[error("Invalid IPv6 URL: brackets do not match in '{netloc}'")]
    Brackets {
        /// Authority, redacted.
        netloc: String,
    },
    /// A character in the authority that ends it, or that other programs treat as its end.
    #[error(
        "netloc '{netloc}' contains {delimiter:?}, which must be percent-encoded in user and password, and is not allowed in a host"
    )]
    Delimiter {
        /// Authority, redacted.
        netloc: String,
        /// First such character.
        delimiter: char,
    },
    /// A percent sign that is followed by two letters or digits that are not hexadecimal.
    #[error("Invalid percent-escape sequence: '{digits}'")]
    Escape {
        /// Two characters after the percent sign.
        digits: String,
    },
    /// A host that an authority cannot hold.
    #[error("Invalid host: '{host}'")]
    Host {
        /// Host, redacted.
        host: String,
    },
    /// Brackets around something other than an IPv6 address or an "IPvFuture" (RFC 3986 section 3.2.2).
    #[error("Invalid IPv6 URL: '{host}' is not an IPv6 address")]
    Ipv6 {
        /// Content of the brackets, redacted.
        host: String,
    },
    /// Characters that become delimiters when the host is normalized: the host would change.
    #[error("netloc '{netloc}' contains invalid characters under NFKC normalization")]
    Lookalike {
        /// Authority, redacted.
        netloc: String,
    },
    /// A port that is not a number.
    #[error("Port could not be cast to integer value as '{port}'")]
    PortNotNumber {
        /// Port as written, unless it is redacted.
        port: String,
    },
    /// A port above 65535.
    #[error("Port out of range 0-65535: {port}")]
    PortOutOfRange {
        /// Port as written, unless it is redacted.
        port: String,
    },
}
