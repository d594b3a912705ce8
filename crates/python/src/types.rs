//! Every Python object that this crate borrows by name, in one place.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

macro_rules! borrowed {
    ($($(#[$doc:meta])* $name:ident = $module:literal . $attribute:literal as $type:ty;)*) => {
        $(
            $(#[$doc])*
            pub(crate) fn $name<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, $type>> {
                static CELL: PyOnceLock<Py<$type>> = PyOnceLock::new();
                CELL.import(py, $module, $attribute)
            }
        )*
    };
}

borrowed! {
    blocking_switch_out = "gevent.exceptions"."BlockingSwitchOutError" as PyType;
    concurrent_use = "gevent.exceptions"."ConcurrentObjectUseError" as PyType;
    connection_closed = "geventhttpclient.response"."HTTPConnectionClosed" as PyType;
    http2_error = "geventhttpclient.http2"."HTTP2Error" as PyType;
    get_hub = "gevent"."get_hub" as PyAny;
    logger = "geventhttpclient._log"."logger" as PyAny;
    spawn = "gevent"."spawn" as PyAny;
    write_log = "geventhttpclient._log"."write" as PyAny;
    headers = "geventhttpclient.header"."Headers" as PyType;
    mapping = "collections.abc"."Mapping" as PyType;
    memory_bio = "ssl"."MemoryBIO" as PyType;
    parse_error = "geventhttpclient._parser"."HTTPParseError" as PyType;
    protocol_violation = "geventhttpclient.response"."HTTPProtocolViolationError" as PyType;
    proxy_error = "geventhttpclient.proxy"."ProxyError" as PyType;
    ssl_certificate_error = "ssl"."SSLCertVerificationError" as PyType;
    ssl_eof = "ssl"."SSLEOFError" as PyType;
    ssl_error = "ssl"."SSLError" as PyType;
    ssl_want_read = "ssl"."SSLWantReadError" as PyType;
    ssl_zero_return = "ssl"."SSLZeroReturnError" as PyType;
    file_io = "io"."FileIO" as PyType;
    timeout = "gevent"."Timeout" as PyType;
    zlib_error = "zlib"."error" as PyType;
}
