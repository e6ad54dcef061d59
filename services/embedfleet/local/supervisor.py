"""Starts children in order, restarts what crashes, stops all in reverse order."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from embedfleet.contracts.errors import FleetError
from embedfleet.local.child import Child, how_it_ended
from embedfleet.local.signals import StopSignals
from embedfleet.runtime.settings import EXIT_REFUSED

RESTART_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0)
FORGIVEN_SECONDS = 60.0
STILL_WAITING_SECONDS = 15.0
_POLL_SECONDS = 0.1
_IDLE_SECONDS = 2.0

Say = Callable[[str], None]


class StopRequested(Exception):
    """A stop signal came; the caller ends what it does."""


@dataclass(slots=True)
class Member:
    """A child of the fleet.

    Attributes:
        child: the process.
        not_ready: returns why it can't serve yet, or "" when it can.
        crashes: ends without a healthy run of `FORGIVEN_SECONDS` between them.
        restart_at: monotonic time of the next start, or None while it runs.
    """

    child: Child
    not_ready: Callable[[], str] = field(default=lambda: "")
    crashes: int = 0
    restart_at: float | None = None


class Supervisor:
    """Groups of members; the groups stop in reverse order, the members of a group together.

    Args:
        signals: entered by the caller.
        say: takes one line for the user.
        delays: seconds before each restart of a member; after the last one the fleet gives up.
    """

    def __init__(self, signals: StopSignals, say: Say, *, delays: Sequence[float] = RESTART_DELAYS) -> None:
        self._signals = signals
        self._say = say
        self._delays = delays
        self._groups: list[list[Member]] = []

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each member by name."""
        return {member.child.name: member.child.pid for member in self._members()}

    def start(self, *members: Member) -> None:
        """Start a group."""
        group: list[Member] = []
        self._groups.append(group)
        for member in members:
            member.child.start()
            group.append(member)  # one that can't be started needn't be stopped

    def await_ready(self, seconds: float) -> None:
        """Wait until every member serves.

        Raises:
            StopRequested: a stop signal came first.
            FleetError: a member refused to start, crashed too often, or isn't ready in time.
        """
        deadline, reminder = time.monotonic() + seconds, time.monotonic() + STILL_WAITING_SECONDS
        for member in self._members():
            while reason := self._why_not(member):
                if time.monotonic() > deadline:
                    raise self._failure(member, f"was not ready in {seconds:g} s: {reason}")
                if time.monotonic() > reminder:
                    self._say(f"still waiting for {member.child.name}: {reason}")
                    reminder += STILL_WAITING_SECONDS
                self._signals.wait(_POLL_SECONDS)

    def watch(self, on_restart: Callable[[], None] = lambda: None) -> None:
        """Restart what crashes until a stop signal comes.

        Args:
            on_restart: called when process ids have changed.

        Raises:
            FleetError: a member refused to start, or crashed too often.
        """
        while not self._signals.count:
            if self._restart_the_dead():
                on_restart()
            due = [member.restart_at for member in self._members() if member.restart_at is not None]
            self._signals.wait(min([_IDLE_SECONDS, *(at - time.monotonic() for at in due)]))

    def run_once(self, child: Child) -> int:
        """Run a child to its end while watching the others; return its exit code.

        Raises:
            StopRequested: a stop signal came first; the child is dead then.
        """
        child.start()
        try:
            while (code := child.poll()) is None:
                self._signals.wait(_POLL_SECONDS)
                self._raise_if_stopped()
                self._restart_the_dead()
        finally:
            child.stop()
        return code

    def stop(self) -> None:
        """Stop every group, the last one first; a further stop signal kills what is left at once."""
        hurry = 2 if self._signals.count else 1
        if self._groups:
            self._say("stopping the fleet (Ctrl-C again kills it at once)")
        for group in reversed(self._groups):
            for member in group:
                member.child.terminate()
            deadline = time.monotonic() + max((member.child.stop_seconds for member in group), default=0)
            while any(member.child.poll() is None for member in group):
                if self._signals.count >= hurry or time.monotonic() > deadline:
                    break
                self._signals.wait(_POLL_SECONDS)
            for member in group:
                if member.child.poll() is None:
                    self._say(f"{member.child.name} did not end in time: killed")
                    member.child.kill()
        if self._groups:
            self._say("stopped")
        self._groups.clear()

    def _members(self) -> list[Member]:
        return [member for group in self._groups for member in group]

    def _raise_if_stopped(self) -> None:
        if self._signals.count:
            raise StopRequested

    def _why_not(self, member: Member) -> str:
        """Return why a member isn't ready, after a look at all of them."""
        self._raise_if_stopped()
        self._restart_the_dead()
        return "it restarts" if member.restart_at is not None else member.not_ready()

    def _restart_the_dead(self) -> bool:
        """Notice ends, and start again what is due; say whether something was started."""
        now, restarted = time.monotonic(), False
        for member in self._members():
            if member.restart_at is None and (code := member.child.poll()) is not None:
                self._schedule(member, code, now)
            if member.restart_at is not None and member.restart_at <= now:
                member.restart_at = None
                member.child.start()
                restarted = True
        return restarted

    def _schedule(self, member: Member, code: int, now: float) -> None:
        """Decide when a member that ended starts again."""
        if now - member.child.started_at >= FORGIVEN_SECONDS:
            member.crashes = 0
        ended = how_it_ended(code)
        if code == EXIT_REFUSED:
            raise self._failure(member, "refused to start")
        if member.crashes >= len(self._delays):
            raise self._failure(member, f"{ended} and was restarted {member.crashes} times in vain")
        delay = self._delays[member.crashes]
        member.crashes += 1
        member.restart_at = now + delay
        self._say(f"{member.child.name} {ended}; restarting in {delay:g} s (log: {member.child.log})")

    def _failure(self, member: Member, what: str) -> FleetError:
        tail = member.child.tail()
        log = f"; the end of {member.child.log}:\n{tail}" if tail else f"; its log: {member.child.log}"
        return FleetError(f"{member.child.name} {what}{log}", code="member_failed")
