"""`hh-edge forget`: delete what is kept of a camera and a stretch of time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.cli.options import AS_JSON, DEBUG, as_json_text


@click.command("forget")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="The bundle that the run uses; repeat it for cameras with bundles of their own.",
)
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    help="Folder of features, marks and scorers [default: the bundle's name with .site].",
)
@click.option("--clips", type=click.Path(path_type=Path), help="Folder of snapshots and clips, where there is one.")
@click.option("--camera", help="Of this camera [default: of all].")
@click.option("--from", "start", metavar="TIME", required=True, help="As 2026-01-31T22:15, with Z for UTC.")
@click.option("--to", "end", metavar="TIME", required=True, help="The end of it.")
@AS_JSON
@DEBUG
def command(**given: Any) -> None:
    """Delete features, scores, events, marks, snapshots, clips and what else shows a stretch of time.

    A run may go on meanwhile; what it is writing at that moment stays, so name a stretch that is over.

    What is deleted is overwritten in the store, as far as file systems and flash memory let a program do that.
    Records that outputs have taken are not touched, nor is a scorer that learned from a deleted mark: --propose and
    --accept of `hh-edge feedback` make one without it. Saying it twice does no harm.

    \b
    Example:
      hh-edge forget --bundle bundle/ --clips clips/ --camera gate --from 2026-01-31T22:00 --to 2026-01-31T23:00
    """
    from contextlib import ExitStack

    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.site.forget import forget, parse_time
    from edge_runtime.site.history import History
    from edge_runtime.site.place import Site

    start, end = parse_time(given["start"]), parse_time(given["end"])
    with ExitStack() as stack:
        sites = [Site.of(Bundle.open(path), given["site"]) for path in given["bundle"]]
        stores = [stack.enter_context(site.open_store(create=False)) for site in sites if site.store_path.is_file()]
        histories: list[History] = []
        # One folder of a site may serve several bundles.
        for folder in {site.folder for site in sites}:
            if (history := History.there(folder)) is not None:
                stack.callback(history.close)
                histories.append(history)
        told = {event: span for one in histories for event, span in one.spans(given["camera"]).items()}
        erased = forget(stores, given["clips"], given["camera"], start, end, told, histories)
    kept = erased.kept
    if given["as_json"]:
        document = {"segments": kept.segments, "events": kept.events, "marks": kept.marks}
        tell(as_json_text(document | {"files": erased.files, "writing": erased.writing}))
        return
    tell(
        f"deleted: {kept.segments} segments with their features and scores, {kept.events} events, "
        f"{kept.marks} marks, {erased.files} snapshots and clips"
    )
    if erased.writing:
        tell(f"{erased.writing} files are being written and stay; say it again when their events are over")
    if kept.marks:
        tell(
            "a scorer that learned from these marks is still used; hh-edge feedback --propose makes one without them"
        )
