"""`hh-offline`: each command parses, calls one function, prints, and returns its exit code.

A command is a file in `offline.cli.commands`; what is heavy is imported when the command runs.
"""

from __future__ import annotations

import logging
import sys

import click

from edge_runtime._version import __version__
from edge_runtime.cli.console import PrintableFormatter
from edge_runtime.cli.exit_codes import run_command
from offline.cli.commands.ablate import ablate
from offline.cli.commands.build import build
from offline.cli.commands.demo import demo
from offline.cli.commands.evaluate import evaluate
from offline.cli.commands.explain import explain
from offline.cli.commands.extract import extract
from offline.cli.commands.hunt import hunt
from offline.cli.commands.import_dataset import import_dataset
from offline.cli.commands.keygen import keygen
from offline.cli.commands.recalibrate import recalibrate
from offline.cli.commands.report import report
from offline.cli.commands.scenes import scenes
from offline.cli.commands.sign import sign
from offline.cli.commands.sign_scorer import sign_scorer
from offline.cli.commands.triton import triton
from offline.cli.commands.verify import verify

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hh-offline")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug logs.")
def cli(debug: bool) -> None:
    """From labelled clips to a bundle that a camera box can run.

    \b
    Example:
      hh-offline demo demo/
      hh-offline build --model OpenGVLab/InternVL3-1B-hf --manifest data.csv --output bundle
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


for _command in (
    demo,
    scenes,
    import_dataset,
    extract,
    hunt,
    build,
    evaluate,
    report,
    recalibrate,
    ablate,
    explain,
    verify,
    keygen,
    sign,
    triton,
    sign_scorer,
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line, and exit with its code."""
    sys.exit(run_command(cli))
