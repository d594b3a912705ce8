//! Deadlines for the program's own code: a resolver, the source of a body. Such code waits by itself, so that dropping
//! a future does not end the wait; a `gevent.Timeout` does.

use engine::rt::timeout::Deadline;
use engine::{BoxError, Kind};
use pyo3::intern;
use pyo3::prelude::*;

use crate::error::is_interrupt;
use crate::types;

/// The range of a timer. gevent warns of a shorter one on libuv, whose clock counts in milliseconds; a longer one is
/// beyond libuv's clock, and longer than any wait.
const SECONDS: std::ops::Range<f64> = 0.001..1e9;

/// Runs `work`, which may switch greenlets, until its end or the deadline. Any other exception that it raises, kills
/// and timeouts of the program included, is the caller's own error.
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
        // close() fails if the loop is gone, and its timers with it; Ctrl-C during it is not such a failure.
        (_, Err(error)) if is_interrupt(py, &error) => Err(error),
        (result, _) => result,
    };
    result.map_err(|error| if error.value(py).is(&timeout) { until.exceeded() } else { own(error) })
}

fn own(error: PyErr) -> Kind {
    Kind::Caller(BoxError::from(error))
}
