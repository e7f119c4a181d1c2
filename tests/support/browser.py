"""A real browser for tests of the operator's page: the system's Chromium, driven by playwright."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDE, THUMB = (1280, 800), (390, 844)
# How fast a shared machine is says nothing of the page.
PATIENCE_MS = 90_000


def chromium() -> str | None:
    """Where a Chromium is; `HEADHUNT_CHROMIUM` names another one."""
    found = os.environ.get("HEADHUNT_CHROMIUM")
    return found or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Started, or the test is skipped with what is missing."""
    path = chromium()
    if path is None:
        pytest.skip("no chromium is installed: apt-get install chromium")
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed: pip install playwright")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as tool:
        # In a container neither its sandbox nor much of /dev/shm is there.
        made = tool.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield made
        finally:
            made.close()


@dataclass
class Window:
    """A page, and everything that went wrong in it."""

    page: Page
    address: str
    wrong: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def go(self, where: str = "") -> None:
        """To a view, such as `#/events`, loaded anew, once it is there."""
        self.page.goto("about:blank")
        self.page.goto(self.address + where)
        self.page.wait_for_selector("main :is(h1, .empty)", state="attached")

    def turn(self, where: str) -> None:
        """To another view of the page that is open."""
        self.page.evaluate("where => { location.hash = where }", where)


@contextmanager
def a_window(browser: Browser, address: str, size: tuple[int, int] = WIDE, scheme: str = "dark") -> Iterator[Window]:
    """A window with no history; errors of its console and requests to other hosts are noted."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        reduced_motion="reduce",
        has_touch=size == THUMB,
        is_mobile=size == THUMB,
        device_scale_factor=2 if size == THUMB else 1,
        timezone_id="Europe/Berlin",
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        made = Window(page, address)
        page.on("pageerror", lambda error: made.wrong.append(str(error)))
        # That a request failed is told to the operator; here it is what a script or a policy refused that matters.
        page.on(
            "console",
            lambda told: (
                made.wrong.append(told.text) if told.type == "error" and "Failed to load" not in told.text else None
            ),
        )
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((address, "blob:", "data:", "about:"))
                else made.foreign.append(asked.url)
            ),
        )
        yield made
    finally:
        context.close()


def until(condition: Callable[[], object]) -> None:
    """Wait for what the server was told."""
    limit = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def shows(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until an element says this."""
    from playwright.sync_api import expect

    expect(page.locator(selector).first).to_contain_text(text)
