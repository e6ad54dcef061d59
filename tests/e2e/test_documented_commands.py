"""Every command that README.md and docs/troubleshooting.md tell to type runs, on a real fleet."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.fleet import EXAMPLES, ROOT, Fleet

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("fleet")]

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
# Words of a search that README.md tells to type, and the file that must answer it first.
FOUND_FIRST = {
    "the lever feels spongy": "disc-brake-bleeding.md",
    "can I print here?": "library-faq.md",
}


def commands(page: str) -> list[str]:
    """Return the lines of a page's shell blocks, in order, each once."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if line))


def test_the_page_has_the_headings_of_the_field() -> None:
    headings = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert [heading.lower() for heading in headings] == [
        "a worker doesn't start",
        "a task is stuck in pending",
        "a task failed",
        "memory is high",
        "it is slow",
    ]
    assert len(commands(PAGE)) >= 12


@pytest.fixture(scope="module")
def demo(fleet: Fleet) -> None:
    """The example documents in the collection that the page's searches ask."""
    documents = [fleet.upload(file, "demo")["document_id"] for file in sorted(EXAMPLES.iterdir())]
    assert {fleet.ended(document)["state"] for document in documents} == {"READY"}


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("command", commands(README) + commands(PAGE))
def test_command(fleet: Fleet, command: str) -> None:
    answer = fleet.upload(EXAMPLES / "library-faq.md", "trouble")
    fleet.ended(answer["document_id"])
    env = fleet.env | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FLEET_URL": fleet.ready["url"],
        "TASK": answer["task_id"],
        "DOCUMENT": answer["document_id"],
    }
    done = subprocess.run(
        ["sh", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    for words, filename in FOUND_FIRST.items():
        if words in command:
            assert first_file(done.stdout) == filename


def first_file(output: str) -> str:
    """Return the file of the first hit that `embedfleet search` or the route printed."""
    first = json.loads(output.splitlines()[0])
    return str((first["hits"][0] if "hits" in first else first)["filename"])


def test_the_pages_searches_are_among_the_commands() -> None:
    for words in FOUND_FIRST:
        assert sum(words in command for command in commands(README)) == 1
