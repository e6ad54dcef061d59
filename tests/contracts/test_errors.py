"""Codes are API, and what a run may end with is a closed set: metrics have them as labels."""

import ast
from collections.abc import Iterator
from pathlib import Path

from embedfleet.contracts import errors
from embedfleet.contracts.errors import DOCUMENT_CODES, RUN_CODES, ConfigurationError, FleetError
from embedfleet.encoders.base import OUT_OF_MEMORY

PACKAGE = Path(errors.__file__).parents[1]
OF_A_RUN = ("documents", "embeddings", "vectors", "encoders", "runtime/blobs", "runtime/worker")
# Errors of a process that doesn't start.
ENDS_THE_START = {"ConfigurationError"}
AT_THE_START = {"gate_failed", "model_export", "model_damaged", "model_missing", "no_gpu", "backend_missing"}


def kinds(kind: type[FleetError] = FleetError) -> Iterator[type[FleetError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from kinds(child)


def codes_in(path: Path) -> Iterator[str]:
    names = {kind.__name__ for kind in kinds()} - ENDS_THE_START
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    yield str(keyword.value.value)


def test_every_code_that_a_run_may_end_with_is_in_the_tables() -> None:
    files = [path for folder in OF_A_RUN for path in (PACKAGE / folder).rglob("*.py")]
    named = {code for path in files for code in codes_in(path)} | {OUT_OF_MEMORY}
    assert len(named) > 20
    assert named - AT_THE_START <= RUN_CODES.keys() | DOCUMENT_CODES.keys()


def test_the_tables_agree_with_the_tree() -> None:
    ours = {kind for kind in kinds() if kind.__module__ == errors.__name__}
    of_a_run = {
        kind.default_code: kind.retryable
        for kind in ours - {ConfigurationError}
        if kind.default_code in RUN_CODES
    }
    assert len(of_a_run) == 6
    assert {code: RUN_CODES[code] for code in of_a_run} == of_a_run
    assert not RUN_CODES.keys() & DOCUMENT_CODES.keys()
