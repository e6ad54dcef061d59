"""`embedfleet ingest`: which files, their upload, how it is shown."""

from embedfleet.cli.ingest.command import ingest

__all__ = ["ingest"]
