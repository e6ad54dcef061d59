"""What is read of Markdown's harder parts: HTML, embedded images, fences that are cut."""

import pytest

from embedfleet.documents.clean import clean
from embedfleet.documents.parsers import Limits
from embedfleet.documents.parsers.markdown_pieces import MAX_LINE, PIECE_CHARACTERS, pieces


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


PICTURE = "data:image/png;base64," + "iVBORw0KGgo+/A9z" * 5_000


@pytest.mark.parametrize("address", [PICTURE, PICTURE[:60], PICTURE.replace("png", "svg+xml")])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("![Biểu đồ]({})", "Biểu đồ"),
        ("Doanh thu ![Biểu đồ]({}) tăng", "Doanh thu Biểu đồ tăng"),
        ("![Biểu đồ][1]\n\nHết\n\n[1]: {}", "Biểu đồ\n\nHết"),
        ('<p>Doanh thu <img src="{}" alt="Biểu đồ"></p>', "Doanh thu (Biểu đồ)"),
        ("Xem <img src='{}'> này", "Xem này"),
    ],
)
def test_embedded_images_are_not_text(read, source, address, expected):
    assert read(source.format(address)) == expected


def test_an_embedded_drawing_that_is_no_base64_is_not_text(read):
    assert len(read("![vẽ](data:image/svg+xml;utf8,%3Csvg" + "%20d=%22M0" * 9_000 + ") và `code`")) < 20


def test_embedded_images_do_not_count_as_characters(parse):
    blocks = parse(f"![ảnh]({PICTURE})".encode(), ".md", Limits(characters=100)).blocks
    assert [block.text for block in blocks] == ["ảnh"]


def test_a_short_address_in_code_is_kept(read):
    assert read(f"`{PICTURE[:60]}`") == PICTURE[:60]


LONG_CODE = "# not a heading\n\n" * (5 * PIECE_CHARACTERS // 16)


@pytest.mark.parametrize("code", [LONG_CODE, "x = 1\n" + "#" * (MAX_LINE + 1) + "\n# not a heading\n"])
@pytest.mark.parametrize("fence", ["```", "~~~~"])
def test_what_follows_a_fence_that_was_cut_is_no_code(parse, code, fence):
    source = f"# Đầu\n\n{fence}python\n```sh\n{code}{fence}\n\n# Cuối\n\nXem **đậm**.\n"
    blocks = parse(source.encode(), ".md").blocks
    assert [block.text for block in blocks if block.heading_level] == ["Đầu", "Cuối"]
    assert blocks[-1].text == "Xem đậm."
    assert list(pieces(source))[-1].end == len(source)


def test_code_in_a_sentence_opens_no_fence(read):
    source = "```một``` là mã\n\n" + ("chữ " * 9 + "\n\n") * 30_000
    assert max(len(piece.text) for piece in pieces(source)) < 1.1 * PIECE_CHARACTERS
