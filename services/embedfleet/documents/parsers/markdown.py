"""Markdown to blocks: readable text without the marks, headings with their level.

Links and images keep their address in brackets (unless it is itself the file: `data:`), code is kept as
it is, HTML tags go but their text stays. Parsed in bounded pieces, so that memory and nesting are bounded
for any input.
"""

import re
from collections.abc import Iterator
from html import unescape
from typing import TYPE_CHECKING, BinaryIO

from markdown_it import MarkdownIt

from embedfleet.documents.parsers.block import Block, CharacterBudget, Limits, Parsed, Progress
from embedfleet.documents.parsers.charset import decode
from embedfleet.documents.parsers.markdown_pieces import pieces, split_front_matter

if TYPE_CHECKING:
    from markdown_it.token import Token

MAX_NESTING = 60

_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_ATTRIBUTE = re.compile(r"""\b(?:title|alt|href|src)=(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
# A file inside an address, in base64 or as a URL; its letters say nothing, and make a line look overlong.
_EMBEDDED = re.compile(
    r"data:[\w.+-]{1,100}/[\w.+-]{1,100}(?:;[\w.+=-]{1,100}){0,5},[\w+/=%.~!*:;?@&$,-]{200,}",
    re.ASCII | re.IGNORECASE,
)
# What stands in for it is a link's address still, for markdown-it knows this kind as harmless.
_NOTHING_EMBEDDED = "data:image/png;"
_HIDDEN = re.compile(r"<!--|<(?:script|style)\b", re.IGNORECASE)
_COMMENT_END = re.compile(r"-->")
_SILENT_END = re.compile(r"</(?:script|style)[^<>]*>", re.IGNORECASE)
# Tags inside a word or sentence; all others part what stands before from what stands behind.
_JOINING = re.compile(
    r"</?(?:a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|ins|kbd|label|mark|q|s|samp|small|span"
    r"|strike|strong|sub|sup|time|tt|u|var|wbr)(?=[\s/>])",
    re.IGNORECASE,
)


def parse(file: BinaryIO, limits: Limits, progress: Progress) -> Parsed:
    """Read a Markdown file; see `Parser`."""
    progress(0, 1)
    text = decode(file.read()).replace("\r\n", "\n").replace("\r", "\n")
    text = _EMBEDDED.sub(_NOTHING_EMBEDDED, text)
    CharacterBudget(limits.characters).spend(len(text))
    front, body = split_front_matter(text)
    blocks = [Block(front)] if front else []
    for piece in pieces(body):
        blocks += _plain(piece.text) if piece.plain else _blocks_of(piece.text)
        progress(piece.end, len(body) or 1)
    progress(1, 1)
    return Parsed(blocks)


def _plain(text: str) -> list[Block]:
    return [Block(text)]


def _blocks_of(text: str) -> list[Block]:
    tokens = _MARKDOWN.parse(text)
    if any(token.level >= MAX_NESTING - 1 for token in tokens):
        return _plain(text)
    return list(_walk(tokens))


def _walk(tokens: "list[Token]") -> Iterator[Block]:
    row: list[str] | None = None
    level: int | None = None
    for token in tokens:
        if token.type == "heading_open":
            level = int(token.tag[1:])
        elif token.type == "tr_open":
            row = []
        elif token.type == "tr_close" and row is not None:
            yield Block(" | ".join(row))
            row = None
        elif token.type == "inline":
            text = _inline(token.children or [])
            if row is not None:
                row.append(text)
            else:
                yield Block(text, heading_level=level)
            level = None
        elif token.type in ("fence", "code_block"):
            yield Block(f"{token.info.strip()}\n{token.content}")
        elif token.type == "html_block":
            yield Block(_without_tags(token.content))


def _inline(children: "list[Token]") -> str:
    out: list[str] = []
    addresses: list[str] = []
    for token in children:
        if token.type in ("softbreak", "hardbreak"):
            out.append("\n")
        elif token.type == "link_open":
            addresses.append(str(token.attrGet("href") or ""))
        elif token.type == "link_close":
            out.append(_address(addresses.pop()))
        elif token.type == "image":
            out.append(token.content + _address(str(token.attrGet("src") or "")))
        elif token.type == "html_inline":
            out.append(_without_tags(token.content))
        else:
            out.append(token.content)
    return "".join(out)


def _address(address: str) -> str:
    return f" ({address})" if address and not _is_embedded(address) else ""


def _is_embedded(address: str) -> bool:
    return address[:5].lower() == "data:"


def _without_tags(html: str) -> str:
    return unescape(_TAG.sub(_said_by_tag, _visible(html)))


def _said_by_tag(tag: re.Match[str]) -> str:
    said = [value for pair in _ATTRIBUTE.findall(tag.group()) for value in pair]
    said = [value for value in said if value and not _is_embedded(value)]
    if said:
        return f" ({', '.join(said)}) "
    return "" if _JOINING.match(tag.group()) else " "


def _visible(html: str) -> str:
    """Leave out comments, scripts and styles; a comment that never ends is none."""
    # One pass with searches: a pattern for the whole takes quadratic time on comments that never end.
    kept: list[str] = []
    position = 0
    while hidden := _HIDDEN.search(html, position):
        comment = hidden.group() == "<!--"
        end = (_COMMENT_END if comment else _SILENT_END).search(html, hidden.start())
        if not end and comment:
            break
        kept.append(html[position : hidden.start()])
        position = end.end() if end else len(html)
    return "".join(kept) + html[position:]


_MARKDOWN = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING, "html": True}).enable(
    ["table", "strikethrough"]
)
