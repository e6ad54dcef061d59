"""Serve the API: ``python -m embedfleet.api``; exits with 2 and one line when the settings are wrong."""

import sys

import uvicorn

from embedfleet.api.app import create_app
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.runtime.settings import ApiSettings, load

DRAIN_SECONDS = 5
# Longer than any client keeps an idle connection, so that none writes into one that is closing.
KEEP_ALIVE_SECONDS = 75


def main() -> int:
    """Serve until SIGTERM or Ctrl-C."""
    try:
        app, settings = create_app(), load(ApiSettings)
    except ConfigurationError as error:
        return _refuse(error.detail)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    return 0


def _refuse(reason: str) -> int:
    print(f"embedfleet api can't start: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
