"""`hh-edge doctor`: what this machine offers."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from edge_runtime.cli.options import AS_JSON, DEBUG, as_json_text


@click.command("doctor")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Try every bundle, camera and output that a cameras.yaml names, too.",
)
@AS_JSON
@DEBUG
def command(config: Path | None, as_json: bool, debug: bool) -> None:
    """Say what this machine offers: versions, providers that really load, video, processor, memory, GPU.

    You get one line a finding, with what to do about it where there is something to do. The exit code is 0
    whatever is found. With --config every camera is opened once and every output asked once, all within a few
    seconds; nothing is published.

    \b
    Example:
      hh-edge doctor
      hh-edge doctor --config cameras.yaml
    """
    from dataclasses import asdict

    from edge_runtime.checks.doctor import Level, examine
    from edge_runtime.cli.console import start_logging

    start_logging(debug=debug)
    findings = examine()
    if config is not None:
        from edge_runtime.checks.site import examine_site

        findings += examine_site(config)
    if as_json:
        click.echo(as_json_text([asdict(finding) for finding in findings]))
        return
    width = max(len(level) for level in get_args(Level))
    for finding in findings:
        click.echo(f"{finding.level:<{width}}  {finding.subject}: {finding.found}")
        if finding.advice:
            click.echo(f"{'':<{width}}  -> {finding.advice}")
