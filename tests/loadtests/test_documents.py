"""Generated files are read by the product as what they say; a folder's files are taken as they are."""

import io
import itertools
from pathlib import Path

import pytest
from loadtests.documents import VIETNAMESE, Source, language_of
from loadtests.mix import LANGUAGES, Kind, Then, Wish

from embedfleet.documents.parsers import Limits
from embedfleet.documents.pipeline import read
from tests.loadtests.test_mix import MIX

SOURCE = Source(MIX, None, seed=1)


def text_of(name: str, data: bytes) -> str:
    _, clean = read(io.BytesIO(data), Path(name).suffix, Limits(), lambda done, total: None)
    return " ".join(clean.text.split())


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", sorted(MIX.weights), ids=lambda kind: f"{kind.type}-{kind.size}")
def test_a_generated_file_is_of_its_type_size_and_language(kind: Kind, language: str) -> None:
    file = SOURCE.file(Wish(7, kind, language, Then.WAIT))
    assert file.name.endswith(f".{kind.type}")
    text = text_of(file.name, file.data)
    least, most = MIX.characters[kind.size]
    assert least * 0.9 <= len(text) <= most + 4000
    share = len(VIETNAMESE.findall(text)) / len(text)
    assert share > 0.05 if language == "vi" else share == 0


@pytest.mark.parametrize("type_", ["pdf", "docx", "md", "txt"])
def test_versions_differ_in_one_place_and_numbers_all_over(type_: str) -> None:
    wish = Wish(7, Kind(type_, "medium"), "vi", Then.CHANGE)
    texts = [text_of(f"a.{type_}", SOURCE.file(wish, version).data) for version in (1, 1, 2)]
    assert texts[0] == texts[1]
    assert texts[0].replace("số 7.1.", "số 7.2.") == texts[2] != texts[0]
    other = SOURCE.file(Wish(8, wish.kind, "vi", Then.WAIT))
    assert text_of(other.name, other.data)[:500] != texts[0][:500]


def test_vietnamese_is_told_from_english() -> None:
    assert language_of("Khí gas nặng hơn không khí.") == "vi"
    assert language_of("Gas is heavier than air, naïve café.") == "en"


def test_a_folder_gives_its_files_by_type_and_size(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "nhỏ.TXT").write_text("Xin chào.", "utf-8")
    (tmp_path / "big.md").write_bytes(b"x" * 70_000)
    (tmp_path / "picture.png").write_bytes(b"x")
    (tmp_path / "nothing.md").touch()
    (tmp_path / "large.md").write_bytes(b"x" * 2_000_000)
    source = Source(MIX, tmp_path, seed=1)
    assert set(source.mix.weights) == {Kind("txt", "small"), Kind("md", "medium")}
    assert not source.has_versions
    for wish in itertools.islice(source.mix.wishes(seed=1), 20):
        file = source.file(wish)
        wanted = {("small", "nhỏ.TXT", "deep/nhỏ.TXT"), ("medium", "big.md", "big.md")}
        assert (wish.kind.size, file.name, file.path) in wanted
        assert wish.language == ""
    assert source.left_out == ["large.md", "nothing.md", "picture.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="give other files"):
        Source(MIX, tmp_path / "empty", seed=1)
