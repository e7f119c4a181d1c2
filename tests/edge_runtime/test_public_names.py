"""The public names and signatures are those that were promised; a change of them is made on purpose."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest
from clips import ROOT
from signatures import NOT_PROMISED, signatures

import edge_runtime

PROMISED = Path(__file__).with_name("public_names.txt")


def test_nothing_public_changed_unnoticed() -> None:
    before, now = PROMISED.read_text(), signatures()
    changes = "".join(
        difflib.unified_diff(before.splitlines(keepends=True), now.splitlines(keepends=True), "promised", "now", n=1)
    )
    assert not changes, (
        f"\nThe public names of edge_runtime changed:\n\n{changes}\n"
        "What docs/reference/api.md promises: names, parameters and fields are added at the end and with a default; "
        "what is taken away or renamed is deprecated for a minor version first. If the change keeps to that, note it "
        "in CHANGELOG.md and write the file again:\n\n"
        f"    python tests/support/signatures.py > {PROMISED.relative_to(ROOT)}\n"
    )


def test_names_are_sorted_and_there() -> None:
    names = edge_runtime.__all__
    # As ruff sorts them: constants, classes, the rest.
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(edge_runtime, name) is not None


def test_the_public_errors_are_one_tree() -> None:
    public = [getattr(edge_runtime, name) for name in edge_runtime.__all__]
    errors = [value for value in public if isinstance(value, type) and issubclass(value, BaseException)]
    assert len(errors) == 9
    assert all(issubclass(error, edge_runtime.HeadHuntError) for error in errors)


@pytest.mark.parametrize("name", sorted(NOT_PROMISED))
def test_what_is_not_promised_is_said_to_be(name: str) -> None:
    """The promise names every method that it leaves out, and none that is not there."""
    text = (ROOT / "docs" / "reference" / "api.md").read_text()
    (said,) = re.findall(rf"^- `{name}`: (.*(?:\n  .*)*)", text, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", said)) == NOT_PROMISED[name] - {"__init__"}
    assert all(hasattr(getattr(edge_runtime, name), method) for method in NOT_PROMISED[name])
