"""The site's scorer on disk: one small file beside the bundle, written whole or not at all, and those before it.

`{"format": 1, "payload": "…", "signature": "…"}`: the payload is a JSON text, of which the very bytes are signed.
Each accepted scorer is kept in the folder `history` of the site; the current one says which was there before, so that
one step leads back, and another one farther.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.errors import BundleRefused, UsageError, one_line
from edge_runtime.files import make_folder, printable, shown_path, write_atomic
from edge_runtime.site.place import Site
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.stream.clock import rfc3339
from edge_runtime.strict_json import parse_json

FORMAT = 1
_MOST_BYTES = 2**22
_KEPT = 20

# Signs the payload's bytes with the device's key; None where scorers are not signed.
Sign = Callable[[bytes], str]
# verify(bundle_id, payload, signature): raises a HeadHuntError where it may not be used.
Verify = Callable[[str, bytes, str | None], None]


class Learned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An accepted scorer of a site.

    Attributes:
        bundle_id: Of the bundle that it is for, and no other.
        number: Counts the accepted ones from 1.
        before: The number of the one that it took the place of; 0 is the bundle's own.
        accepted: When, UTC, RFC 3339.
        marks: Of how many marks it was made.
        segments: Of how many marked segments.
        weights: On standardised features, the intercept last.
        loss_before: Mean log loss of the marked segments by the bundle's scorer.
        loss_left_out: The same by scorers that did not see their mark.
    """

    bundle_id: str
    number: int
    before: int
    accepted: str
    marks: int
    segments: int
    weights: list[float]
    loss_before: float
    loss_left_out: float

    def scorer(self, calibration: Calibration) -> SiteScorer:
        """What scores with it."""
        return SiteScorer(np.array(self.weights, dtype=np.float64), calibration.mean, calibration.scale)


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: Literal[1]
    payload: str
    signature: str | UnsetType = UNSET


def read_learned(site: Site, verify: Verify | None = None) -> Learned | None:
    """The site's current scorer; None where the bundle's own is used.

    Args:
        site: Of the bundle.
        verify: Asked before anything of the payload is parsed.

    Raises:
        BundleRefused: The file is no scorer, or another bundle's.
        HeadHuntError: What `verify` raises.
    """
    if not site.scorer_path.exists():
        return None
    return _read(site, site.scorer_path, verify)


def write_learned(site: Site, learned: Learned, sign: Sign | None = None) -> None:
    """Make a scorer the site's current one, and keep it.

    Raises:
        OutputFailed: It cannot be written; the one before stays.
    """
    payload = json.dumps(msgspec.to_builtins(learned), allow_nan=False)
    envelope = {"format": FORMAT, "payload": payload}
    if sign is not None:
        envelope["signature"] = sign(payload.encode())
    content = (json.dumps(envelope) + "\n").encode()
    make_folder(site.folder / "history")
    # First where it is found again, then where it is used.
    write_atomic(_kept(site, learned.number), content)
    write_atomic(site.scorer_path, content)
    for old in sorted(_numbers(site))[:-_KEPT]:
        _kept(site, old).unlink(missing_ok=True)


def undo_learned(site: Site, verify: Verify | None = None) -> Learned | None:
    """Go back to what was used before the current scorer; returns it, None for the bundle's own.

    Raises:
        UsageError: The bundle's own is used already, or the one before is not kept any more.
        BundleRefused: As of `read_learned`.
        OutputFailed: The file cannot be written; the current one stays.
    """
    current = read_learned(site, verify)
    if current is None:
        raise UsageError("the bundle's own scorer is used; there is nothing to undo")
    if current.before == 0:
        try:
            site.scorer_path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{shown_path(site.scorer_path)}: cannot be removed ({error.strerror})") from error
        return None
    kept = _kept(site, current.before)
    if not kept.is_file():
        raise UsageError(
            f"the scorer {current.before} is not kept any more; remove {shown_path(site.scorer_path)} to use the "
            "bundle's own"
        )
    before = _read(site, kept, verify)
    write_atomic(site.scorer_path, kept.read_bytes())
    return before


def next_number(site: Site) -> int:
    """What the next accepted scorer is called."""
    return max(_numbers(site), default=0) + 1


def now() -> str:
    """The time as it stands in the file."""
    return rfc3339(datetime.now(UTC))


def _kept(site: Site, number: int) -> Path:
    return site.folder / "history" / f"{site.scorer_path.stem}.{number:06d}.json"


def _numbers(site: Site) -> list[int]:
    texts = [
        path.stem.rpartition(".")[2] for path in (site.folder / "history").glob(f"{site.scorer_path.stem}.*.json")
    ]
    return [int(text) for text in texts if text.isdecimal()]


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    return content


def _read(site: Site, path: Path, verify: Verify | None) -> Learned:
    shown = shown_path(path)
    way_out = "undo it with hh-edge feedback --undo, or remove the file"
    try:
        envelope = msgspec.convert(parse_json(_content(path)), _Envelope)
    except (OSError, ValueError) as error:
        raise BundleRefused(f"{shown}: is no scorer of a site ({printable(one_line(error))}); {way_out}") from error
    if verify is not None:
        signature = None if envelope.signature is UNSET else envelope.signature
        verify(site.bundle_id, envelope.payload.encode(), signature)
    try:
        learned = msgspec.convert(parse_json(envelope.payload.encode()), Learned)
    except ValueError as error:
        raise BundleRefused(f"{shown}: is no scorer of a site ({printable(one_line(error))}); {way_out}") from error
    if learned.bundle_id != site.bundle_id:
        raise BundleRefused(f"{shown}: is a scorer for the bundle {printable(learned.bundle_id[:8])}; {way_out}")
    if len(learned.weights) != site.calibration.feature_size + 1 or not np.isfinite(learned.weights).all():
        raise BundleRefused(f"{shown}: its weights are not those of this bundle; {way_out}")
    return learned
