"""The picture of a run."""

from xml.etree import ElementTree

from loadtests.book import IDLE, LOAD, Book, Search
from loadtests.plot import HEAD, HEIGHT, Line, Panel, panels, svg, windowed

from tests.loadtests.test_book import upload

SVG = "{http://www.w3.org/2000/svg}"


def test_windows_have_a_figure_each_and_none_where_nothing_was() -> None:
    points = [(0.0, 1.0), (9.9, 3.0), (10.0, 5.0), (31.0, 7.0)]
    assert list(windowed(points, 10.0, max)) == [(5.0, 3.0), (15.0, 5.0), (35.0, 7.0)]


def test_the_panels_show_what_the_book_says() -> None:
    book = Book(
        uploads=[upload(1, ended=4.0), upload(2, due=1.0, ended=9.0), upload(3, state="FAILED", code="x")],
        searches=[Search(0.0, 10.0, IDLE), Search(5.0, 70.0, LOAD)],
    )
    lines = {line.name: list(line.points) for panel in panels(book) for line in panel.lines}
    assert lines["uploaded"] == [(1.0, 1.5)]
    assert lines["searchable"] == [(5.0, 0.5), (9.0, 0.5)]
    assert lines["accepted, not ended"][:3] == [(0.0, 2.0), (2.0, 2.0), (4.0, 1.0)]
    assert lines["accepted, not ended"][-1] == (10.0, 0.0)
    assert lines["median"] == lines["95 %"] == [(5.0, 4.0), (9.0, 8.0)]
    assert lines[IDLE] == [(1.0, 10.0)]
    assert lines[LOAD] == [(5.0, 70.0)]


def test_the_picture_is_xml_and_its_points_are_inside() -> None:
    shown = [Panel("a < b", [Line("<x>", [(0.0, 0.0), (50.0, 2.0), (100.0, 4.0)])])]
    root = ElementTree.fromstring(svg("50 % & more", shown))
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert {"50 % & more", "a < b", "<x>", "4", "100 s"} <= set(texts)
    (line,) = root.iter(f"{SVG}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    bottom = HEAD + 24 + HEIGHT
    assert [y for _, y in points] == [bottom, bottom - HEIGHT / 2, bottom - HEIGHT]
    assert points[1][0] - points[0][0] == points[2][0] - points[1][0] > 100


def test_an_empty_run_has_a_picture() -> None:
    assert ElementTree.fromstring(svg("nothing", panels(Book()))).tag == f"{SVG}svg"
