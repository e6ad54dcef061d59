"""An encoder that may serve: chosen, made, and held against vectors that are known to be right."""

import logging
import time
from collections.abc import Mapping

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders.backends.choice import Choice, weigh
from embedfleet.encoders.backends.machine import give_back_loading, look, wheels_problem
from embedfleet.encoders.base import Encoder
from embedfleet.encoders.encoder import make
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.golden import gate
from embedfleet.runtime.settings import EngineSettings

_log = logging.getLogger(__name__)


def build(files: ModelFiles, engine: EngineSettings) -> Encoder:
    """Return the best encoder that the settings allow, after its vectors have passed the gate.

    Logs one line that says what was taken and why, and a warning for each choice that gave way to the next
    and for wheels of onnxruntime that overwrite each other.

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
            _log.warning("the encoder %s is not used, the next is tried: %s", choice, error.detail)
    return _started(files, last, engine, obstacles)


def _started(
    files: ModelFiles, choice: Choice, engine: EngineSettings, obstacles: Mapping[Choice, str]
) -> Encoder:
    began = time.monotonic()
    encoder = make(files, choice, engine.threads)
    try:
        found = gate(encoder, files)
    except EmbeddingError as error:
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
