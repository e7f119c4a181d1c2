"""Options that several commands share, and their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_runtime.inference.providers import AUTO, provider_choices

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
PROVIDER = click.option(
    "--provider",
    type=click.Choice(provider_choices()),
    default=AUTO,
    show_default=True,
    help="What runs the graphs; auto measures what is installed, once, and takes the fastest that gives the golden "
    "features. A provider that is asked for by name and does not load is an error.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="Processor threads for one segment [default: one a core]."
)
DEBUG = click.option("--debug", is_flag=True, help="Debug logs, and a traceback for an error.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of text.")


def as_json_text(value: Any) -> str:
    """What `--json` prints. A number that is not finite is a ValueError."""
    # Letters beyond ASCII are escaped: some of them act on a terminal, and a bundle's text may hold any.
    return json.dumps(value, indent=2, allow_nan=False)
