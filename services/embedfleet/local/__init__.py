"""One machine: the processes of a cluster as children of one command, with an embedded Qdrant."""
