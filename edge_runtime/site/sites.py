"""What the site is to one run: alarms of all cameras, and for each detector what is usual at its cameras."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from functools import partial
from pathlib import Path

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.detector import Detector, FeatureScorer
from edge_runtime.errors import HeadHuntError, one_line
from edge_runtime.files import make_folder, shown_path
from edge_runtime.site.alarms import Alarms
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.site.state import Keeper
from edge_runtime.site.watching import Known, Scored, SiteStream, SiteWatch, TellDrift
from edge_runtime.stream.segments import SegmentSpec
from edge_runtime.stream.track import LocatedStream

log = logging.getLogger(__name__)


class Sites:
    """All cameras of a run.

    Args:
        alarms: What holds for them.
        folder: Where what is learned of them is kept. One that cannot be written is told; what is learned lasts as
            long as the run then.
        learns: Whether drift and p-values are told; without it alarms alone are looked after.

    Attributes:
        alarms: As given.
    """

    def __init__(self, alarms: Alarms, folder: Path | None = None, *, learns: bool = True) -> None:
        self.alarms = alarms
        self._folder, self._learns = folder, learns
        self._watches: dict[tuple[int, int], tuple[SiteWatch, Detector]] = {}
        self._of: dict[str, SiteWatch] = {}
        self._lock = threading.Lock()
        self._keeper = Keeper()
        if folder is not None:
            try:
                make_folder(folder)
            except HeadHuntError as error:
                log.warning("%s; what is usual at the site is forgotten at the end of the run", one_line(error))
                self._folder = None

    def prepare(self, camera: str, detector: Detector, locator: str, stride: int | None) -> None:
        """Read what is known of a camera and of its bundle, so that `begin` need not: a disk may take long.

        Args:
            camera: Its name.
            detector: As of `begin`.
            locator: As of `begin`.
            stride: As of `begin`.
        """
        manifest = detector.bundle.manifest
        spec = manifest.segment.striding(stride)
        with self._lock:
            watch = self._watch(detector, spec.overlap)
        watch.prepare(camera, _scored(manifest, locator, spec).locator)

    def begin(
        self, detector: Detector, locator: str, stride: int | None, stream: LocatedStream, tell: TellDrift
    ) -> SiteStream:
        """A stream of a camera begins. Any thread may call it.

        Args:
            detector: What scores it.
            locator: Name of its locator.
            stride: As of `Detector.stream`.
            stream: Its second step; gets the alarm that holds.
            tell: Told of drift, in the thread that scores.
        """
        manifest = detector.bundle.manifest
        spec = manifest.segment.striding(stride)
        scored, apply = _scored(manifest, locator, spec), partial(setattr, stream, "alarm")
        with self._lock:
            watch = self._watch(detector, spec.overlap)
            before, self._of[stream.camera] = self._of.get(stream.camera), watch
            if before not in (None, watch):
                # Another bundle: what that one knew must not be written over what this one learns.
                before.forget(stream.camera)
        return watch.begin(stream.camera, scored, apply, tell)

    def discount(self, camera: str, peak: float, ago_s: float, *, back: bool = False) -> None:
        """As of `Alarms`. Any thread may call it."""
        self.alarms.discount(camera, peak, ago_s, back=back)
        if (watch := self._of.get(camera)) is not None:
            watch.keep_soon(camera)

    def close(self) -> None:
        """Write what is known, as far as there is time."""
        for watch, detector in self._watches.values():
            watch.close()
            with contextlib.suppress(ValueError):
                detector.seen.remove(watch.seen)
        self._keeper.close()

    def _watch(self, detector: Detector, overlap: int) -> SiteWatch:
        key = id(detector), overlap
        if key not in self._watches:
            watch = SiteWatch(
                _known(detector, overlap) if self._learns else None,
                detector.bundle.manifest.bundle_id,
                self.alarms,
                self._folder,
                self._keeper,
                _ScorerName(detector),
                learns=self._learns,
            )
            self._watches[key] = watch, detector
            if self._learns:
                detector.seen.append(watch.seen)
        return self._watches[key][0]


def _scored(manifest: Manifest, locator: str, spec: SegmentSpec) -> Scored:
    kind = manifest.locators.named(locator)
    said = f"sigma {kind.sigma:g}, lookahead {kind.lookahead}, stride {spec.step}"
    return Scored(locator=said, threshold=kind.threshold, step_s=spec.step_s)


class _ScorerName:
    """Names what scores at a detector now, and asks it only whether that is another one."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._named: tuple[FeatureScorer | None, str] = None, ""

    def __call__(self) -> str:
        scorer = self._detector.site_scorer
        if scorer is not self._named[0]:
            self._named = scorer, _name_of(scorer)
        return self._named[1]


def _name_of(scorer: FeatureScorer | None) -> str:
    if scorer is None:
        return ""
    weights = scorer.weights.tobytes() if isinstance(scorer, SiteScorer) else type(scorer).__qualname__.encode()
    return f"scorer {hashlib.sha256(weights).hexdigest()[:16]}"


def _known(detector: Detector, overlap: int) -> Known | None:
    """What a detector's bundle says of its calibration; told once where it says nothing."""
    try:
        return Known.of(detector.bundle.calibration(), overlap)
    except HeadHuntError as error:
        log.warning(
            "%s: %s; until then drift is not told, and p-values come from what the cameras show themselves",
            shown_path(detector.bundle.path),
            one_line(error),
        )
        return None
