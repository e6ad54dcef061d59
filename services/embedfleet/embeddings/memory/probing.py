"""The model of one encoder on one device, measured at start."""

from collections.abc import Callable, Sequence

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.embeddings.memory.budget import MARGIN
from embedfleet.embeddings.memory.device import Device
from embedfleet.embeddings.memory.model import MemoryModel, Probe, fit
from embedfleet.encoders.base import OUT_OF_MEMORY

Shape = tuple[int, int]


def shapes(max_tokens: int, cap_tokens: int) -> list[Shape]:
    """Return four shapes (rows, length) that tell the terms of the model apart: short and long, few and many.

    None has more than a quarter of the cap's tokens, so that an allocator that never gives back doesn't start
    with more than it may ever need.

    Args:
        max_tokens: longest row that the encoder takes.
        cap_tokens: most tokens of a batch.
    """
    lengths = (max(1, max_tokens // 8), max_tokens)
    return [(max(1, cap_tokens // (part * length)), length) for part in (16, 4) for length in lengths]


def measure(
    run: Callable[[int, int], object],
    give_back: Callable[[], object],
    device: Device,
    probes: Sequence[Shape],
    holds: Callable[[], int] | None,
) -> MemoryModel:
    """Run each shape once, the cheapest first, and fit what this process held at most meanwhile.

    It ends before a shape that, by what was measured so far, needs more than a batch may have of what is
    left: to run out of main memory is to be killed.

    Where nobody can tell what is ours, the fall of free memory stands for it, neighbours' changes included.
    Nothing measured (an allocator that held enough before) gives a model of zeros: then only the cap on
    tokens binds.

    Args:
        run: encodes a batch of (rows, length); an EmbeddingError `out_of_memory` ends the probing.
        give_back: makes the runtime give its idle memory back, before each shape; may do nothing, then the
            pieces that earlier shapes left make the model too high.
        device: its readings; nothing else of this process may use it meanwhile.
        probes: the shapes, as from `shapes`.
        holds: bytes that this process holds, or better the most since `give_back`: a runtime may have freed
            a batch's memory when the batch is done. An allocator that keeps what its largest batch took shows
            the same afterwards. None: it can't be told.

    Raises:
        ConfigurationError: not even the cheapest shape fits; the code is `out_of_memory`.
        EmbeddingError: the encoder failed for another reason.
    """
    give_back()
    free, held = device.free(), holds() if holds else 0
    measured: list[Probe] = []
    for rows, length in sorted(probes, key=lambda shape: (shape[0] * shape[1], shape[1])):
        give_back()
        if measured and fit(measured).bytes(rows, length) > MARGIN * (device.free() + device.reserved()):
            break
        try:
            run(rows, length)
        except EmbeddingError as error:
            if error.code != OUT_OF_MEMORY:
                raise
            break
        taken = holds() - held if holds else free - device.free()
        measured.append(Probe(rows, length, max(0, taken)))
    if not measured:
        raise ConfigurationError(
            f"a first small batch ran out of memory: {free / 1e6:,.0f} MB are free; end what else uses the "
            "device, or choose a smaller model (FLEET_MODEL_ID) or another device (FLEET_DEVICE)",
            code=OUT_OF_MEMORY,
        )
    return fit(measured)
