"""Clean text to chunks (pure): by sentences, tokens or Markdown sections, never over the model's limit.

The text is tokenised once, with offsets; chunks are planned on those, then each is counted alone,
because a cut can make more tokens than the whole text had there, and split again in that case.
Every character that is not white space is in some chunk, but for runs in which the model sees nothing
(zero-width characters, marks of direction): a chunk of these would get a vector that means nothing.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from embedfleet.contracts.documents import Chunk, ChunkOptions
from embedfleet.contracts.errors import DocumentProcessingError
from embedfleet.documents.boundaries import cut_before, start_after, whole_character
from embedfleet.documents.clean import CleanText

MAX_CHUNKS = 500_000
MIN_CONTENT_TOKENS = 32
# A run of letters that the tokenizer takes as one unknown token may be as long as the file.
_CHARACTERS_PER_TOKEN = 16
_BATCH = 256


class TokenMeter(Protocol):
    """Measures text in a model's tokens."""

    special_tokens: int

    def starts(self, text: str) -> "array[int]":
        """Return the offset of each token of a text, ascending; special tokens are not among them."""

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text when encoded alone, special tokens included."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes that hold for one document.

    Attributes:
        size: longest chunk, in the option's unit.
        overlap: how much of a chunk the next one repeats, in the same unit.
        tokens: most content tokens of a chunk.
        by_tokens: the unit is tokens, not characters.
        by_headings: no chunk reaches over a heading.
    """

    size: int
    overlap: int
    tokens: int
    by_tokens: bool
    by_headings: bool

    @classmethod
    def of(cls, options: ChunkOptions, max_tokens: int, special_tokens: int) -> "Plan":
        """Return the plan for a user's options and a model's limit.

        Raises:
            ValueError: the model takes too few tokens to cut by.
        """
        tokens = max_tokens - special_tokens
        if tokens < MIN_CONTENT_TOKENS:
            raise ValueError(f"a model of {max_tokens} tokens is too small to cut by")
        return cls(
            size=options.chunk_size,
            overlap=options.chunk_overlap,
            tokens=tokens,
            by_tokens=options.chunker_type == "token",
            by_headings=options.chunker_type == "markdown",
        )


class Chunker:
    """Cuts one document.

    Args:
        clean: its text.
        options: the user's sizes.
        meter: the model's tokenizer.
        max_tokens: what the model takes, special tokens included.
        max_characters: bound on the text of all chunks together.

    Attributes:
        limited: the model's limit cut at least one chunk shorter than the user asked.
        longest: the longest chunk so far, in the option's unit.
    """

    def __init__(
        self,
        clean: CleanText,
        options: ChunkOptions,
        meter: TokenMeter,
        max_tokens: int,
        max_characters: int,
    ) -> None:
        self._clean = clean
        self._text = clean.text
        self._meter = meter
        self._max_tokens = max_tokens
        self._plan = Plan.of(options, max_tokens, meter.special_tokens)
        self._max_characters = max_characters
        self._starts = meter.starts(self._text)
        self.limited = False
        self.longest = 0

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks in order.

        Raises:
            DocumentProcessingError: `limit_exceeded`, the sizes make too many chunks of this text.
        """
        # A span that had to be split may reach behind the start of the one that follows it.
        fitting = sorted(self._bounded(self._fitting(self._spans())))
        for index, (start, end, tokens) in enumerate(fitting):
            unit = tokens - self._meter.special_tokens if self._plan.by_tokens else end - start
            self.longest = max(self.longest, unit)
            yield Chunk(
                index=index,
                text=self._text[start:end],
                start=start,
                end=end,
                token_count=tokens,
                page=self._clean.page_at(start),
                heading=self._clean.heading_at(start),
            )

    def _bounded(self, spans: Iterator[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
        left = self._max_characters
        for number, (start, end, tokens) in enumerate(spans):
            left -= end - start
            if number >= MAX_CHUNKS or left < 0:
                raise DocumentProcessingError(
                    "The chunks of this file repeat too much of its text, or are too many; "
                    "choose a smaller chunk_overlap or a larger chunk_size.",
                    code="limit_exceeded",
                )
            yield start, end, tokens

    def _spans(self) -> Iterator[tuple[int, int]]:
        for start, end in self._sections():
            yield from self._cut(start, end)

    def _sections(self) -> Iterator[tuple[int, int]]:
        start = 0
        if self._plan.by_headings:
            for heading in self._clean.heading_starts:
                # A heading right below another one has no body of its own: they stay together.
                if self._has_body(start, heading):
                    yield start, heading
                    start = heading
        yield start, len(self._text)

    def _has_body(self, start: int, end: int) -> bool:
        at = bisect_right(self._clean.heading_starts, start)
        if at == 0 or self._clean.heading_starts[at - 1] != start:
            return end > start
        first_line = self._text.find("\n\n", start, end)
        return first_line >= 0 and bool(self._text[first_line:end].strip())

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut one section into spans, the next one starting inside or right behind the last."""
        end = start
        while end < stop:
            latest, limited = self._reach(start, stop)
            if latest <= end:
                start = end
                latest, limited = self._reach(start, stop)
            self.limited |= limited
            previous, end = end, latest
            if latest < stop:
                # At least half full, and beyond the last chunk: else sizes near the overlap never advance.
                earliest = max(previous, start + (latest - start) // 2)
                end = cut_before(self._text, earliest, latest)
            yield start, end
            if end < stop:
                start = self._next_start(start, end, limited)

    def _reach(self, start: int, stop: int) -> tuple[int, bool]:
        """Return how far a chunk may go, and whether the model's limit (not the user's size) says so."""
        allowed = self._after_tokens(start, self._plan.tokens)
        if self._plan.by_tokens:
            wanted = self._after_tokens(start, self._plan.size)
            wanted = min(wanted, start + _CHARACTERS_PER_TOKEN * min(self._plan.size, self._plan.tokens))
        else:
            wanted = start + self._plan.size
        latest = min(wanted, allowed, stop)
        if latest <= start:
            latest = min(start + 1, stop)
        if latest < stop:
            latest = max(whole_character(self._text, start, latest), start + 1)
        return latest, allowed < min(wanted, stop)

    def _after_tokens(self, start: int, tokens: int) -> int:
        first = bisect_right(self._starts, start) - 1
        behind = max(first, 0) + tokens
        return self._starts[behind] if behind < len(self._starts) else len(self._text)

    def _next_start(self, start: int, end: int, limited: bool) -> int:
        plan = self._plan
        if plan.overlap == 0:
            return end
        if plan.by_tokens:
            overlap = min(plan.overlap, plan.tokens * plan.overlap // plan.size)
            earliest = max(self._before_tokens(end, overlap), end - _CHARACTERS_PER_TOKEN * overlap)
        else:
            # A chunk that the model's limit cut keeps the share of overlap that was asked for.
            overlap = (end - start) * plan.overlap // plan.size if limited else plan.overlap
            earliest = end - overlap
        # Tokens are uneven: whatever the overlap, half of the rest of a chunk is new, or time is quadratic.
        advance = (end - start) * (plan.size - plan.overlap) // (2 * plan.size)
        earliest = max(earliest, start + advance, start + 1)
        return start_after(self._text, earliest, end) if earliest < end else end

    def _before_tokens(self, end: int, tokens: int) -> int:
        behind = bisect_left(self._starts, end)
        return self._starts[max(0, behind - tokens)] if self._starts else end

    def _fitting(self, spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """Yield (start, end, tokens) of non-empty spans, split where a span alone is over the limit."""
        batch: list[tuple[int, int]] = []
        for start, end in spans:
            start, end = _strip(self._text, start, end)
            if start < end:
                batch.append((start, end))
            if len(batch) == _BATCH:
                yield from self._counted(batch)
                batch = []
        yield from self._counted(batch)

    def _counted(self, spans: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        counts = self._meter.counts([self._text[start:end] for start, end in spans])
        for (start, end), tokens in zip(spans, counts, strict=True):
            if tokens <= self._meter.special_tokens:
                continue
            if tokens <= self._most(start, end):
                yield start, end, tokens
            else:
                self.limited |= tokens > self._max_tokens
                yield from self._counted(self._halves(start, end))

    def _most(self, start: int, end: int) -> int:
        """Return how many tokens a span may have; a single character is never over the user's size."""
        wanted = self._plan.size + self._meter.special_tokens
        if self._plan.by_tokens and end - start > 1:
            return min(wanted, self._max_tokens)
        return self._max_tokens

    def _halves(self, start: int, end: int) -> list[tuple[int, int]]:
        if end - start < 2:
            raise DocumentProcessingError(
                "A single character of the file has more tokens than the model takes.", code="limit_exceeded"
            )
        middle = cut_before(self._text, start + max(1, (end - start) // 3), start + (end - start + 1) // 2)
        halves = [_strip(self._text, start, middle), _strip(self._text, middle, end)]
        return [(first, last) for first, last in halves if first < last]


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return start + left, start + len(piece.rstrip())
