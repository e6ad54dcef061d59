"""Texts to vectors: find a model's files, cut text into its tokens, run it."""

import os

# Since 1.29 onnxruntime's wheels send usage data to its maker and keep a device id in the user's
# cache; the variable counts only if it is set before the first import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
