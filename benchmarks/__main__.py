"""`python -m benchmarks`: all measurements, or one of them by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click
import msgspec

from benchmarks.campaign import Settings, chosen, run_all
from benchmarks.commanding import PATH, WORK
from benchmarks.readme import README, generate
from benchmarks.results import RESULTS, read_results, write_result
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import UsageError
from edge_runtime.files import write_atomic

# Imported when they are called: most of them bring torch.
_ONE = {
    "graph": "graph",
    "textual": "textual",
    "extract": "extract",
    "hunt": "hunt",
    "edge": "edge",
    "start": "start",
    "memory": "memory",
    "cameras": "cameras",
    "batches": "batches",
    "full-size": "full_size",
}
RESULTS_FOLDER = click.option("--output", type=PATH, help="Folder of the JSON files [default: benchmarks/results].")


class _Commands(click.Group):
    """The measurements by name; without a name, all."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Put `all` in front of options without a command."""
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["all", *args]
        return super().parse_args(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        """In the order of the table above, behind those of the campaign."""
        return [*super().list_commands(context), *_ONE]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Import it if it is one of the measurements."""
        if name not in _ONE:
            return super().get_command(context, name)
        command = getattr(importlib.import_module(f"benchmarks.{_ONE[name]}"), _ONE[name])
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands)
def cli() -> None:
    """Measure how fast everything is on this machine. Without a command: `all`.

    \b
    Example:
      python -m benchmarks --quick
    """


@cli.command("all")
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes: whether everything runs. The results go into --work.")
@click.option("--again", is_flag=True, help="Measure what has a result, too.")
@click.option("--keep", is_flag=True, help="Leave checkpoints and graphs in --work.")
@RESULTS_FOLDER
@WORK
def all_of_them(names: tuple[str, ...], quick: bool, again: bool, keep: bool, output: Path | None, work: Path) -> int:
    """Measure all that has no result yet, one at a time; or what NAMES match, such as 'graph-256m-*'.

    What is done is not done again after an interruption. One that fails is noted, and the others go on; the exit code
    is 1 then.
    """
    results = output or (work / "quick" if quick else RESULTS)
    fine = run_all(chosen(names), Settings(results, work, quick, again, keep))
    if results == RESULTS:
        _write_readme(results)
    return 0 if fine else 1


@cli.command()
@RESULTS_FOLDER
def readme(output: Path | None) -> None:
    """Write benchmarks/README.md from the results."""
    _write_readme(output or RESULTS)


@cli.command()
@click.argument("name")
@click.argument("text")
@RESULTS_FOLDER
def note(name: str, text: str, output: Path | None) -> None:
    """Put a remark beside the result NAME, such as why it falls short; an empty TEXT takes it away."""
    folder = output or RESULTS
    results = read_results(folder)
    if name not in results:
        raise UsageError(f"no result {name!r} in {folder}; choose from {', '.join(results) or 'none'}")
    write_result(msgspec.structs.replace(results[name], note=text or None), folder)
    if folder == RESULTS:
        _write_readme(folder)


def _write_readme(results: Path) -> None:
    write_atomic(README, generate(read_results(results)).encode())


if __name__ == "__main__":
    sys.exit(run_command(cli))
