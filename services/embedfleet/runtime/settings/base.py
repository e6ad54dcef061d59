"""What all sections share, and how one is read from the environment."""

import sys
from functools import cache
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

Section = TypeVar("Section", bound="Settings")

# What a program says when it can't start like this; a supervisor doesn't try again.
EXIT_REFUSED = 2


class Settings(BaseSettings):
    """Base of the sections; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", populate_by_name=True)


@cache
def load(section: type[Section]) -> Section:
    """Read one section from the environment, once a process.

    Raises:
        SystemExit: a variable has a value that is not allowed; the sentence is on stderr.
    """
    try:
        return section()
    except ValidationError as error:
        raise refused(settings_sentence(error)) from error


def refused(sentence: str) -> SystemExit:
    """Print why the process can't start, and return what ends it.

    For what is found while modules are imported: of any other exception Celery shows a traceback.
    """
    print(f"embedfleet can't start: {sentence}", file=sys.stderr)
    return SystemExit(EXIT_REFUSED)


def settings_sentence(error: ValidationError) -> str:
    """Return which variables have values that are not allowed, without the values."""
    problems = [
        f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}"
        for one in error.errors(include_input=False)
    ]
    return "settings that are not allowed: " + "; ".join(problems)
