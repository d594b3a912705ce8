//! Requests, from Python's values to the engine: the pool object that sends them, their head, body and limits.

pub(crate) mod body;
pub(crate) mod config;
pub(crate) mod deadline;
pub(crate) mod fast_head;
pub(crate) mod fields;
pub(crate) mod head;
pub(crate) mod pool;
pub(crate) mod resolve;
pub(crate) mod template;
pub(crate) mod trailers;
