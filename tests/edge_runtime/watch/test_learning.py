"""What a run keeps for feedback lies beside the bundle as the operator names it, whichever copy is loaded."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from resealed import edit

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused
from edge_runtime.site.place import site_folder
from edge_runtime.watch.config_settings import CameraSettings, Configuration, FeedbackSettings
from edge_runtime.watch.learning import Learning


@pytest.fixture(scope="module")
def opened(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", self_test=False) as detector:
        yield detector


def learning(path: Path | None = None) -> Learning:
    settings = FeedbackSettings(path=None if path is None else str(path))
    cameras = {"gate": CameraSettings(source=0, locator="low_latency"), "yard": CameraSettings(source=1)}
    return Learning(settings, Configuration(feedback=settings, cameras=cameras))


def test_the_site_is_beside_the_operators_bundle(opened: Detector, tmp_path: Path) -> None:
    run = learning()
    run.take(tmp_path / "named", opened)
    run.take(tmp_path / "again", opened)
    (site,) = run.teaching.sites
    assert site.folder == site_folder(tmp_path / "named") == tmp_path / "named.site"
    assert len(opened.seen) == 1
    run.recorders.close()
    assert opened.seen == []


def test_one_folder_can_hold_all(opened: Detector, tmp_path: Path) -> None:
    run = learning(tmp_path / "site")
    run.take(tmp_path / "named", opened)
    assert [site.folder for site in run.teaching.sites] == [tmp_path / "site"]
    run.recorders.close()


def test_a_camera_whose_bundle_has_nothing_to_learn_from_is_watched_all_the_same(
    bundle: Bundle, opened: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "old"
    shutil.copytree(bundle.path, old)
    (old / "calibration.npz").unlink()
    edit(
        old, lambda document: document.update(files=[f for f in document["files"] if f["path"] != "calibration.npz"])
    )
    detector = Detector(Bundle.open(old), engine=opened.engine, self_test=False)
    run = learning()
    with pytest.raises(BundleRefused, match=r"calibration\.npz"):
        run.take(old, detector)
    with caplog.at_level(logging.WARNING):
        run.take_if_possible(old, detector)
    assert "nothing is kept of them for feedback" in caplog.text
    assert run.teaching.sites == ()
    run.recorders.close()
