"""`hh-edge verify`: hashes and the golden self-test."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import AS_JSON, BUNDLE, DEBUG, PROVIDER, THREADS, as_json_text


@click.command("verify")
@BUNDLE
@PROVIDER
@THREADS
@AS_JSON
@DEBUG
def command(bundle: Path, provider: str, threads: int | None, as_json: bool, debug: bool) -> int:
    """Check a bundle's files, then that this machine computes with it what the builder's machine did.

    You get the largest difference of tokens, features and probabilities on the golden segments, and what is
    allowed at this precision and provider. Exit code 3 where a file is not what the manifest says, 1 where a
    difference is too large.

    \b
    Example:
      hh-edge verify bundle/
      hh-edge verify bundle/ --provider cuda
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.cli.console import start_logging
    from edge_runtime.detector import Detector
    from edge_runtime.inference.selftest import self_test

    start_logging(debug=debug)
    opened = Bundle.open(bundle)
    golden = opened.golden()
    with Detector(opened, provider, threads) as detector:
        differences = self_test(detector, golden)
        assert detector.engine is not None
        used = detector.engine.provider
    passed = all(difference.passed for difference in differences)
    if as_json:
        stages = {
            item.stage: {"max_abs": item.max_abs, "relative": item.relative, "tolerance": item.tolerance}
            for item in differences
        }
        click.echo(
            as_json_text({"bundle_id": opened.manifest.bundle_id, "provider": used, "passed": passed} | stages)
        )
    else:
        files = opened.manifest.files
        click.echo(f"files          {len(files)} as the manifest says, {sum(file.bytes for file in files):,} bytes")
        for item in differences:
            click.echo(
                f"{item.stage:<14} {'ok' if item.passed else 'DIFFER'}: largest difference {item.max_abs:.3g}, "
                f"relative {item.relative:.3g}, allowed {item.tolerance:g}"
            )
        click.echo(f"{'verified' if passed else 'NOT verified'} on {used}: {opened.manifest.bundle_id}")
    if not passed:
        click.echo(
            f"error: {bundle}: this machine's {used} provider computes other values than the builder", err=True
        )
    return 0 if passed else 1
