"""The engine, the embedding stage and the whole path against what they are measured by. `make bench`."""
