"""What the first owner of a GPU runs. `make gpu-check`."""
