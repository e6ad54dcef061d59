"""Torch (extra `torch`): the checkpoint as sentence-transformers loads it, on a CPU or a GPU.

transformers picks torch's own scaled dot product attention wherever the model has it.
"""

import numpy as np

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends.choice import Choice
from embedfleet.encoders.base import Ids, Vectors
from embedfleet.encoders.encoder import Mask
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.manifest import damaged

try:
    import torch
    from sentence_transformers import SentenceTransformer
except ImportError as missing:
    raise ConfigurationError(
        f"FLEET_BACKEND=torch, but {missing.name} is not installed; "
        "install the extra `torch`, or set FLEET_BACKEND=onnx",
        code="backend_missing",
    ) from missing

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    """Runs the model's checkpoint; token vectors are pooled in fp32, on the device.

    Args:
        files: a model with model.safetensors.
        choice: device and precision.
        threads: of torch on the CPU; 0: its own choice.

    Raises:
        ConfigurationError: the checkpoint can't be loaded.
    """

    multiple = 1
    streams = 1

    def __init__(self, files: ModelFiles, choice: Choice, threads: int) -> None:
        if files.weights is None:
            raise damaged(files.folder, "model.safetensors is missing")
        self._device = choice.device
        self._pooling = files.pooling
        if threads:
            torch.set_num_threads(threads)
        try:
            model = SentenceTransformer(
                str(files.folder),
                device=choice.device,
                local_files_only=True,
                model_kwargs={"dtype": DTYPES[choice.precision]},
            )
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            raise damaged(files.folder, f"sentence-transformers can't load it ({error})") from error
        # Its pooling and normalising would be done in the model's precision.
        self._transformer = model.eval()[0]

    def run(self, token_ids: Ids, mask: Mask) -> Vectors:
        """Return float32[n, dim]; see `Runtime.run`."""
        ids = torch.from_numpy(token_ids).to(self._device)
        attended = torch.from_numpy(mask.astype(np.int64)).to(self._device)
        with torch.inference_mode():
            features = {"input_ids": ids, "attention_mask": attended}
            tokens = self._transformer(features)["token_embeddings"].float()
            if self._pooling == "cls":
                pooled = tokens[:, 0]
            else:
                weights = attended / attended.sum(dim=1, keepdim=True)
                pooled = torch.bmm(weights[:, None, :].float(), tokens)[:, 0]
            return np.asarray(pooled.cpu().numpy(), dtype=np.float32)

    def give_back(self) -> None:
        """Empty torch's cache on the GPU; on the CPU it has none."""
        if self._device == "cuda":
            torch.cuda.empty_cache()
