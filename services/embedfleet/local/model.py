"""Gets the models that the fleet needs; run as a child so that Ctrl-C ends a long download at once."""

import sys

from embedfleet.contracts.errors import ConfigurationError, FleetError
from embedfleet.encoders.backends.choice import weigh
from embedfleet.encoders.backends.machine import look
from embedfleet.encoders.models import locate
from embedfleet.encoders.registry import Backend
from embedfleet.runtime.settings import EngineSettings, ModelSettings


def backends() -> list[Backend]:
    """Return whose files are needed: ONNX always (the api encodes queries with it), and the worker's."""
    chosen = EngineSettings().backend
    return ["onnx"] if chosen == "onnx" else ["onnx", chosen]


def is_here() -> bool:
    """Say whether nothing has to be fetched.

    Raises:
        ConfigurationError: FLEET_MODEL_PATH or FLEET_MODEL_ID can't be used as it is.
    """
    settings = ModelSettings()
    try:
        for backend in backends():
            locate(settings, backend)
    except ConfigurationError as error:
        if settings.model_path is None and error.code in ("model_missing", "model_damaged"):
            return False
        raise
    return True


def main() -> int:
    """Fetch what is missing, one line of progress at a time on stderr; return the exit code."""
    # Imported here: `is_here` runs in the supervisor, which needs none of it.
    from embedfleet.encoders.fetch import fetch

    engine = EngineSettings()
    try:
        weigh(engine, look(engine.backend))  # what no worker could compute with is said before it is fetched
        for backend in backends():
            fetch(ModelSettings(), lambda line: print(line, file=sys.stderr, flush=True), backend)
    except FleetError as error:
        print(error.detail, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
