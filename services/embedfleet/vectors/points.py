"""Points as JSON, and conditions on their payloads. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from qdrant_client import models

from embedfleet.contracts.errors import InvalidRequest, VectorStoreError

Vectors = npt.NDArray[np.float32]
Value = str | int | bool
Generation = tuple[str, int]
"""A document's id and the number of one of its generations."""

# Qdrant, as it is shipped, refuses bodies over 32 MB (service.max_request_size_mb).
MAX_BODY_BYTES = 16_000_000
INT64 = range(-(2**63), 2**63)


def upsert_bodies(
    ids: Sequence[str], vectors: Vectors, payloads: Sequence[dict[str, Any]], limit: int = MAX_BODY_BYTES
) -> Iterator[bytes]:
    """Yield the JSON bodies of an upsert, each below a size unless a single point is larger.

    Args:
        ids: n UUIDs.
        vectors: float32 ``[n, dim]``.
        payloads: n dicts of JSON values.
        limit: bytes of a body.

    Raises:
        VectorStoreError: ``bad_vector`` for NaN or infinity, ``bad_payload`` for what JSON can't hold.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise VectorStoreError("the model made a vector with NaN or infinity in it", code="bad_vector")
    points: list[bytes] = []
    size = 0
    for point_id, row, payload in zip(ids, rows, payloads, strict=True):
        point = _point(point_id, row, payload)
        if points and size + len(point) > limit:
            yield b'{"points":[' + b",".join(points) + b"]}"
            points, size = [], 0
        points.append(point)
        size += len(point) + 1
    if points:
        yield b'{"points":[' + b",".join(points) + b"]}"


def _point(point_id: str, row: Vectors, payload: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(
            {"id": point_id, "vector": row, "payload": payload}, option=orjson.OPT_SERIALIZE_NUMPY
        )
    except TypeError as error:
        raise VectorStoreError(
            f"the payload of point {point_id} can't be stored as JSON ({error}): "
            "remove half surrogates and integers over 64 bits from the metadata",
            code="bad_payload",
        ) from error


def equals(key: str, value: Value) -> models.FieldCondition:
    """Return the condition that a payload field has a value, or is a list that holds it."""
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def metadata_equals(key: str, value: Value) -> models.FieldCondition:
    """Return the condition that the user's metadata has a value; the key may have dots and spaces in it.

    Raises:
        InvalidRequest: a key that Qdrant's paths can't hold, or an integer over 64 bits.
    """
    if not key or '"' in key:
        raise InvalidRequest(f"metadata key {key!r} can't be filtered by: it is empty or has a quote in it")
    if isinstance(value, int) and value not in INT64:
        raise InvalidRequest(f"metadata value of {key!r} can't be filtered by: it has more than 64 bits")
    return equals(f'metadata."{key}"', value)


def up_to(generation: int) -> models.FieldCondition:
    """Return the condition that a point is of a generation or of one before it."""
    return models.FieldCondition(key="generation", range=models.Range(lte=generation))


def of_document(document_id: str, keep: int | None, through: int | None) -> models.Filter:
    """Return the filter for a document's points without generation `keep`, up to generation `through`."""
    must = [equals("document_id", document_id)]
    if through is not None:
        must.append(up_to(through))
    return models.Filter(must=must, must_not=None if keep is None else [equals("generation", keep)])


def counted(document_id: str | None, generation: int | None, through: int | None) -> models.Filter | None:
    """Return the filter of a count, see `VectorStore.count`; None when it would let everything through."""
    wanted = {"document_id": document_id, "generation": generation}
    must = [equals(key, value) for key, value in wanted.items() if value is not None]
    if through is not None:
        must.append(up_to(through))
    return models.Filter(must=must) if must else None


def searched(
    document_ids: Sequence[str] | None,
    metadata: Mapping[str, Value],
    model_key: str | None,
    without: Collection[Generation],
) -> models.Filter | None:
    """Return the filter of a search, see `VectorStore.search`; None when it would let everything through.

    Raises:
        InvalidRequest: a key or value that can't be asked for.
    """
    must = [metadata_equals(key, value) for key, value in metadata.items()]
    if document_ids is not None:
        must.append(_any_document(document_ids))
    if model_key is not None:
        must.append(equals("model_key", model_key))
    # One condition a generation number, not one a pair: most documents are in their first or second.
    by_number: defaultdict[int, list[str]] = defaultdict(list)
    for document_id, generation in without:
        by_number[generation].append(document_id)
    must_not = [
        models.Filter(must=[equals("generation", number), _any_document(documents)])
        for number, documents in by_number.items()
    ]
    return models.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def _any_document(document_ids: Sequence[str]) -> models.FieldCondition:
    return models.FieldCondition(key="document_id", match=models.MatchAny(any=list(document_ids)))


def of_texts(
    document_id: str, generation: int, model_key: str, precision: str, hashes: Sequence[str]
) -> models.Filter:
    """Return the filter for the points of a generation that hold one of these texts, embedded alike."""
    must: dict[str, Value] = {
        "document_id": document_id,
        "generation": generation,
        "model_key": model_key,
        "precision": precision,
    }
    any_of = models.FieldCondition(key="text_hash", match=models.MatchAny(any=list(hashes)))
    return models.Filter(must=[*(equals(key, value) for key, value in must.items()), any_of])
