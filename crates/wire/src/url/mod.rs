//! URLs (RFC 3986), parsed as by Python's `urllib.parse`.
//!
//! | module | topic | specification |
//! |---|---|---|
//! | [`split`](mod@split) | a text into five components, and back | RFC 3986 sections 3 and 5.3 |
//! | [`authority`] | user, password, host and port, and their replacement | RFC 3986 section 3.2 |
//! | [`idna`] | internationalized host names | UTS 46 |
//! | [`percent`] | percent-encoding, by component | RFC 3986 section 2 |
//! | [`query`] | a query as a form: `key=value&key=value` | WHATWG URL, application/x-www-form-urlencoded |
//! | [`redact`](mod@redact) | removal of user and password, for errors and logs | |
//! | [`resolve`](mod@resolve) | reference resolution; paths | RFC 3986 section 5.2 |
//!
//! Python's parser differs from version to version. This one is the same for all of them, and follows the latest: it
//! drops leading controls and blanks, and tabs and line ends anywhere (3.11.4 and later); a scheme begins with a letter
//! (3.11); brackets hold an IPv6 address or an "IPvFuture", with nothing but a port after them (3.13.4); a path that
//! begins with `//` never becomes an authority (3.12.4).
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
mod error;
pub mod idna;
pub mod percent;
pub mod query;
pub mod redact;
pub mod resolve;
pub mod split;
mod userinfo;

pub use authority::Authority;
pub use error::UrlError;
pub use redact::{redact, redact_all};
pub use resolve::resolve;
pub use split::{Parts, split};
pub use userinfo::redact_part;
