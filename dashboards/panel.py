"""What a dashboard is made of, and the expressions that most panels are. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SCOPE = 'namespace=~"$namespace"'
WINDOW = "$__rate_interval"
SEEN = " > 0"
# A worker is told by its pod; where no cluster gives it that label, by its address.
WORKER = ("pod", "instance")
WORKER_LEGEND = "{{pod}} {{instance}}"

Form = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Target:
    """An expression, and how each of its series is called.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: a text with labels in double braces.
    """

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Expressions on one scale.

    Attributes:
        title: says what is shown.
        unit: as Grafana calls it.
        targets: what is drawn.
        form: how.
        bound: where a line marks what may be; None for none.
    """

    title: str
    unit: str
    targets: Sequence[Target]
    form: Form = "timeseries"
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard.

    Attributes:
        name: of its file.
        title: as its readers see it.
        rows: panels by the heading above them.
    """

    name: str
    title: str
    rows: Mapping[str, Sequence[Panel]]

    @property
    def panels(self) -> list[Panel]:
        """All panels, from the top."""
        return [panel for row in self.rows.values() for panel in row]


def fleet(metric: str, *by: str) -> Target:
    """Return a gauge of the whole fleet: every api pod shows the same figure, so never their sum."""
    legend = " ".join(f"{{{{{label}}}}}" for label in ("namespace", *by))
    return Target(f"max by ({', '.join(('namespace', *by))}) ({_of(metric)})", legend)


def worker(metric: str, *by: str) -> Target:
    """Return a gauge of each worker."""
    legend = " ".join([WORKER_LEGEND, *(f"{{{{{label}}}}}" for label in by)])
    return Target(f"max by ({', '.join((*WORKER, *by))}) ({_of(metric)})", legend)


def rate(metric: str, *by: str, legend: str = "") -> Target:
    """Return a counter's events a second; `legend` is taken instead of the labels."""
    return Target(_sum(f"rate({_of(metric)}[{WINDOW}])", by), legend or _legend(by))


def ends(state: str) -> Target:
    """Return the runs a second that ended in a state, by code: those that there are, of the many codes."""
    where = f'state="{state}"'
    runs = _sum(f"rate({_of('fleet_tasks_total', where)}[{WINDOW}])", ("task", "code"))
    return Target(f"{runs}{SEEN}", _legend(("task", "code")))


def last_hour(metric: str, *by: str) -> Target:
    """Return how many events the hour before had: of what is rare a rate can't be read."""
    return Target(_sum(f"increase({_of(metric)}[1h])", by), _legend(by))


def mean(histogram: str, *by: str, legend: str = "") -> Target:
    """Return the average of what a histogram has seen."""
    total, count = (_sum(f"rate({_of(histogram + end)}[{WINDOW}])", by) for end in ("_sum", "_count"))
    return Target(f"{total} / {count}", legend or _legend(by))


def quantile(share: float, histogram: str, *by: str, legend: str = "") -> Target:
    """Return a quantile of what a histogram has seen, as near as its buckets tell it."""
    buckets = _sum(f"rate({_of(histogram + '_bucket')}[{WINDOW}])", ("le", *by))
    return Target(f"histogram_quantile({share:g}, {buckets})", legend or _legend(by))


def median_and_95(histogram: str) -> list[Target]:
    """Return the median and the 95th percentile of what a histogram has seen."""
    return [quantile(0.5, histogram, legend="median"), quantile(0.95, histogram, legend="95 %")]


def within(bound: str, histogram: str, window: str, legend: str) -> Target:
    """Return the share of what a histogram has seen up to a bound, which is written as in its `le`."""
    bucket = _of(histogram + "_bucket", f'le="{bound}"')
    kept, seen = (f"sum(increase({one}[{window}]))" for one in (bucket, _of(f"{histogram}_count")))
    return Target(f"{kept} / {seen}", legend)


def _of(metric: str, where: str = "") -> str:
    return f"{metric}{{{', '.join(filter(None, (SCOPE, where)))}}}"


def _sum(inner: str, by: Sequence[str]) -> str:
    return f"sum by ({', '.join(by)}) ({inner})" if by else f"sum({inner})"


def _legend(by: Sequence[str]) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in by)
