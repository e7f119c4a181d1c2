"""`hh-edge feedback`: mark false alarms and missed events, see what that would change, and agree."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.cli.options import AS_JSON, DEBUG, as_json_text
from edge_runtime.files import shown_path

if TYPE_CHECKING:
    from edge_runtime.site.feedback import Alarm, Proposal
    from edge_runtime.site.place import Site
    from edge_runtime.site.teaching import Teaching
    from edge_runtime.site.wish import AlarmNow

_SHOWN = 10


@click.command("feedback")
@click.argument("event", required=False)
@click.argument("verdict", required=False, type=click.Choice(["false_alarm", "missed"]))
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="The bundle that the run uses.")
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    help="Folder of features, marks and scorers [default: the bundle's name with .site].",
)
@click.option("--camera", help="Mark a stretch of this camera, instead of an event.")
@click.option("--from", "start", metavar="TIME", help="Where it starts, as 2026-01-31T22:15:30 (Z: UTC).")
@click.option("--to", "end", metavar="TIME", help="Where it ends.")
@click.option("--list", "listed", is_flag=True, help="Show events and marks.")
@click.option("--unmark", type=int, metavar="NUMBER", help="Delete a mark, by its number in --list.")
@click.option("--propose", is_flag=True, help="Show what the marks would change. Changes nothing.")
@click.option("--accept", is_flag=True, help="Show it, and use the new scorer from now on.")
@click.option("--undo", is_flag=True, help="Go back to the scorer before.")
@click.option(
    "--locator",
    type=click.Choice(["full", "low_latency"]),
    default="full",
    show_default=True,
    help="Whose threshold says what an alarm is, where none was set on the page.",
)
@AS_JSON
@DEBUG
def command(**given: Any) -> None:
    """Say which alarms were false and which events were missed; the site's scorer learns from it.

    `hh-edge run` with feedback keeps the features of the last days, no pictures. A mark is kept with the features of
    its segments. --propose refits the scorer to all marks and shows which recent alarms would be gone or new, with
    the thresholds, durations and cooldowns that were set on the page; nothing changes before --accept. A run that is
    going on uses the new scorer within seconds. The bundle itself is never changed, and --undo leads back.

    With the extra [sign] a scorer is signed with this device's key, in the state folder ($STATE_DIRECTORY, else
    ~/.local/state/headhunt-edge), and a run takes no other: give the command as the user and with the state folder of
    the run.

    \b
    Example:
      hh-edge feedback --bundle bundle/ 0185d179-20260131T221530123-gate-4 false_alarm
      hh-edge feedback --bundle bundle/ --camera gate --from 2026-01-31T22:15:30 --to 2026-01-31T22:15:40 - missed
      hh-edge feedback --bundle bundle/ --propose
      hh-edge feedback --bundle bundle/ --accept
      hh-edge feedback --bundle bundle/ --undo
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.errors import UsageError
    from edge_runtime.site.place import Site
    from edge_runtime.site.teaching import Teaching

    asked = [given["listed"], given["unmark"] is not None, given["propose"], given["accept"], given["undo"]]
    if sum(asked) + (given["verdict"] is not None) != 1:
        raise UsageError(
            "mark an EVENT as false_alarm or missed, or say --list, --unmark, --propose, --accept, --undo"
        )
    site = Site.of(Bundle.open(given["bundle"]), given["site"])
    alarm_of = _page_alarms(site, given["locator"])
    teaching = Teaching([site], locator_of=lambda _: str(given["locator"]), alarm_of=alarm_of)
    as_json: bool = given["as_json"]
    if given["undo"]:
        learned = teaching.undo()
        number = 0 if learned is None else learned.number
        told = "the bundle's own scorer is used" if learned is None else f"the site's scorer {number} is used"
        tell(as_json_text({"scorer": number}) if as_json else told)
        return
    if not site.store_path.is_file():
        raise UsageError(f"{shown_path(site.store_path)}: no such store; hh-edge run with `feedback:` writes one")
    if given["verdict"] is not None:
        _mark(teaching, given, as_json)
    elif given["listed"]:
        _list(site, teaching, as_json)
    elif given["unmark"] is not None:
        if not teaching.unmark(given["unmark"]):
            raise UsageError(f"there is no mark {given['unmark']}; --list shows them")
        tell(as_json_text({"unmarked": given["unmark"]}) if as_json else f"mark {given['unmark']} is deleted")
    else:
        budgets = [name for name in _cameras(site) if alarm_of(name).budget_per_day is not None]
        _propose(teaching, budgets, given["accept"], as_json)


def _page_alarms(site: Site, locator: str) -> Callable[[str], AlarmNow]:
    """What makes an alarm of each camera: what was set on the page, else the locator's threshold.

    What a configuration says is not known here.
    """
    from edge_runtime.site.alarms import Alarms
    from edge_runtime.site.page_alarms import ALARMS

    threshold, step_s = site.manifest.locators.named(locator).threshold, site.manifest.segment.step_s

    @functools.cache
    def alarms() -> Alarms:
        # Read where something is judged: reading one that is damaged moves it aside.
        return Alarms(site.folder / ALARMS, calibrated=threshold, step_s=step_s)

    def alarm_of(camera: str) -> AlarmNow:
        return alarms().begin(camera, lambda _: None, threshold, step_s, site.bundle_id)

    return alarm_of


