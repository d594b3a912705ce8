//! A URL splits as by the expression in RFC 3986 appendix B, and recomposes from its parts.

use std::net::Ipv6Addr;

use wire::url::{Authority, Parts, UrlError, redact, redact_all, resolve, split};

/// Panics if the invariant does not hold.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (first, second) = text.split_once('\n').unwrap_or((&text, "../x?y"));
    check_split(&text);
    check_redacted(&text);
    if let (Ok(base), Ok(reference)) = (split(first), split(second)) {
        check_resolved(&base, &reference);
    }
}

/// Checks that redaction is idempotent, and removes the password from a URL with any text in it.
fn check_redacted(text: &str) {
    for shown in [redact(text), redact_all(text)] {
        assert_eq!(redact(&redact(&shown)), redact(&shown), "{text:?}");
    }
    let url = format!("http://user:{text}-sesame@host/");
    if split(&url).is_err() {
        assert!(!redact(&url).contains("sesame"), "{url:?}");
    }
}

/// Scheme, authority, path, query, fragment.
type Fields = (String, Option<String>, String, Option<String>, Option<String>);

fn check_split(text: &str) {
    let cleaned = text.trim_start_matches(|c: char| c <= ' ').replace(['\t', '\r', '\n'], "");
    let expected = naive_split(&cleaned);
    match split(text) {
        Ok(parts) => {
            assert_eq!(fields(&parts), expected, "differs from appendix B");
            let again = parts.to_string();
            assert_eq!(split(&again), Ok(parts.clone()), "from {again:?}");
            if let Some(authority) = &parts.authority {
                assert!(has_good_brackets(authority), "brackets in {authority:?}");
                check_authority(authority);
            }
        }
        Err(error) => {
            let authority = expected.1.expect("only an authority is refused");
            let is_right = match &error {
                UrlError::Brackets { .. } | UrlError::Ipv6 { .. } => !has_good_brackets(&authority),
                UrlError::Delimiter { .. } => authority.contains('\\'),
                UrlError::Lookalike { .. } => !authority.is_ascii(),
                _ => false,
            };
            assert!(is_right, "{authority:?}: {error}");
        }
    }
}

fn fields(parts: &Parts<'_>) -> Fields {
    let owned = |part: &Option<std::borrow::Cow<'_, str>>| part.as_deref().map(str::to_owned);
    let (authority, query, fragment) = (owned(&parts.authority), owned(&parts.query), owned(&parts.fragment));
    (parts.scheme.to_string(), authority, parts.path.to_string(), query, fragment)
}

/// Splits by `^(([^:/?#]+):)?(//([^/?#]*))?([^?#]*)(\?([^#]*))?(#(.*))?`, with the scheme of section 3.1.
fn naive_split(text: &str) -> Fields {
    let (text, fragment) = match text.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment.to_owned())),
        None => (text, None),
    };
    let (text, query) = match text.split_once('?') {
        Some((before, query)) => (before, Some(query.to_owned())),
        None => (text, None),
    };
    let is_scheme = |text: &str| {
        let mut characters = text.chars();
        characters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && characters.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    };
    let (scheme, text) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        _ => (String::new(), text),
    };
    let (authority, path) = match text.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find('/').unwrap_or(rest.len());
            (Some(rest[..end].to_owned()), &rest[end..])
        }
        None => (None, text),
    };
    (scheme, authority, path.to_owned(), query, fragment)
}

/// Returns true for no brackets, or one pair around an address, with a user before it and a port after it.
fn has_good_brackets(authority: &str) -> bool {
    let address = authority.rsplit('@').next().unwrap_or_default();
    if !authority.contains(['[', ']']) {
        return true;
    }
    let Some((host, behind)) = address.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { return false };
    let host_is_good = match (host.strip_prefix('v'), host.split_once('%')) {
        (Some(future), _) => future.split_once('.').is_some_and(|(version, address)| {
            let is_number = !version.is_empty() && version.chars().all(|digit| digit.is_ascii_hexdigit());
            is_number && !address.is_empty()
        }),
        (None, Some((address, zone))) => address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains('%'),
        (None, None) => host.parse::<Ipv6Addr>().is_ok(),
    };
    host_is_good && (behind.is_empty() || behind.starts_with(':')) && !behind.contains(['[', ']'])
}

