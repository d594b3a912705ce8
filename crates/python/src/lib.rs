//! The extension module `geventhttpclient._core`: what its Python face is made of.

mod url;

use pyo3::prelude::*;

/// The table of contents of `geventhttpclient._core`.
#[pymodule]
mod _core {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        url::register(module)
    }
}
