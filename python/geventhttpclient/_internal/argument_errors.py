"""Errors for rejected arguments: they describe the argument, without secrets, and suggest a replacement.

These functions are called only for an invalid argument, or when an object is created that keeps the argument.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from geventhttpclient._internal.validation import (
    check_count,
    check_local_address,
    check_seconds,
    check_uds,
    given,
    refused_fields,
    shown,
)

__all__ = [
    "OF_CLIENTS",
    "OF_REQUESTS",
    "check_body",
    "check_cert",
    "check_clients",
    "check_factory",
    "check_flag",
    "check_headers_type",
    "check_hooks",
    "check_jar",
    "check_mapping",
    "check_proxies",
    "check_proxy",
    "check_ssl_options",
    "check_statuses",
    "check_timeout",
    "check_transport",
    "check_verify",
    "did_you_mean_url",
    "json_text",
    "nearest",
    "not_a_url",
    "refused_params",
    "refused_request",
    "refused_url",
    "unexpected",
]

_SESSION = "Session accepts it"

OF_REQUESTS: Mapping[str, str] = {
    "params": "put them into the target: url = URL('/path'), url['name'] = 'value', url.request_uri",
    "json": "pass body=json.dumps(value), with a Content-Type header",
    "data": "pass body=; a form is body=urllib.parse.urlencode(fields), with a Content-Type header",
    "content": "pass body=",
    "payload": "pass body=",
    "files": "pass body=multipart.Multipart(fields, files), with its content_type as a header",
    "timeout": "pass connection_timeout=, network_timeout=, pool_timeout= or total_timeout=",
    "auth": "pass headers={'Authorization': BasicAuth(user, password).auth_header()}",
    "cookies": "pass headers={'Cookie': 'name=value'}",
    "stream": "a body is always read on demand",
    "allow_redirects": "HTTPClient follows no redirect",
    "follow_redirects": "HTTPClient follows no redirect",
    "verify": "pass it to HTTPClient",
    "cert": "pass it to HTTPClient",
    "proxies": "pass proxy='http://host:port' to HTTPClient",
    "proxy": "pass it to HTTPClient",
    "hooks": "pass on_response= to HTTPClient",
}
"""Replacements in requests of HTTPClient for arguments of other clients."""

OF_CLIENTS: Mapping[str, str] = {
    "proxies": "pass proxy='http://host:port'",
    "timeout": "pass connection_timeout= and network_timeout=",
    "timeouts": "pass connection_timeout= and network_timeout=",
    "cookies": "pass cookiejar=",
    "params": _SESSION,
    "auth": _SESSION,
    "stream": _SESSION,
    "hooks": _SESSION,
    "limits": "pass concurrency= and max_idle_connections=",
    "max_connections": "pass concurrency=",
    "pool_size": "pass concurrency=",
    "pool_maxsize": "pass concurrency=",
    "retries": "pass max_retries=",
    "follow_redirects": "pass max_redirects=",
    "allow_redirects": "pass max_redirects=",
    "ca_certs": "pass verify=, a file or a directory",
    "cafile": "pass verify=, a file or a directory",
    "ssl_context": "pass ssl_context_factory=lambda *args, **kw: context",
    "verify_ssl": "pass verify=False",
    "mounts": "pass transport= or proxy=",
}
"""Replacements in the constructors of clients and agents for arguments of other clients."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name that is most similar to `name`; None if none is similar."""
    import difflib

    found = difflib.get_close_matches(name.lower(), list(names), 1)
    return found[0] if found else None


def unexpected(unknown: Iterable[str], known: Iterable[str], instead: Mapping[str, str] | None = None) -> TypeError:
    """Returns the error for unexpected keyword arguments, with a suggested replacement for each."""
    names, known = sorted(unknown), list(known)
    hints = []
    for name in names:
        hint = (instead or {}).get(name)
        if hint is None and (meant := nearest(name, known)) is not None:
            hint = f"did you mean {meant}?"
        if hint is not None:
            hints.append(hint if len(names) == 1 else f"{name}: {hint}")
    text = f"unexpected argument{'s' if len(names) > 1 else ''}: {', '.join(names)}"
    return TypeError("; ".join([f"{text}: {hints[0]}", *hints[1:]]) if hints else text)


