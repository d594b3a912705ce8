"""moto's imitation of AWS: prints the ports for HTTP and for HTTPS, and serves until it is killed.

python -m tests.programs moto_server.run CERTIFICATE KEY
"""

from __future__ import annotations

import logging
import ssl
import threading


def run(certificate: str, key: str) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    app = DomainDispatcherApplication(create_backend_app)
    plain, secure = (
        make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler, ssl_context=tls)
        for tls in (None, context)
    )
    print(plain.port, secure.port, flush=True)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure.serve_forever()
