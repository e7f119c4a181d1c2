"""The page on the real server: what it shows and changes through every part of the API."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import served
from browser import a_window

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happened lies in the last hour: the page asks for that."""
    monkeypatch.setattr(served, "NOW", time.time() - 5)


@pytest.mark.usefixtures("now")
def test_every_view_stands_on_the_real_api(browser: Browser, tmp_path: Path) -> None:
    with served.served(tmp_path) as server, a_window(browser, f"{server.url}/") as window:
        page = window.page
        window.go()
        page.locator(".tile", has_text="gate").wait_for()
        server.parts.state.write(served.told("new"))
        page.locator(".matter.hot", has_text="gate").wait_for()
        server.parts.state.write(served.told("end"))
        page.wait_for_function("() => !document.querySelector('.matter.hot')")
        window.go("#/events")
        assert page.locator(".event-row").first.get_attribute("href") == f"#/event/{server.events[0]}"
        window.go(f"#/event/{server.events[0]}")
        page.get_by_role("button", name="False alarm").click()
        page.locator(".button.chosen").wait_for()
        window.go("#/teach")
        page.get_by_role("button", name="Use it").click()
        page.get_by_text("Scorer 1 of this site").wait_for()
        window.go("#/camera/gate")
        page.locator(".trial-result .big").wait_for()
        page.get_by_label("Threshold", exact=True).fill("0.8")
        page.get_by_role("button", name="Set it").click()
        page.get_by_text("Now 0.80, set on this page").wait_for()
        page.get_by_role("button", name="Back to the configuration").click()
        page.get_by_text("Now 0.50, as calibrated").wait_for()
        assert (window.wrong, window.foreign) == ([], [])


@pytest.mark.usefixtures("now")
def test_a_token_lets_in(browser: Browser, tmp_path: Path) -> None:
    with served.served(tmp_path, token="read") as server, a_window(browser, f"{server.url}/") as window:
        window.go()
        window.page.get_by_label("Token").fill(server.token)
        window.page.keyboard.press("Enter")
        window.page.locator(".tile", has_text="gate").wait_for()
        window.page.get_by_text("May look").wait_for()
        assert (window.wrong, window.foreign) == ([], [])
