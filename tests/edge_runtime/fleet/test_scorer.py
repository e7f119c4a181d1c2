"""A site's scorer goes from one device over a workstation and a bucket to others, for its bundle and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from bucket import Bucket, serving
from edge_command import with_manifest

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.signature import Signed, scorer_purpose
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, InferenceFailed, SourceUnavailable
from edge_runtime.fleet.address import Address
from edge_runtime.fleet.fetch import Fetcher, Patience
from edge_runtime.fleet.scorer import PulledScorer, pull_scorer
from edge_runtime.site.learned import Learned, read_learned, undo_learned, write_learned
from edge_runtime.site.place import Site
from edge_runtime.site.recorder import Recorder
from edge_runtime.site.seal import Seal
from export.signing import sign_scorer

BUILDER, STRANGER = PrivateKey.generate("builder"), PrivateKey.generate("stranger")
QUICK = Patience(waits_s=(0.01,))


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with serving(tmp_path / "served") as served:
        yield served


def site_of(bundle: Bundle, folder: Path) -> Site:
    """Each device has a key of its own."""
    return Site.of(bundle, folder / "site", Seal(folder))


def learned(bundle: Bundle, accepted: str, shift: float = 0.5) -> Learned:
    moved = bundle.calibration().prior_mean.copy()
    moved[-1] += shift
    return Learned(
        bundle_id=bundle.manifest.bundle_id,
        number=7,
        before=6,
        accepted=accepted,
        marks=3,
        segments=9,
        weights=moved.tolist(),
        loss_before=1.0,
        loss_left_out=0.5,
    )


def publish(bucket: Bucket, given: Learned, *, bundle_id: str | None = None, key: PrivateKey = BUILDER) -> None:
    text = json.dumps(msgspec.to_builtins(given))
    purpose = scorer_purpose(given.bundle_id if bundle_id is None else bundle_id)
    (bucket.folder / "yard.json").write_text(Signed.seal(key, purpose, text.encode()))


def fetch(bucket: Bucket, bundle: Bundle, site: Site, *, allow_older: bool = False, etag: str = "") -> PulledScorer:
    fetcher = Fetcher(Address.parse(f"{bucket.url}/yard.json"), QUICK)
    return pull_scorer(fetcher, bundle, site, [BUILDER.public], allow_older=allow_older, etag=etag)


def test_what_one_device_was_taught_another_one_uses_while_it_runs(
    bucket: Bucket, bundle: Bundle, tmp_path: Path
) -> None:
    taught, other = site_of(bundle, tmp_path / "one"), site_of(bundle, tmp_path / "two")
    write_learned(taught, learned(bundle, "2026-12-01T00:00:00Z"))
    with pytest.raises(BundleRefused, match="signed by"):
        read_learned(Site(taught.folder, taught.manifest, taught.calibration, other.seal))
    sign_scorer(taught.scorer_path, bundle.path, BUILDER, bucket.folder / "yard.json")

    with Detector(bundle, "cpu", threads=1, self_test=False) as detector:
        recorder = Recorder(other, detector)
        features = bundle.golden().features
        before = detector.probabilities(features)
        came = fetch(bucket, bundle, other)
        assert (came.changed, came.number) == (True, 1)
        recorder.use_learned()
        after = detector.probabilities(features)
        odds = [np.log(one / (1 - one)) for one in (before.astype(float), after.astype(float))]
        np.testing.assert_allclose(odds[1] - odds[0], 0.5, atol=1e-3)
        # Asked again it is the same, and costs nothing.
        assert not fetch(bucket, bundle, other, etag=came.etag).changed
        assert bucket.asked[-1][2] == 304
        assert not fetch(bucket, bundle, other).changed
        assert undo_learned(other) is None
        recorder.use_learned()
        np.testing.assert_array_equal(detector.probabilities(features), before)
        recorder.end()


def test_one_for_another_bundle_or_of_another_key_is_refused(bucket: Bucket, bundle: Bundle, tmp_path: Path) -> None:
    site = site_of(bundle, tmp_path)
    other = Bundle.open(with_manifest(bundle.path, tmp_path / "other", prompt={"name": "other"}))
    given = learned(bundle, "2026-12-01T00:00:00Z")
    publish(bucket, learned(other, "2026-12-01T00:00:00Z"))
    with pytest.raises(BundleRefused, match=f"was signed for 'site-scorer:{other.manifest.bundle_id}"):
        fetch(bucket, bundle, site)
    # As if whoever signs had mixed them up.
    publish(bucket, learned(other, "2026-12-01T00:00:00Z"), bundle_id=bundle.manifest.bundle_id)
    with pytest.raises(BundleRefused, match="is a scorer for another bundle"):
        fetch(bucket, bundle, site)
    publish(bucket, given, key=STRANGER)
    with pytest.raises(BundleRefused, match="none of them is trusted"):
        fetch(bucket, bundle, site)
    publish(bucket, msgspec.structs.replace(given, weights=given.weights[1:]))
    with pytest.raises(BundleRefused, match="weights are not those"):
        fetch(bucket, bundle, site)
    publish(bucket, msgspec.structs.replace(given, weights=[1e308] * len(given.weights)))
    with pytest.raises(InferenceFailed, match="golden segments"):
        fetch(bucket, bundle, site)
    bucket.status["yard.json"] = 404
    with pytest.raises(SourceUnavailable, match="answers 404"):
        fetch(bucket, bundle, site)
    assert read_learned(site) is None
    write_learned(site, given)
    with pytest.raises(BundleRefused, match="not for"):
        sign_scorer(site.scorer_path, other.path, BUILDER, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_an_older_one_comes_only_where_it_is_asked_for(bucket: Bucket, bundle: Bundle, tmp_path: Path) -> None:
    site = site_of(bundle, tmp_path)
    publish(bucket, learned(bundle, "2026-12-02T00:00:00Z", 0.2))
    fetch(bucket, bundle, site)
    publish(bucket, learned(bundle, "2026-12-01T00:00:00Z", 0.1))
    with pytest.raises(BundleRefused, match="before the one in use"):
        fetch(bucket, bundle, site)
    came = fetch(bucket, bundle, site, allow_older=True)
    assert came.number == 2
    now = read_learned(site)
    assert now is not None
    assert (now.accepted, now.before) == ("2026-12-01T00:00:00Z", 1)
