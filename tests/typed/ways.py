"""How an origin is reached: TLS, HTTP/2, proxies, names."""

# pyright: strict

from __future__ import annotations

import ssl

from typing_extensions import assert_type

from geventhttpclient import HTTPClient, connectionpool, http2, proxy, resolver, tls


def main(url: str) -> None:
    factory: tls.ContextFactory = ssl.create_default_context
    assert_type(tls.init_ssl_context(factory, None), ssl.SSLContext)
    assert connectionpool.init_ssl_context is tls.init_ssl_context
    assert_type(tls.default_ca_file(), str | None)
    facts = tls.TLSInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256", None, None, True, False)
    assert_type(facts.version, str)
    assert_type(facts.alpn, str | None)
    port = int(url.rpartition(":")[2])
    names: resolver.Overrides = {f"here.example:{port}": "127.0.0.1"}
    with HTTPClient("here.example", port, resolve=names, dns_cache=60, local_address="127.0.0.1") as named:
        assert named.get("/page").read()
    with HTTPClient("here.example", ssl=True, verify=True, ssl_context_factory=factory, http2=True) as private:
        assert_type(private.ssl, bool)
    assert resolver.CACHE_SIZE > 0
    resolver.clear_dns_cache()
    proxies()
    failures()


def proxies() -> None:
    way = proxy.Proxy.from_url("socks5h://me:secret@127.0.0.1:1080")
    assert_type(way, proxy.Proxy)
    assert_type(way.credentials, tuple[str, str] | None)
    assert_type(proxy.is_exempt("a.example", 80, ".example"), bool)
    chosen = proxy.choose_proxy("http", "a.example", 80, way, None, None, None, None, False)
    assert_type(chosen, proxy.Proxy | None)
    assert proxy.redact({"proxy_password": "secret"})
    with HTTPClient("a.example", proxy=way) as through:
        assert_type(through.use_proxy, bool)


def failures() -> None:
    error = http2.HTTP2Error("gone", http2.ErrorCode.CANCEL)
    assert_type(error.code, http2.ErrorCode | int)
    assert_type(error.last_stream, int | None)
    refused = proxy.ProxyError("no")
    assert_type(refused.status, int | None)
    assert isinstance(refused, OSError)