def not_a_url(url: Any) -> str:
    """Returns the error text for a URL without a host, or with a scheme other than http and https."""
    text = str(url)
    return f"Not an http or https URL with a host: {shown(text)}{did_you_mean_url(text)}"


def did_you_mean_url(text: str) -> str:
    """Returns a suggestion of the URL that an invalid text may mean; "" if there is none."""
    if text.startswith(("b'", 'b"')):
        return ": pass a str, not bytes"
    # A suggestion for a text that cannot be parsed as a URL might show a password that `shown` hides.
    if _NO_GUESS.search(text) or text in ("None", "True", "False") or text.isdigit():
        return ""
    meant = _meant_by(text.strip())
    return "" if meant is None else f": did you mean {shown(meant)}?"


_NO_GUESS = re.compile(r"[@\\'\"<>\s]|\[[^:\]]*\]")


def _meant_by(text: str) -> str | None:
    scheme, separator, rest = text.partition(":")
    if text.startswith("//") and not text.startswith("///"):
        return f"http:{text}"
    if not text or text[0] in "/?#.:":
        return None
    if not separator or "/" in scheme or "?" in scheme or "#" in scheme or "." in scheme or "[" in scheme:
        return f"http://{text}"
    if rest[:1].isdigit():
        return f"http://{text}"  # host:port
    if scheme.lower() in ("http", "https"):
        host = rest.lstrip("/")
        return f"{scheme}://{host}" if host else None
    close = nearest(scheme, ("http", "https"))
    return f"{close}://{rest.lstrip('/')}" if close and rest.startswith("/") and rest.lstrip("/") else None


def refused_url(url: Any) -> TypeError:
    """Returns the error for an argument that is neither a str nor a URL."""
    return TypeError(f"url must be a str or a URL, not {given(url)}")


def refused_params(params: Any, error: Exception) -> Exception:
    """Returns the error for invalid params; returns `error` if it has another cause."""
    words = "params must be a mapping, (name, value) pairs or a query as text"
    if isinstance(params, (int, float)) or not hasattr(params, "__iter__"):
        return TypeError(f'{words}, as in {{"limit": 20}}, not {given(params)}')
    if isinstance(params, (list, tuple, set, frozenset)) and isinstance(error, (TypeError, ValueError)):
        for pair in params:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                return type(error)(f"{words}, not {given(params)} with {given(pair)} in it: {error}")
    return error


def refused_request(method: Any, target: Any, headers: Any, trailers: Any) -> TypeError | None:
    """Returns the error for an argument of a request with a wrong type; None if all types are right."""
    if not isinstance(method, str):
        return TypeError(f"method must be a str, not {given(method)}")
    if not isinstance(target, str):
        remedy = ": pass url.request_uri" if hasattr(target, "request_uri") else ""
        return TypeError(f"request_uri must be a str, not {given(target)}{remedy}")
    refused = None if headers is None else refused_fields("headers", headers)
    if refused is None and trailers is not None and not callable(trailers):
        refused = refused_fields("trailers", trailers)
    return refused


