"""An encoder that may serve: chosen, made, and held against vectors that are known to be right."""

import logging
import time
from collections.abc import Mapping

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders.backends.choice import Choice, weigh
from embedfleet.encoders.backends.machine import give_back_loading, look, wheels_problem
from embedfleet.encoders.base import OUT_OF_MEMORY, Encoder
from embedfleet.encoders.encoder import make
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.golden import gate
from embedfleet.encoders.out_of_memory import is_out_of_memory
from embedfleet.runtime.settings import EngineSettings

_ROOM = {
    "cuda": "end what else uses the GPU, give the worker one of its own (CUDA_VISIBLE_DEVICES), choose a "
    "smaller model (FLEET_MODEL_ID), or set FLEET_DEVICE=cpu, which is slower",
    "cpu": "end what else uses this machine's memory, raise the limit of the process or its container, or "
    "choose a smaller model (FLEET_MODEL_ID)",
}

_log = logging.getLogger(__name__)


def build(files: ModelFiles, engine: EngineSettings) -> Encoder:
    """Return the best encoder that the settings allow, after its vectors have passed the gate.

    Logs one line that says what was taken and why, and a warning for each choice that gave way to the next
    and for wheels of onnxruntime that overwrite each other. A GPU without room gives way to nothing: others
    hold it now, and the CPU would be slower until the next start.

    Raises:
        ConfigurationError: as for `base.load`.
    """
    if engine.backend == "onnx" and (problem := wheels_problem()):
        _log.warning("%s", problem)
    obstacles = weigh(engine, look(engine.backend))
    *better, last = [choice for choice, obstacle in obstacles.items() if not obstacle]
    for choice in better:
        try:
            return _started(files, choice, engine, obstacles)
        except ConfigurationError as error:
            if error.code == OUT_OF_MEMORY and choice.device == "cuda":
                raise
            _log.warning("the encoder %s is not used, the next is tried: %s", choice, error.detail)
    return _started(files, last, engine, obstacles)


def _started(
    files: ModelFiles, choice: Choice, engine: EngineSettings, obstacles: Mapping[Choice, str]
) -> Encoder:
    began = time.monotonic()
    try:
        encoder = make(files, choice, engine.threads)
        found = gate(encoder, files)
    except Exception as error:  # memory can run out in whatever the runtimes do
        if is_out_of_memory(error):
            raise ConfigurationError(
                f"the encoder {choice} ran out of memory at its start ({error.__cause__ or error}): "
                f"{_ROOM[choice.device]}",
                code=OUT_OF_MEMORY,
            ) from error
        if not isinstance(error, EmbeddingError):
            raise
        raise ConfigurationError(
            f"the encoder {choice} failed at its gate: {error}", code="gate_failed"
        ) from error
    give_back_loading()
    seconds = time.monotonic() - began
    passed_over = {
        reason: f"; not {one}: {reason}" for one, reason in reversed(list(obstacles.items())) if reason
    }
    reasons = "".join(reversed(list(passed_over.values())))
    _log.info("the encoder is %s: %s; %s; %.1f s%s", choice, choice.why, found, seconds, reasons)
    return encoder
