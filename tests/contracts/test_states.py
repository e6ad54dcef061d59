from pathlib import Path

from embedfleet.contracts import states
from embedfleet.contracts.states import DOCUMENT_EDGES, TASK_EDGES, DocumentState, TaskState, mermaid

DOCS = Path(__file__).parents[2] / "docs"


def test_every_state_has_a_row_and_can_be_reached() -> None:
    for kind, edges, first in ((TaskState, TASK_EDGES, "PENDING"), (DocumentState, DOCUMENT_EDGES, "QUEUED")):
        assert set(edges) == set(kind)
        assert set().union(*edges.values()) | {first} == set(kind)


def test_terminal_states_absorb() -> None:
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.TERMINAL_TASK_STATES
    assert {"READY", "FAILED", "REVOKED"} == states.TERMINAL_DOCUMENT_STATES


def test_the_documented_diagrams_are_drawn_from_the_tables() -> None:
    page = (DOCS / "states.md").read_text("utf-8")
    assert mermaid(TASK_EDGES, TaskState.PENDING) in page
    assert mermaid(DOCUMENT_EDGES, DocumentState.QUEUED) in page
