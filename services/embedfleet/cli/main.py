"""The command `embedfleet`: its groups, and one line instead of a traceback for what is foreseen."""

from typing import Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from embedfleet.cli import doctor, fsck, ingest, models, remove, search, status, up
from embedfleet.cli.output import plain, sentence, stderr
from embedfleet.contracts.errors import FleetError
from embedfleet.runtime.settings import settings_sentence


class FleetGroup(TyperGroup):
    """Prints the fleet's own errors as a sentence and ends with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FleetError as error:
            message = sentence(error)
        except ValidationError as error:
            message = settings_sentence(error)
        except BrokenPipeError:
            raise
        except OSError as error:
            message = f"{error.filename or 'the machine'}: {error.strerror or error}"
        stderr().print(f"embedfleet: {plain(message)}", soft_wrap=True)
        raise typer.Exit(1)


app = typer.Typer(
    cls=FleetGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Documents in, searchable vectors out. Exit codes: 0 done, 1 failed, 2 wrong use.",
)
app.command()(up.up)
app.command()(ingest.ingest)
app.command()(status.status)
app.command()(status.revoke)
app.command("rm")(remove.remove)
app.command()(search.search)
app.command()(doctor.doctor)
app.command()(fsck.fsck)
app.add_typer(models.app, name="models")
