"""elastic_transport on the engine."""

# pyright: strict

from __future__ import annotations

from elastic_transport import NodeConfig

from geventhttpclient.adapters import elastic_transport as elastic_adapter


class OwnNode(elastic_adapter.Node):
    """A node class of a program's own."""

    def close(self) -> None:
        super().close()


def main(url: str) -> None:
    scheme, _, place = url.partition("://")
    node = OwnNode(NodeConfig(scheme, place.partition(":")[0], int(place.rpartition(":")[2])))
    assert node.perform_request("GET", "/page").meta.status == 200
    node.close()
