"""The HTTP server: uploads, tasks, documents, search, operations."""
