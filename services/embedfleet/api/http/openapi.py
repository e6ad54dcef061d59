"""Print the OpenAPI description: ``python -m embedfleet.api.http.openapi > docs/openapi.json``."""

import json

from embedfleet.api.app import assemble


def text() -> str:
    """Return the description as it is checked in."""
    return json.dumps(assemble(1).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(text(), end="")
