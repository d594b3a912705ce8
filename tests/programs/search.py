"""elasticsearch with the node class of this package, in many greenlets.

    python -m tests.programs search.together MODE URL COUNT

MODE is `unpatched` or `monkey` (with gevent.monkey).
"""

from __future__ import annotations


def together(mode: str, url: str, count: str) -> None:
    """Sends requests of that many greenlets with one client."""
    if mode == "monkey":
        import gevent.monkey

        gevent.monkey.patch_all()
    import gevent
    from elasticsearch import Elasticsearch

    from geventhttpclient.adapters.elastic_transport import Node

    client = Elasticsearch(url, node_class=Node, connections_per_node=int(count))
    greenlets = [gevent.spawn(client.get, index="index", id=str(number)) for number in range(int(count))]
    print(sum(int(greenlet.get()["_id"]) for greenlet in greenlets))
    client.close()
