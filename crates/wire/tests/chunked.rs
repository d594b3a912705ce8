//! Compares the chunked decoder with a naive one, on valid bodies of random shape and on damaged ones.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use support::Chance;
use wire::Limits;
use wire::chunked::{Decoder, LAST_CHUNK, size_line};
use wire::framing::Step;

/// Result of decoding some bytes.
#[derive(Debug, PartialEq)]
struct Decoded {
    body: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    /// The body is complete; the number of bytes after it.
    Whole(usize),
    /// More bytes are needed.
    Open,
    Broken,
}

/// Decodes byte by byte, without regard to speed.
fn naive(input: &[u8]) -> Decoded {
    let mut body = Vec::new();
    let end = naive_chunks(input, &mut body);
    Decoded { body, end }
}

fn naive_chunks(mut input: &[u8], body: &mut Vec<u8>) -> End {
    loop {
        let digits = input.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 16 {
            return End::Broken;
        }
        if digits == input.len() {
            return End::Open;
        }
        if digits == 0 {
            return End::Broken;
        }
        let text = std::str::from_utf8(&input[..digits]).expect("ASCII");
        let size = u64::from_str_radix(text, 16).expect("16 digits at most");
        input = &input[digits..];
        let blanks = input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        input = &input[blanks..];
        if let [b';', rest @ ..] = input {
            let length = rest.iter().take_while(|byte| !matches!(byte, b'\r' | b'\n' | 0)).count();
            input = &rest[length..];
        }
        match input {
            [b'\r', b'\n', rest @ ..] => input = rest,
            [] | [b'\r'] => return End::Open,
            _ => return End::Broken,
        }
        if size == 0 {
            return naive_trailers(input);
        }
        let data = input.len().min(usize::try_from(size).expect("64 bits"));
        body.extend_from_slice(&input[..data]);
        input = &input[data..];
        match input {
            [b'\r', b'\n', rest @ ..] if data as u64 == size => input = rest,
            [] | [b'\r'] => return End::Open,
            _ => return End::Broken,
        }
    }
}

/// Finds the end of a trailer section without checking its fields.
fn naive_trailers(mut input: &[u8]) -> End {
    loop {
        let Some(length) = input.iter().position(|&byte| byte == b'\n') else {
            return if input.len() > 1 && input[0] == b'\r' { End::Broken } else { End::Open };
        };
        let (line, rest) = input.split_at(length + 1);
        match line {
            b"\r\n" => return End::Whole(rest.len()),
            [b'\r', ..] => return End::Broken,
            [.., b'\r', b'\n'] => input = rest,
            _ => return End::Broken,
        }
    }
}

fn decode(pieces: &[&[u8]]) -> (Decoded, Vec<(String, String)>) {
    let (mut decoder, mut body) = (Decoder::new(Limits::default()), Vec::new());
    let mut held = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        held.extend_from_slice(piece);
        loop {
            let Ok((used, step)) = decoder.step(&held) else {
                return (Decoded { body, end: End::Broken }, Vec::new());
            };
            held.drain(..used);
            match step {
                Step::End => {
                    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
                    let trailers = decoder.trailers().iter().map(|(name, value)| (text(name), text(value))).collect();
                    let left = held.len() + pieces[number + 1..].iter().map(|piece| piece.len()).sum::<usize>();
                    return (Decoded { body, end: End::Whole(left) }, trailers);
                }
                Step::Data(left) if !held.is_empty() => {
                    let length = held.len().min(usize::try_from(left).expect("64 bits"));
                    body.extend(held.drain(..length));
                    decoder.taken(length as u64);
                }
                Step::Data(_) | Step::More => break,
            }
        }
    }
    assert!(held.is_empty(), "framing is consumed at once");
    (Decoded { body, end: End::Open }, Vec::new())
}

