"""Damaged configurations are refused in one line, or can be run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.faults.config import PIECES, WAYS, Edit, Writes, edited, faults, site, whole_example

edits = st.lists(
    st.tuples(st.sampled_from(WAYS), st.integers(0, 999), st.integers(0, 999), st.integers(0, len(PIECES) - 1)),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def writes() -> Writes:
    return Writes()


def test_the_example_itself_can_be_run(bundle_dir: Path, writes: Writes) -> None:
    with site() as folder:
        assert faults(folder, whole_example(), bundle_dir, writes) == (0, [])


@settings(max_examples=150)
@given(edits)
def test_whatever_is_damaged(bundle_dir: Path, writes: Writes, several: list[Edit]) -> None:
    with site() as folder:
        code, found = faults(folder, edited(whole_example(), several), bundle_dir, writes)
    assert found == []
    assert code in (0, 2)


@settings(max_examples=150)
@given(st.text(max_size=200))
def test_whatever_is_in_the_file(bundle_dir: Path, writes: Writes, text: str) -> None:
    with site() as folder:
        assert faults(folder, text, bundle_dir, writes)[1] == []


def test_a_write_would_be_seen(tmp_path: Path, writes: Writes) -> None:
    with writes.watched():
        (tmp_path / "x").write_text("")
        (tmp_path / "x").unlink()
    assert [what.split()[0] for what in writes.seen] == ["open", "os.remove"]
