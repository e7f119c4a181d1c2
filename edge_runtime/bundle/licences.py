"""What a licence's name says about commercial use."""

from __future__ import annotations

import re

# As model cards write them: Creative Commons' NC, and research licences of several makers.
_NOT_COMMERCIAL = re.compile(r"(^|[^a-z])(nc|non[- ]?commercial|research([- ]only)?)([^a-z]|$)", re.IGNORECASE)


def commercial_use(licence: str) -> str:
    """Say in a few words whether a licence allows commercial use, as far as its name tells; "" where it does.

    Args:
        licence: Its name on the model card, such as `mit`, `apache-2.0`, `cc-by-nc-4.0`, `qwen-research`.
    """
    if _NOT_COMMERCIAL.search(licence):
        return "forbids commercial use"
    if licence.lower() in ("", "unknown", "other"):
        return "says nothing of commercial use; ask its maker"
    return ""
