"""Embedfleet turns uploaded documents into searchable vectors with a fleet of workers."""

__version__ = "0.1.0"
