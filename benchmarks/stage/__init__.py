"""The embedding stage with everything that a cluster has, against the bare engine."""
