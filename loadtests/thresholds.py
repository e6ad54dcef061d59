"""Thresholds are read from a file and decide what a run is worth. Pure."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

TIMES_IDLE, OR_BELOW = "search_p95_x_idle", "or_search_p95_ms"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """One section: least and most of figures, and the two ways to keep searches quick.

    Attributes:
        least: by figure.
        most: by figure.
        times_idle: how many times its idle p95 the p95 of search may be; None: not asked.
        or_below: milliseconds that are quick enough in any case; None: there is no such escape.
    """

    least: Mapping[str, float]
    most: Mapping[str, float]
    times_idle: float | None = None
    or_below: float | None = None

    @classmethod
    def parse(cls, text: str, section: str) -> "Thresholds":
        """Read a section of a TOML text.

        Raises:
            ValueError: there is no such section, or something in it is no threshold; the text says which.
        """
        sections = tomllib.loads(text)
        if section not in sections:
            raise ValueError(f"there is no section [{section}]: there are {', '.join(sections)}")
        least, most, rest = dict[str, float](), dict[str, float](), dict[str, float]()
        for name, bound in sections[section].items():
            if isinstance(bound, bool) or not isinstance(bound, int | float):
                raise ValueError(f"[{section}] {name}: {bound!r} is no number")
            kind, _, figure = name.partition("_")
            bounds = {"min": least, "max": most}.get(kind, rest)
            bounds[figure if bounds is not rest else name] = bound
        if unknown := set(rest) - {TIMES_IDLE, OR_BELOW}:
            raise ValueError(f"[{section}] {', '.join(sorted(unknown))}: begins with neither min_ nor max_")
        if OR_BELOW in rest and TIMES_IDLE not in rest:
            raise ValueError(f"[{section}] {OR_BELOW} alone says nothing: give {TIMES_IDLE}, too")
        return cls(least, most, rest.get(TIMES_IDLE), rest.get(OR_BELOW))

    def broken(self, figures: Mapping[str, float]) -> list[str]:
        """Return a sentence for each threshold that isn't kept."""
        found = []
        for name, bound in self.least.items():
            if not _figure(figures, name) >= bound:
                found.append(f"{name} is {figures[name]:.4g}, at least {bound:g} is wanted")
        for name, bound in self.most.items():
            if not _figure(figures, name) <= bound:
                found.append(f"{name} is {figures[name]:.4g}, at most {bound:g} is allowed")
        return found + self._slow_searches(figures)

    def _slow_searches(self, figures: Mapping[str, float]) -> list[str]:
        if self.times_idle is None:
            return []
        idle, busy = _figure(figures, "search_idle_p95_ms"), _figure(figures, "search_p95_ms")
        is_quick = busy <= self.times_idle * idle or (self.or_below is not None and busy <= self.or_below)
        if is_quick and not math.isnan(idle):
            return []
        escape = f" or {self.or_below:g} ms" if self.or_below is not None else ""
        return [f"search_p95_ms is {busy:.4g}, allowed is {self.times_idle:g} x {idle:.4g} ms{escape}"]


def _figure(figures: Mapping[str, float], name: str) -> float:
    if name not in figures:
        raise ValueError(f"no figure is called {name}: there are {', '.join(figures)}")
    return figures[name]
