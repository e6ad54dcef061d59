"""Engines side by side, each in a process of its own, in rounds that alternate."""
