"""Infinity's torch engine in fp32, batches of 32. `BENCH_MODEL` is the folder of the checkpoint."""

from benchmarks.engine.serving import encoding, own_stdout, serve

ANSWERS = own_stdout()

import asyncio  # noqa: E402 — libraries may print while they are imported
import os  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from infinity_emb import AsyncEmbeddingEngine, EngineArgs  # noqa: E402

BATCH_ROWS = 32


def main() -> None:
    """Serve, on one event loop."""
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    arguments = EngineArgs(
        model_name_or_path=os.environ["BENCH_MODEL"],
        engine="torch",
        device="cpu",
        dtype="float32",
        batch_size=BATCH_ROWS,
        compile=False,
        # It needs an optimum older than 2.0, which the extra doesn't bring; attention is torch's own, fused.
        bettertransformer=False,
        # The first run, which doesn't count, warms everyone up.
        model_warmup=False,
    )
    engine = AsyncEmbeddingEngine.from_args(arguments)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(engine.astart())

    def encode(texts: list[str]) -> Any:
        vectors, _ = loop.run_until_complete(engine.embed(sentences=texts))
        return vectors

    serve(ANSWERS, {"precision": "fp32"}, encoding(encode))
    loop.run_until_complete(engine.astop())


if __name__ == "__main__":
    main()
