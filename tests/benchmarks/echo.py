"""A contestant that does what it is told, for tests."""

from benchmarks.engine.serving import own_stdout, serve

ANSWERS = own_stdout()

import os  # noqa: E402
import sys  # noqa: E402
from typing import Any  # noqa: E402


def run(order: dict[str, Any]) -> dict[str, Any]:
    if order.get("die"):
        sys.exit("it was told to die")
    print("chatter of a library")
    return {"heard": order["word"], "setting": os.environ.get("ECHO", "")}


if __name__ == "__main__":
    if os.environ.get("ECHO") == "refuse":
        sys.exit("it can't start")
    serve(ANSWERS, {"precision": "fp32"}, run)
