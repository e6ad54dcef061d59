"""sentence-transformers as a plain Celery task calls it: `model.encode(texts, batch_size=32)`, in fp32.

One call has all texts, as if they were one document's: it sorts them by length itself, so this is its best.
`BENCH_MODEL` is the folder of the checkpoint; `BENCH_DTYPE` (`float16`) and `BENCH_DEVICE` are for GPUs.
"""

from benchmarks.engine.serving import encoding, own_stdout, serve

ANSWERS = own_stdout()

import os  # noqa: E402 — libraries may print while they are imported
from typing import Any  # noqa: E402

import torch  # noqa: E402
from sentence_transformers import SentenceTransformer  # noqa: E402

BATCH_ROWS = 32
PRECISIONS = {"float32": "fp32", "float16": "fp16"}


def main() -> None:
    """Serve."""
    device, dtype = os.environ.get("BENCH_DEVICE", "cpu"), os.environ.get("BENCH_DTYPE", "float32")
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    model = SentenceTransformer(
        os.environ["BENCH_MODEL"],
        device=device,
        local_files_only=True,
        model_kwargs={"dtype": getattr(torch, dtype)},
    )
    model.eval()

    def encode(texts: list[str]) -> Any:
        return model.encode(
            texts,
            batch_size=BATCH_ROWS,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )

    facts = {"device": device, "precision": PRECISIONS[dtype], "version": torch.__version__}
    serve(ANSWERS, facts, encoding(encode))


if __name__ == "__main__":
    main()
