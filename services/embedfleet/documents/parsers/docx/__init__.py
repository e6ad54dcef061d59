"""DOCX: `package` opens its ZIP, `styles` and `text` read its parts, `document` puts them together."""

from embedfleet.documents.parsers.docx.document import parse

__all__ = ["parse"]
