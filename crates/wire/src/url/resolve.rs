//! References against a base (RFC 3986 section 5.2), and paths.

use std::borrow::Cow;

use super::percent::{self, PATH};
use super::split::Parts;

/// The target of `reference`, read from a document at `base`: RFC 3986 section 5.2.2, strictly, so that `http:g` is
/// not relative. No target has dot segments, not even one whose path is the base's.
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

/// The path with `value` behind it and exactly one slash between them. What cannot stand in a path is escaped.
pub fn append_to_path(path: &str, value: &str) -> String {
    let value = percent::escape(value, &PATH);
    let (path, value) = (path.strip_suffix('/').unwrap_or(path), value.strip_prefix('/').unwrap_or(&value));
    [path, "/", value].concat()
}

/// RFC 3986 section 5.2.3: everything but the last segment of the base. An empty base is a root, authority or not: what
/// comes out is asked of a server.
fn merge(base: &str, reference: &str) -> String {
    match base.rfind('/') {
        Some(slash) => [&base[..=slash], reference].concat(),
        None if base.is_empty() => ["/", reference].concat(),
        None => reference.into(),
    }
}

/// RFC 3986 section 5.2.4. In linear time: segments are only ever cut off at the end of what is there.
fn without_dots(path: Cow<'_, str>) -> Cow<'_, str> {
    if !path.split('/').any(is_dots) {
        return path;
    }
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').peekable();
    // Before the first slash, dots are dropped together with that slash.
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

    /// RFC 3986 section 5.4: the base, and every example of 5.4.1 and 5.4.2.
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
    fn the_examples_of_the_rfc() {
        for (reference, target) in EXAMPLES {
            assert_eq!(resolved("http://a/b/c/d;p?q", reference), *target, "{reference:?}");
        }
    }

    #[test]
    fn beyond_the_examples() {
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

    /// RFC 3986 section 5.2.4 word for word: a naive oracle.
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
    fn every_short_path_against_the_words_of_the_rfc() {
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
    fn appending() {
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
