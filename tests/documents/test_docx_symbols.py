"""Symbols that Word keeps apart from the text."""

import pytest

from tests.documents.make_files import make_docx


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("2192", "Hà Nội→Huế"),
        ("F0E0", "Hà Nội Huế"),
        ("D800", "Hà Nội Huế"),
        ("0000", "Hà Nội Huế"),
        ("FFFFFFFFFF", "Hà Nội Huế"),
        ("none", "Hà Nội Huế"),
    ],
)
def test_a_symbol_is_its_character_or_a_space(parse, code, expected):
    symbol = f'<w:r><w:sym w:font="Wingdings" w:char="{code}"/></w:r>'
    body = f"<w:p><w:r><w:t>Hà Nội</w:t></w:r>{symbol}<w:r><w:t>Huế</w:t></w:r></w:p>"
    assert [block.text for block in parse(make_docx(body), ".docx").blocks] == [expected]
