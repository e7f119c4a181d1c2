"""`report.html`: what was hunted and how well it does, in one file that needs no network."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from edge_runtime.files import write_atomic
from offline.report.content import Report
from offline.report.page import page
from offline.report.sections.parts import not_none


def render(report: Report) -> str:
    """Render the page: HTML, figures as inline SVG, no script, no address. The same report gives the same page."""
    html = _template().render(page(report))
    # A file name that is no UTF-8 arrives with lone surrogates, which no file could hold.
    return html.encode("utf-8", "backslashreplace").decode("utf-8")


def write(report: Report, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        OutputFailed: It cannot be written; what was there before is then still there.
    """
    write_atomic(path, render(report).encode())


@cache
def _template() -> jinja2.Template:
    # Names of videos are written by strangers: everything is escaped, and a missing value is an error.
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("offline.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["defined"] = not_none
    return environment.get_template("report.html.j2")
