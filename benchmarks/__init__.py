"""Measurements of Embedfleet; each leaves its figures, with machine and date, in `results/`."""
