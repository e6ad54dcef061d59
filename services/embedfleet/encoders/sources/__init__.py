"""Where a model's files come from."""

from collections.abc import Callable

# Takes one line of progress at a time.
Report = Callable[[str], None]
