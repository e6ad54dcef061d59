"""The text of the ledger's script: the Lua files, with the tables and constants that they are loaded with.

Constants stand in the script and not in each call: a call carries only what is its own.
"""

import json
from importlib.resources import files

from embedfleet.contracts.jobs import GenerateEmbeddings
from embedfleet.contracts.states import DOCUMENT_EDGES, TASK_EDGES

FILES = (
    "records.lua",
    "generations.lua",
    "deletion.lua",
    "intake.lua",
    "scan.lua",
    "mend.lua",
    "queues.lua",
    "ledger.lua",
)

_ERRORS = {
    "superseded_error": ("superseded", "a newer upload of this document took its place"),
    "sibling_error": ("document_failed", "another task of this document failed for good"),
    "revoked_error": ("revoked", "revoked on request"),
    "deleted_error": ("deleted", "its document was deleted"),
    "restored_error": ("restored", "its document is READY: Redis had come back without knowing it"),
    "poison_error": ("poison", "its worker died each time it was tried; see the workers' logs"),
}


def script_text(constants: dict[str, float]) -> str:
    """Return the whole script.

    Args:
        constants: what an edge finds in `a` beside its own arguments, such as seconds and limits.
    """
    tables: dict[str, object] = {
        name: {source: dict.fromkeys(sorted(targets), True) for source, targets in edges.items()}
        for name, edges in (("TASK_EDGES", TASK_EDGES), ("DOCUMENT_EDGES", DOCUMENT_EDGES))
    }
    tables["CONSTANTS"] = {
        **constants,
        **{name: _error(*words) for name, words in _ERRORS.items()},
        "embedding_name": GenerateEmbeddings.task_name,
        "embedding_queue": str(GenerateEmbeddings.queue),
    }
    folder = files(__name__)
    heads = [f"local {name} = {_literal(value)}" for name, value in tables.items()]
    return "\n".join([*heads, *((folder / name).read_text("utf-8") for name in FILES)])


def _error(code: str, detail: str) -> str:
    return json.dumps({"type": "FleetError", "code": code, "detail": detail, "retryable": False})


def _literal(value: object) -> str:
    """Write a value as Lua source: a table, a string or a number."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return f"[==[{value}]==]"
    return json.dumps(value)
