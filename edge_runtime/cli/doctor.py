"""`hh-edge doctor`: what this machine offers."""

from __future__ import annotations

from typing import get_args

import click

from edge_runtime.cli.options import AS_JSON, DEBUG, as_json_text


@click.command("doctor")
@AS_JSON
@DEBUG
def command(as_json: bool, debug: bool) -> None:
    """Say what this machine offers: versions, providers that really load, video, processor, memory, GPU.

    You get one line a finding, with what to do about it where there is something to do. The exit code is 0
    whatever is found.

    \b
    Example:
      hh-edge doctor
    """
    from dataclasses import asdict

    from edge_runtime.checks.doctor import Level, examine
    from edge_runtime.cli.console import start_logging

    start_logging(debug=debug)
    findings = examine()
    if as_json:
        click.echo(as_json_text([asdict(finding) for finding in findings]))
        return
    width = max(len(level) for level in get_args(Level))
    for finding in findings:
        click.echo(f"{finding.level:<{width}}  {finding.subject}: {finding.found}")
        if finding.advice:
            click.echo(f"{'':<{width}}  -> {finding.advice}")
