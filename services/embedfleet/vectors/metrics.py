"""What every process that calls Qdrant shows on `/metrics` of its failed calls; the names are API."""

from http import HTTPStatus

from prometheus_client import Counter

from embedfleet.contracts.errors import DependencyDown, FleetError, VectorStoreError

ERRORS = Counter("fleet_vector_store_errors", "Calls to Qdrant that failed.", ["code"])

# Looked up once, so all of them are there from the start, as zeros.
_BY_CODE = {
    kind.default_code: ERRORS.labels(kind.default_code)
    for kind in (FleetError, DependencyDown, VectorStoreError)
}
# Answers that the callers expect: no such collection (yet), or another worker has just made it.
_EXPECTED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT})


def failed(error: FleetError | None) -> None:
    """Count a call that failed with this; None: with a defect of ours."""
    if error is None or error.status not in _EXPECTED:
        code = error.code if error else FleetError.default_code
        _BY_CODE.get(code, _BY_CODE[FleetError.default_code]).inc()
