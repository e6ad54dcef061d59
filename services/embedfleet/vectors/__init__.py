"""Qdrant: the only package that talks to it. One collection a (tenant, collection), one point a chunk."""

from embedfleet.vectors.refusals import CollectionAbsent
from embedfleet.vectors.store import ScoredChunk, VectorStore

__all__ = ["CollectionAbsent", "ScoredChunk", "VectorStore"]
