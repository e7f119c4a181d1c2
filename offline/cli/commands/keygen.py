"""`hh-offline keygen`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import PATH


@click.command()
@click.argument("keyfile", type=PATH)
@click.option("--comment", help="Whose key it is, in words, for those who trust it [default: the file's name].")
def keygen(keyfile: Path, comment: str | None) -> None:
    """Make a key that signs bundles.

    You get KEYFILE, the private key, which only you can read and which stays on this machine (PEM, not encrypted),
    and KEYFILE.pub beside it: one line of key id, key and comment. That line is printed; it goes to every box that
    shall take bundles signed with the key, as `--trusted-key` or under `trusted_keys:`. A file that is there is never
    overwritten.

    \b
    Example:
      hh-offline keygen builder.key --comment "vision team, 2026"
      hh-offline sign bundle --key builder.key
    """
    from export.signing import make_key

    tell(make_key(keyfile, keyfile.stem if comment is None else comment).line)
