"""`hh-edge verify`: hashes and the golden self-test."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import AS_JSON, BUNDLE, DEBUG, PROVIDER, THREADS, TRUSTED_KEY, as_json_text


@click.command("verify")
@BUNDLE
@TRUSTED_KEY
@PROVIDER
@THREADS
@AS_JSON
@DEBUG
def command(
    bundle: Path, trusted_keys: tuple[str, ...], provider: str, threads: int | None, as_json: bool, debug: bool
) -> int:
    """Check a bundle's files, then that this machine computes with it what the builder's machine did.

    You get the largest difference of tokens, features and probabilities on the golden segments, and what is
    allowed at this precision and provider. With --trusted-key you get who signed it. Exit code 3 where a file is not
    what the manifest says or no trusted key signed it, 1 where a difference is too large.

    \b
    Example:
      hh-edge verify bundle/
      hh-edge verify bundle/ --provider cuda
      hh-edge verify bundle/ --trusted-key builder.key.pub
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.checks.verify import verify
    from edge_runtime.cli.console import start_logging
    from edge_runtime.detector import Detector
    from edge_runtime.files import shown_path

    start_logging(debug=debug)
    # The self-test is what this command measures, so it must not end it.
    with Detector(Bundle.open(bundle, trusted_keys or None), provider, threads, self_test=False) as detector:
        found = verify(detector)
    click.echo(as_json_text(found.to_dict()) if as_json else "\n".join(found.lines()))
    if not found.passed:
        click.echo(
            f"error: {shown_path(bundle)}: this machine's {found.provider} provider computes other values than the "
            "builder",
            err=True,
        )
    return 0 if found.passed else 1
