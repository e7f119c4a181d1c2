"""A site's scorer from an address to an edge: signed for the bundle in use, and used by a run within a second."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np

from edge_runtime.bundle.keys import PublicKey
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.signature import Signed, scorer_purpose
from edge_runtime.errors import BundleRefused, InferenceFailed, one_line
from edge_runtime.files import printable
from edge_runtime.fleet.fetch import Fetcher
from edge_runtime.site.learned import Learned, changing, next_number, read_learned, write_learned
from edge_runtime.site.place import Site
from edge_runtime.strict_json import parse_json

_LIMIT = 2**22


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledScorer:
    """What a pull of a scorer came to.

    Attributes:
        number: Of the site's scorer in use now.
        changed: Whether it is another one.
        etag: Of the file; for the next pull.
    """

    number: int
    changed: bool
    etag: str

    def __str__(self) -> str:
        """For people."""
        if not self.changed:
            return f"nothing new; the site's scorer {self.number} is in use" if self.number else "nothing new"
        return f"the site's scorer {self.number} is in use now; hh-edge feedback --undo leads back"


def pull_scorer(
    fetcher: Fetcher,
    bundle: Bundle,
    site: Site,
    trusted: Sequence[PublicKey],
    *,
    allow_older: bool = False,
    etag: str = "",
) -> PulledScorer:
    """Let a site use a scorer that lies at an address.

    It is checked against the trusted keys and this bundle, tried on the bundle's golden features, and then sealed
    with this device's key, as one that was agreed to here.

    Args:
        fetcher: Of the file's address.
        bundle: In use here.
        site: Of it.
        trusted: Keys of which one must have signed.
        allow_older: Whether it may have been agreed to before the one in use.
        etag: As of the last pull.

    Raises:
        SourceUnavailable: It cannot be had now.
        BundleRefused: It is not signed by a trusted key, for another bundle, no scorer, or older.
        InferenceFailed: It gives no scores.
        OutputFailed: It cannot be written; the one in use stays.
    """
    shown = fetcher.address.shown
    data, newest = fetcher.read("", _LIMIT, etag=etag)
    if data is None:
        return PulledScorer(number=_number(site), changed=False, etag=etag)
    payload = Signed.open(trusted, scorer_purpose(site.bundle_id), data, shown).payload
    try:
        learned = msgspec.convert(parse_json(payload), Learned)
    except ValueError as error:
        raise BundleRefused(
            f"{shown}: is no scorer of a site ({printable(one_line(error))}); publish it again"
        ) from None
    _check(learned, site, shown)
    _try(learned, bundle, shown)
    with changing(site):
        now = _in_use(site)
        if now is not None and (now.accepted, now.weights) == (learned.accepted, learned.weights):
            return PulledScorer(number=now.number, changed=False, etag=newest)
        if now is not None and not allow_older and _moment(learned) < _moment(now):
            raise BundleRefused(
                f"{shown}: was agreed to {printable(learned.accepted)}, before the one in use "
                f"({printable(now.accepted)}); --allow-older takes it all the same"
            )
        number = next_number(site)
        before = 0 if now is None else now.number
        write_learned(site, msgspec.structs.replace(learned, number=number, before=before))
    return PulledScorer(number=number, changed=True, etag=newest)


def _check(learned: Learned, site: Site, shown: str) -> None:
    if learned.bundle_id != site.bundle_id:
        raise BundleRefused(f"{shown}: is a scorer for another bundle than {site.bundle_id[:8]}; pull that first")
    if len(learned.weights) != site.calibration.feature_size + 1 or not np.isfinite(learned.weights).all():
        raise BundleRefused(f"{shown}: its weights are not those of this bundle; publish it again")


def _try(learned: Learned, bundle: Bundle, shown: str) -> None:
    """Golden features have to get scores, whatever these are: they are meant to be others than the builder's."""
    try:
        with np.errstate(all="ignore"):  # what overflows is not finite, and told
            learned.scorer(bundle.calibration()).probabilities(bundle.golden().features)
    except InferenceFailed as error:
        raise InferenceFailed(
            f"{shown}: fails on the golden segments: {one_line(error)}; the one in use stays"
        ) from None


def _in_use(site: Site) -> Learned | None:
    with suppress(BundleRefused):
        return read_learned(site)
    return None


def _number(site: Site) -> int:
    now = _in_use(site)
    return 0 if now is None else now.number


def _moment(learned: Learned) -> float:
    try:
        return datetime.fromisoformat(learned.accepted).timestamp()
    except ValueError:
        return float("-inf")
