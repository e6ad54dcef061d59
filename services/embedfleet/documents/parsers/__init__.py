"""File to blocks of text: one `Parser` a media type, each behind the same protocol.

Importing this package loads no parser library; `parser_of` loads the one that a file needs.
"""

import importlib

from embedfleet.documents.parsers.block import Block, Limits, Parsed, Parser, Progress

__all__ = ["Block", "Limits", "Parsed", "Parser", "Progress", "parser_of"]

_MODULES = {"pdf": "pdf", "docx": "docx", "text": "text", "markdown": "markdown"}


def parser_of(media_type: str) -> Parser:
    """Return the parser of a media type of `contracts.documents.MEDIA_TYPES`."""
    module = importlib.import_module(f"{__name__}.{_MODULES[media_type]}")
    parser: Parser = module.parse
    return parser
