//! Timings of requests and connections for Python: in seconds, as floats.

use std::time::{Duration, Instant};

use engine::{Address, Dialled, Opened, Timings};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::tls::tls_info_of_python;

fn seconds(step: Option<Duration>) -> Option<f64> {
    step.map(|step| step.as_secs_f64())
}

/// Returns `(ip, port)`, the path of a Unix domain socket, or None.
fn address_of_python<'py>(py: Python<'py>, dialled: Option<&Dialled>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(address) = dialled.and_then(|dialled| dialled.address.as_ref()) else { return Ok(None) };
    let address = match address {
        Address::Inet(address) => (address.ip().to_string(), address.port()).into_pyobject(py)?.into_any(),
        Address::Unix(path) => path.as_os_str().into_pyobject(py)?.into_any(),
    };
    Ok(Some(address))
}

/// Returns `_Opened` of the stub.
pub(crate) fn opened_of_python<'py>(py: Python<'py>, opened: &Opened) -> PyResult<Bound<'py, PyTuple>> {
    let Dialled { resolve, connect, proxy, tls, .. } = *opened.dialled;
    let address = address_of_python(py, Some(&opened.dialled))?;
    let dialled = (seconds(resolve), seconds(connect), seconds(proxy), seconds(tls), address);
    let info = opened.tls.as_ref().map(|info| tls_info_of_python(py, info)).transpose()?;
    (dialled, info, opened.http2).into_pyobject(py)
}

/// Returns `_Timings` of the stub. `ended` is when the body's last byte arrived.
pub(crate) fn timings_of_python<'py>(
    py: Python<'py>,
    timings: &Timings,
    ended: Option<Instant>,
    received: u64,
) -> PyResult<Bound<'py, PyTuple>> {
    let Timings { started, placed, connected, sent, answered, reused, bytes_sent, .. } = *timings;
    let dialled = timings.dialled.as_deref();
    // A reused connection cost this request nothing.
    let steps = dialled.filter(|_| !reused).cloned().unwrap_or_default();
    let total = ended.map(|ended| ended.saturating_duration_since(started));
    // PyO3 converts tuples of at most twelve items.
    let first = (
        placed.as_secs_f64(),
        seconds(steps.resolve),
        seconds(steps.connect),
        seconds(steps.proxy),
        seconds(steps.tls),
        sent.saturating_sub(connected).as_secs_f64(),
        answered.saturating_sub(sent).as_secs_f64(),
    );
    let second = (
        seconds(total.map(|total| total.saturating_sub(answered))),
        seconds(total),
        reused,
        bytes_sent,
        received,
        address_of_python(py, dialled)?,
    );
    let all = first.into_pyobject(py)?.add(second.into_pyobject(py)?)?;
    Ok(all.cast_into::<PyTuple>()?)
}
