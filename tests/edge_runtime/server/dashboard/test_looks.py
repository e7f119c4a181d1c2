"""Every view at both widths, by day and by night: nothing wrong for axe, nothing cut off, nothing refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from browser import THUMB, WIDE, Window, a_window
from page_server import Standing, page_server
from page_world import Site, stamp

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# What is last to come in each view; others say that there is nothing.
THERE = {
    "wall": ".tile img[src^=blob]", "events": ".event-row img", "event": ".sheet-picture",
    "open event": ".steps .button", "camera": ".trial-result .big", "camera down": ".chart-words:not(:empty)",
    "teach": ".meters",
}  # fmt: skip
SIZES = {"desk": WIDE, "thumb": THUMB}


@pytest.fixture(scope="module")
def standing() -> Standing:
    """A site on a bad day: cameras down, pictures bad, an alarm, marks."""
    own = Standing(Site(camera_count=12, event_count=300))
    cameras = own.site.cameras
    since = stamp(time.time() - 780)
    cameras["Parkdeck 2"].update(
        state="offline", reason="unauthorized", since=since, picture=False,
        detail="the camera wants another user or password; change it in cameras.yaml and reload",
    )  # fmt: skip
    cameras["Kasse"].update(quality=["drifted"], quality_since={"drifted": since})
    cameras["Treppe B"].update(paused=True)
    own.begin_event("Tor Süd")
    for event in own.site.events[3:8]:
        own.site.mark(event, "false_alarm")
    own.site.mark(own.site.events[9], "missed")
    return own


@pytest.fixture(scope="module")
def address(standing: Standing) -> Iterator[str]:
    with page_server(standing) as made:
        yield made


def views(standing: Standing) -> dict[str, str]:
    """Where all views are."""
    return {
        "wall": "#/", "events": "#/events", "event": f"#/event/{standing.site.events[4]['id']}",
        "open event": f"#/event/{standing.site.events[0]['id']}", "camera": f"#/camera/{quote('Tor Süd')}",
        "camera down": f"#/camera/{quote('Parkdeck 2')}?span=week", "teach": "#/teach", "no event": "#/event/gone",
        "no camera": "#/camera/gone", "nothing found": "#/events?camera=Aufzug&peak=0.95&day=2020-01-01",
    }  # fmt: skip


def serious(window: Window) -> list[str]:
    """What axe finds that keeps somebody out."""
    from axe_playwright_python.sync_playwright import Axe

    found: list[dict[str, Any]] = Axe().run(window.page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node.get('failureSummary', '')}"
        for one in found if one["impact"] in ("serious", "critical") for node in one["nodes"]
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES)
def test_every_view(browser: Browser, address: str, standing: Standing, size: str, scheme: str) -> None:
    with a_window(browser, address, SIZES[size], scheme) as window:
        for name, where in views(standing).items():
            window.go(where)
            window.page.wait_for_selector(THERE.get(name, ".empty"))
            assert (name, serious(window)) == (name, [])
            wide = window.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], f"{name} is wider than the window"
            assert window.page.title().endswith("HeadHunt")
            assert window.page.locator("h1, .empty").count() >= 1
        assert (window.wrong, window.foreign) == ([], [])


@pytest.mark.parametrize("size", SIZES)
def test_the_help_sheet_and_the_sign_in(browser: Browser, size: str) -> None:
    with (
        page_server(Standing(Site(2, 3), {"hh_read": "read"})) as address,
        a_window(browser, address, SIZES[size]) as window,
    ):
        window.go()
        assert serious(window) == []
        window.page.get_by_role("button", name="Keys and settings").click()
        window.page.get_by_role("dialog").wait_for()
        assert serious(window) == []
        assert (window.wrong, window.foreign) == ([], [])


def test_what_a_thumb_has_to_hit_is_large_enough(browser: Browser, address: str, standing: Standing) -> None:
    with a_window(browser, address, THUMB) as window:
        for name, where in views(standing).items():
            window.go(where)
            window.page.wait_for_selector(THERE.get(name, ".empty"))
            small = window.page.evaluate(
                """() => [...document.querySelectorAll("button, select, input, .tabs a")].filter(one => {
                    const box = one.getBoundingClientRect()
                    return box.width && one.type !== "range" && (box.width < 24 || box.height < 24)
                }).map(one => one.outerHTML.slice(0, 120))"""
            )
            assert (name, small) == (name, [])
