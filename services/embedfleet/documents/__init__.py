"""Bytes to text to chunks. Never imports torch, onnxruntime, numpy, qdrant_client or fastapi."""
