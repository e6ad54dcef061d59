"""What a fleet says of itself when it is ready: a panel for people, one JSON line for programs."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from embedfleet.local.datadir import FleetState


def show(console: Console, state: FleetState, data_dir: Path) -> None:
    """Print the links, what each part really is, and how to stop."""
    grid = Table.grid(padding=(0, 2))
    rows = [
        ("API docs", f"{state.url}/docs"),
        ("Upload", f"curl -F file=@YOUR.pdf -F collection=demo {state.url}/api/v1/documents/upload"),
        ("or", "embedfleet ingest FOLDER --collection demo"),
        ("Search", 'embedfleet search "your question" --collection demo'),
        ("Redis", f"{state.parts['redis']}, at {state.redis}"),
        ("Qdrant", f"{state.parts['qdrant']}, at {state.qdrant}"),
        ("Data, logs", f"{data_dir}, {data_dir / 'logs'}"),
        ("Stop", "Ctrl-C"),
    ]
    for label, value in rows:
        grid.add_row(Text(label, style="bold"), Text(value, overflow="fold"))
    console.print(Panel(grid, title="Embedfleet is ready", expand=False))


def ready_line(state: FleetState) -> str:
    """Return the JSON object that `--json` prints."""
    return json.dumps({"event": "ready", **asdict(state)})
