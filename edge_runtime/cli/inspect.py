"""`hh-edge inspect`: what is in a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import AS_JSON, BUNDLE, DEBUG, TRUSTED_KEY, as_json_text


@click.command("inspect")
@BUNDLE
@TRUSTED_KEY
@AS_JSON
@DEBUG
def command(bundle: Path, trusted_keys: tuple[str, ...], as_json: bool, debug: bool) -> None:
    """Show what is in a bundle, after checking every file against its hash.

    You get the model, prompt and expert heads it came from, how it cuts and samples, how well it did on its
    validation split, how late its two locators answer, its size on disk, and who signed it: as its signature says
    itself, or checked where --trusted-key is given.

    \b
    Example:
      hh-edge inspect bundle/
      hh-edge inspect bundle/ --json | jq .experts
      hh-edge inspect bundle/ --trusted-key builder.key.pub
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.bundle.summary import as_dict, as_text
    from edge_runtime.cli.console import start_logging

    start_logging(debug=debug)
    opened = Bundle.open(bundle, trusted_keys or None)
    click.echo(as_json_text(as_dict(opened)) if as_json else as_text(opened))
