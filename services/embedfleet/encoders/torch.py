"""The sentence-transformers backend (extra `torch`): the reference, and any model ONNX can't do."""

import numpy as np

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders.base import (
    OUT_OF_MEMORY,
    Ids,
    Lengths,
    Vectors,
    check_batch,
    normalised,
    process_memory,
)
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.manifest import damaged
from embedfleet.encoders.out_of_memory import is_out_of_memory
from embedfleet.runtime.settings import EngineSettings

try:
    import torch
    from sentence_transformers import SentenceTransformer
except ImportError as missing:
    raise ConfigurationError(
        f"FLEET_BACKEND=torch, but {missing.name} is not installed; "
        "install the extra `torch`, or set FLEET_BACKEND=onnx",
        code="backend_missing",
    ) from missing


class TorchEncoder:
    """An `Encoder` that runs the model's checkpoint with sentence-transformers, in fp32.

    Args:
        files: a model with model.safetensors.
        engine: device and threads.

    Raises:
        ConfigurationError: the checkpoint can't be loaded, or FLEET_DEVICE=cuda and no GPU can be used.
    """

    def __init__(self, files: ModelFiles, engine: EngineSettings) -> None:
        if files.weights is None:
            raise damaged(files.folder, "model.safetensors is missing")
        self.max_tokens = files.max_tokens
        self.dim = files.dim
        self.model_key = files.model_key
        self.precision = "fp32"
        self._files = files
        self.device = _device(engine)
        if engine.threads:
            torch.set_num_threads(engine.threads)
        try:
            self._model = SentenceTransformer(str(files.folder), device=self.device, local_files_only=True)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise damaged(files.folder, f"sentence-transformers can't load it ({error})") from error
        self._model.eval()

    def encode(self, token_ids: Ids, lengths: Lengths) -> Vectors:
        """Return float32[n, dim]; see `Encoder.encode`."""
        check_batch(token_ids, lengths, self._files)
        if not len(lengths):
            return np.zeros((0, self.dim), dtype=np.float32)
        mask = np.arange(token_ids.shape[1]) < lengths[:, None]
        features = {
            "input_ids": torch.from_numpy(token_ids).to(self.device),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(self.device),
        }
        try:
            with torch.inference_mode():
                vectors = self._model(features)["sentence_embedding"].float().cpu().numpy()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise EmbeddingError(f"torch failed on a batch: {error}") from error
            if self.device == "cuda":
                torch.cuda.empty_cache()
            raise EmbeddingError(f"memory is full: {error}", code=OUT_OF_MEMORY) from error
        return normalised(vectors)

    def memory(self) -> int:
        """Return the bytes that torch holds on the GPU, or the process's resident bytes on the CPU."""
        return int(torch.cuda.memory_reserved()) if self.device == "cuda" else process_memory()


def _device(engine: EngineSettings) -> str:
    if engine.device != "cpu" and torch.cuda.is_available():
        return "cuda"
    if engine.device == "cuda":
        raise ConfigurationError(
            "FLEET_DEVICE=cuda, but torch sees no usable GPU (driver missing or too old, a CPU build of "
            "torch, or CUDA_VISIBLE_DEVICES hides it); fix that, or set FLEET_DEVICE=cpu",
            code="no_gpu",
        )
    return "cpu"
