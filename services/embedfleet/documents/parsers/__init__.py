"""File to blocks of text: one `Parser` a media type, each behind the same protocol.

Importing this package loads no parser library; `parser_of` loads the one that a file needs.
"""

import importlib

from embedfleet.contracts.documents import MEDIA_TYPES
from embedfleet.documents.parsers.block import Block, Limits, Parsed, Parser, Progress

__all__ = ["Block", "Limits", "Parsed", "Parser", "Progress", "parser_of"]


def parser_of(media_type: str) -> Parser:
    """Return the parser of a media type of `contracts.documents.MEDIA_TYPES`, which is its module's name."""
    if media_type not in MEDIA_TYPES.values():
        raise ValueError(f"{media_type!r} is no media type that has a parser")
    module = importlib.import_module(f"{__name__}.{media_type}")
    parser: Parser = module.parse
    return parser
