"""The files themselves: generated from real English and Vietnamese sentences, or taken from a folder."""

import random
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path

from tests.documents.make_files import make_docx, make_pdf, paragraph

from loadtests.mix import Kind, Mix, Wish

ROOT = Path(__file__).parents[1]
VIETNAMESE = re.compile("[ăâđêôơưĂÂĐÊÔƠƯạảấầẩậắằặẻẽẹếềểễệỉịọỏốồổỗộớờởợụủứừửữựỳỷỹỵ]")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
SENTENCES_A_PARAGRAPH = (3, 7)
PDF_LINE, PDF_LINES_A_PAGE = 110, 55


@dataclass(frozen=True, slots=True)
class File:
    """What is sent.

    Attributes:
        name: with its extension.
        data: its bytes.
        path: in the folder that it is from, else its name; what can't be printed is replaced in both.
    """

    name: str
    data: bytes
    path: str


class Source:
    """Where the files of a run come from: its generator, or a folder.

    Args:
        mix: what is wanted.
        folder: of PDF, DOCX, MD and TXT files; None: they are generated.
        seed: of all that is drawn.

    Attributes:
        left_out: files of the folder that are never sent: empty ones, and types and sizes that aren't wanted.

    Raises:
        ValueError: the folder has nothing that the mix wants.
    """

    def __init__(self, mix: Mix, folder: Path | None, seed: int) -> None:
        self._seed, self._folder = seed, folder
        self._files: dict[Kind, list[Path]] = {}
        found = sorted(filter(Path.is_file, folder.rglob("*"))) if folder else []
        for path in found:
            if (length := path.stat().st_size) and (size := mix.size_of(length)):
                self._files.setdefault(Kind(path.suffix[1:].lower(), size), []).append(path)
        self.mix = mix.only(self._files) if folder else mix
        sent = {path for kind, paths in self._files.items() if kind in self.mix.weights for path in paths}
        self.left_out = [self._path(path) for path in found if path not in sent]

    def file(self, wish: Wish, version: int = 1) -> File:
        """Return the file of a wish; a later version of it differs in one place."""
        dice = random.Random(f"{self._seed}-{wish.number}")  # noqa: S311 — repeatable on purpose
        if self._files:
            path = dice.choice(self._files[wish.kind])
            return File(_printable(path.name), path.read_bytes(), self._path(path))
        least, most = self.mix.characters[wish.kind.size]
        paragraphs = self._paragraphs(dice, wish.language, dice.randint(least, most))
        paragraphs[len(paragraphs) // 2] += f" {_words(wish.language)} {wish.number}.{version}."
        word = "tài-liệu" if wish.language == "vi" else "document"
        name = f"{word}-{wish.kind.size}-{wish.number:05}.{wish.kind.type}"
        return File(name, WRITERS[wish.kind.type](paragraphs), name)

    @property
    def has_versions(self) -> bool:
        """Whether `file` knows later versions: of a folder's files there is only one."""
        return not self._files

    def _path(self, path: Path) -> str:
        return _printable(path.relative_to(self._folder or path.anchor).as_posix())

    def _paragraphs(self, dice: random.Random, language: str, characters: int) -> list[str]:
        paragraphs, size = list[str](), 0
        while size < characters:
            count = dice.randint(*SENTENCES_A_PARAGRAPH)
            paragraphs.append(" ".join(dice.choices(self._sentences[language], k=count)))
            size += len(paragraphs[-1])
        return paragraphs

    @cached_property
    def _sentences(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {"en": [], "vi": []}
        folders = (ROOT / "examples" / name for name in ("documents", "sources"))
        for path in sorted(path for folder in folders for path in folder.iterdir()):
            if path.suffix in (".md", ".txt"):
                text = path.read_text("utf-8")
                found[language_of(text)] += _prose(text)
        return found


def language_of(text: str) -> str:
    """Return `vi` for a text with letters that only Vietnamese has, else `en`."""
    return "vi" if VIETNAMESE.search(text) else "en"


def text_file(paragraphs: Sequence[str]) -> bytes:
    """Return a TXT."""
    return "\n\n".join(paragraphs).encode()


def markdown_file(paragraphs: Sequence[str]) -> bytes:
    """Return a Markdown text with a heading before every fourth paragraph."""
    parts = [
        f"## {number // 4 + 1}. {text[:40].rsplit(' ', 1)[0]}\n\n{text}" if number % 4 == 0 else text
        for number, text in enumerate(paragraphs)
    ]
    return "\n\n".join(parts).encode()


def docx_file(paragraphs: Sequence[str]) -> bytes:
    """Return a DOCX."""
    return make_docx("".join(paragraph(escape(text, quote=False)) for text in paragraphs))


def pdf_file(paragraphs: Sequence[str]) -> bytes:
    """Return a PDF of as many pages as the text needs."""
    lines = [line for text in paragraphs for line in (*textwrap.wrap(text, PDF_LINE), "")]
    pages = range(0, len(lines), PDF_LINES_A_PAGE)
    return make_pdf(["\n".join(lines[start : start + PDF_LINES_A_PAGE]) for start in pages])


WRITERS = {"txt": text_file, "md": markdown_file, "docx": docx_file, "pdf": pdf_file}


def _printable(name: str) -> str:
    """Return a name without line breaks, tabs and bytes that are no UTF-8: the API refuses them."""
    return "".join(one if one.isprintable() else "_" for one in name)


def _prose(text: str) -> list[str]:
    """Return the sentences of a text that are long enough to mean something; no headings, no tables."""
    lines = (line.lstrip("-*0123456789. ") for line in text.splitlines() if not line.startswith(("#", "|")))
    return [one for line in lines for one in SENTENCE_END.split(line) if len(one) > 30]


def _words(language: str) -> str:
    return "Bản sửa đổi số" if language == "vi" else "This is revision"
