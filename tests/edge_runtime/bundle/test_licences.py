"""What the names of licences say."""

from __future__ import annotations

import pytest

from edge_runtime.bundle.licences import commercial_use


@pytest.mark.parametrize("name", ["mit", "apache-2.0", "MIT", "llama3.1", "gemma", "bsd-3-clause", "cc-by-4.0"])
def test_licences_that_do_not_say_no(name: str) -> None:
    assert commercial_use(name) == ""


@pytest.mark.parametrize(
    "name", ["cc-by-nc-4.0", "CC-BY-NC-SA-4.0", "qwen-research", "non-commercial", "a-research-only"]
)
def test_licences_that_forbid_it(name: str) -> None:
    assert commercial_use(name) == "forbids commercial use"


@pytest.mark.parametrize("name", ["unknown", "other", ""])
def test_licences_that_say_nothing(name: str) -> None:
    assert "ask its maker" in commercial_use(name)
