//! Writes the seeds of each target into a directory of its own, as libFuzzer expects: `seeds DIRECTORY`.
#![allow(clippy::expect_used, reason = "a program for the shell")]

use std::fs;
use std::path::PathBuf;

fn main() {
    let root = PathBuf::from(std::env::args_os().nth(1).expect("a directory to write to"));
    for (name, _) in fuzz::TARGETS {
        let directory = root.join(name);
        fs::create_dir_all(&directory).expect("a writable directory");
        for (number, seed) in fuzz::seeds::of(name).into_iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed).expect("a writable directory");
        }
    }
}
