"""One browser for all tests of the page, and a window on the stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browser import Window, a_browser, a_window
from page_server import Standing, page_server
from page_world import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, or a reason to skip."""
    with a_browser() as made:
        yield made


@pytest.fixture
def standing() -> Standing:
    """Six cameras and their last events."""
    return Standing(Site(camera_count=6, event_count=120))


@pytest.fixture
def window(browser: Browser, standing: Standing) -> Iterator[Window]:
    """The page in a window, which asks nobody else and finds nothing wrong."""
    with page_server(standing, every_s=0.5) as address, a_window(browser, address) as made:
        yield made
        assert (made.wrong, made.foreign) == ([], [])
