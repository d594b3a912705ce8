//! The framing of every combination of what bears on it, beside a table of rules of which the first that fits decides.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use wire::framing::{Asked, CloseReason, close_reason};
use wire::{Framing, HeadReader, Limits, ResponseError};

/// One response, as far as it matters here.
#[derive(Debug)]
struct Case {
    method: &'static str,
    version: &'static str,
    status: u16,
    coding: &'static [&'static str],
    length: &'static [&'static str],
    connection: &'static [&'static str],
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Framed(Framing),
    BadCoding,
    BadLength,
}

const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "CONNECT"];
const VERSIONS: [&str; 2] = ["1.0", "1.1"];
const STATUSES: [u16; 11] = [101, 200, 204, 206, 299, 300, 304, 404, 407, 500, 999];
const CODINGS: [&[&str]; 10] = [
    &[],
    &["chunked"],
    &["CHUNKED "],
    &["identity"],
    &["gzip"],
    &["gzip, chunked"],
    &["chunked", "gzip"],
    &["chunked", "chunked"],
    &["x-chunked"],
    &[""],
];
const LENGTHS: [&[&str]; 9] =
    [&[], &["0"], &["5"], &[" 007 "], &["5, 5"], &["5", "5"], &["5", "6"], &["+5"], &["18446744073709551616"]];
const CONNECTIONS: [&[&str]; 5] = [&[], &["close"], &["Keep-Alive"], &["keep-alive, x", "Close"], &["closed"]];

/// What follows from what.
type Rule<T> = (fn(&Case) -> bool, T);

fn bodiless(case: &Case) -> bool {
    case.method == "HEAD" || case.status == 101 || case.status == 204 || case.status == 304
}

fn tunnel(case: &Case) -> bool {
    case.method == "CONNECT" && case.status / 100 == 2
}

/// RFC 9112 section 6.3.
#[rustfmt::skip]
const FRAMING: [Rule<Outcome>; 11] = [
    (|case| bodiless(case) || tunnel(case), Outcome::Framed(Framing::None)),
    (|case| matches!(case.coding, ["chunked" | "CHUNKED "]), Outcome::Framed(Framing::Chunked)),
    (|case| matches!(case.coding, ["identity"]), Outcome::Framed(Framing::UntilClose)),
    (|case| !case.coding.is_empty(), Outcome::BadCoding),
    (|case| case.length.is_empty(), Outcome::Framed(Framing::UntilClose)),
    (|case| matches!(case.length, ["0"]), Outcome::Framed(Framing::Counted(0))),
    (|case| matches!(case.length, [" 007 "]), Outcome::Framed(Framing::Counted(7))),
    (|case| matches!(case.length, ["5"]), Outcome::Framed(Framing::Counted(5))),
    (|case| matches!(case.length, ["5, 5"]), Outcome::Framed(Framing::Counted(5))),
    (|case| matches!(case.length, ["5", "5"]), Outcome::Framed(Framing::Counted(5))),
    (|_| true, Outcome::BadLength),
];

/// RFC 9112 sections 6.1 and 9.3, of what could be framed.
#[rustfmt::skip]
const CLOSING: [Rule<Option<CloseReason>>; 8] = [
    (|case| case.status == 101 || tunnel(case), Some(CloseReason::Upgraded)),
    (|case| !case.coding.is_empty() && case.version == "1.0", Some(CloseReason::AmbiguousFraming)),
    (|case| !case.coding.is_empty() && !case.length.is_empty(), Some(CloseReason::AmbiguousFraming)),
    (|case| !bodiless(case) && case.coding == ["identity"], Some(CloseReason::CloseDelimitedBody)),
    (|case| !bodiless(case) && case.coding.is_empty() && case.length.is_empty(), Some(CloseReason::CloseDelimitedBody)),
    (|case| case.connection.concat().to_lowercase().ends_with("close"), Some(CloseReason::AskedByPeer)),
    (|case| case.version == "1.0" && case.connection != ["Keep-Alive"], Some(CloseReason::Http10)),
    (|_| true, None),
];

fn first<'a, T>(rules: &'a [Rule<T>], case: &Case) -> &'a T {
    &rules.iter().find(|(fits, _)| fits(case)).expect("the last rule fits all").1
}

fn check(case: &Case) {
    let mut text = format!("HTTP/{} {} x\r\n", case.version, case.status);
    for (name, values) in
        [("Transfer-Encoding", case.coding), ("content-length", case.length), ("Connection", case.connection)]
    {
        values.iter().for_each(|value| text.push_str(&format!("{name}: {value}\r\n")));
    }
    text.push_str("\r\n");
    let read = HeadReader::default().read(text.as_bytes(), &Limits::default());
    let (head, _) = read.expect("a good head").expect("a whole head");
    let asked = Asked::by(case.method.as_bytes());
    let outcome = match Framing::of(asked, &head) {
        Ok(framing) => Outcome::Framed(framing),
        Err(ResponseError::TransferEncoding(_)) => Outcome::BadCoding,
        Err(ResponseError::ContentLength(_)) => Outcome::BadLength,
        Err(other) => panic!("{other}: {case:?}"),
    };
    assert_eq!(&outcome, first(&FRAMING, case), "{case:?}");
    if let Outcome::Framed(framing) = outcome {
        assert_eq!(&close_reason(asked, &head, framing), first(&CLOSING, case), "{case:?}");
    }
}

#[test]
fn every_combination_follows_the_tables() {
    let mut cases = 0;
    for method in METHODS {
        for version in VERSIONS {
            for status in STATUSES {
                for coding in CODINGS {
                    for length in LENGTHS {
                        for connection in CONNECTIONS {
                            check(&Case { method, version, status, coding, length, connection });
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 4 * 2 * 11 * 10 * 9 * 5);
}
