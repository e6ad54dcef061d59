"""Our engine as a worker has it: tokenizer and lane, configured by the worker's variables."""

from benchmarks.engine.serving import encoding, own_stdout, serve

ANSWERS = own_stdout()

import logging  # noqa: E402 — libraries may print while they are imported
from threading import Lock  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from embedfleet.embeddings.lane import Lane  # noqa: E402
from embedfleet.embeddings.sizing import measured  # noqa: E402
from embedfleet.encoders import base, models  # noqa: E402
from embedfleet.encoders.tokenizer import TextTokenizer  # noqa: E402
from embedfleet.runtime.settings import EngineSettings, ModelSettings  # noqa: E402

# Tasks submit their chunks in slices; while the lane encodes one, the next is cut into tokens.
SLICE_TEXTS = 64


class Counting:
    """An encoder that counts the tokens which it is given, padding apart."""

    def __init__(self, encoder: base.Encoder) -> None:
        self._encoder = encoder
        self.real = self.padding = 0
        self._lock = Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode(self, token_ids: base.Ids, lengths: base.Lengths) -> base.Vectors:
        """Count and encode."""
        real = int(lengths.sum())
        with self._lock:
            self.real += real
            self.padding += token_ids.size - real
        return self._encoder.encode(token_ids, lengths)


class Engine:
    """Tokenizer and lane."""

    def __init__(self, model: ModelSettings, engine: EngineSettings) -> None:
        self.encoder = Counting(base.load(model, engine))
        self.tokenizer = TextTokenizer(models.locate(model))
        self.lane = Lane(self.encoder, measured(self.encoder, engine), self.tokenizer.pad_id)

    def encode(self, texts: list[str]) -> base.Vectors:
        """Return float32[n, dim]."""
        slices = [texts[at : at + SLICE_TEXTS] for at in range(0, len(texts), SLICE_TEXTS)]
        waiting = [
            self.lane.submit(str(number), self.tokenizer.encode(piece)) for number, piece in enumerate(slices)
        ]
        return np.concatenate([one.future.result() for one in waiting])


def main() -> None:
    """Serve."""
    logging.basicConfig(level=logging.INFO)
    engine = Engine(ModelSettings(), EngineSettings())
    counted, plain = engine.encoder, encoding(engine.encode)

    def run(order: dict[str, Any]) -> dict[str, Any]:
        counted.real = counted.padding = 0
        answer = plain(order)
        return {**answer, "tokens": counted.real, "padding": counted.padding}

    facts = {
        name: str(getattr(counted, name, "")) for name in ("device", "precision", "provider", "model_key")
    }
    serve(ANSWERS, facts, run)
    engine.lane.close()


if __name__ == "__main__":
    main()
