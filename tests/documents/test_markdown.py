"""What is read of Markdown's harder parts: HTML, embedded images, fences that are cut."""

import pytest

from embedfleet.documents.clean import clean


@pytest.fixture
def read(parse):
    """Return the clean text of a Markdown source."""
    return lambda source: clean(parse(source.encode(), ".md").blocks).text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Tắt nguồn<br>Bật lại", "Tắt nguồn Bật lại"),
        (
            "| Lỗi | Cách sửa |\n|---|---|\n| E1 | Tắt nguồn<br/>Bật lại |",
            "Lỗi | Cách sửa\n\nE1 | Tắt nguồn Bật lại",
        ),
        ("<ul><li>Một</li><li>Hai</li></ul>", "Một Hai"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
        ("<p>Ti<b>ế</b>ng <SPAN>Vi</SPAN>ệt, H<sub>2</sub>O</p>", "Tiếng Việt, H2O"),
        ("Ti<b>ế</b>ng <em>Vi</em>ệt", "Tiếng Việt"),
        ("<p>Tom &amp; Jerry, 1 &lt;b&gt; 2, Vi&#7879;t</p>", "Tom & Jerry, 1 <b> 2, Việt"),
        ('<img alt="Tom &amp; Jerry">', "(Tom & Jerry)"),
        ("<div>a<script>alert('&amp;')</script>b<style>p {}</style>c<!-- d\n-->e</div>", "abce"),
        ("<div>a <script>alert(1)", "a"),
        ("<div>a <!-- b", "a <!-- b"),
    ],
)
def test_html_is_read_as_its_words(read, source, expected):
    assert read(source) == expected
