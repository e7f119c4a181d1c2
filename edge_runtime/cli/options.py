"""Options that several commands share, and their JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_runtime.errors import UsageError
from edge_runtime.inference.providers import AUTO, find_provider, provider_choices


class ProviderName(click.Choice[str]):
    """A name of the table of providers, perhaps with the number of a card or the address of a server."""

    def __init__(self) -> None:
        super().__init__(provider_choices())

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if ":" not in str(value):
            return str(super().convert(value, param, ctx))
        try:
            return find_provider(str(value)).name
        except UsageError as error:
            self.fail(str(error), param, ctx)


BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
PROVIDER = click.option(
    "--provider",
    type=ProviderName(),
    default=AUTO,
    show_default=True,
    help="What runs the graphs; auto measures what is installed, once, and takes the fastest that gives the golden "
    "features. A provider that is asked for by name and does not load is an error; cuda:1 is the second card, "
    "triton://host:8001 a server that `hh-offline triton` wrote models for.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="Processor threads for one segment [default: one a core]."
)
TRUSTED_KEY = click.option(
    "--trusted-key",
    "trusted_keys",
    multiple=True,
    metavar="KEY",
    help="Refuse a bundle that is not signed by this key: a .pub file of `hh-offline keygen`, or the line in it. "
    "Repeat it for several keys, of which one must have signed [default: any bundle that is whole].",
)
DEBUG = click.option("--debug", is_flag=True, help="Debug logs, and a traceback for an error.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of text.")


def as_json_text(value: Any) -> str:
    """What `--json` prints. A number that is not finite is a ValueError."""
    # Letters beyond ASCII are escaped: some of them act on a terminal, and a bundle's text may hold any.
    return json.dumps(value, indent=2, allow_nan=False)
