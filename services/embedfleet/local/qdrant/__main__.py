"""``python -m embedfleet.local.qdrant --path DIR --host 127.0.0.1 --port N`` runs the stand-in."""

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from embedfleet.contracts.errors import ConfigurationError, FleetError
from embedfleet.local.qdrant.catalog import Catalog
from embedfleet.local.qdrant.routes import TITLE, create_app

Lifespan = Callable[[Starlette], contextlib.AbstractAsyncContextManager[None]]

log = logging.getLogger("embedfleet.local.qdrant")

FLUSH_SECONDS = 5.0
# Longer than any pool keeps an idle connection, so that clients don't write into a closing one.
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 3
BACKLOG = 512


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then flush, close and return 0. Return 1 when it can't start."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        listener = _listen(options.host, options.port)
        catalog = Catalog(options.path)
    except FleetError as error:
        log.error(error.detail)
        return 1
    # uvicorn raises the signal that stopped it once more when it is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    host, port = listener.getsockname()[:2]
    log.info("%s: %d collections in %s", TITLE, len(catalog.names()), options.path)
    config = uvicorn.Config(
        create_app(catalog, _flushing(catalog, f"http://{host}:{port}")),
        access_log=False,
        log_config=None,
        log_level="warning",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        catalog.close()
        log.info("stopped; everything is flushed")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m embedfleet.local.qdrant", description=TITLE)
    parser.add_argument("--path", type=Path, required=True, help="data folder; made when absent")
    parser.add_argument("--host", default="127.0.0.1", help="loopback address to bind to")
    parser.add_argument("--port", type=int, default=6333, help="port; 0: a free one, named in the log")
    return parser


def _listen(host: str, port: int) -> socket.socket:
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise ConfigurationError(
            f"--host {host} isn't a loopback address: there are no API keys here, use a Qdrant server"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        return listener
    except OSError as error:
        raise ConfigurationError(f"{host}:{port} can't be bound ({error}): give another --port") from error


def _flushing(catalog: Catalog, address: str) -> Lifespan:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        flusher = asyncio.create_task(_flush_for_ever(catalog))
        log.info("listening on %s", address)
        yield
        flusher.cancel()

    return lifespan


async def _flush_for_ever(catalog: Catalog) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        try:
            await asyncio.to_thread(catalog.flush)
        except FleetError as error:
            log.error("flush failed, the log keeps what isn't flushed: %s", error.detail)


if __name__ == "__main__":
    sys.exit(main())
