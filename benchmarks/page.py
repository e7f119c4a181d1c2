"""How soon the operator's page is there and how smoothly its list scrolls, in the system's Chromium.

    python -m benchmarks.page --output benchmarks/page.txt

The page is served by the tests' stand-in (tests/support/page_server.py) with 40 cameras that are scored once a
second and 10,000 events; each trial is a fresh browser context without a cache. First paint is the browser's own
`first-contentful-paint`; the wall is there when all tiles are, the list when its rows are, from the navigation's
start. Scrolling is done by the page itself, 4,000 pixels a second for some seconds: times between frames, and the
browser's `longtask` entries (50 ms and more). Memory is the script's heap after a collection, when all events have
been scrolled through.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from benchmarks.commanding import PATH
from benchmarks.measuring import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests/support")]

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_GOAL_MS = 1000.0
_SIZES = {"1280 x 800": (1280, 800), "390 x 844": (390, 844)}

_WATCH = """() => {
  window.long = []; window.painted = null
  new PerformanceObserver(list => { for (const one of list.getEntries()) long.push([one.startTime, one.duration]) })
    .observe({ type: "longtask", buffered: true })
  const seen = (selector, count, name) => {
    const look = () => {
      if (document.querySelectorAll(selector).length < count) requestAnimationFrame(look)
      else window[name] = performance.now()
    }
    look()
  }
  document.addEventListener("DOMContentLoaded", () => {
    seen(".tile", WALL, "wallAt")
    seen(".event-row", 5, "listAt")
  })
}"""
_SCROLL = """seconds => new Promise(done => {
  const times = [], begun = performance.now()
  let last = begun
  const step = now => {
    times.push(now - last); last = now
    scrollBy(0, 4000 / 60)
    if (now - begun < seconds * 1000) requestAnimationFrame(step)
    else done({ times: times.slice(1), long: long.filter(one => one[0] > begun).map(one => one[1]),
      rows: document.querySelectorAll(".long-row").length })
  }
  requestAnimationFrame(step)
})"""
_TO_THE_END = """() => { scrollTo(0, document.body.scrollHeight)
  return document.querySelector(".long-foot").textContent === "That is all." }"""


@contextmanager
def _opened(browser: Browser, size: tuple[int, int], cameras: int) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, device_scale_factor=1)
    context.add_init_script(f"({_WATCH.replace('WALL', str(cameras))})()")
    page = context.new_page()
    page.set_default_timeout(120_000)
    try:
        yield page
    finally:
        context.close()


def _heap_mb(page: Page) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    found: dict[str, Any] = session.send("Runtime.getHeapUsage")
    return float(found["usedSize"]) / 1e6


def _first(page: Page, address: str, there: str) -> tuple[float, float]:
    page.goto(address)
    page.wait_for_function(f"() => window.{there}")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    return float(paint), float(page.evaluate(f"window.{there}"))


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):6.0f} {max(values):6.0f}"


def _measured(
    browser: Browser, address: str, cameras: int, trials: int, seconds: float, say: Callable[[str], None]
) -> bool:
    fast = True
    say("Milliseconds, median and worst of the trials.\n")
    say(f"  {'':12}{'first paint':>14}{'wall there':>14}{'list there':>14}")
    for name, size in _SIZES.items():
        paints, walls, lists = [], [], []
        for _ in range(trials):
            with _opened(browser, size, cameras) as page:
                paint, wall = _first(page, address, "wallAt")
                paints.append(paint)
                walls.append(wall)
            with _opened(browser, size, cameras) as page:
                lists.append(_first(page, f"{address}#/events", "listAt")[1])
        fast &= max(paints) < _GOAL_MS
        say(f"  {name:12}{_median(paints):>14}{_median(walls):>14}{_median(lists):>14}")
    say("\nScrolling through the list of events, 4,000 pixels a second.\n")
    heads = {
        "": 12,
        "frames": 8,
        "median ms": 11,
        "95 %": 8,
        "worst": 8,
        "over 50 ms": 12,
        "long tasks": 12,
        "rows": 6,
    }
    say("  " + "".join(f"{head:>{wide}}" for head, wide in heads.items()))
    for name, size in _SIZES.items():
        with _opened(browser, size, cameras) as page:
            _first(page, f"{address}#/events", "listAt")
            page.wait_for_timeout(2000)
            found = page.evaluate(_SCROLL, seconds)
            times = sorted(found["times"])
            late = sum(time > 50 for time in times)
            say(
                f"  {name:12}{len(times):8}{statistics.median(times):11.1f}{times[int(len(times) * 0.95)]:8.1f}"
                f"{times[-1]:8.1f}{late:12}{len(found['long']):12}{found['rows']:6}"
            )
    with _opened(browser, _SIZES["1280 x 800"], cameras) as page:
        _first(page, address, "wallAt")
        page.wait_for_timeout(10_000)
        wall = _heap_mb(page)
        tasks = page.evaluate("long.filter(one => one[0] > 3000).map(one => one[1])")
        page.evaluate("location.hash = '#/events'")
        page.wait_for_selector(".event-row")
        page.wait_for_function(_TO_THE_END, polling=30)
        page.wait_for_timeout(1000)
        rows = page.locator(".long-row").count()
        worst = max(tasks, default=0)
        say(f"\nThe wall from its third second to its tenth: {len(tasks)} long tasks, worst {worst:.0f} ms.")
        whole = _heap_mb(page)
        say(
            f"Script's heap: {wall:.1f} MB on the wall, {whole:.1f} MB with all events ({rows} rows in the document)."
        )
    return fast


@click.command(help=__doc__)
@click.option("--cameras", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--events", type=click.IntRange(min=100), default=10_000, show_default=True)
@click.option("--trials", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Of scrolling.")
@click.option("--output", type=PATH, help="Also write the result here.")
def page(cameras: int, events: int, trials: int, seconds: float, output: Path | None) -> None:
    """Measure, and end with 1 where a first paint took a second or more."""
    from browser import a_browser
    from page_server import Standing, page_server
    from page_world import Site

    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        click.echo(line)

    facts = machine()
    say("How soon the operator's page is there, and how smoothly it scrolls.")
    sizes = f"--cameras {cameras} --events {events} --trials {trials} --seconds {seconds:g}"
    say(f"Command: python -m benchmarks.page {sizes} --output benchmarks/page.txt")
    with page_server(Standing(Site(cameras, events))) as address, a_browser() as browser:
        say(
            f"Machine: {facts['processor']}, {facts['cores']:g} cores, part of them for the server; Chromium "
            f"{browser.version}, headless; {cameras} cameras, {events:,} events."
        )
        fast = _measured(browser, address, cameras, trials, seconds, say)
    say(f"\nfirst paint within 1 s in every trial: {'yes' if fast else 'no'}")
    if output is not None:
        output.write_text("\n".join(lines) + "\n")
    sys.exit(0 if fast else 1)


if __name__ == "__main__":
    page()
