"""Whether everything that a configuration names can be used: bundles, cameras and outputs, each tried once."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from edge_runtime.bundle.reader import Bundle
from edge_runtime.checks.doctor import Finding
from edge_runtime.errors import CameraUnavailable, HeadHuntError, one_line
from edge_runtime.files import shown_path
from edge_runtime.outputs.http_client import HttpServer
from edge_runtime.outputs.mqtt_link import try_broker
from edge_runtime.site.place import site_folder
from edge_runtime.video.probe import probe
from edge_runtime.video.sources import Source, check_file
from edge_runtime.watch.config import PlannedCamera, read_plan
from edge_runtime.watch.config_outputs import broker_of, check_outputs, spool_folder, tls_of
from edge_runtime.watch.config_settings import Configuration
from edge_runtime.watch.sites import folder_of, learns

# Cameras that hang take their timeouts, all at once.
_AT_ONCE = 40
_LIMIT_S = 5.0


def examine_site(path: Path) -> list[Finding]:
    """Try what a configuration names. A camera that serves one client alone is asked, too: not while a run has it.

    Args:
        path: The configuration.

    Returns:
        One finding each, in the order of the configuration.

    Raises:
        UsageError: The configuration is wrong.
    """
    plan = read_plan(path)
    found = [Finding("ok", "configuration", f"{shown_path(path)}, {len(plan.cameras)} cameras")]
    found += [Finding("note", "configuration", warning) for warning in plan.warnings]
    found += _bundles(plan.configuration, plan.cameras)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found += pool.map(_camera, plan.cameras)
    names = [camera.source.name for camera in plan.cameras]
    return [*found, *_outputs(plan.configuration, names, learned=learns(plan))]


def _bundles(configuration: Configuration, cameras: tuple[PlannedCamera, ...]) -> Iterator[Finding]:
    if configuration.bundle is None:
        yield Finding("problem", "bundle", "none is named", "write `bundle:` into the configuration")
    named = [configuration.bundle, *(camera.bundle for camera in cameras)]
    for path in dict.fromkeys(str(one) for one in named if one is not None):
        try:
            manifest = Bundle.open(path, configuration.trusted_keys).manifest
        except HeadHuntError as error:
            yield Finding("problem", "bundle", one_line(error))
        else:
            found = f"{shown_path(path)}, {manifest.bundle_id[:8]}, {manifest.source_model.name}"
            yield Finding("ok", "bundle", found)


def _camera(camera: PlannedCamera) -> Finding:
    source, subject = camera.source, f"camera {camera.source.name}"
    if not camera.enabled:
        return Finding("note", subject, f"{source.shown}: disabled, not tried")
    try:
        return Finding("ok", subject, f"{source.shown}: {_seen(source)}")
    except CameraUnavailable as error:
        return Finding("problem", subject, f"{source.shown}: {error.reason}", error.detail)
    except HeadHuntError as error:
        return Finding("problem", subject, one_line(error))


def _seen(source: Source) -> str:
    if not source.live:
        check_file(Path(source.target))
        return "a file that can be read"
    width, height = probe(source, _LIMIT_S)
    return f"pictures of {width} x {height}"


def _outputs(configuration: Configuration, cameras: Sequence[str], learned: bool) -> Iterator[Finding]:
    try:
        check_outputs(configuration, cameras)
    except HeadHuntError as error:
        yield Finding("problem", "outputs", one_line(error))
        return
    output = configuration.output
    if output is not None and output.path != "-":
        yield _writable("output", Path(output.path).parent)
    if (mqtt := configuration.mqtt) is not None:
        broker = broker_of(mqtt)
        yield _tried("mqtt", broker.shown, partial(try_broker, broker, _LIMIT_S))
    for number, webhook in enumerate(configuration.webhook):
        server = HttpServer(webhook.url, "webhook", _LIMIT_S, tls_of(webhook, f"webhook[{number}]"))
        # Whatever it answers to a question without a record: it is there.
        yield _tried("webhook", server.shown, partial(server.send, "HEAD", server.path, b"", {}))
    if configuration.frigate is not None:
        tls = tls_of(configuration.frigate, "frigate")
        server = HttpServer(configuration.frigate.url, "frigate", _LIMIT_S, tls)
        yield _tried("frigate", server.shown, partial(server.send, "GET", "/api/version", b"", {}))
    if configuration.mqtt or configuration.webhook or configuration.frigate:
        yield _writable("spool", spool_folder(configuration))
    if configuration.feedback is not None and configuration.bundle is not None:
        given = configuration.feedback.path
        yield _writable("feedback", site_folder(configuration.bundle) if given is None else Path(given))
    if configuration.clips is not None:
        yield _writable("clips", Path(configuration.clips.path))
    if learned:
        yield _writable("site", folder_of(configuration))


def _tried(subject: str, shown: str, attempt: Callable[[], object]) -> Finding:
    try:
        attempt()
    except HeadHuntError as error:
        return Finding("problem", subject, one_line(error), "what it should get waits in the spool meanwhile")
    return Finding("ok", subject, f"{shown}: answers")


def _writable(subject: str, folder: Path) -> Finding:
    """A folder that is there, or can be made."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    # What the rights say is not all: a file system may be read-only, or take no files even from root.
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=there):
        return Finding("ok", subject, f"{shown_path(folder)}: can be written")
    advice = f"give this user rights on {shown_path(there)}, or name another folder"
    return Finding("problem", subject, f"{shown_path(folder)}: cannot be written", advice)
