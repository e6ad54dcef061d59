"""What a fleet says of itself when it is ready: a panel for people, one JSON line for programs."""

import json
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from embedfleet.local.datadir import DEFAULT_URL, FleetState


def show(console: Console, state: FleetState, data_dir: Path) -> None:
    """Print the links, what each part really is, and commands to begin with."""
    grid = Table.grid(padding=(0, 2))
    rows = [
        ("API docs", f"{state.url}/docs"),
        ("Redis", f"{state.parts['redis']}, at {state.redis}"),
        ("Qdrant", f"{state.parts['qdrant']}, at {state.qdrant}"),
        ("Blobs", f"{state.parts['blobs']}, at {state.blobs}"),
        ("Data", str(data_dir)),
        ("Logs", str(data_dir / "logs")),
        ("Stop", "Ctrl-C"),
    ]
    for label, value in rows:
        grid.add_row(Text(label, style="bold"), Text(value, overflow="fold"))
    console.print(Panel(grid, title="Embedfleet is ready", expand=False))
    # Outside the panel and not wrapped: lines to copy.
    for command in _commands(state.url):
        console.print(Text(f"  {command}"), soft_wrap=True)


def ready_line(state: FleetState) -> str:
    """Return the JSON object that `--json` prints."""
    return json.dumps({"event": "ready", **asdict(state)})


def _commands(url: str) -> list[str]:
    """Return an upload, by both ways, and a search."""
    program, option = _program(), "" if url == DEFAULT_URL else f" --url {url}"
    return [
        f"{program} ingest FOLDER --collection demo{option}",
        f"curl -F file=@FILE.pdf -F collection=demo {url}/api/v1/documents/upload",
        f'{program} search "your question" --collection demo{option}',
    ]


def _program() -> str:
    """Return how this command is called from the user's shell: by name, or by path if it isn't on PATH."""
    if shutil.which("embedfleet"):
        return "embedfleet"
    beside = Path(sys.executable).with_name("embedfleet")
    command = [str(beside)] if beside.exists() else [sys.executable, "-m", "embedfleet.cli"]
    return shlex.join(command)
