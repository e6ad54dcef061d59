"""The last step of each image's build: what is in it is what its kind needs, and nothing else.

Run as the image runs: ``python -P footprint.py api|documents|embeddings-cpu|embeddings-gpu``.
Exits with 1 and a sentence for each thing that is wrong. `tests/architecture` asks the same of the modules.
"""

import importlib
import importlib.util
import os
import re
import sys
from importlib import metadata
from pathlib import Path

PARSERS = {"pypdf", "pypdfium2", "lxml", "docx", "markdown_it", "ftfy", "chardet"}
HEAVY = {"torch", "sentence_transformers", "transformers"}
# Roots of modules that an entry point must not load.
FORBIDDEN = {
    "embedfleet.documents.tasks": HEAVY | PARSERS | {"onnxruntime", "numpy", "qdrant_client", "fastapi"},
    "embedfleet.embeddings.tasks": HEAVY | {"pypdf", "pypdfium2", "lxml", "docx", "fastapi"},
    "embedfleet.api.app": HEAVY | {"pypdf", "pypdfium2", "lxml", "docx"},
    "embedfleet.contracts.documents": HEAVY
    | PARSERS
    | {"celery", "redis", "onnxruntime", "numpy", "fastapi"},
}
ENTRIES = {
    "api": "embedfleet.api.app",
    "documents": "embedfleet.documents.tasks",
    "embeddings-cpu": "embedfleet.embeddings.tasks",
    "embeddings-gpu": "embedfleet.embeddings.tasks",
}
CUDA = r"nvidia-.*|cuda-.*|triton|onnxruntime-gpu"
NO_PARSER = r"pypdf|pypdfium2|lxml|ftfy"
# Distributions that an image must not have. Torch is an option of the GPU's. Its `rich`, and that of the
# API's commands, needs markdown-it-py.
ABSENT = {
    "api": rf"torch|{CUDA}|{NO_PARSER}",
    "documents": rf"torch|onnxruntime.*|{CUDA}|numpy|qdrant-client|fastapi",
    "embeddings-cpu": rf"torch|{CUDA}|fastapi|{NO_PARSER}|markdown-it-py",
    "embeddings-gpu": rf"fastapi|{NO_PARSER}",
}
# The one wheel of ONNX Runtime: two overwrite each other's files.
RUNTIME = {
    "api": {"onnxruntime-openvino"},
    "documents": set(),
    "embeddings-cpu": {"onnxruntime-openvino"},
    "embeddings-gpu": {"onnxruntime-gpu"},
}
USER = 10001


def misplaced(kind: str, distributions: set[str]) -> list[str]:
    """Return what is wrong with a set of distributions, given by their normalised names."""
    extra = sorted(name for name in distributions if re.fullmatch(ABSENT[kind], name))
    wheels = {name for name in distributions if re.fullmatch(r"onnxruntime(-.*)?", name)}
    found = [f"{name} doesn't belong into the image {kind}" for name in extra]
    if wheels != RUNTIME[kind]:
        found.append(f"{kind} has {sorted(wheels)} of ONNX Runtime's wheels, not {sorted(RUNTIME[kind])}")
    return found


def loaded_too_much(entry: str) -> list[str]:
    """Load an entry point into this process; return what it must not have brought."""
    importlib.import_module(entry)
    roots = {name.partition(".")[0] for name in sys.modules}
    return [f"{entry} loads {root}" for root in sorted(roots & FORBIDDEN[entry])]


def _model() -> list[str]:
    """Compare the model's files, where there are any, with their recorded and their pinned sha256."""
    from embedfleet.contracts.errors import ConfigurationError
    from embedfleet.encoders.manifest import file_sha256, read_manifest
    from embedfleet.encoders.models import known, locate, verify
    from embedfleet.encoders.registry import ONNX_FILE
    from embedfleet.runtime.settings import ModelSettings

    settings = ModelSettings()
    if not any(settings.model_cache.glob("*/*")):
        print(f"no model in {settings.model_cache}: mount one there")
        return []
    try:
        files = locate(settings)
        print(f"{files.model_id}: {verify(files)} files verified in {files.folder}")
    except ConfigurationError as error:
        return [error.detail]
    model, manifest = known(settings), read_manifest(files.folder)
    if model is None or manifest is None:
        return []
    # An exported graph differs from one to the next: its manifest and the worker's gate vouch for it.
    names = set(manifest.files) - (set() if manifest.source == "hub" else {ONNX_FILE})
    pins = {name: pin for name, pin in model.pins.items() if name in names}
    others = [name for name, pin in pins.items() if file_sha256(files.folder / name) != pin.sha256]
    return [f"{name} of {files.model_id} is not the published one" for name in others]


def _image() -> list[str]:
    found = []
    if os.getuid() != USER:
        found.append(f"runs as user {os.getuid()}, not {USER}")
    writable = [folder for folder in ("/opt/embedfleet", "/opt/app", "/models") if os.access(folder, os.W_OK)]
    found += [f"its own user can write {folder}" for folder in writable]
    if importlib.util.find_spec("pip"):
        found.append("pip is left in it")
    return found


def main(kind: str) -> int:
    """Print what is wrong with this image; 0 when nothing is."""
    names = {re.sub(r"[-_.]+", "-", item.metadata["Name"]).lower() for item in metadata.distributions()}
    found = [*misplaced(kind, names), *loaded_too_much(ENTRIES[kind]), *_model(), *_image()]
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        size = sum(path.lstat().st_size for path in Path("/opt").rglob("*")) // 1_000_000
        print(f"footprint ok: {kind}, {len(names)} distributions, {size} MB")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
