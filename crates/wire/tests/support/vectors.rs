//! Loads `tests/vectors/responses.json`; see its README for the format.

use serde_json::Value;

/// Longest response that is split at every point; longer ones are split into pieces of [`PIECE`].
const SPLIT_UP_TO: usize = 1024;
const PIECE: usize = 4096;

pub struct Vector {
    pub name: String,
    pub method: String,
    pub raw: Vec<u8>,
    pub eof: bool,
    pub expected: Expected,
}

pub enum Expected {
    Message(Message),
    Failure { in_head: bool, kind: Kind },
}

pub struct Message {
    pub status: u16,
    pub version: Option<String>,
    pub reason: Option<Vec<u8>>,
    pub headers: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    pub body: Vec<u8>,
    pub keep_alive: bool,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
    pub extra: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cut,
    Malformed,
    TooLarge,
}

impl Vector {
    /// Returns the response whole, byte by byte, and split in two at every point.
    pub fn divisions(&self) -> Vec<Vec<&[u8]>> {
        let mut all = vec![vec![self.raw.as_slice()]];
        if self.raw.len() > SPLIT_UP_TO {
            all.push(self.raw.chunks(PIECE).collect());
        } else {
            all.push(self.raw.chunks(1).collect());
            all.extend((1..self.raw.len()).map(|cut| vec![&self.raw[..cut], &self.raw[cut..]]));
        }
        all
    }
}

pub fn load() -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/responses.json");
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let cases: Value = serde_json::from_str(&text).expect("JSON");
    let vectors: Vec<Vector> = cases.as_array().expect("a list").iter().map(vector).collect();
    assert!(!vectors.is_empty());
    vectors
}

fn vector(case: &Value) -> Vector {
    let known = ["name", "rule", "method", "raw", "eof", "response", "error"];
    let name = text(&case["name"]);
    for key in case.as_object().expect("an object").keys() {
        assert!(known.contains(&key.as_str()), "{name}: {key}");
    }
    let expected = match (&case["response"], &case["error"]) {
        (message @ Value::Object(_), Value::Null) => Expected::Message(Message {
            status: u16::try_from(message["status"].as_u64().expect("a number")).expect("three digits"),
            version: message["version"].as_str().map(String::from),
            reason: message.get("reason").map(latin_1),
            headers: message.get("headers").map(lines),
            body: latin_1(&message["body"]),
            keep_alive: message["keep_alive"].as_bool().expect("yes or no"),
            trailers: message.get("trailers").map(lines).unwrap_or_default(),
            extra: message.get("extra").map(latin_1).unwrap_or_default(),
        }),
        (Value::Null, failure @ Value::Object(_)) => Expected::Failure {
            in_head: text(&failure["in"]) == "head",
            kind: match text(&failure["kind"]).as_str() {
                "cut" => Kind::Cut,
                "malformed" => Kind::Malformed,
                "too_large" => Kind::TooLarge,
                other => panic!("{name}: {other}"),
            },
        },
        _ => panic!("{name}: a response or an error"),
    };
    Vector {
        method: case["method"].as_str().unwrap_or("GET").to_owned(),
        raw: raw(&case["raw"]),
        eof: case["eof"].as_bool().unwrap_or(false),
        name,
        expected,
    }
}

fn raw(value: &Value) -> Vec<u8> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(part).collect(),
        whole => part(whole),
    }
}

fn part(value: &Value) -> Vec<u8> {
    match value {
        Value::Array(pair) => latin_1(&pair[0]).repeat(pair[1].as_u64().expect("a number") as usize),
        whole => latin_1(whole),
    }
}

fn lines(value: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    value.as_array().expect("a list").iter().map(|line| (latin_1(&line[0]), latin_1(&line[1]))).collect()
}

fn latin_1(value: &Value) -> Vec<u8> {
    text(value).chars().map(|character| u8::try_from(u32::from(character)).expect("latin-1")).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
