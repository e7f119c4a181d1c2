"""`hh-edge feedback`, given as a command: by which alarms a proposal is judged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_command import hh_edge

from edge_runtime.bundle.reader import Bundle
from edge_runtime.site.alarms import Alarms
from edge_runtime.site.page_alarms import ALARMS, PageAlarm, write_page_alarm
from edge_runtime.site.place import Site
from edge_runtime.site.store import Remembered

Run = Callable[..., str]


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Site:
    """Twenty segments of a gate, of which one stretch is marked as a false alarm."""
    site = Site.of(bundle, tmp_path / "site")
    known, rng = site.calibration, np.random.default_rng(0)
    start = float(int(time.time())) - 1000
    rows = (known.mean + known.scale * rng.normal(size=(20, known.feature_size))).astype(np.float32)
    with site.open_store() as store:
        store.remember([Remembered("gate", start + 3 * n, start + 3 * n + 3, 0.5, row) for n, row in enumerate(rows)])
        store.mark("false_alarm", "gate", start, start + 9, start)
    return site


@pytest.fixture
def propose(bundle_dir: Path, site: Site, tmp_path: Path) -> Run:
    def run(*options: str) -> str:
        env = {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}
        done = hh_edge("feedback", "--bundle", bundle_dir, "--site", site.folder, "--propose", *options, env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def alarms(propose: Run) -> list[dict[str, Any]]:
    """The alarms by the scorer in use, or the one that would be."""
    told: dict[str, Any] = json.loads(propose("--json"))
    return [*told["kept"], *told["gone"], *told["new"]]


def test_a_proposal_is_judged_by_the_pages_alarms(site: Site, propose: Run) -> None:
    page = Alarms(site.folder / ALARMS)
    page.set("gate", threshold=0.0)
    (alarm,) = alarms(propose)
    assert alarm["end"] - alarm["start"] == 60
    page.set("gate", threshold=0.0, min_duration_s=61.0)
    assert alarms(propose) == []
    page.set("gate", threshold=1.0)
    assert alarms(propose) == []


def test_a_threshold_of_another_bundle_does_not_hold(site: Site, propose: Run) -> None:
    before = alarms(propose)
    own, foreign = (PageAlarm.of(one, 0.0, None, None, None) for one in (site.bundle_id, "ab" * 32))
    write_page_alarm(site.folder / ALARMS, {}, "gate", own)
    assert alarms(propose) != before
    write_page_alarm(site.folder / ALARMS, {}, "gate", foreign)
    assert alarms(propose) == before


def test_where_a_budget_was_set_the_locators_threshold_is_taken_and_said(site: Site, propose: Run) -> None:
    before = alarms(propose)
    assert "budget" not in propose()
    assert json.loads(propose("--json"))["budgets"] == []
    Alarms(site.folder / ALARMS).set("gate", budget_per_day=2.0)
    assert alarms(propose) == before
    assert json.loads(propose("--json"))["budgets"] == ["gate"]
    assert "with a budget: gate; its threshold is known to the run alone" in propose()
