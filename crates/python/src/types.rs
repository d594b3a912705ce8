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
    coding_error = "geventhttpclient.exceptions"."error" as PyType;
    connection_aborted = "geventhttpclient.exceptions"."HTTPConnectionAborted" as PyType;
    connection_closed = "geventhttpclient.exceptions"."HTTPConnectionClosed" as PyType;
    connection_pipe = "geventhttpclient.exceptions"."HTTPConnectionBroken" as PyType;
    connection_reset = "geventhttpclient.exceptions"."HTTPConnectionReset" as PyType;
    http2_error = "geventhttpclient.exceptions"."HTTP2Error" as PyType;
    get_hub = "gevent"."get_hub" as PyAny;
    loop_exit = "gevent.exceptions"."LoopExit" as PyType;
    logger = "geventhttpclient._internal.log"."logger" as PyAny;
    spawn = "gevent"."spawn" as PyAny;
    write_log = "geventhttpclient._internal.log"."write" as PyAny;
    headers = "geventhttpclient.header"."Headers" as PyType;
    mapping = "collections.abc"."Mapping" as PyType;
    memory_bio = "ssl"."MemoryBIO" as PyType;
    of_package = "geventhttpclient.exceptions"."of_package" as PyAny;
    os_error = "geventhttpclient.exceptions"."OSError" as PyType;
    parse_error = "geventhttpclient.exceptions"."HTTPParseError" as PyType;
    parse_json_text = "geventhttpclient._internal.charsets"."parse_json_text" as PyAny;
    protocol_violation = "geventhttpclient.exceptions"."HTTPProtocolViolationError" as PyType;
    proxy_error = "geventhttpclient.exceptions"."ProxyError" as PyType;
    runtime_error = "geventhttpclient.exceptions"."RuntimeError" as PyType;
    ssl_eof = "ssl"."SSLEOFError" as PyType;
    ssl_error = "ssl"."SSLError" as PyType;
    ssl_want_read = "ssl"."SSLWantReadError" as PyType;
    ssl_zero_return = "ssl"."SSLZeroReturnError" as PyType;
    file_io = "io"."FileIO" as PyType;
    timeout_error = "geventhttpclient.exceptions"."TimeoutError" as PyType;
    stream_format_error = "geventhttpclient.exceptions"."StreamFormatError" as PyType;
    tls_certificate_error = "geventhttpclient.exceptions"."SSLCertVerificationError" as PyType;
    tls_error = "geventhttpclient.exceptions"."SSLError" as PyType;
    value_error = "geventhttpclient.exceptions"."ValueError" as PyType;
    timeout = "gevent"."Timeout" as PyType;
}
