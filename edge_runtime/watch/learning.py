"""Feedback of a run: what is kept of each of its bundles, and what people say."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused
from edge_runtime.site.place import Site, site_folder
from edge_runtime.site.real import Discount, RealEvents
from edge_runtime.site.recorders import Kept, Recorders
from edge_runtime.site.seal import Seal
from edge_runtime.site.store import DAY_S
from edge_runtime.site.teaching import Limits, Teaching
from edge_runtime.watch.config_settings import Configuration, FeedbackSettings

log = logging.getLogger(__name__)

_MB = 1e6


class Learning:
    """What a run keeps for feedback.

    Args:
        settings: How much, and where.
        configuration: Of the run.
        locator_of: As of `Teaching`.
        alarm_of: As of `Teaching`.
        discount: Told what operators call real.

    Attributes:
        teaching: What people say, and what it changes.
        recorders: A sink of the run's records.
    """

    def __init__(
        self,
        settings: FeedbackSettings,
        configuration: Configuration,
        *,
        locator_of: Callable[[str], str] | None = None,
        alarm_of: Callable[[str], Limits | None] = lambda _: None,
        discount: Discount | None = None,
    ) -> None:
        self._path, self._seal = settings.path, Seal()
        locators = {name: camera.locator for name, camera in configuration.cameras.items()}
        of_all = configuration.locator

        def configured(camera: str) -> str:
            return locators.get(camera) or of_all

        name_of = locator_of or configured

        def real_of(site: Site) -> RealEvents | None:
            if discount is None:
                return None
            return RealEvents(discount, lambda camera: site.manifest.locators.named(name_of(camera)))

        self.teaching = Teaching(locator_of=name_of, alarm_of=alarm_of)
        kept = Kept(
            retention_s=settings.retention_days * DAY_S,
            bytes_a_day=round(settings.max_mb_a_day * _MB),
            stride=configuration.stride,
        )
        self.recorders = Recorders(self.teaching, kept, real_of)

    def take(self, path: Path, detector: Detector) -> None:
        """Keep what a detector's cameras show, before the first of them does; again: nothing. Any thread.

        Args:
            path: Of its bundle, as the operator names it.
            detector: With that bundle, or its verified copy.

        Raises:
            BundleRefused: The bundle has no `calibration.npz`.
        """
        folder = site_folder(path) if self._path is None else Path(self._path)
        self.recorders.add(Site.of(detector.bundle, folder, self._seal), detector)

    def take_if_possible(self, path: Path, detector: Detector) -> None:
        """As `take`, but a camera is watched without feedback where its bundle has nothing to learn from."""
        try:
            self.take(path, detector)
        except BundleRefused as error:
            log.warning("%s; its cameras are watched, and nothing is kept of them for feedback", error)
