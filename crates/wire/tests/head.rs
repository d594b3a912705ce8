//! Checks that the head reader parses a head the same whole and in pieces, valid or damaged.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::mem::discriminant;

use support::Chance;
use wire::{HeadReader, Limits, ResponseError, ResponseHead};

type Read = Result<Option<(ResponseHead, usize)>, ResponseError>;

/// Returns the first result from a buffer that grows piece by piece.
fn read(pieces: &[&[u8]], limits: &Limits) -> Read {
    let (mut reader, mut held) = (HeadReader::default(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        if let found @ (Ok(Some(_)) | Err(_)) = reader.read(&held, limits) {
            return found;
        }
    }
    Ok(None)
}

fn assert_same(one: &Read, other: &Read, what: &dyn Fn() -> String) {
    match (one, other) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some((one, one_length))), Ok(Some((other, other_length)))) => {
            assert_eq!(one_length, other_length, "{}", what());
            assert_eq!((one.status, one.version), (other.status, other.version), "{}", what());
            assert_eq!(one.reason(), other.reason(), "{}", what());
            assert!(one.headers.iter().eq(other.headers.iter()), "{}", what());
        }
        // The message may quote more or less of the input.
        (Err(one), Err(other)) => assert_eq!(discriminant(one), discriminant(other), "{}", what()),
        _ => panic!("{one:?} and {other:?}: {}", what()),
    }
}

/// Returns a valid head and its lines as expected.
fn random_head(chance: &mut Chance) -> (Vec<u8>, Vec<(String, String)>) {
    let mut text: Vec<u8> = chance.pick(&["", "", "", "\r\n", "\n"]).into();
    let status = 100 + chance.below(900);
    let reason = chance.pick(&[b"".as_slice(), b" ", b" OK", b" Not  Found", b" D\xe9j\xe0"]);
    text.extend_from_slice(format!("HTTP/1.{} {status}", chance.below(2)).as_bytes());
    text.extend_from_slice(reason);
    let end_line = |chance: &mut Chance, text: &mut Vec<u8>| {
        text.extend_from_slice(if chance.once_in(5) { b"\n" } else { b"\r\n" });
    };
    end_line(chance, &mut text);
    let mut lines = Vec::new();
    for _ in 0..if chance.once_in(10) { 33 + chance.below(10) } else { chance.below(6) } {
        let name = chance.pick(&["A", "Content-Type", "x-y_z", "!#$%&'*+-.^_`|~0aZ"]);
        let (before, after) = (
            chance.pick(&["", " ", "\t ", "\r\n ", " \r\n\t"]),
            chance.pick(&["", " ", "\t", "\r\n ", " \r\n \r\n  "]),
        );
        let value = chance.pick(&["", "b", "b c", "b\t\tc", "a:b;c,d", "b\r\n c", "b \r\n\t \r\n c"]);
        text.extend_from_slice(format!("{name}:{before}{value}{after}").as_bytes());
        end_line(chance, &mut text);
        lines.push((name.to_owned(), value.replace(['\r', '\n'], " ")));
    }
    end_line(chance, &mut text);
    (text, lines)
}

#[test]
fn test_head_reader_valid_heads_in_any_pieces_parse_the_same() {
    let limits = Limits::default();
    for seed in 0..3000 {
        let mut chance = Chance::new(seed);
        let (mut text, lines) = random_head(&mut chance);
        let length = text.len();
        text.extend_from_slice(chance.pick(&["", "body", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]).as_bytes());
        let shown = || format!("seed {seed}: {}", text.escape_ascii());
        let whole = read(&[&text], &limits);
        let Ok(Some((head, found))) = &whole else { panic!("{whole:?}: {}", shown()) };
        assert_eq!(*found, length, "{}", shown());
        let found: Vec<_> = head.headers.iter().map(|(name, value)| (name.to_vec(), unfolded(value))).collect();
        let expected: Vec<_> =
            lines.iter().map(|(name, value)| (name.clone().into_bytes(), unfolded(value.as_bytes()))).collect();
        assert_eq!(found, expected, "{}", shown());
        assert_same(&whole, &read(&text.chunks(1).collect::<Vec<_>>(), &limits), &shown);
        assert_same(&whole, &read(&chance.cut(&text), &limits), &shown);
    }
}

/// Returns the value with each run of blanks as one: RFC 9112 section 5.2 does not say how many replace a fold.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::new();
    for &byte in value {
        let byte = if byte == b'\t' { b' ' } else { byte };
        if byte != b' ' || out.last() != Some(&b' ') {
            out.push(byte);
        }
    }
    out
}

#[test]
fn test_head_reader_damaged_heads_split_anywhere_parse_the_same() {
    let (mut refused, mut good) = (0, 0);
    for seed in 0..3000 {
        let mut chance = Chance::new(seed);
        let (mut text, _) = random_head(&mut chance);
        for _ in 0..1 + chance.below(3) {
            chance.damage(&mut text);
        }
        let limits =
            Limits { head_bytes: 20 + chance.below(400), header_count: 1 + chance.below(40), ..Limits::default() };
        let shown = || format!("seed {seed}: {}", text.escape_ascii());
        let whole = read(&[&text], &limits);
        assert_same(&whole, &read(&text.chunks(1).collect::<Vec<_>>(), &limits), &shown);
        for cut in 0..text.len() {
            assert_same(&whole, &read(&[&text[..cut], &text[cut..]], &limits), &shown);
        }
        match whole {
            Ok(Some((head, length))) => {
                good += 1;
                assert!(
                    length <= text.len() && length <= limits.head_bytes && head.headers.len() <= limits.header_count
                );
                for (_, value) in head.headers.iter() {
                    assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{}", shown());
                }
            }
            Ok(None) => {}
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 300 && good > 300, "{refused} refused, {good} good: too few of either");
}

#[test]
fn test_head_reader_random_bytes_do_not_panic() {
    for seed in 0..5000 {
        let mut chance = Chance::new(seed);
        let length = chance.below(60);
        let mut text = b"HTTP/1.1 200 ".to_vec();
        text.truncate(chance.below(text.len() + 1));
        text.extend(chance.bytes(length));
        text.extend_from_slice(b"\r\n\r\n");
        let whole = read(&[&text], &Limits::default());
        let pieces = read(&chance.cut(&text), &Limits::default());
        assert_same(&whole, &pieces, &|| format!("seed {seed}: {}", text.escape_ascii()));
    }
}
