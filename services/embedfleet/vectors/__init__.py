"""Qdrant: the only package that talks to it. One collection a (tenant, collection), one point a chunk."""

from embedfleet.vectors.points import Generation
from embedfleet.vectors.refusals import CollectionAbsent
from embedfleet.vectors.store import ScoredChunk, VectorStore

__all__ = ["CollectionAbsent", "Generation", "ScoredChunk", "VectorStore"]
