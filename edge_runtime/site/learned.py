"""The site's scorer on disk: one small file beside the bundle, written whole or not at all, and those before it.

What is in it is JSON, whose very bytes are signed with the device's key; see `seal`. Each accepted scorer is kept in
the folder `history` of the site; the current one says which was there before, so that one step leads back, and
another one farther.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.errors import BundleRefused, Conflict, OutputFailed, one_line
from edge_runtime.files import make_folder, printable, shown_path, write_atomic
from edge_runtime.site.place import Site
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.stream.clock import rfc3339
from edge_runtime.strict_json import parse_json

_MOST_BYTES = 2**22
_KEPT = 20
_WAY_OUT = "undo it with hh-edge feedback --undo, or remove the file"


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


def read_learned(site: Site) -> Learned | None:
    """The site's current scorer; None where the bundle's own is used.

    Raises:
        BundleRefused: The file is no scorer, another bundle's, or not signed by this device.
        HeadHuntError: As of `Seal.open`.
    """
    if not site.scorer_path.exists():
        return None
    return _read(site, site.scorer_path)


def write_learned(site: Site, learned: Learned) -> None:
    """Make a scorer the site's current one, and keep it.

    Raises:
        OutputFailed: It cannot be written; the one before stays.
        UsageError: The device's key cannot be used.
    """
    content = site.seal.close(site.bundle_id, json.dumps(msgspec.to_builtins(learned), allow_nan=False))
    make_folder(site.folder / "history")
    # First where it is found again, then where it is used.
    write_atomic(_kept(site, learned.number), content)
    write_atomic(site.scorer_path, content)
    for old in sorted(_numbers(site))[:-_KEPT]:
        # The one before may be an old one that an operator went back to.
        if old != learned.before:
            with contextlib.suppress(OSError):
                _kept(site, old).unlink(missing_ok=True)


def undo_learned(site: Site) -> Learned | None:
    """Go back to what was used before the current scorer; returns it, None for the bundle's own.

    From a file that is refused the way leads to the bundle's own.

    Raises:
        Conflict: The bundle's own is used already, or the one before is not kept any more.
        HeadHuntError: As of `read_learned` for the one before, and where nothing can be checked.
        OutputFailed: The file cannot be written; the current one stays.
    """
    before = 0
    with contextlib.suppress(BundleRefused):
        if (current := read_learned(site)) is None:
            raise Conflict("the bundle's own scorer is used; there is nothing to undo")
        before = current.before
    if before == 0:
        try:
            site.scorer_path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputFailed(f"{shown_path(site.scorer_path)}: cannot be removed ({error.strerror})") from error
        return None
    kept = _kept(site, before)
    if not kept.is_file():
        raise Conflict(
            f"the scorer {before} is not kept any more; remove {shown_path(site.scorer_path)} to use the bundle's own"
        )
    learned = _read(site, kept)
    write_atomic(site.scorer_path, kept.read_bytes())
    return learned


@contextlib.contextmanager
def changing(site: Site) -> Iterator[None]:
    """One process alone accepts or undoes a site's scorer at a time.

    Raises:
        OutputFailed: The site's folder cannot be written.
    """
    make_folder(site.folder)
    path = site.folder / ".scorer.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputFailed(
            f"{shown_path(path)}: cannot be written ({error.strerror}); give this user rights on the folder"
        ) from error
    try:
        with contextlib.suppress(ImportError, OSError):  # systems and file systems without locks
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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


def _read(site: Site, path: Path) -> Learned:
    shown = shown_path(path)
    try:
        content = _content(path)
    except (OSError, ValueError) as error:
        raise BundleRefused(f"{shown}: is no scorer of a site ({printable(one_line(error))}); {_WAY_OUT}") from error
    payload = site.seal.open(site.bundle_id, content, shown)
    try:
        learned = msgspec.convert(parse_json(payload), Learned)
    except ValueError as error:
        raise BundleRefused(f"{shown}: is no scorer of a site ({printable(one_line(error))}); {_WAY_OUT}") from error
    if learned.bundle_id != site.bundle_id:
        raise BundleRefused(f"{shown}: is a scorer for the bundle {printable(learned.bundle_id[:8])}; {_WAY_OUT}")
    if len(learned.weights) != site.calibration.feature_size + 1 or not np.isfinite(learned.weights).all():
        raise BundleRefused(f"{shown}: its weights are not those of this bundle; {_WAY_OUT}")
    return learned
