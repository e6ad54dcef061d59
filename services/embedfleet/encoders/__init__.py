"""Text to vectors: used by the embedding workers, and by the API for queries."""
