"""The texts that all contestants get: real ones when they are here, else generated of the same length mix."""

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedfleet.encoders.tokenizer import TextTokenizer

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "load" / "chunks.jsonl"
EXAMPLES = ROOT / "examples" / "documents"
SEED = 20_261_126
GENERATED = 800
# Tokens of the real chunks at every tenth of them, special tokens included.
QUANTILES = (24, 40, 79, 164, 233, 256, 256, 256, 256, 256, 256)
# Of the short corpus: this share of the texts has 6 to 60 tokens, like titles, table rows and notes.
SHORT_SHARE = 0.4
SHORT_TOKENS = (6, 60)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Chunks of a mixed and of a short corpus, none longer than the model takes.

    Attributes:
        mixed: chunks as a chunker leaves them.
        short: the same with many that are cut short.
        source: what they are, for the reader of a figure.
    """

    mixed: list[str]
    short: list[str]
    source: str


def load(tokenizer: TextTokenizer, path: str = os.environ.get("BENCH_CHUNKS", "")) -> Corpus:
    """Return the corpus.

    Args:
        tokenizer: of the model; what is over its limit is cut, so that nobody reads less than others.
        path: JSON lines with a `text` each; by default `BENCH_CHUNKS`, else the file in `../shared/data` when
            it is here.
    """
    file = Path(path) if path else REAL
    if path or file.exists():
        lines = file.read_text("utf-8").splitlines()
        texts, source = (
            [json.loads(line)["text"] for line in lines],
            f"{len(lines)} real chunks of {file.name}",
        )
    else:
        texts = list(generated(tokenizer, GENERATED))
        source = f"{len(texts)} generated chunks of the same length mix: no real ones at {file}"
    drawn = random.Random(SEED)  # noqa: S311 — repeatable on purpose
    mixed = [cut(tokenizer, text, tokenizer.max_tokens) for text in texts if text.strip()]
    drawn.shuffle(mixed)
    short = [
        cut(tokenizer, text, drawn.randint(*SHORT_TOKENS)) if drawn.random() < SHORT_SHARE else text
        for text in mixed
    ]
    return Corpus(mixed, short, source)


def cut(tokenizer: TextTokenizer, text: str, tokens: int) -> str:
    """Return the beginning of a text that has at most so many tokens, special tokens included."""
    offsets = tokenizer.offsets(text)
    most = tokens - tokenizer.special_tokens
    # What is cut may have more tokens than it had within the whole.
    while len(offsets) > most:
        text = text[: offsets[most - 1][1]]
        offsets = tokenizer.offsets(text)
        most -= len(offsets) > most
    return text


def generated(tokenizer: TextTokenizer, count: int) -> Iterator[str]:
    """Yield texts of words of `examples/`, as long in tokens as real chunks are."""
    words = [
        word
        for name in sorted(EXAMPLES.glob("*.[mt][dx]*"))
        if name.suffix in (".md", ".txt")
        for word in name.read_text("utf-8").split()
    ]
    drawn = random.Random(SEED)  # noqa: S311 — repeatable on purpose
    for _ in range(count):
        at = drawn.random() * (len(QUANTILES) - 1)
        low, high = QUANTILES[int(at)], QUANTILES[int(at) + 1]
        tokens = max(6, round(low + (at - int(at)) * (high - low)))
        yield cut(tokenizer, " ".join(drawn.choices(words, k=tokens)), tokens)


def cycled(texts: Sequence[str], count: int) -> list[str]:
    """Return so many texts, from the beginning again when there are too few."""
    return [texts[at % len(texts)] for at in range(count)]
