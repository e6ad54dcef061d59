"""Small PDFs and DOCX files, made by hand."""

import io
import zipfile
from collections.abc import Sequence

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
STRICT_W = "http://purl.oclc.org/ooxml/wordprocessingml/main"
DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"

VIETNAMESE = (
    "Tiếng Việt là ngôn ngữ của người Việt. Đây là một đoạn văn có dấu đầy đủ: ă, â, đ, ê, ô, ơ, ư. "
    "Hệ thống phải đọc được văn bản này mà không mất một chữ nào. Cảm ơn các bạn đã đọc."
)


def make_pdf(
    pages: Sequence[str],
    *,
    header: bytes = b"%PDF-1.4\n",
    breaks: Sequence[int] = (),
    damages: Sequence[int] = (),
) -> bytes:
    """Return a PDF of lines of text; any characters, by a font that maps its codes to them.

    Args:
        pages: text of each page; a line feed starts a new line.
        header: first bytes.
        breaks: pages (from 0) whose page object is no page.
        damages: pages (from 0) whose content is said to be deflated, and is not.
    """
    letters = sorted({c for page in pages for c in page if c != "\n"})
    assert len(letters) < 220
    code_of = {c: 32 + i for i, c in enumerate(letters)}
    cmap = "".join(f"<{code:02x}> <{c.encode('utf-16-be').hex()}>\n" for c, code in code_of.items())
    to_unicode = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def\n"
        "1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"{len(code_of)} beginbfchar\n{cmap}endbfchar endcmap end end"
    ).encode()
    kids = " ".join(f"{5 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 4 0 R >>",
        _stream(to_unicode),
    ]
    for number, page in enumerate(pages):
        lines = b"".join(
            b"<" + bytes(code_of[c] for c in line).hex().encode() + b"> Tj T*\n" for line in page.split("\n")
        )
        content = b"BT /F1 8 Tf 12 TL 20 780 Td\n" + lines + b"ET" if page else b""
        broken = number in breaks
        objects += [
            b"(no page)"
            if broken
            else (
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 1200 800] /Contents {6 + 2 * number} 0 R "
                "/Resources << /Font << /F1 3 0 R >> >> >>"
            ).encode(),
            _stream(b"\xff" * 400, "/Filter /FlateDecode ") if number in damages else _stream(content),
        ]
    return _pdf_of(objects, header)


def _stream(data: bytes, filters: str = "") -> bytes:
    return f"<< {filters}/Length {len(data)} >>\nstream\n".encode() + data + b"\nendstream"


def _pdf_of(objects: Sequence[bytes], header: bytes) -> bytes:
    out, offsets = bytearray(header), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    xref = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n".encode()
    return bytes(out)


def paragraph(text: str, properties: str = "") -> str:
    """Return a w:p of one run."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def make_docx(
    body: str,
    *,
    namespace: str = W,
    content_type: str = DOCX_TYPE,
    prolog: str = "",
    styles: str = "",
    parts: dict[str, str | bytes] | None = None,
    relations: dict[str, str] | None = None,
) -> bytes:
    """Return a DOCX.

    Args:
        body: XML inside w:body.
        namespace: of WordprocessingML.
        content_type: of the main part.
        prolog: what stands before the root element of the main part.
        styles: XML inside w:styles.
        parts: further entries by name.
        relations: of the main part, kind to target.
    """
    rel = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    names = {"styles": "styles.xml", **(relations or {})}
    relationships = "".join(
        f'<Relationship Id="r{n}" Type="{rel}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(names.items())
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(
            "[Content_Types].xml",
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            f'<Override PartName="/word/document.xml" ContentType="{content_type}"/></Types>',
        )
        package.writestr(
            "_rels/.rels",
            f'<Relationships><Relationship Id="r1" Type="{rel}/officeDocument" '
            'Target="word/document.xml"/></Relationships>',
        )
        package.writestr("word/_rels/document.xml.rels", f"<Relationships>{relationships}</Relationships>")
        package.writestr(
            "word/document.xml",
            f'{prolog}<w:document xmlns:w="{namespace}" '
            'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
            f"<w:body>{body}</w:body></w:document>",
        )
        package.writestr("word/styles.xml", f'<w:styles xmlns:w="{namespace}">{styles}</w:styles>')
        for name, data in (parts or {}).items():
            package.writestr(name, data)
    return out.getvalue()


def notes(kind: str, text: str) -> str:
    """Return a footnotes or endnotes part (kind `footnote` or `endnote`)."""
    return f'<w:{kind}s xmlns:w="{W}"><w:{kind} w:id="1">{paragraph(text)}</w:{kind}></w:{kind}s>'
