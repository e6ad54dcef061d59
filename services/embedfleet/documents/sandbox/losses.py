"""Why sandbox children are lost: killed, or dead. One that is only worn, and replaced, is no loss."""

from enum import StrEnum

from embedfleet.contracts.errors import DocumentProcessingError, FleetError, TimeLimitExceeded


class Loss(StrEnum):
    """The reasons, all of them."""

    MEMORY = "memory"
    TIME = "time"
    CPU = "cpu"
    CRASH = "crash"
    KILLED = "killed"  # from outside
    STOPPED = "stopped"  # its file was given up: revoked, drained, the claim lost
    IDLE = "idle"  # between two files


_OF_CODE = {
    "sandbox_memory": Loss.MEMORY,
    "sandbox_timeout": Loss.TIME,
    "sandbox_crash": Loss.CRASH,
    "sandbox_killed": Loss.KILLED,
}


def of_death(error: FleetError) -> Loss:
    """Return the loss that a child's death is, by the error for it (`SandboxChild.death`)."""
    return Loss.CPU if error.code == "sandbox_timeout" else _OF_CODE[error.code]


def of_end(error: Exception) -> Loss | None:
    """Return the loss when this was raised and the child is not used again; None: it is only worn."""
    if isinstance(error, DocumentProcessingError):
        return _OF_CODE.get(error.code)
    return Loss.TIME if isinstance(error, TimeLimitExceeded) else Loss.STOPPED
