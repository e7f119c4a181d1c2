"""`hh-offline sign`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.bundle.manifest import SIGNATURE
from edge_runtime.cli.exit_codes import tell
from offline.cli.options import PATH


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--key", type=PATH, required=True, help="A private key that `hh-offline keygen` made.")
def sign(bundle: Path, key: Path) -> None:
    """Sign a bundle, so that boxes which trust the key take it and nothing that was changed since.

    The bundle is checked, file by file, and its manifest, which holds the hash of every file, is signed: you get
    `manifest.sig` in the bundle. Signing with another key adds a signature, with the same key replaces it. To
    change keys, sign with both until every box trusts the new one.

    \b
    Example:
      hh-offline sign bundle --key builder.key
      hh-offline sign bundle --key builder-2027.key
    """
    from export.signing import sign_bundle

    keys = ", ".join(sign_bundle(bundle, key))
    tell(f"{bundle / SIGNATURE}: signed by {keys}")
