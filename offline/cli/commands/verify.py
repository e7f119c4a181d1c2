"""`hh-offline verify`."""

from __future__ import annotations

from pathlib import Path

import click

from offline.cli.options import DEVICE, PATH


@click.command()
@click.argument("bundle", type=PATH)
@click.option("--model", help="Where the source model is [default: the name in the bundle].")
@click.option("--manifest", type=PATH, help="Compare on these videos' segments [default: the golden ones].")
@DEVICE
def verify(bundle: Path, model: str | None, manifest: Path | None, device: str) -> None:
    """Parity of a bundle against its source model. Exit code 1 where they differ.

    \b
    Example:
      hh-offline verify bundle --model OpenGVLab/InternVL3-1B-hf --manifest data.csv
    """
    from export.parity import require_parity
    from offline.recipes.verify import verify as run_verify

    result = run_verify(bundle, model, manifest, device=device)
    parity = result.parity
    if not result.same_revision:
        click.echo("note: the model's weights are not those the bundle was made from", err=True)
    click.echo(
        f"{parity.segments} segments: largest difference {parity.max_abs:.3g}, {parity.relative:.3g} of the "
        f"features' scale (allowed {parity.tolerance:g}), smallest cosine {parity.min_cosine:.9f}"
    )
    require_parity(parity)
