"""A server that speaks S3's protocol, for buckets under test."""

import itertools
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx
from moto.server import ThreadedMotoServer

from embedfleet.local.ports import LOOPBACK


class BucketServer:
    """Moto's S3 on a free port; `url` is set once it listens."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
        self._numbers = itertools.count()
        self.url = ""

    @property
    def variables(self) -> Mapping[str, str]:
        """What a process needs to use it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "hush",
            "AWS_REGION": "us-east-1",
            "NO_PROXY": f"{LOOPBACK},localhost",
        }

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        name = f"bucket-{next(self._numbers)}"
        httpx.put(f"{self.url}/{name}", trust_env=False, verify=False).raise_for_status()
        return name

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
        self._server.start()
        self.url = "http://{}:{}".format(*self._server.get_host_and_port())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
