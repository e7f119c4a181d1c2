"""What an operator does on the page, in a real browser against the stand-in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from browser import THUMB, Window, a_window, shows, until
from page_server import Standing, page_server
from page_world import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SOUTH = "Tor Süd"


def focused(page: Page) -> str:
    """What one is at: its label or text."""
    told: str = page.evaluate("() => document.activeElement.ariaLabel || document.activeElement.textContent.trim()")
    return told


def test_the_wall_says_what_is_down_and_comes_alive(window: Window, standing: Standing) -> None:
    window.go()
    page = window.page
    shows(page, "#now", "All 6 cameras are watched")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.tile img')].some(one => one.src.startsWith('blob:'))"
    )
    page.wait_for_function("() => /^0\\.\\d\\d$/.test(document.querySelector('.tile .score').textContent)")
    standing.change(SOUTH, state="offline", reason="unreachable", detail="Check its cable and its address.")
    shows(page, ".matter", "Offline for")
    shows(page, ".matter", "Check its cable and its address.")
    shows(page, "#said", f"Offline: {SOUTH}")
    event = standing.begin_event("Kasse")
    shows(page, ".matter.hot", "Kasse")
    shows(page, "#said", "New alarm on Kasse")
    assert page.title().startswith("(1)")
    standing.end_event(event)
    page.wait_for_function("() => !document.querySelector('.matter.hot')")


def test_a_camera_that_alarms_says_since_when_it_does(window: Window, standing: Standing) -> None:
    name = next(iter(standing.site.cameras))
    window.go(f"#/camera/{name}")
    page = window.page
    shows(page, ".link", "Live")
    standing.begin_event(name)
    shows(page, ".camera-state .state", re.compile(r"Alarm now\s*for \d+ s, since"))


def test_many_alarms_at_once_are_few_announcements(window: Window, standing: Standing) -> None:
    window.go()
    page = window.page
    shows(page, ".link", "Live")
    page.evaluate(
        """() => { window.heard = []; window.begun = performance.now(); const said = document.querySelector("#said")
        new MutationObserver(() => heard.push(said.textContent)).observe(said, { childList: true }) }"""
    )
    for name in standing.site.cameras:
        standing.begin_event(name)
    page.wait_for_function("() => document.title.startsWith('(6)') && heard.length")
    times, seconds = page.evaluate("[heard.length, (performance.now() - begun) / 1000]")
    assert times <= 1 + seconds / 6
    shows(page, "#said", "New alarm on")


def test_pictures_are_asked_for_while_they_are_seen(browser: Browser) -> None:
    own = Standing(Site(camera_count=40, event_count=0), picture_s=0.15)
    with page_server(own) as address, a_window(browser, address) as window:
        window.go()
        page = window.page
        page.wait_for_function("() => document.querySelectorAll('.tile img[src^=blob]').length > 8")
        last = list(own.site.cameras)[-1]
        assert not any(path.endswith(f"/{last}/picture") for _, path in own.asked)
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        until(lambda: ("GET", f"/api/cameras/{last}/picture") in own.asked)
        assert own.most_under_way <= 4
        # Another tab is looked at.
        page.evaluate("""() => { Object.defineProperty(document, "hidden", { value: true });
            document.dispatchEvent(new Event("visibilitychange")) }""")
        before = sum(path.endswith("/picture") for _, path in own.asked)
        page.wait_for_timeout(3000)
        # Those that were under way.
        assert sum(path.endswith("/picture") for _, path in own.asked) <= before + 6


def test_by_keyboard_from_the_wall_to_a_mark(window: Window, standing: Standing) -> None:
    window.go()
    page = window.page
    press = page.keyboard.press
    press("Tab")
    assert focused(page) == "Skip to the content"
    page.locator("[data-tile]").first.focus()
    press("ArrowRight")
    names = list(standing.site.cameras)
    assert focused(page) == names[1]
    press("End")
    assert focused(page) == names[-1]
    press("Home")
    press("p")
    until(lambda: standing.site.cameras[names[0]]["paused"])
    shows(page, ".tile .state", "Paused")
    press("Enter")
    shows(page, "h1", names[0])
    press("Escape")
    shows(page, "#now", "watched")
    press("?")
    page.get_by_role("dialog").wait_for()
    press("Escape")
    page.wait_for_function("() => !document.querySelector('dialog')")
    press("g")
    press("e")
    page.wait_for_selector(".event-row")
    press("j")
    page.wait_for_function("() => document.activeElement.matches('.event-row')")
    press("ArrowDown")
    press("Enter")
    page.wait_for_selector("#verdict")
    shown = page.url.rpartition("/")[2]
    page.get_by_text("as high as this in 1 of 400 normal segments").wait_for()
    press("f")
    until(lambda: [mark["event"] for mark in standing.site.marks] == [shown])
    shows(page, "#verdict + .buttons .chosen", "False alarm")
    page.wait_for_selector(".steps .button")
    press("j")
    ids = [event["id"] for event in standing.site.events]
    older = standing.site.events[ids.index(shown) + 1]
    page.locator(f'h1 time[datetime="{older["start"]}"]').wait_for()
    # What a key would do is not done while one writes.
    page.get_by_role("button", name=re.compile("Describe it|Change")).click()
    press("Control+A")
    page.keyboard.type("fr gw")
    assert len(standing.site.marks) == 1
    page.get_by_role("button", name="Save").click()
    until(lambda: older["description"] == "fr gw")


def test_names_and_descriptions_are_text_whatever_they_hold(browser: Browser) -> None:
    bad = '<img src=x onerror="window.hit=1">"\'&lt;'
    name = '"><script>window.hit=1</script> Ü/?#%'
    own = Standing(Site(camera_count=2, event_count=20, names=(name, "javascript:window.hit=1")))
    for event in own.site.events:
        event["description"] = bad
    own.site.cameras[name].update(detail=bad, state="offline", reason=bad, quality=[bad])
    own.site.mark(next(one for one in own.site.events if one["camera"] == name), "false_alarm")
    with page_server(own) as address, a_window(browser, address) as window:
        page = window.page
        event = own.begin_event(name)
        event["description"] = bad
        for where in ("#/", "#/events", f"#/event/{event['id']}", f"#/camera/{quote(name, safe='')}", "#/teach"):
            window.go(where)
            page.wait_for_function("name => document.body.textContent.includes(name)", arg=name)
            assert page.evaluate("window.hit") is None
        own.tell("camera", own.site.cameras[name])
        window.go("#/events?camera=" + quote(name, safe=""))
        shows(page, ".event-text", bad)
        assert (page.evaluate("window.hit"), window.wrong, window.foreign) == (None, [], [])


def test_tokens(browser: Browser) -> None:
    own = Standing(Site(camera_count=2, event_count=10), {"hh_look": "read", "hh_do": "act"})
    with page_server(own) as address, a_window(browser, address, THUMB) as window:
        page = window.page
        window.go()
        page.get_by_label("Token").fill("hh_wrong")
        page.keyboard.press("Enter")
        shows(page, ".error", "This token is not known")
        page.get_by_label("Token").fill("hh_look")
        page.get_by_role("button", name="Sign in").click()
        shows(page, "#now", "2 cameras")
        shows(page, ".bar .chip", "May look")
        window.turn(f"#/event/{own.site.events[0]['id']}")
        mark = page.get_by_role("button", name="False alarm")
        mark.wait_for()
        assert mark.get_attribute("aria-disabled") == "true"
        assert "may only look" in (mark.get_attribute("aria-description") or "")
        mark.click(force=True)
        page.keyboard.press("f")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("Token").wait_for()
        assert not [one for one in own.asked if one[0] == "POST" and one[1].endswith("/feedback")]
        page.get_by_label("Token").fill("hh_do")
        page.keyboard.press("Enter")
        mark = page.get_by_role("button", name="False alarm")
        mark.click()
        until(lambda: own.site.marks)
        assert len(own.site.marks) == 1
        # The token is taken away meanwhile.
        own.tokens.clear()
        own.tokens["hh_new"] = "act"
        window.turn("#/teach")
        page.get_by_label("Token").wait_for()
        assert window.wrong == []


def test_a_lost_connection_is_told_and_caught_up(browser: Browser) -> None:
    own = Standing(Site(camera_count=3, event_count=5))
    with page_server(own) as address, a_window(browser, address) as window:
        window.go()
        page = window.page
        shows(page, ".link", "Live")
        page.context.set_offline(True)
        own.closing = True
        shows(page, ".band", "No connection to the edge since")
        shows(page, ".link", "No connection")
        shows(page, "#now", "No connection; as it was at")
        # What happens meanwhile is not told by the stream.
        own.site.cameras["Kasse"].update(state="offline", reason="timeout", detail="It does not answer.")
        own.begin_event(SOUTH)
        own.closing = False
        page.context.set_offline(False)
        shows(page, ".link", "Live")
        shows(page, ".matters", "It does not answer.")
        shows(page, ".matter.hot", SOUTH)
        page.wait_for_function("() => !document.querySelector('.band')")


def test_a_tab_that_nobody_looks_at_gives_its_stream_back(window: Window, standing: Standing) -> None:
    page = window.page
    page.clock.install()
    window.go()
    shows(page, ".link", "Live")
    until(lambda: standing.listeners)
    look = """hidden => { Object.defineProperty(document, "hidden", { value: hidden, configurable: true })
        document.dispatchEvent(new Event("visibilitychange")) }"""
    page.evaluate(look, True)
    page.clock.fast_forward(61_000)
    until(lambda: not standing.listeners)
    standing.begin_event(SOUTH)
    page.clock.fast_forward(21_000)
    page.wait_for_function("() => document.title.startsWith('(1)')")
    assert not standing.listeners
    page.evaluate(look, False)
    until(lambda: standing.listeners)
    shows(page, ".matter.hot", SOUTH)


def test_a_threshold_is_tried_set_and_taken_back(window: Window, standing: Standing) -> None:
    busiest = max(standing.site.cameras, key=lambda name: sum(one["camera"] == name for one in standing.site.events))
    window.go(f"#/camera/{quote(busiest)}")
    page = window.page
    shows(page, ".trial-result", "alarms a day")
    assert page.get_by_role("button", name="Set it").get_attribute("aria-disabled") == "true"
    page.get_by_label("Threshold", exact=True).fill("0.9")
    shows(page, ".trial-result", re.compile(r"At 0\.90: [\d.]+ alarms a day instead of [\d.]+"))
    shows(page, ".trial-result", "These would be gone")
    assert page.locator(".stretches a").count() > 0
    standing.failing["PUT", f"/api/cameras/{busiest}/alarm"] = (409, "another one set it just now; look again")
    page.get_by_role("button", name="Set it").click()
    shows(page, ".trial .error", "Another one set it just now; look again")
    standing.failing.clear()
    page.get_by_label("Lasts at least").fill("5")
    page.get_by_role("button", name="Set it").click()
    shows(page, ".trial", "Now 0.90, set on this page, at least 5 s")
    assert standing.site.cameras[busiest]["alarm"]["threshold"] == 0.9
    page.get_by_role("button", name="Back to the configuration").click()
    shows(page, ".trial", "Now 0.71, as calibrated")
    page.get_by_role("button", name="Budget a day").click()
    page.get_by_label("False alarms a day").fill("2")
    page.get_by_role("button", name="Set it").click()
    shows(page, ".trial", "3,410 quiet segments")


def test_marks_teach_and_one_step_back(window: Window, standing: Standing) -> None:
    page = window.page
    window.go("#/teach")
    shows(page, ".empty", "Nothing to learn yet")
    standing.site.mark(standing.site.events[0], "false_alarm")
    window.go("#/teach")
    shows(page, "main", "From one mark it cannot be told")
    assert page.locator(".meter").count() == 0
    for event in standing.site.events[:4]:
        standing.site.mark(event, "false_alarm")
    window.go("#/teach")
    shows(page, ".big", re.compile(r"\d+ alarms? fewer, 0 new"))
    shows(page, ".meter", "0 of 4")
    shows(page, ".meter + .meter", "3 of 4")
    standing.site.mark(standing.site.events[5], "missed")
    page.get_by_role("button", name="Use it").click()
    shows(page, ".error", "Marks were made since")
    page.get_by_role("button", name="Try again").click()
    shows(page, "#marks", "Your marks: 5")
    page.get_by_role("button", name="Use it").click()
    shows(page, "#in-use + p", re.compile(r"Scorer 1 of this site, since \d\d:\d\d today"))
    shows(page, ".toasts", "The new scorer is in use within seconds.")
    page.get_by_role("button", name="One step back").click()
    shows(page, "#in-use + p", "own scorer")
    page.get_by_role("button", name=re.compile("Take back: Was real")).click()
    shows(page, "#marks", "Your marks: 4")


def test_a_missed_stretch_is_marked_by_dragging(window: Window, standing: Standing) -> None:
    window.go(f"#/camera/{quote('Kasse')}")
    page = window.page
    page.wait_for_function("() => /Highest/.test(document.querySelector('.chart-words').textContent)")
    page.get_by_role("button", name="Week").click()
    shows(page, ".chart-words", re.compile("Highest .*; at times above the threshold"))
    page.get_by_role("button", name="Hour").click()
    shows(page, ".chart-words", re.compile("never above|about .* above the threshold"))
    plot = page.locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 60, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Mark as missed").click()
    until(lambda: [(mark["camera"], mark["verdict"]) for mark in standing.site.marks] == [("Kasse", "missed")])
    plot.focus()
    page.keyboard.press("ArrowLeft")
    shows(page, ".readout", re.compile(r"\d\d:\d\d:\d\d · \d\.\d\d"))


def test_an_event_that_goes_on_changes_nothing_under_a_finger(window: Window, standing: Standing) -> None:
    event = standing.begin_event("Kasse")
    window.go(f"#/event/{event['id']}")
    page = window.page
    page.wait_for_selector(".steps .button")
    shows(page, ".link", "Live")
    until(lambda: standing.listeners)
    for number, name in enumerate(["False alarm", "Forget it…", "Older"]):
        page.get_by_role("button", name=name).focus()
        standing.update_event(event, 0.94 + number / 100)
        shows(page, ".facts", f"{0.94 + number / 100:.2f}")
        assert focused(page).startswith(name)
    page.locator("h1 a").focus()
    standing.update_event(event, 0.97)
    shows(page, ".facts", "0.97")
    assert focused(page) == "Kasse"
    asked = ("POST", f"/api/events/{event['id']}/feedback")
    standing.failing[asked] = (409, "the marks cannot be kept; free the disk")
    # A press that an update falls into.
    page.get_by_role("button", name="False alarm").hover()
    page.mouse.down()
    standing.update_event(event, 0.98)
    shows(page, ".facts", "0.98")
    page.mouse.up()
    shows(page, ".error", "The marks cannot be kept")
    standing.update_event(event, 0.99)
    shows(page, ".facts", "0.99")
    assert page.locator(".error").count() == 1
    standing.failing.clear()
    page.get_by_role("button", name="False alarm").click()
    shows(page, "#verdict + .buttons .chosen", "False alarm")
    assert page.locator(".error").count() == 0


def test_scores_that_could_not_be_read_are_asked_for_again(window: Window, standing: Standing) -> None:
    event = standing.site.events[0]
    asked = ("GET", f"/api/cameras/{event['camera']}/scores")
    standing.failing[asked] = (503, "the history is busy")
    window.go(f"#/event/{event['id']}")
    shows(window.page, ".error", "The history is busy")
    standing.failing.clear()
    window.page.get_by_role("button", name="Try again").click()
    shows(window.page, ".chart-words", "Highest")
    assert window.page.locator(".error").count() == 0


def test_an_event_is_forgotten(window: Window, standing: Standing) -> None:
    event = standing.site.events[2]
    window.go(f"#/event/{event['id']}")
    page = window.page
    page.get_by_role("button", name="Forget it…").click()
    page.get_by_role("button", name="Forget it for good").click()
    page.wait_for_selector(".event-row")
    assert [one["camera"] for one in standing.site.forgotten] == [event["camera"]]


def test_a_camera_is_added_and_removed(window: Window, standing: Standing) -> None:
    window.go()
    page = window.page
    page.get_by_role("button", name="Add a camera").click()
    page.get_by_label("Name", exact=True).fill("Kasse")
    page.get_by_label("Address").fill("rtsp://127.0.0.1/kasse")
    page.keyboard.press("Enter")
    shows(page, "dialog .error", "There is a camera Kasse already")
    page.get_by_label("Name", exact=True).fill("Garten")
    page.keyboard.press("Enter")
    page.locator(".tile", has_text="Garten").wait_for()
    window.turn("#/camera/Garten")
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove it").click()
    until(lambda: "Garten" not in standing.site.cameras)
    shows(page, "#now", "6 cameras")


def test_an_empty_site_says_what_to_do(browser: Browser) -> None:
    own = Standing(Site(camera_count=0, event_count=0, feedback=False))
    with page_server(own) as address, a_window(browser, address) as window:
        window.go()
        shows(window.page, ".empty", "hh-edge run --config cameras.yaml")
        window.go("#/events")
        shows(window.page, "main", "No alarm yet")
        window.go("#/teach")
        shows(window.page, ".empty", "feedback: {}")
        assert window.wrong == []
