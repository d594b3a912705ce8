//! Resolves references against a base (RFC 3986 section 5.2), and joins paths.

use std::borrow::Cow;

use super::percent::{self, PATH};
use super::split::Parts;

/// Returns the target of `reference` in a document at `base`: RFC 3986 section 5.2.2, strictly, so `http:g` is not
/// relative. A target never has dot segments, even if its path is that of the base.
pub fn resolve<'a>(base: &Parts<'a>, reference: &Parts<'a>) -> Parts<'a> {
    let path = |path: &Cow<'a, str>| without_dots(path.clone());
    let (authority, path, query) = if !reference.scheme.is_empty() || reference.authority.is_some() {
        (reference.authority.clone(), path(&reference.path), reference.query.clone())
    } else if reference.path.is_empty() {
        let query = reference.query.as_ref().or(base.query.as_ref());
        (base.authority.clone(), path(&base.path), query.cloned())
    } else if reference.path.starts_with('/') {
        (base.authority.clone(), path(&reference.path), reference.query.clone())
    } else {
        let merged = Cow::Owned(merge(&base.path, &reference.path));
        (base.authority.clone(), path(&merged), reference.query.clone())
    };
    let scheme = if reference.scheme.is_empty() { &base.scheme } else { &reference.scheme };
    Parts { scheme: scheme.clone(), authority, path, query, fragment: reference.fragment.clone() }
}

/// Returns the path and `value`, joined by exactly one slash. Characters that a path cannot contain are escaped.
pub fn append_to_path(path: &str, value: &str) -> String {
    let value = percent::escape(value, &PATH);
    let (path, value) = (path.strip_suffix('/').unwrap_or(path), value.strip_prefix('/').unwrap_or(&value));
    [path, "/", value].concat()
}

/// Merges paths, RFC 3986 section 5.2.3: replaces the last segment of the base. An empty base counts as `/`, with or
/// without an authority, since the result is a request target.
fn merge(base: &str, reference: &str) -> String {
    match base.rfind('/') {
        Some(slash) => [&base[..=slash], reference].concat(),
        None if base.is_empty() => ["/", reference].concat(),
        None => reference.into(),
    }
}

/// Removes dot segments, RFC 3986 section 5.2.4, in linear time: segments are only removed from the end of the output.
fn without_dots(path: Cow<'_, str>) -> Cow<'_, str> {
    if !path.split('/').any(is_dots) {
        return path;
    }
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').peekable();
    // Dots before the first slash are dropped together with the slash.
    if !path.starts_with('/') {
        while segments.next_if(|segment| is_dots(segment)).is_some() {}
        let Some(first) = segments.next() else {
            return Cow::Borrowed("");
        };
        out.push_str(first);
    } else {
        segments.next();
    }
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => out.truncate(out.rfind('/').unwrap_or(0)),
            _ => {
                out.push('/');
                out.push_str(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            out.push('/');
        }
    }
    Cow::Owned(out)
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::super::split;
    use super::*;

    #[test]
    fn test_merge_replaces_the_last_segment() {
        for (base, expected) in [("/a/b", "/a/c"), ("/a/", "/a/c"), ("a/b", "a/c"), ("a", "c"), ("", "/c")] {
            assert_eq!(merge(base, "c"), expected, "{base:?}");
        }
    }

    /// Examples of RFC 3986 sections 5.4.1 and 5.4.2.
    const EXAMPLES: &[(&str, &str)] = &[
        ("g:h", "g:h"),
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        ("g#s", "http://a/b/c/g#s"),
        ("g?y#s", "http://a/b/c/g?y#s"),
        (";x", "http://a/b/c/;x"),
        ("g;x", "http://a/b/c/g;x"),
        ("g;x?y#s", "http://a/b/c/g;x?y#s"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../", "http://a/"),
        ("../../g", "http://a/g"),
        ("../../../g", "http://a/g"),
        ("../../../../g", "http://a/g"),
        ("/./g", "http://a/g"),
        ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."),
        (".g", "http://a/b/c/.g"),
        ("g..", "http://a/b/c/g.."),
        ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"),
        ("./g/.", "http://a/b/c/g/"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/./x", "http://a/b/c/g?y/./x"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("g#s/./x", "http://a/b/c/g#s/./x"),
        ("g#s/../x", "http://a/b/c/g#s/../x"),
        ("http:g", "http:g"),
    ];

    fn resolved(base: &str, reference: &str) -> String {
        resolve(&split(base).unwrap(), &split(reference).unwrap()).to_string()
    }

    #[test]
    fn test_resolve_examples_of_the_rfc() {
        for (reference, target) in EXAMPLES {
            assert_eq!(resolved("http://a/b/c/d;p?q", reference), *target, "{reference:?}");
        }
    }

    #[test]
    fn test_resolve_cases_beyond_the_rfc() {
        for (base, reference, target) in [
            ("http://a", "g", "http://a/g"),
            ("http://a", "../g", "http://a/g"),
            ("http://a?q", "#s", "http://a?q#s"),
            ("http://a/b?q", "?", "http://a/b?"),
            ("https://a/b", "//h/../x", "https://h/x"),
            ("http://a/b", "HTTPS://H/./x", "https://H/x"),
            ("http://a/b/", "", "http://a/b/"),
            ("http://a/b", "//", "http://"),
            ("http://a/b", "/.//g", "http://a//g"),
            ("", "g", "/g"),
            ("a/b", "g", "a/g"),
        ] {
            assert_eq!(resolved(base, reference), target, "{base:?} {reference:?}");
        }
    }

    /// Removes dot segments as RFC 3986 section 5.2.4 describes it: a naive oracle.
    fn remove_dot_segments(path: &str) -> String {
        let (mut input, mut output) = (path.to_owned(), String::new());
        while !input.is_empty() {
            if input.starts_with("../") || input.starts_with("./") {
                input.drain(..=input.find('/').unwrap());
            } else if input.starts_with("/./") || input == "/." {
                input.replace_range(..input.len().min(3), "/");
            } else if input.starts_with("/../") || input == "/.." {
                input.replace_range(..input.len().min(4), "/");
                output.truncate(output.rfind('/').unwrap_or(0));
            } else if input == "." || input == ".." {
                input.clear();
            } else {
                let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
                output.extend(input.drain(..end));
            }
        }
        output
    }

    #[test]
    fn test_without_dots_every_short_path_equals_the_oracle() {
        const ALPHABET: [char; 3] = ['/', '.', 'a'];
        // Miri is a thousand times slower.
        for length in 0..if cfg!(miri) { 5 } else { 9_u32 } {
            for number in 0..3_usize.pow(length) {
                let path: String = (0..length).map(|place| ALPHABET[number / 3_usize.pow(place) % 3]).collect();
                assert_eq!(without_dots(Cow::Borrowed(&path)), remove_dot_segments(&path), "{path:?}");
            }
        }
    }

    #[test]
    fn test_append_to_path_joins_with_one_slash() {
        for (path, value, expected) in [
            ("", "x", "/x"),
            ("/", "x", "/x"),
            ("/a", "x", "/a/x"),
            ("/a/", "x", "/a/x"),
            ("/a", "/x", "/a/x"),
            ("/a/", "/x", "/a/x"),
            ("/a", "", "/a/"),
            ("/a", "x y?z#%20%", "/a/x%20y%3Fz%23%20%25"),
        ] {
            assert_eq!(append_to_path(path, value), expected);
        }
    }
}
