"""`report.html`: what was hunted and how well it does, in one file that needs no network.

Renders a `Report` (see `offline.report.content`) and writes it; decides nothing about what it says.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import OutputFailed
from edge_runtime.files import write_atomic
from edge_runtime.stream.pixels import check_frame
from offline.hunting.depth import DepthPoint
from offline.report.content import AblationTable, Cell, Embedding, Report, ReportVideo, Table
from offline.report.page import not_none, page

__all__ = [
    "AblationTable",
    "Cell",
    "DepthPoint",
    "Embedding",
    "Report",
    "ReportVideo",
    "Table",
    "render",
    "thumbnail",
    "write",
]


def render(report: Report) -> str:
    """The page: HTML, figures as inline SVG, no script, no address. The same report gives the same page."""
    html = _template().render(page(report))
    # A file name that is no UTF-8 arrives with lone surrogates, which no file could hold.
    return html.encode("utf-8", "backslashreplace").decode("utf-8")


def write(report: Report, path: Path) -> None:
    """Write the page, whole or not at all: into a temporary file beside it, renamed at the end.

    Raises `OutputFailed` where that is not possible; what was there before is then still there.
    """
    write_atomic(path, render(report).encode())


def thumbnail(frame_bgr: NDArray[np.uint8], width: int = 160) -> bytes:
    """A frame, uint8 (h, w, 3), as a JPEG at most `width` pixels wide and twice as high.

    A smaller frame keeps its size. Raises InvalidFrame for what is not a picture.
    """
    frame = check_frame(frame_bgr)
    height, full = frame.shape[:2]
    scale = min(1.0, width / full, 2 * width / height)
    size = (max(1, round(full * scale)), max(1, round(height * scale)))
    small = frame if scale == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise OutputFailed(f"a frame of {full} x {height} pixels could not be written as JPEG")
    return bytes(jpeg.tobytes())


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
