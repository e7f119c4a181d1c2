"""What a plan wants of alarms, and what a run learns of its cameras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.site.alarms import Alarms
from edge_runtime.site.page_alarms import ALARMS
from edge_runtime.site.place import site_folder
from edge_runtime.site.sites import Sites
from edge_runtime.watch.config import Plan, wish
from edge_runtime.watch.config_settings import Configuration
from edge_runtime.watch.supervisor import Supervisor


def folder_of(configuration: Configuration) -> Path:
    """Where what is learned of a site lies: as `site` says, as `feedback` says, or beside the bundle."""
    for part in (configuration.site, configuration.feedback):
        if part is not None and part.path is not None:
            return Path(part.path)
    return site_folder(str(configuration.bundle))


def learns(plan: Plan) -> bool:
    """Whether something of the plan asks for what is learned of its cameras; else nothing is written."""
    configuration = plan.configuration
    asked = (configuration.site, configuration.feedback, configuration.http)
    return any(part is not None for part in asked) or any(
        camera.alarm.budget_per_day is not None for camera in plan.cameras
    )


@contextmanager
def open_sites(plan: Plan, manifest: Manifest, supervisor: Supervisor | None = None) -> Iterator[Sites]:
    """Alarms of a run of live cameras, and what it learns where that was asked for; written at the end.

    Args:
        plan: The run's.
        manifest: Of the run's bundle.
        supervisor: Tells of other plans that take its place.
    """
    configuration = plan.configuration
    folder = folder_of(configuration) if learns(plan) else None
    alarms = Alarms(
        None if folder is None else folder / ALARMS,
        calibrated=manifest.locators.named(configuration.locator).threshold,
        step_s=manifest.segment.striding(configuration.stride).step_s,
    )
    configure_alarms(alarms, plan, manifest)
    if supervisor is not None:
        supervisor.planned = lambda later: configure_alarms(alarms, later, manifest)
    sites = Sites(alarms, folder, learns=folder is not None)
    try:
        yield sites
    finally:
        sites.close()


def configure_alarms(alarms: Alarms, plan: Plan, manifest: Manifest) -> None:
    """Let what a plan wants of alarms hold.

    Args:
        alarms: Of the run.
        plan: The run's, now.
        manifest: Of its bundle.
    """
    everybody, usual = wish(plan.configuration.alarm), plan.configuration.locator
    alarms.configure(
        # One that was added on the page has none of its own.
        {camera.source.name: camera.alarm.over(everybody) for camera in plan.cameras},
        everybody,
        {
            camera.source.name: manifest.locators.named(camera.options.locator or usual).threshold
            for camera in plan.cameras
            if camera.bundle is None
        },
    )
