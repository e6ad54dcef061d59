"""Plain text to one block: find the encoding, refuse what is binary."""

from typing import BinaryIO

from embedfleet.documents.parsers.block import Block, CharacterBudget, Limits, Parsed, Progress
from embedfleet.documents.parsers.charset import decode


def parse(file: BinaryIO, limits: Limits, progress: Progress) -> Parsed:
    """Read a text file; see `Parser`."""
    progress(0, 1)
    text = decode(file.read())
    CharacterBudget(limits.characters).spend(len(text))
    progress(1, 1)
    return Parsed([Block(text)])
