"""A mix is read with all its mistakes named, and wishes follow its weights."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from loadtests.mix import Kind, Mix, Then

import loadtests

TEXT = (Path(loadtests.__file__).parent / "mix.toml").read_text("utf-8")
MIX = Mix.parse(TEXT)


def test_wishes_follow_the_weights_and_repeat_with_the_seed() -> None:
    wishes = list(itertools.islice(MIX.wishes(seed=3), 4000))
    assert wishes == list(itertools.islice(MIX.wishes(seed=3), 4000))
    assert wishes != list(itertools.islice(MIX.wishes(seed=4), 4000))
    assert [wish.number for wish in wishes] == list(range(1, 4001))
    kinds, total = Counter(wish.kind for wish in wishes), sum(MIX.weights.values())
    assert set(kinds) == set(MIX.weights)
    for kind, weight in MIX.weights.items():
        assert kinds[kind] / 4000 == pytest.approx(weight / total, abs=0.03)
    assert Counter(wish.language for wish in wishes)["vi"] / 4000 == pytest.approx(1 / 3, abs=0.03)
    thens = Counter(wish.then for wish in wishes)
    assert thens[Then.REVOKE] / 4000 == pytest.approx(MIX.revoked / 100, abs=0.02)
    assert thens[Then.CHANGE] / 4000 == pytest.approx(MIX.changed / 100, abs=0.02)


def test_a_folder_leaves_only_the_kinds_that_it_has() -> None:
    kinds = {Kind("pdf", "small"), Kind("md", "large")}
    assert set(MIX.only(kinds).weights) == {Kind("pdf", "small")}
    with pytest.raises(ValueError, match="change it, or give other files"):
        MIX.only({Kind("md", "large")})


def test_sizes_are_told_by_their_largest() -> None:
    assert MIX.size_of(0) == MIX.size_of(65536) == "small"
    assert MIX.size_of(65537) == "medium"
    assert MIX.size_of(2**20 + 1) == MIX.size_of(2**30) == "large"
    assert MIX.size_of(2**30 + 1) is None


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ('type = "docx"', 'type = "doc"', "'doc' is none of pdf, docx"),
        ("weight = { small = 8, medium = 4 }", "weight = { tiny = 8 }", "'tiny' is none of small"),
        ("vi = 1", "fr = 1", "'fr' is none of en, vi"),
        ("en = 2\nvi = 1", "en = 0", "not all of them 0"),
        ("revoked = 5", "revokes = 5", r"\[percent\]: there are \['changed', 'revokes'\]"),
        ("revoked = 5", "revoked = 91", "100 at most"),
        ("revoked = 5", "revoked = -1", "0 or more"),
        ("[bytes]", "[octets]", "parts: there are"),
    ],
)
def test_a_mistake_in_a_mix_is_named(good: str, bad: str, says: str) -> None:
    assert good in TEXT
    with pytest.raises(ValueError, match=says):
        Mix.parse(TEXT.replace(good, bad))
