from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.contracts.documents import Chunk
from embedfleet.runtime import chunkfiles

chunks = st.lists(
    st.builds(
        Chunk,
        index=st.integers(0, 10**6),
        text=st.text(),
        start=st.integers(0, 10**9),
        end=st.integers(0, 10**9),
        token_count=st.integers(1, 512),
        page=st.none() | st.integers(1, 5000),
        heading=st.none() | st.text(),
    )
)


@given(chunks)
def test_what_is_packed_is_unpacked(some: list[Chunk]) -> None:
    assert chunkfiles.unpack(chunkfiles.pack(some)) == some


def test_line_separators_of_unicode_are_text() -> None:
    chunk = Chunk(0, "a\u2028b\u0085c", 0, 5, 3, heading="d\u2029e")
    assert chunkfiles.unpack(chunkfiles.pack([chunk])) == [chunk]


def test_a_file_that_would_inflate_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = chunkfiles.pack([Chunk(0, "x" * 10_000, 0, 10_000, 3)])
    monkeypatch.setattr(chunkfiles, "MAX_INFLATED_BYTES", 1000)
    with pytest.raises(chunkfiles.zstd.ZstdError):
        chunkfiles.unpack(packed)


@pytest.mark.parametrize("damage", [lambda file: file[:-1], lambda file: b"x" + file, lambda file: b""])
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes]) -> None:
    packed = chunkfiles.pack([Chunk(0, "x" * 10_000, 0, 10_000, 3)])
    with pytest.raises(chunkfiles.zstd.ZstdError):
        chunkfiles.unpack(damage(packed))
