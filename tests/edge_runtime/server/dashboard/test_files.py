"""What holds for the files of the operator's page, without a browser."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from page_server import PAGE

FILES = sorted(path for path in PAGE.iterdir() if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_asks_another_host(path: Path) -> None:
    found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"')]*", path.read_text())
    assert [one for one in found if not one.startswith("http://www.w3.org/")] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_markup_of_text(path: Path) -> None:
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "eval(",
        "new Function",
    ):
        assert way not in path.read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_typed_modules_that_say_what_they_are_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "// @ts-check"
    assert lines[1].startswith("/**")
    assert len(lines) <= 400


def test_the_document_holds_no_style_and_no_script_of_its_own() -> None:
    text = (PAGE / "index.html").read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=", text)
    assert re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL) == [""]


def test_every_file_that_is_named_is_there_and_every_file_is_named() -> None:
    text = "".join(path.read_text() for path in FILES)
    named = set(re.findall(r"(?:static/|\./)([a-z0-9]+\.(?:js|css|svg))", text))
    assert named == {path.name for path in FILES} - {"index.html", "app.js"} | {"app.js"}


def test_icons_that_are_asked_for_are_drawn() -> None:
    drawn = set(re.findall(r"^  ([a-z]+): \"M", (PAGE / "icons.js").read_text(), re.MULTILINE))
    asked: set[str] = set()
    for path in SCRIPTS:
        asked |= set(re.findall(r"(?:icon\(|icon: |empty\()\"([a-z]+)\"", path.read_text()))
    assert asked <= drawn


def test_all_of_it_is_small_on_the_wire() -> None:
    assert sum(len(gzip.compress(path.read_bytes(), 6)) for path in FILES) < 72_000