fn check_authority(text: &str) {
    let authority = Authority::read(text);
    let (host, port) = (authority.host(), authority.port());
    assert!(text.to_lowercase().contains(&host.to_lowercase()), "{host:?} of {text:?}");
    if let Ok(Some(port)) = port {
        let digits = text.rsplit(':').next().unwrap_or_default().trim_start_matches('0');
        assert_eq!(port.to_string(), if digits.is_empty() { "0" } else { digits }, "of {text:?}");
    }
    let ported = authority.with_port(Some(81));
    let read = Authority::read(&ported);
    assert_eq!((read.host(), read.port(), read.username()), (host.clone(), Ok(Some(81)), authority.username()));
    let named = authority.with_user(Some("a:b@c/d"), Some("p@:/?#[x"));
    let read = Authority::read(&named);
    assert_eq!((read.host(), read.port()), (host, port.clone()), "after another user: {named:?}");
    assert_eq!((read.username(), read.password()), (Some("a%3Ab%40c%2Fd"), Some("p%40%3A%2F%3F%23%5Bx")));
    for other in ["h.example", "::1"] {
        let moved = authority.with_host(other).expect("a good host");
        let read = Authority::read(&moved);
        assert_eq!((&*read.host(), read.port(), read.username()), (other, port.clone(), authority.username()));
    }
}

/// Compares with RFC 3986 section 5.2.2.
fn check_resolved(base: &Parts<'_>, reference: &Parts<'_>) {
    let target = resolve(base, reference);
    let (base, reference) = (fields(base), fields(reference));
    let dotless = |path: &str| remove_dot_segments(path);
    let (scheme, authority, path, query) = if !reference.0.is_empty() {
        (reference.0.clone(), reference.1, dotless(&reference.2), reference.3)
    } else if reference.1.is_some() {
        (base.0, reference.1, dotless(&reference.2), reference.3)
    } else if reference.2.is_empty() {
        // The path of the base is expected to have no dot segments.
        (base.0, base.1, dotless(&base.2), reference.3.or(base.3))
    } else if reference.2.starts_with('/') {
        (base.0, base.1, dotless(&reference.2), reference.3)
    } else {
        let merged = match base.2.rfind('/') {
            Some(slash) => base.2[..=slash].to_owned() + &reference.2,
            None if base.2.is_empty() => "/".to_owned() + &reference.2,
            None => reference.2,
        };
        (base.0, base.1, dotless(&merged), reference.3)
    };
    assert_eq!(fields(&target), (scheme.clone(), authority.clone(), path, query, reference.4));
    // Recomposition does not change the authority.
    if !scheme.is_empty() && authority.is_some() {
        let written = target.to_string();
        let read = split(&written).map(|parts| fields(&parts).1);
        assert_eq!(read, Ok(authority), "{written:?}");
    }
}

/// Removes dot segments, section 5.2.4.
fn remove_dot_segments(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("../") {
            input.drain(..3);
        } else if input.starts_with("./") {
            input.drain(..2);
        } else if input.starts_with("/./") || input == "/." {
            input.replace_range(..input.len().min(3), "/");
        } else if input.starts_with("/../") || input == "/.." {
            input.replace_range(..input.len().min(4), "/");
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if input == "." || input == ".." {
            input.clear();
        } else {
            let slash = input.char_indices().skip(1).find(|&(_, character)| character == '/');
            let end = slash.map_or(input.len(), |(at, _)| at);
            output.extend(input.drain(..end));
        }
    }
    output
}
