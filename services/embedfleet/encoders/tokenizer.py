"""Text to token ids, cut where the model itself cuts."""

import unicodedata
from collections.abc import Sequence
from functools import cached_property

from tokenizers import Encoding, Tokenizer

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.files import ModelFiles


class TextTokenizer:
    """A model's tokenizer; thread-safe.

    The length limit is the model's own (`max_seq_length` of sentence_bert_config.json): what
    tokenizer.json and tokenizer_config.json say of truncation and padding is another number.

    Args:
        files: the model's files.

    Raises:
        ConfigurationError: the tokenizer's file can't be read.
    """

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self.max_tokens = files.max_tokens
        self.pad_id = files.pad_id
        self._cutting = self._load()
        self._cutting.enable_truncation(self.max_tokens)
        self.special_tokens: int = self._cutting.num_special_tokens_to_add(is_pair=False)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each chunk's ids, special tokens included, at most `max_tokens` of them."""
        return self._ids([self._files.passage_prefix + text for text in texts])

    def encode_chunks(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Return as `encode` does, and how many of the texts lost their end."""
        encodings = self._encodings([self._files.passage_prefix + text for text in texts])
        cut = sum(len(each) == self.max_tokens and bool(each.overflowing) for each in encodings)
        return [each.ids for each in encodings], cut

    def encode_query(self, text: str) -> list[int]:
        """Return a query's ids: of composed letters (NFC) like a chunk's, with the prefix for queries."""
        return self._ids([self._files.query_prefix + unicodedata.normalize("NFC", text)])[0]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) of every token in the text, in characters; uncut, no special tokens."""
        encoding = self._whole.encode(scrub(text), add_special_tokens=False)
        return list(encoding.offsets)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._encodings(texts)]

    def _encodings(self, texts: list[str]) -> list[Encoding]:
        return self._cutting.encode_batch_fast([scrub(text) for text in texts])

    @cached_property
    def _whole(self) -> Tokenizer:
        # A second instance: switching truncation on and off in one is not thread-safe. A worker that embeds
        # never needs it.
        return self._load()

    def _load(self) -> Tokenizer:
        try:
            tokenizer = Tokenizer.from_file(str(self._files.tokenizer))
        except Exception as error:  # the library raises bare Exception
            raise ConfigurationError(
                f"{self._files.tokenizer} can't be read ({error}); run `embedfleet models fetch --force`",
                code="model_damaged",
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def scrub(text: str) -> str:
    """Replace lone surrogates, which have no UTF-8 form, by `?`; lengths and offsets stay."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text
