"""One backend on the GPU in a process of its own: carries out the checks by name."""

from benchmarks.engine.serving import own_stdout, serve

ANSWERS = own_stdout()

from collections.abc import Callable, Mapping  # noqa: E402 — libraries may print while they are imported
from typing import Any  # noqa: E402

from benchmarks.gpu import checks  # noqa: E402
from benchmarks.gpu.ballast import ballast  # noqa: E402
from embedfleet.embeddings.memory import Device  # noqa: E402
from embedfleet.embeddings.memory.nvml import NvmlDevice  # noqa: E402
from embedfleet.embeddings.memory.torch import TorchDevice  # noqa: E402
from embedfleet.embeddings.sizing import MOST_TOKENS  # noqa: E402
from embedfleet.encoders import base, models  # noqa: E402
from embedfleet.encoders.files import ModelFiles  # noqa: E402
from embedfleet.encoders.golden import read_golden  # noqa: E402
from embedfleet.encoders.tokenizer import TextTokenizer  # noqa: E402
from embedfleet.runtime.settings import EngineSettings, ModelSettings  # noqa: E402

CAP_TOKENS = 65_536


def main() -> None:
    """Serve."""
    model, engine = ModelSettings(), EngineSettings()
    encoder = base.load(model, engine)
    files = models.locate(model, engine.backend)
    device: Device = TorchDevice() if engine.backend == "torch" else NvmlDevice()
    give_back: Callable[[], object] = getattr(encoder, "give_back", lambda: None)
    golden = read_golden(files.model_id)
    largest = max(1, (engine.max_batch_tokens or MOST_TOKENS["cuda"]) // encoder.max_tokens)
    known: Mapping[str, Callable[[], dict[str, Any]]] = {
        "provider": lambda: checks.provider(encoder, lambda: _placed(files, encoder.precision)),
        "memory_fit": lambda: checks.memory_fit(encoder, device, CAP_TOKENS, give_back),
        "out_of_memory": lambda: checks.out_of_memory(encoder, largest, ballast),
    }
    if golden is not None:
        known = {"gate": lambda: checks.gate(encoder, TextTokenizer(files), golden), **known}
    serve(ANSWERS, {"precision": encoder.precision}, lambda order: checks.carry_out(known, order["check"]))


def _placed(files: ModelFiles, precision: Any) -> checks.Placement | None:
    # Imported here: the process of torch loads no other runtime.
    from benchmarks.gpu import placement

    return placement.of(files, precision)


if __name__ == "__main__":
    main()
