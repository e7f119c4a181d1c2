"""Where a bundle's site keeps what it learned: a folder beside the bundle, never in it.

`<bundle>.site/features-<bundle_id>.sqlite` and `<bundle>.site/scorer-<bundle_id>.json`, with the first 16 digits of
the id: a bundle of another id that takes the folder's place finds nothing of the one before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.bundle.reader import Bundle
from edge_runtime.site.store import Store


def site_folder(bundle: str | os.PathLike[str]) -> Path:
    """The folder that belongs to a bundle's, as an operator names that: a verified copy of it lies elsewhere."""
    return Path(f"{os.path.abspath(bundle)}.site")


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A bundle at a site.

    Attributes:
        folder: Where the site's files lie.
        manifest: The bundle's.
        calibration: The bundle's.
    """

    folder: Path
    manifest: Manifest
    calibration: Calibration

    @classmethod
    def of(cls, bundle: Bundle, folder: Path | None = None) -> Site:
        """The site of a bundle, by default in `<bundle>.site`.

        Raises:
            BundleRefused: The bundle has no `calibration.npz`.
        """
        return cls(folder or site_folder(bundle.path), bundle.manifest, bundle.calibration())

    @property
    def bundle_id(self) -> str:
        """The bundle's."""
        return self.manifest.bundle_id

    @property
    def store_path(self) -> Path:
        """The file of features and marks."""
        return self.folder / f"features-{self.bundle_id[:16]}.sqlite"

    @property
    def scorer_path(self) -> Path:
        """The file of the site's scorer."""
        return self.folder / f"scorer-{self.bundle_id[:16]}.json"

    def open_store(self, *, create: bool = True) -> Store:
        """As of Store."""
        return Store(self.store_path, self.bundle_id, self.calibration, create=create)
