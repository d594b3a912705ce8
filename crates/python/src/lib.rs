//! The extension module `geventhttpclient._core`: the engine as Python sees it. The package that users import,
//! `geventhttpclient`, is written in Python on top of this.
//!
//! The path of a request: [`request`] checks and encodes it, [`hub`] runs the engine's future as the calling greenlet,
//! and [`response`] is the result. [`thread`] holds the state of clients in each thread.
#![deny(unsafe_code)]
// Numbers come from objects of any class: each is checked against its range before it is used in arithmetic.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::string_slice
)]

mod convert;
mod error;
mod histogram;
mod hub;
mod idle;
mod log;
mod panic;
mod pysocket;
mod raw_connection;
mod request;
mod response;
mod thread;
mod tls;
mod types;
mod url;

use pyo3::prelude::*;

/// The table of contents of `geventhttpclient._core`.
// `GilBound` uses the GIL as the lock of its value: a free-threaded interpreter has to keep the GIL for this module.
#[pymodule(gil_used = true)]
mod _core {
    use super::*;

    #[pymodule_export]
    use super::histogram::Histogram;
    #[pymodule_export]
    use super::hub::lifecycle::{panic_in_callback, runtime_statistics};
    #[pymodule_export]
    use super::hub::registry::{after_fork_in_child, at_exit};
    #[pymodule_export]
    use super::idle::IdleGroup;
    #[pymodule_export]
    use super::raw_connection::PyConnection;
    #[pymodule_export]
    use super::request::fast_head::fast_head;
    #[pymodule_export]
    use super::request::pool::Pool;
    #[pymodule_export]
    use super::request::template::RequestTemplate;
    #[pymodule_export]
    use super::request::trailers::trailer_lines;
    #[pymodule_export]
    use super::response::ResponseBase;
    #[pymodule_export]
    use super::response::coding::{Decoder, decode};
    #[pymodule_export]
    use super::response::parser::Parser;
    #[pymodule_export]
    use super::response::stream::{EventReader, LineReader, ServerSentEvent};
    #[pymodule_export]
    use super::tls::{authorities, is_server_name};
    #[pymodule_export]
    use super::url::{
        authority_port, authority_read, authority_with_host, authority_with_port, authority_with_user, host_to_ascii,
        path_append, query_encode, query_get, query_replace, redact, redact_all, redact_part, requote_uri,
        unquote_unreserved, url_resolve, url_split, url_unsplit,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        panic::set_hook();
        module.add("MOST_EVENT_BYTES", wire::sse::MOST_EVENT_BYTES)?;
        module.add("MOST_LINE_BYTES", wire::lines::MOST_LINE_BYTES)
    }
}
