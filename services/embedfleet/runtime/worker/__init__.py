"""What both pools share: runs, leases, the gate, the drain, probes, and their ties to Celery."""
