"""From marks to an accepted scorer and back, on a real bundle."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import BundleRefused, UsageError
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.site.feedback import Rule, accept, propose
from edge_runtime.site.learned import read_learned, undo_learned
from edge_runtime.site.place import Site
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.site.seal import Seal
from edge_runtime.site.store import KnownEvent, Remembered, Store


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Site:
    return Site.of(bundle, tmp_path / "site", Seal(tmp_path / "state"))


def looking(site: Site, logit: float, *, alike: bool) -> NDArray[np.float32]:
    """Features of a logit by the bundle's scorer; `alike`: with something in common beside it."""
    known = site.calibration
    way = known.prior_mean[:-1]
    z = way * (logit - known.prior_mean[-1]) / (way @ way)
    if alike:
        other = np.random.default_rng(5).normal(size=len(way))
        other -= way * (way @ other) / (way @ way)
        z = z + other * 3 * np.linalg.norm(z) / np.linalg.norm(other)
    return (known.mean + known.scale * z).astype(np.float32)


def filled(site: Site) -> Store:
    """Ten minutes of a camera: ordinary, but for two stretches that look anomalous in the same way."""
    import time

    store, rng = site.open_store(), np.random.default_rng(0)
    known, loud, quiet = site.calibration, looking(site, 4.0, alike=True), looking(site, -4.0, alike=False)
    zero = time.time() - 3600
    segments = []
    for place in range(200):
        noise = known.scale * rng.normal(size=len(known.mean)) * 0.05
        base = loud if place in range(50, 56) or place in range(120, 126) else quiet
        segments.append(
            Remembered("gate", zero + 3 * place, zero + 3 * place + 3, 0.5, (base + noise).astype(np.float32))
        )
    store.remember(segments, [KnownEvent("first", "gate", segments[50].start, segments[55].end, 0.99)])
    return store


def test_the_bundles_scorer_in_numpy_is_that_of_its_graph(site: Site, bundle: Bundle) -> None:
    graph = ScorerGraph(bundle.file(bundle.manifest.scorer.file))
    known = site.calibration
    rng = np.random.default_rng(0)
    features = (known.mean + known.scale * rng.normal(size=(50, len(known.mean))) * 3).astype(np.float32)
    mine = SiteScorer(known.prior_mean, known.mean, known.scale).probabilities(features)
    np.testing.assert_allclose(mine, graph.probabilities(features), atol=1e-5)


def test_a_false_alarm_takes_its_like_with_it(site: Site) -> None:
    """Marked, proposed, accepted, undone: nothing changes before it is agreed to."""
    with filled(site) as store:
        with pytest.raises(UsageError, match="nothing is marked yet"):
            propose(site, store)
        store.mark_event("first", "false_alarm", 1.0)
        proposal = propose(site, store)
        assert len(proposal.gone) == 2
        assert (proposal.kept, proposal.new) == ((), ())
        assert proposal.marks == proposal.false_alarms == 1
        assert proposal.wrong_before == len(proposal.fit.before)
        # One mark alone says nothing of what a scorer without it does.
        assert proposal.loss_left_out == pytest.approx(proposal.loss_before)
        assert read_learned(site) is None
        learned = accept(site, proposal)
        assert read_learned(site) == learned
        assert learned.number == 1
        assert learned.before == 0
        # What is in use by now: nothing more would change.
        again = propose(site, store)
        assert (again.gone, again.kept, again.new) == ((), (), ())
        assert again.replaces == 1
        second = accept(site, again)
        assert (second.number, second.before) == (2, 1)
    assert undo_learned(site) == learned
    assert undo_learned(site) is None
    assert read_learned(site) is None
    with pytest.raises(UsageError, match="nothing to undo"):
        undo_learned(site)


def test_a_missed_event_is_found_then(site: Site) -> None:
    with filled(site) as store:
        first = store.segments("gate")[0].start
        store.mark("missed", "gate", first + 30, first + 60, 1.0)
        proposal = propose(site, store)
    assert (proposal.fit.after > proposal.fit.before).all()
    assert proposal.false_alarms == 0


def test_what_left_one_out_is_told(site: Site) -> None:
    with filled(site) as store:
        store.mark_event("first", "false_alarm", 1.0)
        start = store.segments("gate")[120].start
        store.mark("false_alarm", "gate", start, start + 18, 2.0)
        proposal = propose(site, store)
    assert proposal.loss_left_out is not None
    assert proposal.loss_before is not None
    assert proposal.loss_left_out < proposal.loss_before
    assert proposal.wrong_left_out < proposal.wrong_before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bundle_id": "00" * 32}, "is a scorer for the bundle 00000000"),
        ({"weights": [0.0]}, "its weights are not those of this bundle"),
        ({"weights": ["a"]}, "is no scorer of a site"),
        ({"extra": 1}, "is no scorer of a site"),
    ],
)
def test_a_file_that_is_not_this_bundles_scorer_is_refused(
    site: Site, change: dict[str, object], reason: str
) -> None:
    """Also where this very device signed it."""
    with filled(site) as store:
        store.mark_event("first", "false_alarm", 1.0)
        learned = accept(site, propose(site, store))
    payload = json.dumps(msgspec.to_builtins(learned) | change)
    site.scorer_path.write_bytes(site.seal.close(site.bundle_id, payload))
    with pytest.raises(BundleRefused, match=reason):
        read_learned(site)
    site.scorer_path.write_bytes(b"\0")
    with pytest.raises(BundleRefused, match="is no scorer of a site"):
        read_learned(site)
    # Undo leads out of it.
    assert undo_learned(site) is None
    assert read_learned(site) is None


def test_one_that_was_gone_back_to_can_be_gone_back_to_again(site: Site) -> None:
    """However many were accepted since: the way back is kept."""
    with filled(site) as store:
        store.mark_event("first", "false_alarm", 1.0)
        first = accept(site, propose(site, store))
        for _ in range(25):
            accept(site, propose(site, store))
            assert undo_learned(site) == first
    assert read_learned(site) == first


def test_what_an_alarm_is_decides_what_would_be_gone(site: Site) -> None:
    with filled(site) as store:
        store.mark_event("first", "false_alarm", 1.0)
        spec = site.manifest.locators.full

        def gone(**rule: float) -> int:
            values = {"threshold": spec.threshold, **rule}
            return len(propose(site, store, rule_of=lambda _: Rule(spec, **values)).gone)

        assert gone() == 2
        # Each lasts 18 seconds, 210 after the other.
        assert gone(min_duration_s=18) == 2
        assert gone(min_duration_s=19) == 0
        assert gone(cooldown_s=100) == 2
        assert gone(cooldown_s=1000) == 1
        assert gone(threshold=1.0) == 0


def test_the_bundle_is_untouched(site: Site, bundle: Bundle) -> None:
    with filled(site) as store:
        store.mark_event("first", "false_alarm", 1.0)
        accept(site, propose(site, store))
    Bundle.open(bundle.path)
    assert Site.of(bundle).folder == bundle.path.with_name(bundle.path.name + ".site").absolute()
