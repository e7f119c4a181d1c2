"""A matplotlib figure as SVG that is part of an HTML page.

The page decides the colours: figures are drawn in the ink of `Ink`, and each ink becomes a CSS variable of the
page, so that a figure follows the page into dark mode. Text stays text: it can be read aloud, searched and
copied. The same input gives the same bytes: no date, no random identifier.

All figures are `WIDTH_PX` wide and sit in a grid that has one column on a phone: a figure that was drawn for
a wide screen would have unreadable letters there.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

from markupsafe import Markup
from matplotlib import style
from matplotlib.figure import Figure

WIDTH_PX = 420
_POINTS_PER_INCH = 72  # SVG units are points; at this rate one of them is one pixel of the drawing.


class Ink:
    """The colours to draw with. Their values only tell them apart: the page's style sheet decides."""

    TEXT = "#010101"
    MUTED = "#020202"
    LINE = "#030303"
    CARD = "#040404"
    ACCENT = "#050505"  # this method, the smoothed score, normal samples
    WARM = "#060606"  # anomalous: ground truth, anomalous samples, experts
    SECOND = "#070707"  # what is compared
    DETECTED = "#080808"


_VARIABLES = {value: f"var(--{name.lower()})" for name, value in vars(Ink).items() if not name.startswith("_")}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "headhunt",
    # Whatever is written is meant literally, dollars included.
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
    "legend.fontsize": 10.0,
    "legend.frameon": False,
    "text.color": Ink.TEXT,
    "axes.edgecolor": Ink.LINE,
    "axes.labelcolor": Ink.MUTED,
    "axes.titlecolor": Ink.TEXT,
    "axes.titlelocation": "left",
    "xtick.color": Ink.LINE,
    "ytick.color": Ink.LINE,
    "xtick.labelcolor": Ink.MUTED,
    "ytick.labelcolor": Ink.MUTED,
    "grid.color": Ink.LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


def inline_svg(name: str, says: str, height_px: int, paint: Callable[[Figure], None]) -> Markup:
    """Let `paint` draw on an empty figure and return it as an `<svg>` element without any address in it.

    Args:
        name: Unique on the page, letters, digits and hyphens; its identifiers begin with it, because a figure in a
            closed `<details>` must not lend its definitions to another.
        says: What one sees, for who cannot see it.
        height_px: How high the figure is.
        paint: Draws it.

    Raises:
        ValueError: The name holds something else.
    """
    if re.fullmatch(r"[a-z][a-z0-9-]*", name) is None:
        raise ValueError(f"a figure's name is made of small letters, digits and hyphens, got {name!r}")
    # From the defaults, not from the settings of whoever builds: the same input gives the same bytes.
    with style.context(["default", _STYLE]):
        figure = Figure(figsize=(WIDTH_PX / _POINTS_PER_INCH, height_px / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH)
        paint(figure)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    body = text.getvalue()
    body = body[body.index("<svg") :]
    body = body[body.index(">") + 1 :]
    opening = f'<svg viewBox="0 0 {WIDTH_PX} {height_px}" role="img" aria-label="{html.escape(says)}">'
    # matplotlib escapes what it writes, and `says` is escaped here.
    return Markup(opening + _for_a_page(body, name))  # noqa: S704


def _for_a_page(body: str, name: str) -> str:
    """matplotlib's SVG without what is only right in a file of its own."""
    # Its rule for * would style the whole page.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'\b(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace("xlink:href=", "href=").replace("url(#", f"url(#{name}-")
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    body = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", body)
    for value, variable in _VARIABLES.items():
        body = body.replace(value, variable)
    # A hundredth of a pixel is finer than any screen; half of the file would be digits behind it.
    body = re.sub(r"(?<=[\s\"(])-?\d+\.\d{3,}(?=[\s\"),])", lambda found: f"{float(found[0]):.2f}", body)
    return re.sub(r"\s*\n\s*", " ", body).strip()
