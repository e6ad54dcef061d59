"""The data folder of a fleet on one machine: who holds it, and where its API is.

=================  =========================================================================
``fleet.lock``     locked while a fleet (or one of its processes) lives; holds its process id
``fleet.json``     address and process ids of the running fleet, for other commands
``blobs/``         uploads and chunk files, unless FLEET_BLOB_URL names another place
``redis/``         Redis's append-only file
``qdrant*/``       vectors
``logs/``          one file a process
=================  =========================================================================
"""

import fcntl
import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from embedfleet.contracts.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8000"
# Processes of a killed fleet hold the lock until the kernel has ended them.
ORPHANS_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FleetState:
    """A running fleet. Addresses have no credentials.

    Attributes:
        pid: of the supervisor.
        url: of the API.
        redis: address of Redis.
        qdrant: address of Qdrant.
        parts: name of a part → what it really is.
        pids: name of a process → its id.
        blobs: where api and workers keep the blobs: a whole path, or SCHEME://BUCKET/PREFIX; empty in what a
            version wrote that had them in its data folder always.
    """

    pid: int
    url: str
    redis: str
    qdrant: str
    parts: dict[str, str] = field(default_factory=dict)
    pids: dict[str, int] = field(default_factory=dict)
    blobs: str = ""


class DataDir:
    """The folder; `claim` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()

    @property
    def own_blobs(self) -> Path:
        """Where the blobs are unless the user names another place."""
        return self.path / "blobs"

    @property
    def blobs(self) -> str:
        """Where the blobs are now, a folder or a bucket: those of the fleet that runs here, if one does."""
        state = self.running()
        return (state and state.blobs) or str(self.own_blobs)

    @property
    def redis(self) -> Path:
        """Redis's data."""
        return self.path / "redis"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.path / "logs"

    def claim(self) -> int:
        """Make this process the only fleet here; return the lock's file descriptor.

        Children that inherit it share the lock: it is free only when the last of them has ended, so
        two Redis servers never write the same files.

        Raises:
            ConfigurationError: another fleet holds it, or the folder can't be written.
        """
        try:
            # Uploads are of one user's: nobody else may look in. A folder that is there stays as it is.
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            lock = os.open(self.path / "fleet.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"{self.path} can't be used as the data folder ({error.strerror}): give another --data-dir"
            ) from error
        deadline = time.monotonic() + ORPHANS_END_SECONDS
        while not _locked(lock):
            holder = _holder(lock)
            if is_alive(holder) or time.monotonic() > deadline:
                os.close(lock)
                raise ConfigurationError(self._held_by(holder))
            time.sleep(0.05)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def publish(self, state: FleetState) -> None:
        """Write the state, whole or not at all."""
        draft = self.path / "fleet.json.new"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(state), indent=1) + "\n")
        draft.replace(self.path / "fleet.json")

    def withdraw(self) -> None:
        """Say that no fleet runs here."""
        (self.path / "fleet.json").unlink(missing_ok=True)

    def running(self) -> FleetState | None:
        """Return the fleet that runs here, or None."""
        try:
            state = FleetState(**json.loads((self.path / "fleet.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return state if self._is_held() else None

    def _is_held(self) -> bool:
        """Say whether a fleet holds the lock: an id in a file left by a crash may be another's now."""
        try:
            lock = os.open(self.path / "fleet.lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _locked(lock, fcntl.LOCK_SH)
        finally:
            os.close(lock)

    def _held_by(self, holder: int) -> str:
        """Return the sentence about a lock that is taken."""
        state = self.running()
        where = f" ({state.url})" if state else ""
        return (
            f"{self.path} is in use by the fleet with process id {holder}{where}:"
            f" stop it (kill {holder}), or give another --data-dir"
        )


def is_alive(pid: int) -> bool:
    """Say whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _holder(lock: int) -> int:
    """Return the process id in the lock's file; 0 for none."""
    content = os.pread(lock, 20, 0)
    return int(content) if content.isdigit() else 0


def _locked(lock: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Try to take the lock; say whether it is ours."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
