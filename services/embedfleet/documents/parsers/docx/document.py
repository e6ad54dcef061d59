"""DOCX to blocks: the main part, then footnotes and endnotes, streamed through libxml2's push parser.

Nothing is fetched, no entity is resolved, a document type declaration is refused, macros are refused.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lxml import etree

from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.parsers.block import Block, CharacterBudget, Limits, Parsed, Progress, corrupt
from embedfleet.documents.parsers.docx.package import Package
from embedfleet.documents.parsers.docx.styles import StyleReader
from embedfleet.documents.parsers.docx.text import TextReader

_MAIN = "word/document.xml"
_MAIN_TYPE = "wordprocessingml"
_NOTES = ("footnotes", "endnotes")


@dataclass
class _Relations:
    """Reads a .rels part: relation kind (last word of its type) to target, internal ones only."""

    targets: dict[str, str] = field(default_factory=dict)

    def start(self, tag: str, attributes: Any) -> None:
        """Note one relation."""
        if _local(tag) == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes.get("Type", "").rstrip("/").rpartition("/")[2]
            self.targets.setdefault(kind, attributes.get("Target", ""))


@dataclass
class _ContentTypes:
    """Reads [Content_Types].xml: the content types of named parts."""

    types: dict[str, str] = field(default_factory=dict)

    def start(self, tag: str, attributes: Any) -> None:
        """Note one part's type."""
        if _local(tag) == "Override":
            self.types[attributes.get("PartName", "").lstrip("/").lower()] = attributes.get("ContentType", "")


def parse(file: BinaryIO, limits: Limits, progress: Progress) -> Parsed:
    """Read a DOCX; see `Parser`."""
    with Package(file, limits) as package:
        main = _main_part(package)
        relations = _relations_of(package, main)
        styles = StyleReader()
        styles_part = _part(main, relations.get("styles", "styles.xml"))
        if styles_part in package:
            read_xml(package.stream(styles_part), styles)
        notes = [_part(main, relations[kind]) for kind in _NOTES if kind in relations]
        parts = [main, *(part for part in notes if part in package)]
        budget = CharacterBudget(limits.characters)
        blocks: list[Block] = []
        for done, part in enumerate(parts):
            progress(done, len(parts))
            reader = TextReader(styles.levels(), budget)
            read_xml(package.stream(part), reader)
            blocks += reader.blocks
        progress(len(parts), len(parts))
    return Parsed(blocks)


def read_xml(data: Iterable[bytes], reader: object) -> None:
    """Push XML into a reader with `start`, and optionally `end` and `data`.

    Raises:
        DocumentProcessingError: `unsafe_xml` or `corrupt`.
    """
    parser = etree.XMLParser(
        target=_Target(reader),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
        huge_tree=False,
    )
    try:
        for piece in data:
            parser.feed(piece)
        parser.close()
    except etree.XMLSyntaxError as error:
        raise corrupt("its XML is broken") from error


class _Target:
    """Hands the events of lxml's parser to a reader, and refuses a document type declaration."""

    def __init__(self, reader: Any) -> None:
        self.start = reader.start
        self.end = getattr(reader, "end", _ignore)
        self.data = getattr(reader, "data", _ignore)

    def doctype(self, *_: object) -> None:
        """Refuse: a DOCX never needs one, and entities live in it."""
        raise DocumentProcessingError(
            "The DOCX carries a document type declaration, which is never needed and not safe to read; "
            "save it again in Word or LibreOffice.",
            code="unsafe_xml",
        )

    def close(self) -> None:
        """Nothing is built."""


def _ignore(*_: object) -> None:
    pass


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _part(main: str, target: str) -> str:
    if target.startswith("/"):
        return target.lstrip("/")
    return posixpath.normpath(posixpath.join(posixpath.dirname(main), target))


def _relations_of(package: Package, part: str) -> dict[str, str]:
    folder, name = posixpath.split(part)
    rels = posixpath.join(folder, "_rels", f"{name}.rels")
    reader = _Relations()
    if rels in package:
        read_xml(package.stream(rels), reader)
    return reader.targets


def _main_part(package: Package) -> str:
    target = _relations_of(package, "").get("officeDocument", _MAIN)
    main = _part("", target)
    types = _ContentTypes()
    if "[Content_Types].xml" in package:
        read_xml(package.stream("[Content_Types].xml"), types)
    declared = types.types.get(main.lower(), "")
    if "macroenabled" in declared.lower() or any(name.endswith("vbaproject.bin") for name in package.names):
        raise DocumentProcessingError(
            "The DOCX carries macros; save it as a document without macros and send that.", code="macro"
        )
    if declared and _MAIN_TYPE not in declared:
        raise DocumentProcessingError(
            "The file is an Office file, but not a text document; send a .docx.", code="unsupported_type"
        )
    if main not in package:
        raise corrupt("its main part is missing")
    return main
