"""`hh-edge run`: detection, from sources to records."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edge_runtime.cli.exit_codes import told
from edge_runtime.cli.options import DEBUG, PROVIDER, THREADS, TRUSTED_KEY

if TYPE_CHECKING:
    from edge_runtime.cli.running import Chosen

log = logging.getLogger(__name__)

# Options that are keys of the configuration too. Given on the command line they hold.
_SETTINGS = (
    "bundle",
    "trusted_keys",
    "provider",
    "threads",
    "locator",
    "encode",
    "stride",
    "reuse_unchanged",
    "max_batch",
    "max_wait_ms",
)


@click.command("run")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="cameras.yaml: cameras, their schedules and masks, and everything below. What the command line says holds; "
    "--camera adds to its cameras. SIGHUP has it read again.",
)
@click.option("--check-config", is_flag=True, help="Read and check everything, say what would run, and end.")
@click.option("--watch", is_flag=True, help="Read the configuration again whenever the file changes.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder that `hh-offline build` made.")
@TRUSTED_KEY
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="SRC",
    help="A video file, rtsp://…, http://… (MJPEG), a device number, or loop:FILE, which plays a file in real time "
    "over and over as if it were a camera; name=SRC gives it a name. Repeat it for several cameras at once, or "
    "several files one after another.",
)
@click.option(
    "--locator",
    type=click.Choice(["full", "low_latency"]),
    default="full",
    show_default=True,
    help="full smooths over later segments too and answers later; low_latency answers at once. "
    "`hh-edge inspect` gives the seconds.",
)
@click.option(
    "--clock",
    type=click.Choice(["frames", "time"]),
    help="Cut segments by counting frames or by time [default: frames for files, time for live cameras].",
)
@click.option(
    "--encode",
    type=click.Choice(["batch", "eager"]),
    default="batch",
    show_default=True,
    help="eager runs the model on each sampled frame when it comes: a segment's record then waits for the newest "
    "frame and the question alone. batch runs it on all of them at the end, which takes less time in all and less "
    "memory a camera.",
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="FRAMES",
    help="Begin a segment every so many frames, a divisor of a segment's frames. A record is one stride long then, "
    "its score the mean of the segments that cover it. Frames that several segments see are encoded once; they do "
    "where the stride is a multiple of frames / sampled frames [default: what the bundle was calibrated with].",
)
@click.option(
    "--reuse-unchanged",
    type=float,
    metavar="LEVELS",
    help="Encode a frame only if it changed: one that differs from the frame that was encoded last by at most so "
    "many grey levels (0 to 255), on average in the block of 16 x 16 pixels where they differ most, takes its "
    "tokens. 0: identical pixels only, which is exact; 4, say, for a camera with nothing in sight. `hh-edge inspect` "
    "says what the build measured [default: off].",
)
@PROVIDER
@THREADS
@click.option(
    "--output",
    type=click.Path(),
    help="Write records to this file instead of stdout (`-`); a file that exists is appended to, with a warning.",
)
@click.option(
    "--http",
    is_flag=False,
    flag_value="",
    metavar="[HOST:PORT]",
    help="Serve the operator's page, its API and metrics [default: 127.0.0.1:8480]. Another address than that of "
    "this computer alone needs a token: `hh-edge token add`.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    metavar="SEGMENTS",
    help="Score at most so many segments of live cameras in one call [default: 8 on a GPU, else 1].",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(0, 60_000),
    metavar="MS",
    help="How long a segment waits for others of its batch [default: 0, whatever is ready goes together].",
)
@click.option("--no-self-test", is_flag=True, help="Start without running one golden segment of the bundle first.")
@DEBUG
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr, no progress line.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one JSON object a line on stderr.",
)
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    """Detect anomalies and write records, one JSON object a line.

    You get a `run` record first, a `segment` record for every stretch of 48 frames (or what the bundle says) once
    its score is final, `event` records when consecutive segments are anomalous (new, update, end), a `gap` record
    for what could not be scored, and `camera` records when a live camera comes, stalls, goes or returns.

    A file ends the run; with a live camera it lasts until SIGINT (Ctrl-C) or SIGTERM: what is open is then scored
    and written, within 3 seconds. A second signal ends at once. In records of live cameras, start_s and end_s are
    seconds since the start of the run on a monotonic clock, and `time` is the end in UTC. An event that a crash left
    open in the --output file is ended by the next run (`reason: "restart"`).

    A live camera that goes away is tried again for ever, after 1, 2, 3, 3 … seconds; one that refuses the password
    every 15 minutes only, because cameras lock accounts (three times more at once, if it took the password before in
    this run). When scoring is slower than the cameras, the oldest waiting segments become gaps (reason `dropped`),
    and so do frames that there is no time to decode. Of several files each one that can be scored is scored, whatever
    is wrong with the others.

    With --trusted-key (or `trusted_keys:` in the configuration) a bundle that none of these keys has signed is
    refused before anything of it is parsed. One that is signed is copied once into a folder that only this user can
    write, in the state folder ($STATE_DIRECTORY, else ~/.local/state/headhunt-edge), verified there and loaded from
    there.

    Where another bundle is put in the place of the run's, as `hh-edge pull` does it, live cameras take it without
    losing a segment: the one before goes on until the new one is verified and has computed its golden segment. One
    that fails is told in one line, and nothing changes. Files are scored by one bundle.

    With --config a run goes on where no camera answers, and while all are outside their schedules. On SIGHUP, and
    with --watch whenever the file changes, cameras are added, removed and changed without touching the others; a
    configuration that is wrong is told in one line, and the one before stays. With a broker (`mqtt:`) each camera can
    be paused over MQTT; a new run watches all of them again.

    With --http (or `http:` in the configuration) the run serves a page that shows its cameras and events. It goes on
    where no camera answers then, too; cameras that are added on the page are watched again after a restart.

    \b
    Exit codes:
      0    done, or stopped by SIGTERM
      1    the work failed: a file that is truncated, records that could not be written, a failed self-test
      2    wrong usage, a wrong configuration, or a missing extra
      3    the bundle was refused
      4    a file could not be opened, or no live camera answered at the start (without --config)
      130  interrupted (SIGINT), whatever failed before

    \b
    Example:
      hh-edge run --bundle bundle/ --camera clip.mp4 --output records.jsonl
      hh-edge run --bundle bundle/ --camera gate=rtsp://user:password@10.0.0.7/stream --locator low_latency
      hh-edge run --bundle bundle/ --camera gate=loop:gate.mp4 --camera yard=loop:yard.mp4
      hh-edge run --bundle bundle/ --camera yard=rtsp://10.0.0.8/stream --reuse-unchanged 4
      hh-edge run --bundle bundle/ --camera 0 --trusted-key builder.key.pub
      hh-edge run --config cameras.yaml --check-config
      hh-edge run --config cameras.yaml --watch
      hh-edge run --config cameras.yaml --http
    """
    from edge_runtime.cli.console import start_logging

    as_json, debug = given["log_format"] == "json", given["debug"]
    console = start_logging(given["quiet"], debug, given["log_format"])
    left_behind: list[str] = [] if context.obj is None else context.obj
    try:
        from edge_runtime.cli.running import check, detect

        if given["check_config"]:
            return check(_chosen(context, given))
        return detect(_chosen(context, given), console, left_behind, as_json)
    except Exception as error:
        if not as_json:
            raise
        text, code = told(error)
        log.error("%s", text, exc_info=debug)
        return code


def _chosen(context: click.Context, given: dict[str, Any]) -> Chosen:
    from edge_runtime.cli.planned import Wishes
    from edge_runtime.cli.running import Chosen
    from edge_runtime.errors import UsageError

    for option in ("check_config", "watch"):
        if given[option] and given["config"] is None:
            raise UsageError(f"--{option.replace('_', '-')} needs --config FILE")
    settings = {
        name: given[name]
        for name in _SETTINGS
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and given[name] is not None
    }
    if "bundle" in settings:
        settings["bundle"] = str(settings["bundle"])
    if "trusted_keys" in settings:
        settings["trusted_keys"] = list(settings["trusted_keys"])
    wishes = Wishes(
        config=given["config"],
        settings=settings,
        output=given["output"],
        cameras=given["cameras"],
        http=given["http"],
    )
    return Chosen(wishes=wishes, follow=given["watch"], clock=given["clock"], no_self_test=given["no_self_test"])
