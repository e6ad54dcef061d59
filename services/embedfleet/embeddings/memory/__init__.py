"""How large a batch may be: what it costs, what is free, and what was learnt from those that failed.

`Sizing` owns one `MemoryBudget`, for one of the lane's threads at a time: it asks `max_rows` before a batch
and says `passed` or `ran_out` after it. A device is one of `nvml`, `torch` and `cpu`, or the simulated one in
benchmarks/simulation; the budget doesn't know which. `throughput` chooses the cap on tokens where memory is
not what binds.
"""

from embedfleet.embeddings.memory.budget import MARGIN, MemoryBudget
from embedfleet.embeddings.memory.device import Device
from embedfleet.embeddings.memory.model import MemoryModel, Probe, fit
from embedfleet.embeddings.memory.throughput import BUDGETS, ThroughputTuner

__all__ = ["BUDGETS", "MARGIN", "Device", "MemoryBudget", "MemoryModel", "Probe", "ThroughputTuner", "fit"]
