"""What can run a model, and which of it is taken; a process loads the one runtime that it uses.

`machine` tells what is here and `choice` what to take of it. `onnx` is ONNX Runtime on a CPU, `cuda` on a GPU
with the graph that `graph` derives, `torch` both. Each is a `Runtime` of `encoders/encoder.py`, which holds
what is the same for all of them.
"""
