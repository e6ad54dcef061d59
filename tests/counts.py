"""What the metrics of this process count while a test runs."""

from prometheus_client import REGISTRY, Metric

Labels = tuple[str, ...]


def values(families: "list[Metric]") -> dict[tuple[str, Labels], float]:
    """Return the samples of a page by name and the values of their labels, in the order of their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


class Counts:
    """What is counted from now on."""

    def __init__(self) -> None:
        self._before = values(list(REGISTRY.collect()))

    def of(self, name: str) -> dict[Labels, float]:
        """Return by how much the samples of a name have grown, those that have."""
        now = values(list(REGISTRY.collect()))
        grown = {key: value - self._before.get(key, 0) for key, value in now.items() if key[0] == name}
        return {labels: more for (_, labels), more in grown.items() if more}
