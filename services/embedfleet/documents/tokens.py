"""A model's tokenizer, as the chunker needs it: where tokens start, and how many a text has.

The only file of this package that imports `tokenizers`; loaded in the sandbox child alone.
"""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

SLICE_CHARACTERS = 65_536
_LOOK_BACK = 1_024


class ModelTokens:
    """A `TokenMeter` on a tokenizer of the library `tokenizers`.

    Args:
        tokenizer: truncation and padding are switched off on it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.special_tokens = tokenizer.num_special_tokens_to_add(is_pair=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a tokenizer.json.

        Raises:
            Exception: the library's own, when the file is missing or wrong.
        """
        return cls(Tokenizer.from_file(str(path)))

    def starts(self, text: str) -> "array[int]":
        """Return the offset of each token, encoding bounded slices: one call over 50 MB takes gigabytes."""
        found = array("I")
        last = 0
        for start, end in slices(text):
            encoding = self._tokenizer.encode(text[start:end], add_special_tokens=False)
            for offset, _ in encoding.offsets:
                last = max(last, start + offset)
                found.append(last)
        return found

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text when encoded alone, special tokens included."""
        return [len(encoding) for encoding in self._tokenizer.encode_batch_fast(list(texts))]


def slices(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of bounded slices, cut before a line or a word where one is near."""
    start = 0
    while start < len(text):
        end = min(start + SLICE_CHARACTERS, len(text))
        if end < len(text):
            near = end - _LOOK_BACK
            joint = max(text.rfind("\n", near, end), text.rfind(" ", near, end))
            end = joint if joint > 0 else end
        yield start, end
        start = end
