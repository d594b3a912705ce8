//! Refusals of a proxy, and what an error may quote of them.

use std::fmt;
use std::rc::Rc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A proxy's response, if it did not open a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `host:port` of the requested origin.
    pub origin: Rc<str>,
    /// The status code of its response, if it speaks HTTP.
    pub status: Option<u16>,
    /// Its text, or a description of the error in its response, in one line.
    pub words: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy refused the tunnel to {}: {}", self.origin, self.words)
    }
}

/// Quotes the text of a proxy, in one line of at most `most` characters; `cut` is true if there may be more of the
/// text. A proxy may repeat the data sent to it: the credentials in `authorization`, the value of Proxy-Authorization,
/// are replaced in the quote, and so is a prefix of them at the end of a cut text.
pub(super) fn quote(authorization: Option<&[u8]>, mut said: &[u8], cut: bool, most: usize) -> String {
    let secrets = secrets_of(authorization.unwrap_or_default());
    let begun = if cut { secrets.iter().map(|secret| begun(said, secret.as_bytes())).max().unwrap_or(0) } else { 0 };
    said = said.get(..said.len() - begun).unwrap_or_default();
    let mut text = String::from_utf8_lossy(said).into_owned();
    for secret in &secrets {
        text = text.replace(secret.as_str(), "***");
    }
    if begun > 0 {
        text.push_str("***");
    }
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").chars().take(most).collect()
}

/// Returns the secrets in a value of Proxy-Authorization: everything after its scheme, and a Basic password.
fn secrets_of(authorization: &[u8]) -> Vec<String> {
    let value = String::from_utf8_lossy(authorization);
    let value = value.trim();
    let token = value.split_once(' ').map_or(value, |(_, token)| token.trim_start());
    let decoded = BASE64_STANDARD.decode(token).ok().and_then(|pair| String::from_utf8(pair).ok());
    let password = decoded.and_then(|pair| pair.split_once(':').map(|(_, password)| password.to_owned()));
    [Some(token.to_owned()), password].into_iter().flatten().filter(|secret| !secret.is_empty()).collect()
}

/// Returns the number of bytes of a secret at the end of the text, if the rest of it is missing.
fn begun(said: &[u8], secret: &[u8]) -> usize {
    let is_end = |length: &usize| secret.get(..*length).is_some_and(|start| said.ends_with(start));
    (1..secret.len()).rev().find(is_end).unwrap_or(0)
}

/// Returns a refusal without a status code.
#[cold]
pub(super) fn refused(origin: &Rc<str>, words: impl Into<String>) -> Refusal {
    Refusal { origin: origin.clone(), status: None, words: words.into() }
}
