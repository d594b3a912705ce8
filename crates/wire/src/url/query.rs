//! Reads and edits a query as a form, `key=value&key=value` (WHATWG URL, application/x-www-form-urlencoded).
//!
//! An edit changes only the pairs with its key; the others stay as written.

use std::borrow::Cow;

use super::percent::{quote_plus_into, unquote_plus};

/// Returns the pairs as written, not decoded. A piece without `=` is a key with an empty value; empty pieces are
/// skipped.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    pieces(query).map(|piece| piece.split_once('=').unwrap_or((piece, "")))
}

/// Returns the decoded values of `key`, in their order. Bytes that are not UTF-8 become U+FFFD.
pub fn values<'a>(query: &'a str, key: &[u8]) -> impl Iterator<Item = Cow<'a, str>> {
    pairs(query).filter(move |(name, _)| names(name, key)).map(|(_, value)| match unquote_plus(value) {
        // Nothing was decoded: the value is the text itself.
        Cow::Borrowed(_) => Cow::Borrowed(value),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    })
}

/// Returns the query with exactly these values for `key`, at the position of its first value, or at the end if it had
/// none. Without values the key is removed.
pub fn replace<V: AsRef<[u8]>>(query: &str, key: &[u8], values: &[V]) -> String {
    let mut out = String::with_capacity(query.len() + 32);
    let mut placed = false;
    for piece in pieces(query) {
        let name = piece.split_once('=').map_or(piece, |(name, _)| name);
        if !names(name, key) {
            start_piece(&mut out);
            out.push_str(piece);
        } else if !placed {
            placed = true;
            append_all(&mut out, key, values);
        }
    }
    if !placed {
        append_all(&mut out, key, values);
    }
    out
}

/// Appends one encoded pair.
pub fn append(out: &mut String, key: &[u8], value: &[u8]) {
    start_piece(out);
    quote_plus_into(out, key);
    out.push('=');
    quote_plus_into(out, value);
}

fn append_all<V: AsRef<[u8]>>(out: &mut String, key: &[u8], values: &[V]) {
    for value in values {
        append(out, key, value.as_ref());
    }
}

fn start_piece(out: &mut String) {
    if !out.is_empty() {
        out.push('&');
    }
}

fn pieces(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|piece| !piece.is_empty())
}

fn names(name: &str, key: &[u8]) -> bool {
    *unquote_plus(name) == *key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, key: &str) -> Vec<String> {
        values(query, key.as_bytes()).map(Cow::into_owned).collect()
    }

    #[test]
    fn test_values_are_decoded_in_order() {
        let query = "a=1&b=x+y%26&a=&&c&=d&%61=2=3&e=%ff";
        assert_eq!(read(query, "a"), ["1", "", "2=3"]);
        assert_eq!(read(query, "b"), ["x y&"]);
        assert_eq!(read(query, "c"), [""]);
        assert_eq!(read(query, ""), ["d"]);
        assert_eq!(read(query, "e"), ["\u{fffd}"]);
        assert!(read(query, "A").is_empty());
        assert!(read("", "").is_empty());
    }

    #[test]
    fn test_replace_keeps_other_pairs_as_written() {
        for (query, key, values, expected) in [
            ("", "a", &["1"][..], "a=1"),
            ("b", "a", &["1", "2"], "b&a=1&a=2"),
            ("a=1&b=%7e&%61=2", "a", &["x y"], "a=x+y&b=%7e"),
            ("b=1&a=2&c=3", "a", &["4", "5"], "b=1&a=4&a=5&c=3"),
            ("b=1&a=2&c=3", "a", &[], "b=1&c=3"),
            ("a=2", "a", &[], ""),
            ("&&b=1&", "a&", &["="], "b=1&a%26=%3D"),
        ] {
            assert_eq!(replace(query, key.as_bytes(), values), expected, "{query}");
        }
    }
}
