"""What every process needs: settings, broker, ledger, blobs, the worker loop, telemetry, probes."""
