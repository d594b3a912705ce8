"""boto3 on the engine; it has no types of its own."""

# pyright: strict

from __future__ import annotations

import importlib
from typing import Any

from typing_extensions import assert_type

from geventhttpclient.adapters import botocore as botocore_adapter

boto3: Any = importlib.import_module("boto3")


class Client:
    """A client as type checkers see it with the stubs of boto3."""


def attached(client: Client) -> Client:
    return assert_type(botocore_adapter.attach(client), Client)


def main(url: str) -> None:
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = botocore_adapter.attach(boto3.client("s3", region_name="us-east-1", endpoint_url=url, **keys))
    client.close()
