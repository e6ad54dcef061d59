#!/bin/sh
# Resolves what each image installs and pins it with hashes: one file an image, and one a target of `embeddings`.
set -eu
cd "$(dirname "$0")/.."

lock() { # FILE EXTRA...
    file=$1
    shift
    for extra in "$@"; do set -- "$@" --extra "$extra"; shift; done
    .venv/bin/uv pip compile pyproject.toml "$@" --extra object-store --generate-hashes --upgrade --quiet \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-package embedfleet \
        --no-emit-index-url --custom-compile-command "make lock" --output-file "images/$file"
}

lock api/requirements.lock api cli
lock documents/requirements.lock documents
lock embeddings/requirements.lock embeddings-cpu
lock embeddings/gpu.lock embeddings-gpu
# CUDA's wheels are those that ONNX Runtime and torch both take.
lock embeddings/gpu-torch.lock embeddings-gpu torch
