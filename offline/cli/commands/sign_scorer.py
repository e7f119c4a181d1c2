"""`hh-offline sign-scorer`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import PATH


@click.command()
@click.argument("scorer", type=PATH)
@click.option("--bundle", type=PATH, required=True, help="The bundle that it was taught with.")
@click.option("--key", type=PATH, required=True, help="A private key that `hh-offline keygen` made.")
@click.option("--output", type=PATH, required=True, help="The file to publish.")
def sign_scorer(scorer: Path, bundle: Path, key: Path, output: Path) -> None:
    """Sign what one site was taught, so that other boxes take it with `hh-edge pull --scorer`.

    SCORER is `scorer-….json` beside the bundle on the box where it was agreed to. That file is signed by that box
    alone; you get one that is signed with your key, for this bundle and no other. Look at it before: you answer for
    it.

    \b
    Example:
      hh-offline sign-scorer scorer-0ab2711aa796c396.json --bundle bundle --key builder.key --output yard.json
    """
    from export.signing import sign_scorer as sign

    tell(f"{output}: signed by {sign(scorer, bundle, key, output)}")