/// Returns a valid body in random chunks: content, trailers, encoded bytes.
fn random_body(chance: &mut Chance) -> (Vec<u8>, Vec<(String, String)>, Vec<u8>) {
    let (mut content, mut trailers, mut coded) = (Vec::new(), Vec::new(), Vec::new());
    let extension =
        |chance: &mut Chance| chance.pick(&["", "", "", ";a", ";a=b", " ;\ta=\"b;c\"", "  ", ";\r"]).replace('\r', "");
    for _ in 0..chance.below(8) {
        let length = if chance.once_in(4) { 1 } else { 1 + chance.below(300) };
        let data = chance.bytes(length);
        let size = match chance.below(4) {
            0 => format!("{length:X}"),
            1 => format!("{length:08x}"),
            2 => format!("{length:016X}"),
            _ => size_line(length as u64).trim_end().to_owned(),
        };
        coded.extend_from_slice(size.as_bytes());
        coded.extend_from_slice(extension(chance).as_bytes());
        coded.extend_from_slice(b"\r\n");
        coded.extend_from_slice(&data);
        coded.extend_from_slice(b"\r\n");
        content.extend(data);
    }
    if chance.once_in(2) {
        coded.extend_from_slice(LAST_CHUNK);
        return (content, trailers, coded);
    }
    coded.extend_from_slice(chance.pick(&["0", "00", "0000000000000000"]).as_bytes());
    coded.extend_from_slice(extension(chance).as_bytes());
    coded.extend_from_slice(b"\r\n");
    for number in 0..chance.below(4) {
        let (name, value) = (format!("X-{number}"), "v".repeat(chance.below(20)));
        coded.extend_from_slice(format!("{name}:{}{value}\r\n", chance.pick(&["", " ", "\t "])).as_bytes());
        trailers.push((name, value));
    }
    coded.extend_from_slice(b"\r\n");
    (content, trailers, coded)
}

#[test]
fn test_decoder_valid_bodies_in_any_pieces_decode_the_same() {
    for seed in 0..2000 {
        let mut chance = Chance::new(seed);
        let (content, trailers, mut coded) = random_body(&mut chance);
        let behind = chance.below(4);
        coded.extend(chance.bytes(behind));
        let expected = (Decoded { body: content, end: End::Whole(behind) }, trailers);
        assert_eq!(naive(&coded), expected.0, "seed {seed}: naive decoder");
        assert_eq!(decode(&[&coded]), expected, "seed {seed}: whole");
        assert_eq!(decode(&coded.chunks(1).collect::<Vec<_>>()), expected, "seed {seed}: byte by byte");
        assert_eq!(decode(&chance.cut(&coded)), expected, "seed {seed}: in pieces");
    }
}

#[test]
fn test_decoder_truncated_body_is_open() {
    for seed in 0..200 {
        let mut chance = Chance::new(seed);
        let (_, _, coded) = random_body(&mut chance);
        let end = chance.below(coded.len());
        let decoded = decode(&chance.cut(&coded[..end])).0;
        assert_eq!(decoded.end, End::Open, "seed {seed}, cut at {end}");
        assert_eq!(decoded, naive(&coded[..end]), "seed {seed}, cut at {end}");
    }
}

#[test]
fn test_decoder_damaged_bodies_decode_as_by_the_naive_decoder() {
    let (mut broken, mut whole) = (0, 0);
    for seed in 0..20_000 {
        let mut chance = Chance::new(seed);
        let (_, _, mut coded) = random_body(&mut chance);
        for _ in 0..1 + chance.below(3) {
            chance.damage(&mut coded);
        }
        let expected = naive(&coded);
        let (at_once, trailers) = decode(&[&coded]);
        let in_pieces = decode(&chance.cut(&coded));
        assert_eq!((at_once.body.clone(), &at_once.end, &trailers), (in_pieces.0.body, &in_pieces.0.end, &in_pieces.1));
        // The decoder may find a fault in a trailer section that the naive one does not check.
        if at_once.end != End::Broken || expected.end == End::Broken {
            assert_eq!(at_once, expected, "seed {seed}: {}", coded.escape_ascii());
        } else {
            assert_eq!(at_once.body, expected.body, "seed {seed}: {}", coded.escape_ascii());
            assert!(matches!(expected.end, End::Whole(_)), "seed {seed}: {}", coded.escape_ascii());
        }
        match at_once.end {
            End::Broken => broken += 1,
            End::Whole(_) => whole += 1,
            End::Open => {}
        }
    }
    assert!(broken > 1000 && whole > 1000, "{broken} broken, {whole} whole: too few of either");
}
