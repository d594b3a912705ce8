//! Deadlines for the program's own code: a resolver, the source of a body. Dropping a future does not end what waits
//! in there by itself; gevent's own way of interrupting a greenlet does.

use engine::timers::Deadline;
use engine::{BoxError, Kind};
use pyo3::intern;
use pyo3::prelude::*;

use crate::error::is_interrupt;
use crate::types;

/// Timers shorter than this make gevent warn on libuv, whose clock counts in milliseconds; longer ones than that are
/// beyond libuv's, and nobody waits for them.
const SECONDS: std::ops::Range<f64> = 0.001..1e9;

/// Runs `work`, which may switch greenlets, until its end or the deadline. Whatever else comes out of it, kills and
/// timeouts of somebody else included, is the caller's own error.
pub(crate) fn within<T>(
    py: Python<'_>,
    until: Option<Deadline>,
    work: impl FnOnce() -> PyResult<T>,
) -> Result<T, Kind> {
    let Some((until, left)) = until.map(|until| (until, until.left().as_secs_f64())) else {
        return work().map_err(own);
    };
    if left == 0.0 {
        return Err(until.exceeded());
    }
    if left >= SECONDS.end {
        return work().map_err(own);
    }
    let timeout = types::timeout(py).and_then(|class| class.call1((left.max(SECONDS.start),))).map_err(own)?;
    let result = timeout.call_method0(intern!(py, "start")).and_then(|_| work());
    let closed = timeout.call_method0(intern!(py, "close"));
    let result = match (result, closed) {
        // It fails when the loop is gone, and its timers with it; Ctrl-C in the middle of it is no failure.
        (_, Err(error)) if is_interrupt(py, &error) => Err(error),
        (result, _) => result,
    };
    result.map_err(|error| if error.value(py).is(&timeout) { until.exceeded() } else { own(error) })
}

fn own(error: PyErr) -> Kind {
    Kind::Caller(BoxError::from(error))
}
