//! The extension module `geventhttpclient._core`: the engine as Python sees it. What users import stands in Python, in
//! `geventhttpclient`, on top of this.
//!
//! The trip of a request: [`client`] checks and encodes it, [`body`] wraps what is to be sent, [`hub`] runs the engine's
//! future as the calling greenlet, and [`response`] is what comes out.
#![deny(unsafe_code)]
// Numbers come in here from objects of any class: each is checked against its range before it is calculated with.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod body;
mod bytes;
mod client;
mod coding;
mod config;
mod connection;
mod context;
mod deadline;
mod error;
mod head;
mod histogram;
mod hub;
mod idle;
mod journal;
mod panic;
mod parser;
mod pysocket;
mod resolve;
mod response;
mod timings;
mod tls;
mod trailers;
mod types;
mod url;
mod usual_head;

use pyo3::prelude::*;

/// The table of contents of `geventhttpclient._core`.
// `GilBound` takes the GIL for the lock of what is in it: a free-threaded interpreter has to keep it for this module.
#[pymodule(gil_used = true)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::client::{Pool, encode_head};
    #[pymodule_export]
    use super::coding::{Decoder, decode};
    #[pymodule_export]
    use super::connection::PyConnection;
    #[pymodule_export]
    use super::histogram::Histogram;
    #[pymodule_export]
    use super::hub::{after_fork_in_child, at_exit, panic_in_callback, runtime_statistics};
    #[pymodule_export]
    use super::idle::IdleGroup;
    #[pymodule_export]
    use super::parser::Parser;
    #[pymodule_export]
    use super::response::Message;
    #[pymodule_export]
    use super::tls::authorities;
    #[pymodule_export]
    use super::trailers::trailer_lines;
    #[pymodule_export]
    use super::usual_head::usual_head;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        panic::set_hook();
        url::register(module)
    }
}
