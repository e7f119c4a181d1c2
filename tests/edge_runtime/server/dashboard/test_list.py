"""The list of events: long, and still while it is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from browser import Window, a_window, shows
from page_server import Standing, page_server
from page_world import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SOUTH = "Tor Süd"


def drawn(page: Page) -> None:
    """Until the list is drawn for where it is now: rows follow a scroll in the next frame."""
    for _ in range(3):
        page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")


def test_new_events_do_not_push_away_what_is_read(window: Window, standing: Standing) -> None:
    window.go("#/events")
    page = window.page
    page.wait_for_selector(".event-row")
    page.evaluate("scrollTo(0, 1500)")
    page.wait_for_function("() => scrollY > 300")
    drawn(page)
    shown = "() => [...document.querySelectorAll('.long-row')].map(one => one.textContent)"
    before = page.evaluate(shown)
    first, second = standing.begin_event(SOUTH), standing.begin_event("Kasse")
    page.get_by_role("button", name="2 new alarms: show").wait_for()
    assert page.evaluate(shown) == before
    # A page more is loaded beneath, and nothing is there twice.
    page.wait_for_function(
        """() => { scrollTo(0, document.body.scrollHeight)
            return document.querySelector(".long-foot").textContent === "That is all." }"""
    )
    page.get_by_role("button", name="2 new alarms: show").click()
    page.locator(f'.event-row[href$="{second["id"]}"]').wait_for()
    hrefs = page.evaluate("() => [...document.querySelectorAll('.event-row')].map(one => one.hash)")
    assert [one.rpartition("/")[2] for one in hrefs[:2]] == [second["id"], first["id"]]
    assert len(hrefs) == len(set(hrefs))
    standing.end_event(second)
    shows(page, f'.event-row[href$="{second["id"]}"] .event-long', re.compile(r"\d s"))


def test_what_came_and_ended_while_something_else_was_looked_at_is_in_the_list(
    window: Window, standing: Standing
) -> None:
    first = standing.begin_event(SOUTH)
    window.go("#/events")
    page = window.page
    shows(page, f'.event-row[href$="{first["id"]}"] .event-long', "now")
    page.evaluate("location.hash = '#/teach'")
    shows(page, "h1", "Teach")
    standing.end_event(first)
    second = standing.begin_event("Kasse")
    standing.end_event(second)
    third = standing.begin_event(SOUTH)
    page.evaluate("location.hash = '#/events'")
    page.locator(f'.event-row[href$="{third["id"]}"]').wait_for()
    shows(page, f'.event-row[href$="{first["id"]}"] .event-long', re.compile(r"\d s"))
    hrefs = page.evaluate("() => [...document.querySelectorAll('.event-row')].map(one => one.hash)")
    assert [one.rpartition("/")[2] for one in hrefs[:3]] == [third["id"], second["id"], first["id"]]
    assert len(hrefs) == len(set(hrefs))


def test_where_more_than_a_page_came_meanwhile_the_list_begins_anew(window: Window, standing: Standing) -> None:
    window.go("#/events")
    page = window.page
    page.wait_for_selector(".event-row")
    page.evaluate("location.hash = '#/teach'")
    shows(page, "h1", "Teach")
    for _ in range(110):
        newest = standing.begin_event(SOUTH)
        standing.end_event(newest)
    page.evaluate("location.hash = '#/events'")
    page.locator(f'.event-row[href$="{newest["id"]}"]').wait_for()
    wanted = [event["id"] for event in standing.site.events]
    page.wait_for_function(
        """() => { scrollTo(0, document.body.scrollHeight)
            return document.querySelector(".long-foot").textContent === "That is all." }"""
    )
    drawn(page)
    shown = page.evaluate("() => [...document.querySelectorAll('.event-row')].map(one => one.hash)")
    assert [one.rpartition("/")[2] for one in shown] == wanted[-len(shown) :]


def test_another_filter_asks_once(window: Window, standing: Standing) -> None:
    window.go("#/events")
    page = window.page
    page.wait_for_selector(".event-row")
    page.wait_for_function("() => document.querySelector('.long-foot').textContent !== 'Loading…'")
    shows(page, ".link", "Live")
    before = standing.asked.count(("GET", "/api/events"))
    page.get_by_label("Mark", exact=True).select_option("missed")
    shows(page, "main", "No event fits")
    page.evaluate("() => fetch('healthz')")
    assert standing.asked.count(("GET", "/api/events")) == before + 1


def test_back_from_an_event_the_list_is_where_it_was(window: Window, standing: Standing) -> None:
    window.go("#/events")
    page = window.page
    page.wait_for_selector(".event-row")
    page.evaluate("scrollTo(0, 1500)")
    page.wait_for_function("() => scrollY > 1000")
    drawn(page)
    row = page.locator(".event-row").nth(14)
    href = row.get_attribute("href")
    row.focus()
    there = page.evaluate("scrollY")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict")
    page.keyboard.press("Escape")
    page.wait_for_function("href => document.activeElement.getAttribute('href') === href", arg=href)
    assert abs(page.evaluate("scrollY") - there) < 5


def test_ten_thousand_events_are_scrolled_through(browser: Browser) -> None:
    own = Standing(Site(camera_count=40, event_count=10_000))
    with page_server(own) as address, a_window(browser, address) as window:
        window.go("#/events")
        page = window.page
        page.wait_for_selector(".event-row")
        page.wait_for_function(
            """() => { scrollTo(0, document.body.scrollHeight)
                return document.querySelector(".long-foot").textContent === "That is all." }""",
            polling=50,
        )
        assert page.locator(".long-row").count() < 60
        oldest = own.site.events[-1]["id"]
        page.locator(f'.event-row[href$="{oldest}"]').wait_for()
        assert window.wrong == []
