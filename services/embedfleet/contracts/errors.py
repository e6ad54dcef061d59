"""The one error tree. Every error says what to do next and whether a retry helps.

FleetError                      code, HTTP status, retryable, detail
├── InvalidRequest         4xx  the request can't be accepted; nothing was stored
├── Unauthorized           401  no key, or one that is not known
├── NotFound               404  no such task, document or collection of yours
├── Gone                   410  the task's details have expired
├── Conflict               409  what is asked for is over: a finished document can't be revoked
├── Overloaded             429 / 503  refused before anything was stored; try again after `retry_after`
├── DependencyDown         503  can't be had now: Redis, Qdrant, room in a folder, a device's memory that
│                               others hold; spends no attempt
├── NewerVersion           503  what is there was written by a newer version, which has to go on with it
├── DocumentProcessingError     the file itself: corrupt, encrypted, empty, over a limit; never retried
├── EmbeddingError              the model or its runtime; never retried
├── VectorStoreError            the vector store refused: wrong dimension, bad request; never retried
├── TimeLimitExceeded           the task ran longer than CELERY_TASK_SOFT_TIME_LIMIT; never retried
└── ConfigurationError          the process can't start like this; says which setting to change

Only ``type``, ``code``, ``detail`` and ``retryable`` cross a queue or the network (`FleetError.as_dict`).
"""

from typing import Any, ClassVar

MAX_DETAIL_CHARACTERS = 500


class FleetError(Exception):
    """Root of all errors that the project raises on purpose.

    Args:
        detail: one or two sentences for the user: what happened and what to do.
        code: stable, snake_case; defaults to the class's.
        status: HTTP status; defaults to the class's.
    """

    default_code: ClassVar[str] = "internal"
    default_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True

    def __init__(self, detail: str, *, code: str | None = None, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.status = status or self.default_status

    def as_dict(self) -> dict[str, Any]:
        """Return what the ledger and the API show of this error."""
        return {
            "type": type(self).__name__,
            "code": self.code,
            "detail": self.detail[:MAX_DETAIL_CHARACTERS],
            "retryable": self.retryable,
        }


class InvalidRequest(FleetError):
    """The request can't be accepted as it is."""

    default_code = "invalid_request"
    default_status = 422
    retryable = False


class Unauthorized(FleetError):
    """No API key, or one that is not known."""

    default_code = "unauthorized"
    default_status = 401
    retryable = False


class NotFound(FleetError):
    """No such thing, or not of this tenant."""

    default_code = "not_found"
    default_status = 404
    retryable = False


class Gone(FleetError):
    """The task finished and its details have expired."""

    default_code = "expired"
    default_status = 410
    retryable = False


class Conflict(FleetError):
    """What is asked for can't be done in this state.

    Args:
        state: the state that stands against it.
    """

    default_code = "conflict"
    default_status = 409
    retryable = False

    def __init__(self, detail: str, *, state: str, code: str | None = None) -> None:
        super().__init__(detail, code=code)
        self.state = state


class Overloaded(FleetError):
    """Refused before anything was stored: a limit of the caller (429) or of the fleet (503).

    Args:
        retry_after: seconds after which a retry makes sense.
    """

    default_code = "overloaded"
    default_status = 503

    def __init__(
        self, detail: str, *, retry_after: int, code: str | None = None, status: int | None = None
    ) -> None:
        super().__init__(detail, code=code, status=status)
        self.retry_after = retry_after


class DependencyDown(FleetError):
    """What the work needs can't be had now, and may be had later.

    Redis, Qdrant or the blob folder can't be reached, is full or refuses; Redis has started anew, and its
    records are being put back; the folder for temporary files is full; others hold the device's memory.
    A worker hands the task back, which costs no attempt, and takes none while what it asks doesn't answer; a
    task that meets this time and again though all answer fails, and is retried.

    Args:
        dependency: what it is.
        address: where it is, or which one.
        reason: what it answered, and what to do where the user has to do something.
    """

    default_code = "dependency_down"
    default_status = 503

    def __init__(self, dependency: str, address: str, reason: str) -> None:
        super().__init__(f"{dependency} at {address} can't be used: {reason}")
        self.dependency = dependency
        self.address = address
        self.retry_after = 5


class NewerVersion(FleetError):
    """What is there was written by a newer version: this process leaves it to one of that version.

    Args:
        what: what it is.
    """

    default_code = "newer_version"
    default_status = 503

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} was written by a newer version: try again when all processes run it")
        self.retry_after = 30


class DocumentProcessingError(FleetError):
    """The file can't be turned into chunks. ``code`` is one of `DOCUMENT_CODES`."""

    default_code = "corrupt"
    default_status = 422
    retryable = False


class EmbeddingError(FleetError):
    """The model or its runtime can't encode this."""

    default_code = "embedding_failed"
    retryable = False


class VectorStoreError(FleetError):
    """The vector store answered and refused."""

    default_code = "vector_store_refused"
    retryable = False


class TimeLimitExceeded(FleetError):
    """The task ran longer than CELERY_TASK_SOFT_TIME_LIMIT."""

    default_code = "time_limit"
    retryable = False


class ConfigurationError(FleetError):
    """The process refuses to start; the detail names the setting to change."""

    default_code = "configuration"
    retryable = False


DOCUMENT_CODES = {
    "unsupported_type": "the content is not PDF, DOCX, TXT or MD, or doesn't match the file's extension",
    "empty_file": "the file has no bytes",
    "corrupt": "the file is damaged beyond reading",
    "encrypted": "the file needs a password",
    "no_text": "the file has no text (a scan needs OCR first)",
    "binary": "a text file that holds binary data",
    "macro": "a DOCX that carries macros",
    "unsafe_xml": "a DOCX with a document type declaration or an entity",
    "limit_exceeded": "over a limit: pages, entries, inflated size or characters",
    "sandbox_timeout": "reading took longer than the time limit",
    "sandbox_memory": "reading took more memory than the limit",
    "sandbox_crash": "the parser crashed",
    "poison": "its worker died each time it was tried",
}
# The other codes that a run may end with, and whether its task is tried again then. Metrics show no others.
# What is refused before a run, or at a worker's start, has codes of its own.
RUN_CODES = {
    "internal": True,
    "dependency_down": True,
    "newer_version": True,
    "sandbox_killed": True,
    "sandbox_unavailable": True,
    "stalled": True,
    "time_limit": False,
    "no_blob": False,
    "model_mismatch": False,
    "embedding_failed": False,
    "bad_batch": False,
    "out_of_memory": False,
    "vector_store_refused": False,
    "collection_absent": False,
    "dimension_mismatch": False,
    "foreign_collection": False,
    "bad_vector": False,
    "bad_payload": False,
}