def _cameras(site: Site) -> list[str]:
    with site.open_store(create=False) as store:
        return store.cameras()


def _mark(teaching: Teaching, given: dict[str, Any], as_json: bool) -> None:
    from edge_runtime.errors import UsageError
    from edge_runtime.site.forget import parse_time, shown_time

    stretch = [given["camera"], given["start"], given["end"]]
    event = None if given["event"] == "-" else given["event"]
    if (event is None) == (None in stretch) or (event is not None and any(part is not None for part in stretch)):
        raise UsageError("mark either an EVENT, or - with --camera, --from and --to")
    if event is not None:
        mark = teaching.mark_event(event, given["verdict"])
        assert mark is not None
    else:
        start, end = parse_time(given["start"]), parse_time(given["end"])
        mark = teaching.mark_stretch(given["verdict"], given["camera"], start, end)
    if as_json:
        tell(as_json_text({"mark": mark.id, "camera": mark.camera, "start": mark.start, "end": mark.end}))
        return
    tell(
        f"mark {mark.id}: {mark.verdict}, camera {mark.camera}, {shown_time(mark.start)} to {shown_time(mark.end)}\n"
        "nothing has changed yet; --propose shows what the marks would change"
    )


def _list(site: Site, teaching: Teaching, as_json: bool) -> None:
    from edge_runtime.site.forget import shown_time

    with site.open_store(create=False) as store:
        events = store.events()
    marks = teaching.marks()
    if as_json:
        fields = ("id", "camera", "start", "end", "peak")
        said = ("id", "verdict", "camera", "start", "end", "event", "at")
        document = {
            "events": [{name: getattr(one, name) for name in fields} for one in events],
            "marks": [{name: getattr(one, name) for name in said} for one in marks],
        }
        tell(as_json_text(document))
        return
    by_event = {mark.event: mark for mark in marks}
    for event in events:
        said_of = f"  {by_event[event.id].verdict}" if event.id in by_event else ""
        tell(f"{event.id}  {shown_time(event.start)} to {shown_time(event.end)}  peak {event.peak:.2f}{said_of}")
    for mark in marks:
        stretch = f"{shown_time(mark.start)} to {shown_time(mark.end)}"
        tell(f"mark {mark.id}: {mark.verdict}, camera {mark.camera}, {stretch}")
    if not events and not marks:
        tell("no events and no marks")


def _propose(teaching: Teaching, budgets: Sequence[str], accept: bool, as_json: bool) -> None:
    proposed = teaching.propose()
    number = teaching.accept(proposed.id).number if accept else None
    (proposal,) = proposed.parts
    if as_json:
        tell(as_json_text(proposed_document(proposal, number) | {"budgets": list(budgets)}))
        return
    tell(proposed_text(proposal, number))
    if budgets:
        tell(
            f"with a budget: {', '.join(budgets)}; its threshold is known to the run alone, and the locator's is "
            "taken here"
        )


def proposed_document(proposal: Proposal, accepted: int | None) -> dict[str, Any]:
    """A proposal as plain values. `accepted`: the number of the scorer that was made of it, None for none."""

    def listed(alarms: Sequence[Alarm]) -> list[dict[str, Any]]:
        return [
            {"camera": one.camera, "start": one.start, "end": one.end, "peak": round(one.peak, 6)} for one in alarms
        ]

    return {
        "marks": proposal.marks,
        "false_alarms": proposal.false_alarms,
        "segments": len(proposal.fit.before),
        "loss": {
            "bundle": proposal.loss_before,
            "now": proposal.loss_now,
            "left_out": proposal.loss_left_out,
        },
        "wrong": {"bundle": proposal.wrong_before, "left_out": proposal.wrong_left_out},
        "days": proposal.days,
        "kept": listed(proposal.kept),
        "gone": listed(proposal.gone),
        "new": listed(proposal.new),
        "replaces": proposal.replaces,
        "accepted": accepted,
    }


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _duration(days: float) -> str:
    minutes = days * 24 * 60
    if minutes < 90:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{days:.1f} days"


def proposed_text(proposal: Proposal, accepted: int | None) -> str:
    """A proposal for people. `accepted`: as of `proposed_document`."""
    from edge_runtime.site.forget import shown_time

    segments = len(proposal.fit.before)
    lines = [
        f"{_counted(proposal.marks, 'mark')} ({_counted(proposal.false_alarms, 'false alarm')}), "
        f"{_counted(segments, 'segment')}",
        f"wrong at the threshold: {proposal.wrong_before} of {segments} by the bundle's scorer, "
        f"{proposal.wrong_left_out} by one that did not see their mark",
        f"alarms in the last {_duration(proposal.days)}: {len(proposal.kept) + len(proposal.gone)} now, "
        f"{len(proposal.kept) + len(proposal.new)} then; {len(proposal.gone)} would be gone, {len(proposal.new)} new",
    ]
    for word, alarms in (("gone", proposal.gone), ("new", proposal.new)):
        for one in alarms[:_SHOWN]:
            lines.append(f"  {word}: camera {one.camera}, {shown_time(one.start)} to {shown_time(one.end)}")
        if len(alarms) > _SHOWN:
            lines.append(f"  {word}: {len(alarms) - _SHOWN} more")
    lines.append(
        "nothing has changed; --accept uses this scorer"
        if accepted is None
        else f"the site's scorer {accepted} is used from now on; --undo goes back"
    )
    return "\n".join(lines)