def check_mapping(name: str, value: Any, example: str) -> None:
    """Raises TypeError unless the value is None or a mapping; `example` shows a valid one."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, as in {example}, not {given(value)}")


def check_hooks(hooks: Any) -> None:
    """Raises TypeError or ValueError unless the argument is None, or a mapping of "response" to functions."""
    check_mapping("hooks", hooks, '{"response": function}')
    for name, calls in (hooks or {}).items():
        if name != "response":
            raise ValueError(f"hooks: the only hook is 'response', not {name!r}")
        several = calls if hasattr(calls, "__iter__") and not isinstance(calls, (str, bytes)) else [calls]
        for call in [] if calls is None or callable(calls) else several:
            if not callable(call):
                raise TypeError(f"hooks['response'] must be a function or a list of them, not {given(call)}")


def check_body(name: str, body: Any) -> None:
    """Raises TypeError unless the argument may be the body of a request, or the fields of a form."""
    if body is not None and not hasattr(body, "__iter__") and not hasattr(body, "read") and not _is_buffer(body):
        raise TypeError(f"{name} must be a mapping, bytes, text, a file or an iterable of pieces, not {given(body)}")


def _is_buffer(body: Any) -> bool:
    try:
        memoryview(body)
    except TypeError:
        return False
    return True


def json_text(value: Any, **kw: Any) -> str:
    """Returns the value as JSON, with the arguments of `json.dumps`. The error for an invalid value names the
    argument."""
    try:
        return json.dumps(value, **kw)
    except (TypeError, ValueError) as error:
        reason = error
    raise type(reason)(f"json: {reason}")


def check_flag(name: str, value: Any) -> None:
    """Raises TypeError unless the value is True, False or None, or an int."""
    if value is not None and not isinstance(value, int):
        raise TypeError(f"{name} must be True or False, not {given(value)}")


def check_proxies(proxies: Any) -> None:
    """Raises TypeError or ValueError unless the argument is None, or a mapping of schemes to proxies."""
    example = '{"http": "http://host:port", "https": "http://host:port"}'
    check_mapping("proxies", proxies, example)
    for name, proxy in (proxies or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"proxies must be a mapping by scheme, as in {example}, not by {given(name)}")
        # Other names are ignored, such as `no` and `ftp` of the environment; likely misspellings are rejected.
        meant = name.lower() if name.lower() in _PROXIED else nearest(name, _PROXIED)
        if meant is not None and name != meant and name.lower() not in _NOT_PROXIED and "://" not in name:
            raise ValueError(f"proxies must be a mapping by scheme, not by {shown(name)}: did you mean {meant!r}?")
        if proxy is not None and not isinstance(proxy, (str, tuple)):
            raise TypeError(f"proxies[{shown(name)}] must be a str, a Proxy or None, not {given(proxy)}")


_PROXIED = ("http", "https", "all")
_NOT_PROXIED = ("no", "ftp", "ftps", "ws", "wss", "socks", "socks4", "socks5", "gopher")


def check_statuses(name: str, statuses: Any) -> frozenset[int]:
    """Returns the status codes. Raises TypeError unless the argument is a collection of ints."""
    if isinstance(statuses, (str, bytes)) or not hasattr(statuses, "__iter__"):
        raise TypeError(f"{name} must be a list of status codes, as in [502, 503], not {given(statuses)}")
    codes = list(statuses)
    for code in codes:
        if not isinstance(code, int) or isinstance(code, bool):
            raise TypeError(f"{name} must be a list of status codes, as in [502, 503], not with {given(code)} in it")
    return frozenset(codes)


def check_jar(name: str, jar: Any) -> None:
    """Raises TypeError unless the argument is None, or has the interface of a CookieJar."""
    if jar is not None and not hasattr(jar, "add_cookie_header"):
        raise TypeError(f"{name} must be an http.cookiejar.CookieJar or None, not {given(jar)}")


def check_timeout(timeout: Any) -> tuple[float | None, float | None]:
    """Returns the timeouts for connecting and for each wait, from one number or a tuple of both. Raises ValueError or
    TypeError for anything else."""
    if isinstance(timeout, (tuple, list)):
        if len(timeout) != 2:
            raise ValueError(f"timeout must be a number of seconds or a tuple of two, not {timeout!r}")
        connect, read = timeout
    else:
        connect = read = timeout
    return check_seconds("timeout", connect), check_seconds("timeout", read)


def check_verify(verify: Any) -> None:
    """Raises TypeError or ValueError unless the argument is True, False, or the path of a file or a directory."""
    if isinstance(verify, bool):
        return
    if not isinstance(verify, (str, os.PathLike)):
        raise TypeError(f"verify must be True, False, or a file or directory of CA certificates, not {given(verify)}")
    if not os.fspath(verify):
        raise ValueError("verify must not be empty: it names a file or a directory of CA certificates")


def check_cert(cert: Any) -> None:
    """Raises TypeError or ValueError unless the argument is None, a path, or a tuple of up to two paths and a
    password."""
    if cert is None:
        return
    parts = cert if isinstance(cert, (tuple, list)) else (cert,)
    words = "cert must be a file, or a tuple of the certificate's file, the key's, and the key's password"
    if not isinstance(cert, (str, os.PathLike, tuple, list)):
        raise TypeError(f"{words}, not {given(cert)}")
    if not 1 <= len(parts) <= 3:
        raise ValueError(f"{words}, not of {len(parts)} items")
    for name, part in zip(("certfile", "keyfile"), parts, strict=False):
        if part is not None and not isinstance(part, (str, bytes, os.PathLike)):
            raise TypeError(f"{words}: the {name} must be a path, not {given(part)}")
    if not parts[0]:
        raise ValueError(words)


def check_clients(arguments: Mapping[str, Any]) -> None:
    """Raises TypeError or ValueError for invalid arguments of clients that will be created later, as far as the types
    of the arguments show it."""
    for name, value in arguments.items():
        if name in ("concurrency", "block_size"):
            check_count(name, value)
        elif name.endswith("_timeout") or name == "dns_cache":
            check_seconds(name, value)
        elif name == "headers" and value and (refused := refused_fields(name, value)) is not None:
            raise refused
        elif (check := _CHECKS.get(name)) is not None:
            check(value)


def check_proxy(proxy: Any) -> None:
    """Raises TypeError unless the argument is None, a str or a Proxy."""
    if proxy and not isinstance(proxy, (str, tuple)):
        raise TypeError(f"proxy must be a str or a Proxy, not {type(proxy).__name__}: as in 'http://host:port'")


def check_factory(factory: Any) -> None:
    """Raises TypeError unless the argument is None or callable."""
    if factory is not None and not callable(factory):
        raise TypeError(f"ssl_context_factory must return an ssl.SSLContext when called, not be {given(factory)}")


def check_headers_type(headers_type: Any) -> None:
    """Raises TypeError unless the argument is callable."""
    if not callable(headers_type):
        raise TypeError(f"headers_type must be a class such as Headers, not {given(headers_type)}")


def check_transport(transport: Any) -> None:
    """Raises TypeError unless the argument is None or a transport."""
    if transport is not None and not hasattr(transport, "_connection_pool"):
        raise TypeError(f"transport must be a geventhttpclient.mock.MockTransport, not {given(transport)}")


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "verify": check_verify,
    "cert": check_cert,
    "proxy": check_proxy,
    "ssl_context_factory": check_factory,
    "transport": check_transport,
    "local_address": check_local_address,
    "uds": check_uds,
}


def check_ssl_options(name: str, options: Any) -> None:
    """Raises TypeError or ValueError unless the argument is None, or a mapping of supported options."""
    check_mapping(name, options, '{"ca_certs": "ca.pem"}')
    for key in options or ():
        if key in _SSL_OPTIONS or (key in _SSL_DEFAULTS and options[key] is _SSL_DEFAULTS[key]):
            continue
        hint = _SSL_INSTEAD.get(key) if isinstance(key, str) else None
        if hint is None and isinstance(key, str) and (meant := nearest(key, _SSL_OPTIONS)) is not None:
            hint = f"did you mean {meant!r}?"
        raise ValueError(f"{name} has no {key!r}{f': {hint}' if hint else ''}")


_SSL_OPTIONS = (
    "ca_certs",
    "cert_reqs",
    "certfile",
    "keyfile",
    "password",
    "server_hostname",
    "ssl_version",
    "ciphers",
    "options",
    "verify_flags",
)

# Arguments of ssl.wrap_socket, with the only values that are supported, since they have no effect.
_SSL_DEFAULTS = {"server_side": False, "do_handshake_on_connect": True, "suppress_ragged_eofs": False}

_SSL_INSTEAD = {
    "verify": "pass the argument verify= instead",
    "check_hostname": "pass insecure=True to accept any name",
    "cafile": "did you mean 'ca_certs'?",
    "capath": "did you mean 'ca_certs'?",
    "ca_file": "did you mean 'ca_certs'?",
    "cert": "did you mean 'certfile'?",
    "key": "did you mean 'keyfile'?",
    "verify_mode": "did you mean 'cert_reqs'?",
    "server_side": "a client is never the server",
    "do_handshake_on_connect": "the handshake is always performed",
    "suppress_ragged_eofs": "a truncated body is always an error",
}
