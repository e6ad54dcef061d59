"""The check of everything that is kept: ledger, blobs and Qdrant against each other, both ways."""
