"""How a command ends, on both command lines: one line on stderr and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from edge_runtime.errors import HeadHuntError, one_line
from edge_runtime.files import printable

INTERRUPTED = 130


def run_command(cli: click.Command, arguments: Sequence[str] | None = None, obj: object = None) -> int:
    """Run a click command and return its exit code. `obj` is what its commands get by `click.pass_obj`.

    0 done, 1 the work failed, 2 wrong usage or a missing extra, 3 a bundle was refused, 4 a source could not be
    opened, 130 interrupted. Whatever goes wrong is one line on stderr; with --debug anywhere among the arguments
    its traceback comes before that line.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = cli.main(args=given, standalone_mode=False, obj=obj)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        # It quotes arguments, which may be the names of files.
        text = io.StringIO()
        error.show(file=text)
        click.echo("\n".join(printable(line) for line in text.getvalue().splitlines()), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last stop before the user's terminal
        return _report(error, debug="--debug" in given)
    return result if isinstance(result, int) else 0


def tell(text: str) -> None:
    """Print a result on stdout, line by line, with whatever would act on a terminal escaped."""
    click.echo("\n".join(printable(line) for line in text.splitlines()))


def told(error: Exception) -> tuple[str, int]:
    """What is said of an error, as one printable line, and the exit code."""
    text = printable(one_line(error))
    if isinstance(error, HeadHuntError):
        return text, error.exit_code
    if isinstance(error, OSError):
        return text, 1
    return f"unexpected {type(error).__name__}: {text}; run it again with --debug and report it", 1


def _report(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    text, code = told(error)
    click.echo(f"error: {text}", err=True)
    return code
