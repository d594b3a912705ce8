//! Runs each target on its seeds, and on mutations of them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::panic::catch_unwind;

use fuzz::chance::Chance;
use fuzz::{TARGETS, Target, seeds};

/// Number of mutations for each target.
const MUTATIONS: u64 = 20_000;

fn check(name: &str, target: Target, data: &[u8], what: &str) {
    assert!(catch_unwind(|| target(data)).is_ok(), "{name}, {what}: b\"{}\"", data.escape_ascii());
}

fn run(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target of that name");
    let seeds = seeds::of(name);
    assert!(seeds.len() >= 12, "{name} has {} seeds", seeds.len());
    for (number, seed) in seeds.iter().enumerate() {
        check(name, target, seed, &format!("seed {number}"));
    }
    for number in 0..MUTATIONS {
        let mut chance = Chance::new(number);
        let (one, other) = (chance.below(seeds.len()), chance.below(seeds.len()));
        let mutated = chance.mutate(&seeds[one], &seeds[other]);
        check(name, target, &mutated, &format!("mutation {number}"));
    }
}

#[test]
fn test_chunked_seeds_and_mutations() {
    run("chunked");
}

#[test]
fn test_coding_seeds_and_mutations() {
    run("coding");
}

#[test]
fn test_escape_seeds_and_mutations() {
    run("escape");
}

#[test]
fn test_exchange_seeds_and_mutations() {
    run("exchange");
}

#[test]
fn test_framing_seeds_and_mutations() {
    run("framing");
}

#[test]
fn test_head_seeds_and_mutations() {
    run("head");
}

#[test]
fn test_lines_seeds_and_mutations() {
    run("lines");
}

#[test]
fn test_sse_seeds_and_mutations() {
    run("sse");
}

#[test]
fn test_url_seeds_and_mutations() {
    run("url");
}

#[test]
fn test_targets_empty_input() {
    for (name, target) in TARGETS {
        check(name, target, b"", "nothing");
    }
}
