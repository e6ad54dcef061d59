"""What is special to torch: precision, and a GPU's memory by its seam."""

from dataclasses import replace

import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends.choice import Choice
from embedfleet.encoders.files import ModelFiles
from tests.encoders.runtimes import TORCH, TORCH_BF16

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
pytest.importorskip("sentence_transformers", reason="the extra `torch` is not installed")

from embedfleet.encoders.backends.torch import TorchRuntime  # noqa: E402 — needs what was just looked for


@pytest.mark.parametrize(("choice", "dtype"), [(TORCH, torch.float32), (TORCH_BF16, torch.bfloat16)])
def test_the_model_is_in_the_precision_that_was_chosen(
    tiny_files: ModelFiles, choice: Choice, dtype: "torch.dtype"
) -> None:
    runtime = TorchRuntime(tiny_files, choice, 1)
    assert {weights.dtype for weights in runtime._transformer.parameters()} == {dtype}


def test_a_gpu_s_cache_is_given_back(tiny_files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    runtime = TorchRuntime(tiny_files, TORCH, 1)
    runtime.give_back()
    assert emptied == []
    runtime._device = "cuda"
    runtime.give_back()
    assert emptied == [True]


def test_a_model_without_its_checkpoint_is_refused(tiny_files: ModelFiles) -> None:
    with pytest.raises(ConfigurationError, match="safetensors"):
        TorchRuntime(replace(tiny_files, weights=None), TORCH, 1)
