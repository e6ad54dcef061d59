"""Build the PDF and DOCX examples from their Markdown sources.

    pip install fpdf2==2.8.9 python-docx==1.2.0
    apt-get install fonts-dejavu-core
    python examples/build.py

Only a change of ``sources/`` needs this; the built files are committed. Dates and identifiers are fixed, so
the same sources, libraries and fonts give the same bytes. The Markdown understood is the subset that the
sources use: headings, paragraphs of one line, bulleted and numbered lists, and tables.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import docx
from docx.document import Document as WordDocument
from fpdf import FPDF, FontFace, XPos, YPos
from fpdf.outline import OutlineSection

HERE = Path(__file__).parent
FONTS = Path("/usr/share/fonts/truetype/dejavu")
DATE = datetime(2025, 3, 1, tzinfo=UTC)

Kind = Literal["heading", "text", "bullet", "number", "table"]


@dataclass(frozen=True)
class Target:
    """What one source becomes.

    ``book`` (PDF only) adds a page of contents and starts each chapter on a new page.
    """

    source: str
    suffix: Literal[".pdf", ".docx"]
    language: str
    book: bool = False


TARGETS = (
    Target("ferry-operations-handbook", ".pdf", "en-GB", book=True),
    Target("phong-chay-gia-dinh", ".pdf", "vi-VN"),
    Target("ferry-users-meeting", ".docx", "en-GB"),
    Target("records-retention-policy", ".docx", "en-GB"),
    Target("rye-sourdough", ".docx", "en-GB"),
    Target("phong-chong-bao-lut", ".docx", "vi-VN"),
)


@dataclass(frozen=True)
class Block:
    """One piece of a source: ``level`` is 1 to 3 for headings; ``rows`` is set for tables only."""

    kind: Kind
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()


def parse(markdown: str) -> Iterator[Block]:
    """Yield the blocks of a source in order."""
    rows: list[tuple[str, ...]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            cells = tuple(cell.strip() for cell in line.strip("|").split("|"))
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                rows.append(cells)
            continue
        if rows:
            yield Block("table", rows=tuple(rows))
            rows = []
        if line.strip():
            yield _line_block(line)


def _line_block(line: str) -> Block:
    """Return the block that a line outside tables is."""
    if heading := re.match(r"(#{1,3}) (.+)", line):
        return Block("heading", heading[2], level=len(heading[1]))
    if bullet := re.match(r"- (.+)", line):
        return Block("bullet", bullet[1])
    if number := re.match(r"(\d+\. .+)", line):
        return Block("number", number[1])
    return Block("text", line)


class Booklet(FPDF):
    """An A5 page with the title above and the page number below."""

    def __init__(self, target: Target, title: str) -> None:
        super().__init__(format=(148, 210))
        self.running_title = title
        self.add_font("body", "", FONTS / "DejaVuSerif.ttf")
        self.add_font("body", "B", FONTS / "DejaVuSerif-Bold.ttf")
        self.set_margins(16, 18, 16)
        self.set_auto_page_break(True, margin=14)
        self.set_creation_date(DATE)
        self.set_title(title)
        self.set_lang(target.language)
        self.set_producer("Embedfleet examples")

    def header(self) -> None:
        """Print the running title, except on the first page."""
        if self.page_no() > 1:
            self.set_y(9)
            self.set_font("body", "", 7.5)
            self.cell(0, 5, self.running_title, align="C")
            self.set_y(18)

    def footer(self) -> None:
        """Print the page number."""
        self.set_y(-12)
        self.set_font("body", "", 7.5)
        self.cell(0, 5, str(self.page_no()), align="C")

    def lines(
        self, text: str, size: float, *, bold: bool = False, indent: float = 0, after: float = 2
    ) -> None:
        """Print a paragraph; sizes are points, the rest millimetres."""
        self.set_font("body", "B" if bold else "", size)
        self.set_x(self.l_margin + indent)
        width = self.epw - indent
        self.multi_cell(width, size * 0.51, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.ln(after)


def _contents(pdf: FPDF, outline: list[OutlineSection]) -> None:
    """Print the chapters with their pages."""
    pdf.set_xy(pdf.l_margin, pdf.t_margin)
    pdf.set_font("body", "B", 13)
    pdf.cell(0, 10, "Contents", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font("body", "", 9)
    for section in outline:
        if section.level == 0:
            pdf.cell(pdf.epw - 12, 6.2, section.name)
            pdf.cell(12, 6.2, str(section.page_number), align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _pdf_heading(pdf: Booklet, block: Block, *, book: bool) -> None:
    """Print a heading and put it into the outline."""
    if block.level == 1:
        pdf.ln(40 if book else 2)
        pdf.lines(block.text, 18 if book else 15, bold=True, after=5)
        return
    fresh = pdf.get_y() <= pdf.t_margin
    if not fresh and ((block.level == 2 and book) or pdf.will_page_break(26)):
        pdf.add_page()
    elif not fresh:
        pdf.ln(3)
    pdf.start_section(block.text, level=block.level - 2)
    pdf.lines(block.text, {2: 13, 3: 10.5}[block.level], bold=True)


def _pdf_table(pdf: Booklet, block: Block) -> None:
    """Print a table whose first row is its heading; the longest cell of a column decides its width."""
    pdf.set_font("body", "", 8)
    longest = [max(len(row[column]) for row in block.rows) for column in range(len(block.rows[0]))]
    widths = tuple(min(max(size, 10), 38) for size in longest)
    with pdf.table(
        col_widths=widths,
        line_height=4.6,
        text_align="LEFT",
        padding=0.8,
        headings_style=FontFace(emphasis="BOLD"),
    ) as table:
        for cells in block.rows:
            table.row(cells)
    pdf.ln(3)


def write_pdf(target: Target, blocks: list[Block]) -> bytes:
    """Return the PDF of ``blocks``; the first one must be the title."""
    pdf = Booklet(target, blocks[0].text)
    pdf.add_page()
    for index, block in enumerate(blocks):
        if block.kind == "heading":
            _pdf_heading(pdf, block, book=target.book)
        elif block.kind == "table":
            _pdf_table(pdf, block)
        elif block.kind == "bullet":
            pdf.lines("• " + block.text, 9.5, indent=4, after=1)
        elif block.kind == "number":
            pdf.lines(block.text, 9.5, indent=4, after=1)
        else:
            pdf.lines(block.text, 9.5)
        if target.book and index == 1:
            pdf.add_page()
            pdf.insert_toc_placeholder(_contents)
    return bytes(pdf.output())


def _word_table(document: WordDocument, block: Block) -> None:
    """Append a table with grid lines."""
    table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
    for number, cells in enumerate(block.rows):
        for cell, text in zip(table.add_row().cells, cells, strict=True):
            cell.paragraphs[0].add_run(text).bold = number == 0


def write_docx(target: Target, blocks: list[Block]) -> bytes:
    """Return the Word document of ``blocks``; the first one must be the title.

    Numbers of lists stay part of the text, so that a list always starts at its own first number.
    """
    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author, properties.language = blocks[0].text, "Embedfleet", target.language
    properties.created = properties.modified = DATE
    for block in blocks:
        if block.kind == "heading":
            document.add_heading(block.text, level=block.level - 1)
        elif block.kind == "table":
            _word_table(document, block)
        elif block.kind == "bullet":
            document.add_paragraph(block.text, style="List Bullet")
        else:
            document.add_paragraph(block.text)
    buffer = io.BytesIO()
    document.save(buffer)
    return _without_times(buffer.getvalue())


def _without_times(archive: bytes) -> bytes:
    """Return the zip with the time of every entry set to the first that the format knows."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(result, "w") as new:
        for entry in old.infolist():
            fixed = zipfile.ZipInfo(entry.filename)
            fixed.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(fixed, old.read(entry))
    return result.getvalue()


def main() -> None:
    """Write every target to ``documents/``."""
    for target in TARGETS:
        blocks = list(parse((HERE / "sources" / f"{target.source}.md").read_text(encoding="utf-8")))
        write = write_pdf if target.suffix == ".pdf" else write_docx
        path = HERE / "documents" / f"{target.source}{target.suffix}"
        path.write_bytes(write(target, blocks))
        print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
