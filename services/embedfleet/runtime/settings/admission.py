"""The limits of what the api takes; see docs/back-pressure.md."""

from pydantic import Field

from embedfleet.runtime.settings.base import Settings


class AdmissionSettings(Settings):
    """Above which load an upload is refused; 0 is no limit."""

    max_queued_documents: int = Field(
        50_000,
        ge=0,
        alias="FLEET_MAX_QUEUED_DOCUMENTS",
        description="Accepted documents that haven't ended; at this many an upload is refused with 503.",
    )
    max_documents_per_key: int = Field(
        10_000,
        ge=0,
        alias="FLEET_MAX_DOCUMENTS_PER_KEY",
        description="The same for the documents of one API key (of all callers where there are no keys); the"
        " refusal is a 429.",
    )
    max_queued_tokens: int = Field(
        100_000_000,
        ge=0,
        alias="FLEET_MAX_QUEUED_TOKENS",
        description="Tokens that wait for the embedding workers; at this many an upload is refused with 503.",
    )
    redis_memory_limit: float = Field(
        0.6,
        ge=0,
        le=1,
        alias="FLEET_REDIS_MEMORY_LIMIT",
        description="Share of Redis' `maxmemory` in use at which an upload is refused with 503: the rest is"
        " for finishing what was accepted.",
    )
    min_free_disk: int = Field(
        1_000_000_000,
        ge=0,
        alias="FLEET_MIN_FREE_DISK",
        description="Bytes that an upload must leave free on the disk of the blobs; else it is refused: 503."
        " A bucket has no such limit.",
    )
