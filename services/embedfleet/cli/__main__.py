"""``python -m embedfleet.cli``: the same as the command `embedfleet`."""

from embedfleet.cli.main import app

app()
