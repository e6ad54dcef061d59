"""The most that this machine multiplies: square matrices in torch, fp32 and bf16, best of a few."""

from benchmarks.engine.serving import own_stdout, serve

ANSWERS = own_stdout()

import os  # noqa: E402 — libraries may print while they are imported
import time  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402

SIDE = 4096
SECONDS = 1.0
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    """Serve: every order is answered with FLOP/s by precision."""
    torch.set_num_threads(int(os.environ["BENCH_THREADS"]))
    torch.set_grad_enabled(False)
    serve(
        ANSWERS,
        {"version": torch.__version__},
        lambda _: {name: _peak(PRECISIONS[name]) for name in PRECISIONS},
    )


def _peak(dtype: Any) -> float:
    one, other = torch.randn(SIDE, SIDE).to(dtype), torch.randn(SIDE, SIDE).to(dtype)
    target = torch.empty(SIDE, SIDE, dtype=dtype)
    torch.mm(one, other, out=target)
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        torch.mm(one, other, out=target)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best


if __name__ == "__main__":
    main()
