#!/bin/sh
# Resolves what each image installs and pins it with hashes. Torch is left out: its builds differ by platform.
set -eu
cd "$(dirname "$0")/.."
for pool in api documents embeddings; do
    extra=$pool
    if [ "$pool" = embeddings ]; then extra=embeddings-cpu; fi
    mkdir -p "images/$pool"
    .venv/bin/uv pip compile pyproject.toml --extra "$extra" --extra object-store --generate-hashes --upgrade --quiet \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-package embedfleet \
        --no-emit-index-url --custom-compile-command "make lock" --output-file "images/$pool/requirements.lock"
done
