"""The metrics that the app's source names."""

import re

from tests.deploy.chart import ROOT

# What Prometheus' client appends to a name.
ENDINGS = re.compile(r"_(total|bucket|sum|count)$")


def unknown(expressions: list[str]) -> set[str]:
    """Return the fleet's metrics that nothing in the app names; their labels it takes a scrape to see."""
    source = "".join(path.read_text("utf-8") for path in (ROOT / "services").rglob("*.py"))
    known = set(re.findall(r'"(fleet_[a-z_]+)"', source))
    used = {name for text in expressions for name in re.findall(r"\bfleet_[a-z_]+", text)}
    return {name for name in used if not {name, ENDINGS.sub("", name)} & known}
