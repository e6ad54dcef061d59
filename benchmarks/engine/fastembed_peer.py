"""fastembed (ONNX Runtime, fp32), batches of 32. `BENCH_MODEL` is a folder with tokenizer and graph."""

from benchmarks.engine.serving import encoding, own_stdout, serve

ANSWERS = own_stdout()

import os  # noqa: E402 — libraries may print while they are imported
from typing import Any  # noqa: E402

from fastembed import TextEmbedding  # noqa: E402

BATCH_ROWS = 32
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    """Serve."""
    model = TextEmbedding(
        MODEL, specific_model_path=os.environ["BENCH_MODEL"], threads=int(os.environ["BENCH_THREADS"])
    )

    def encode(texts: list[str]) -> Any:
        return list(model.embed(texts, batch_size=BATCH_ROWS))

    serve(ANSWERS, {"precision": "fp32"}, encoding(encode))


if __name__ == "__main__":
    main()
