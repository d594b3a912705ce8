//! A histogram of latencies (HdrHistogram): a few kilobytes whatever the number of values, each counted with a bounded
//! relative error.

use std::sync::{Mutex, PoisonError};

use hdrhistogram::Histogram as Recorded;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Counts of values between `lowest_us` and `highest_us`, to `significant_figures` decimal digits. This package records
/// whole microseconds. Thread-safe.
///
/// Raises ValueError unless 1 <= lowest_us, 2 * lowest_us <= highest_us,
/// 0 <= significant_figures <= 5.
#[pyclass(frozen, module = "geventhttpclient._core")]
pub(crate) struct Histogram(Mutex<Recorded<u64>>);

impl Histogram {
    fn with<T>(&self, work: impl FnOnce(&mut Recorded<u64>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Histogram {
    #[new]
    #[pyo3(signature = (lowest_us=1, highest_us=3_600_000_000, significant_figures=3))]
    fn new(lowest_us: u64, highest_us: u64, significant_figures: u8) -> PyResult<Self> {
        let made = Recorded::new_with_bounds(lowest_us, highest_us, significant_figures);
        let made = made.map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Histogram(Mutex::new(made)))
    }

    /// Counts a value; one beyond the bounds counts as the nearest of them.
    fn record(&self, us: u64) {
        self.with(|recorded| recorded.saturating_record(us));
    }

    /// Returns the value that `p` percent of all values do not exceed; 0 without values.
    ///
    /// Raises ValueError unless 0 <= p <= 100.
    fn percentile(&self, p: f64) -> PyResult<u64> {
        if !(0.0..=100.0).contains(&p) {
            return Err(PyValueError::new_err(format!("a percentile is between 0 and 100, not {p}")));
        }
        Ok(self.with(|recorded| recorded.value_at_percentile(p).min(recorded.max())))
    }

    /// Adds all values of another histogram.
    ///
    /// Raises ValueError if they lie beyond the bounds of this one.
    fn add(&self, other: &Bound<'_, Histogram>) -> PyResult<()> {
        // Taken out first: the other may be this one.
        let values = other.get().with(|recorded| recorded.clone());
        self.with(|recorded| recorded.add(values)).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Returns (value, count) for each value that was recorded, in rising order. A value represents all values that the
    /// histogram does not distinguish, and is the highest of them.
    fn buckets(&self) -> Vec<(u64, u64)> {
        self.with(|recorded| {
            recorded.iter_recorded().map(|each| (each.value_iterated_to(), each.count_at_value())).collect()
        })
    }

    /// Forgets all values.
    fn reset(&self) {
        self.with(Recorded::reset);
    }

    /// The number of values.
    #[getter]
    fn count(&self) -> u64 {
        self.with(|recorded| recorded.len())
    }

    /// The lowest value; 0 without values.
    #[getter]
    fn min(&self) -> u64 {
        self.with(|recorded| recorded.min())
    }

    /// The highest value; 0 without values.
    #[getter]
    fn max(&self) -> u64 {
        self.with(|recorded| recorded.max())
    }

    /// The mean of the values; 0 without values.
    #[getter]
    fn mean(&self) -> f64 {
        self.with(|recorded| recorded.mean())
    }

    /// The standard deviation of the values; 0 without values.
    #[getter]
    fn stdev(&self) -> f64 {
        self.with(|recorded| recorded.stdev())
    }
}
