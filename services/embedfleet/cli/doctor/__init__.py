"""`embedfleet doctor`: the checks, what they examine, how they are shown."""

from embedfleet.cli.doctor.command import doctor

__all__ = ["doctor"]
