"""`embedfleet up`: the whole fleet on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from embedfleet.contracts.errors import ConfigurationError


def up(
    port: Annotated[
        int,
        typer.Option(envvar="FLEET_PORT", min=0, max=65535, help="Port of the API; 0 takes a free one."),
    ] = 8000,
    data_dir: Annotated[
        Path,
        typer.Option(envvar="FLEET_DATA_DIR", file_okay=False, help="Folder of everything that is kept."),
    ] = Path("fleet-data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line when ready.")] = False,
) -> None:
    """Start Redis, Qdrant, the API and both workers; Ctrl-C stops them all.

    CELERY_BROKER_URL and QDRANT_URL are used instead of own servers when they are set, and FLEET_BLOB_URL
    instead of a folder in the data. All processes listen on the loopback address, whatever FLEET_HOST,
    FLEET_PROBE_HOST and FLEET_PROBE_PORT say.
    """
    try:
        from embedfleet.local.fleet import Options, run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: `pip install 'embedfleet[local]'` brings all that `up` needs"
        ) from error
    run(Options(port, data_dir, as_json))
