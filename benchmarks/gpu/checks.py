"""What must hold of an encoder on a GPU before it may serve: each check returns what it saw, or raises."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from embedfleet.contracts.errors import EmbeddingError, FleetError
from embedfleet.embeddings.memory import MARGIN, Device
from embedfleet.embeddings.memory.probing import measure, shapes
from embedfleet.embeddings.sizing import holds
from embedfleet.encoders.base import OUT_OF_MEMORY, Encoder, Vectors
from embedfleet.encoders.golden import Golden, cosines
from embedfleet.encoders.tokenizer import TextTokenizer

LEAST_COSINE = 0.999
# A token id that every vocabulary has.
ANY_ID = 5


class CheckFailed(Exception):
    """What was seen is not what must be.

    Args:
        reason: in words.
        seen: more of it, for the record.
    """

    def __init__(self, reason: str, **seen: Any) -> None:
        super().__init__(reason)
        self.seen = seen


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the nodes of a graph are.

    Attributes:
        nodes: provider → operator → how many.
        elsewhere: heavy nodes that the GPU's provider doesn't have, a few words each.
    """

    nodes: Mapping[str, Mapping[str, int]]
    elsewhere: tuple[str, ...]


def carry_out(known: Mapping[str, Callable[[], dict[str, Any]]], name: str) -> dict[str, Any]:
    """Return what a check saw, or `failed` and why, whatever it raised: the others are still to come."""
    if name not in known:
        return {"failed": "the model has no golden vectors"}
    try:
        return known[name]()
    except CheckFailed as error:
        return {"failed": str(error), **error.seen}
    except FleetError as error:
        return {"failed": str(error)}
    except Exception as error:  # the runtimes' exceptions share no other base
        return {"failed": f"{type(error).__name__}: {error}"}


def provider(encoder: Any, placed: Callable[[], Placement | None]) -> dict[str, Any]:
    """See where the model really is: `device` and `provider` of an encoder are only what it was asked for.

    ONNX Runtime tells the providers that its session has now, the preferred one first; a session that can't
    start a provider, or leaves it after a failure, goes on with the rest of them. Which nodes each of them
    has, another session of the same graph tells. Torch tells the devices of the weights.

    Args:
        encoder: one of `encoders.encoder`; it encodes a batch first.
        placed: tells where the nodes of its graph are; asked for ONNX Runtime alone, None: the wheel can't.
    """
    _batch(encoder, 2, encoder.max_tokens)
    runtime = encoder._runtime
    if hasattr(runtime, "_session"):
        places = list(runtime._session.get_providers())
        is_there = places[:1] == ["CUDAExecutionProvider"]
    else:
        places = sorted({weights.device.type for weights in runtime._transformer.parameters()})
        is_there = places == ["cuda"]
    if not is_there:
        raise CheckFailed(f"the model runs on {', '.join(places) or 'nothing'}, not on the GPU")
    seen = {"places": places, "precision": encoder.precision}
    return {**seen, "nodes": _nodes(placed())} if hasattr(runtime, "_session") else seen


def _nodes(placement: Placement | None) -> Any:
    if placement is None:
        return "not told: ONNX Runtime before 1.24 doesn't know"
    if placement.elsewhere:
        found = placement.elsewhere
        raise CheckFailed(
            f"heavy nodes are not on the GPU: {'; '.join(found[:3])}{'; …' * (len(found) > 3)}",
            nodes=placement.nodes,
            elsewhere=found,
        )
    return placement.nodes


def gate(encoder: Encoder, tokenizer: TextTokenizer, golden: Golden) -> dict[str, Any]:
    """See that its vectors are those of sentence-transformers."""
    found = cosines(encoder, tokenizer, golden)
    least = float(found.min())
    if not least >= LEAST_COSINE:
        raise CheckFailed(f"least cosine {least:.6f} to the golden vectors, wanted {LEAST_COSINE}")
    return {"cos_min": least, "cos_mean": float(found.mean())}


def memory_fit(
    encoder: Encoder, device: Device, cap_tokens: int, give_back: Callable[[], object]
) -> dict[str, Any]:
    """Fit what a batch costs by the worker's own probes; hold it against a shape that was not probed.

    The budget plans batches of up to `MARGIN` of what is free. A batch that takes more than its prediction
    divided by that may therefore run out of memory; one that takes less than its prediction times that leaves
    more idle than was meant to be.
    """
    model = measure(
        lambda rows, length: _batch(encoder, rows, length),
        give_back,
        device,
        shapes(encoder.max_tokens, cap_tokens),
        ours := holds(device),
    )
    rows, length = max(1, cap_tokens // encoder.max_tokens), encoder.max_tokens
    give_back()
    free, held = device.free(), ours() if ours else 0
    _batch(encoder, rows, length)
    taken = ours() - held if ours else free - device.free()
    expected = model.bytes(rows, length)
    seen = f"{rows} rows of {length} tokens took {taken / 1e6:,.0f} MB; the fit says {expected / 1e6:,.0f} MB"
    if taken <= 0:
        raise CheckFailed(f"nothing was measured: {seen}")
    if not MARGIN <= expected / taken <= 1 / MARGIN:
        raise CheckFailed(f"{seen}: more than the budget's margin of {MARGIN:g} apart")
    return {
        **asdict(model),
        "expected_bytes": expected,
        "taken_bytes": taken,
        "ratio": expected / taken,
    }


def out_of_memory(
    encoder: Encoder, rows: int, ballast: Callable[[], AbstractContextManager[int]]
) -> dict[str, Any]:
    """Run a large batch while a neighbour holds the memory: the error must be typed, and the encoder go on.

    No batch is larger than a worker's: one with 2^31 numbers in an array, for which a card of 48 GB has room,
    overflows the kernels' offsets (https://github.com/microsoft/onnxruntime/pull/29264), and that is no lack
    of memory.

    Args:
        encoder: with the GPU to itself.
        rows: of full length, in the largest batch of a worker; half of them, and so on, where they don't fit.
        ballast: holds the memory while it is entered, and gives the bytes that are left.
    """
    length = encoder.max_tokens
    rows, before = _largest(encoder, rows)
    encoder.give_back()
    with ballast() as left:
        try:
            _batch(encoder, rows, length)
        except EmbeddingError as error:
            if error.code != OUT_OF_MEMORY:
                raise CheckFailed(f"{rows} rows failed, but not as out of memory: {error.detail}") from error
            said = error.detail
        else:
            raise CheckFailed(
                f"{rows} rows of {length} tokens passed with {left / 1e6:,.0f} MB free: the runtime had kept "
                "memory that it was told to give back"
            )
    try:
        after = _batch(encoder, rows, length)
    except EmbeddingError as error:
        raise CheckFailed(f"with the memory free again the same batch fails: {error.detail}") from error
    if not np.allclose(before, after, atol=1e-3):
        raise CheckFailed("after running out of memory the same batch gives other vectors")
    return {"rows": rows, "length": length, "left_bytes": left, "error": said[:300]}


def _largest(encoder: Encoder, rows: int) -> tuple[int, Vectors]:
    """Return how many rows fit of so many, halved until they do, and their vectors."""
    while True:
        try:
            return rows, _batch(encoder, rows, encoder.max_tokens)
        except EmbeddingError as error:
            if error.code != OUT_OF_MEMORY or rows == 1:
                raise
        encoder.give_back()
        rows //= 2


def _batch(encoder: Encoder, rows: int, length: int) -> Vectors:
    ids = np.full((rows, length), ANY_ID, dtype=np.int64)
    return encoder.encode(ids, np.full(rows, length, dtype=np.int32))
