"""Whatever is done to a signed bundle, it is refused or the very same; and the campaign would see it otherwise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.faults.bundles import Forger
from edge_runtime.bundle import reader


@pytest.fixture(scope="module")
def forger(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forger]:
    made = Forger(bundle_dir, tmp_path_factory.mktemp("forged"))
    yield made
    made.room.close()


WAYS = (
    "add a file",
    "alter a file and seal anew",
    "alter, seal and sign as a stranger",
    "cut a file",
    "edit the manifest",
    "edit the manifest's text",
    "edit the signature",
    "edit the signature's text",
    "fill a file",
    "flip a bit",
    "lengthen a file",
    "link a file",
    "mix signatures",
    "remove a file",
    "sign as a stranger",
    "sign something else",
    "swap two files",
)


def test_the_list_above_is_complete(forger: Forger) -> None:
    assert sorted(forger.ways) == list(WAYS)


@settings(max_examples=100)
@given(st.sampled_from(WAYS), st.integers(0, 2**32), st.integers(0, 9))
def test_none_that_differs_is_taken(forger: Forger, way: str, seed: int, kept: int) -> None:
    assert forger.tried(way, random.Random(seed), kept=kept == 0)[1] == []


def test_a_check_that_takes_everything_would_be_seen(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "check", lambda keys, *_: tuple(keys))
    # Of some files other values are no values.
    tried = [forger.tried("alter a file and seal anew", random.Random(seed))[1] for seed in range(20)]
    assert ["accepted, and not what was signed"] in tried


def test_a_traceback_would_be_seen(forger: Forger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "check", lambda *_: {}["none"])
    assert "with the key: KeyError" in forger.tried("flip a bit", random.Random(1))[1][0]
