//! Escaping is reversible and idempotent, and editing a query leaves other pairs unchanged.

use wire::url::percent::{
    PATH, UNRESERVED, URL, USERINFO, escape, quote_into, quote_plus_into, requote_uri, unquote_plus, unquote_unreserved,
};
use wire::url::{query, resolve};

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    quoting(data);
    let text = String::from_utf8_lossy(data);
    escaping(&text);
    let (key, rest) = text.split_at(text.find('\n').unwrap_or(0));
    queries(rest, key);
}

fn quoting(data: &[u8]) {
    let mut form = String::new();
    quote_plus_into(&mut form, data);
    assert_eq!(&*unquote_plus(&form), data, "from {form}");
    assert!(form.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%+".contains(&byte)), "{form}");
    for safe in [&UNRESERVED, &PATH, &USERINFO] {
        let mut quoted = String::new();
        quote_into(&mut quoted, data, safe);
        assert_eq!(unescaped(&quoted), data, "from {quoted}");
    }
}

fn escaping(text: &str) {
    assert_eq!(&*unquote_plus(text), unescaped(&text.replace('+', " ")), "differs from the naive parser");
    for safe in [&PATH, &USERINFO, &URL] {
        let once = escape(text, safe);
        assert_eq!(escape(&once, safe), once, "a second time");
        assert_eq!(unescaped(&once), unescaped(text), "its meaning");
        assert!(once.is_ascii() && once.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{once}");
    }
    let requoted = requote_uri(text);
    assert_eq!(requote_uri(&requoted), requoted, "a second time");
    assert!(requoted.is_ascii() && requoted.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{requoted}");
    if let Ok(unquoted) = unquote_unreserved(text) {
        assert_eq!(unescaped(&unquoted), unescaped(text), "its meaning");
        assert_eq!(unescaped(&requoted), unescaped(text), "its meaning");
    }
    let path = resolve::append_to_path("/a", text);
    assert!(path.starts_with("/a/") && !path.contains(['?', '#', ' ', '\r', '\n']), "{path}");
}

fn queries(text: &str, key: &str) {
    let others = |query: &str| -> Vec<String> {
        let is_other = |name: &str| *unquote_plus(name) != *key.as_bytes();
        query::pairs(query).filter(|(name, _)| is_other(name)).map(|(name, value)| format!("{name}={value}")).collect()
    };
    for values in [&[][..], &["x y&=%"], &["1", ""]] {
        let replaced = query::replace(text, key.as_bytes(), values);
        let found: Vec<_> = query::values(&replaced, key.as_bytes()).collect();
        assert_eq!(found, values, "{key:?} in {replaced:?}");
        assert_eq!(others(&replaced), others(text), "the others in {replaced:?}");
    }
}

/// Decodes escapes and nothing else, byte by byte.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|digits| first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let (byte, length) = match digits.and_then(|digits| std::str::from_utf8(digits).ok()) {
            Some(digits) => (u8::from_str_radix(digits, 16).expect("two digits"), 3),
            None => (first, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}
