"""What the ledger costs: time and round trips of a task, memory, expiry, long queues. `make ledger-bench`."""
