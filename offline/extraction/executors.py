"""Where the work on videos is done: in this process, or by workers of a Ray cluster.

The feature store is the only record of what is done. Workers write entries into it, this process reads them there;
whoever dies costs the videos in progress and nothing else. Ray is imported when it is asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from edge_runtime.errors import MissingExtra, UsageError
from offline.console import Console, Progress
from offline.data.dataset import Video
from offline.data.tasks import HandOut, Task
from offline.data.units import Unit
from offline.extraction.extract import Extraction

if TYPE_CHECKING:
    from offline.extraction.ray_pool import RayPool, Recipe

ExecutorName = Literal["local", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Who does the work, as the command line says it.

    Attributes:
        executor: `local` or `ray`.
        ray_address: `host:port` of a cluster, or `auto`; None for one of this machine's own, for this command.
        workers: How many models there are at a time; None for one a GPU, or one a machine where there is no GPU.

    Raises:
        UsageError: They contradict each other.
    """

    executor: ExecutorName = "local"
    ray_address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.executor == "local":
            for option, value in (("--ray-address", self.ray_address), ("--workers", self.workers)):
                if value is not None:
                    raise UsageError(f"{option} {value} is for Ray; say --executor ray as well")
        elif self.workers is not None and self.workers < 1:
            raise UsageError(f"{self.workers} workers do nothing; at least one is needed")


class Executor(Protocol):
    """Computes features of videos somewhere, into the store of an extraction."""

    def prepare(
        self,
        videos: Sequence[Video],
        units: Mapping[str, Unit],
        extraction: Extraction,
        progress: Progress | None = None,
    ) -> Mapping[str, str] | None:
        """Put the features of videos into the store, as far as that is not `extract`'s own work.

        Args:
            videos: The videos.
            units: What one unit is, by the video's name.
            extraction: How features are computed and kept.
            progress: Counts videos.

        Returns:
            What `extract` takes as `stored`: digests by the names of the videos, without those left out as
            unreadable; None where it computes them itself.

        Raises:
            ClusterUnavailable: The cluster is not there, or has gone.
            VideosFailed: Some videos failed; the features of all others are in the store.
        """


class LocalExecutor:
    """This process: nothing is prepared, `extract` computes what is missing."""

    def prepare(
        self,
        videos: Sequence[Video],
        units: Mapping[str, Unit],
        extraction: Extraction,
        progress: Progress | None = None,
    ) -> None:
        """See Executor."""
        return


@contextmanager
def open_pool(execution: Execution, console: Console) -> Iterator[RayPool | None]:
    """Join the cluster, or make one of this machine; None for `local`.

    Raises:
        ClusterUnavailable: It cannot be reached.
        MissingExtra: Ray is not installed.
    """
    if execution.executor == "local":
        yield None
        return
    require_ray()
    from offline.extraction.ray_pool import RayPool

    with RayPool(execution.ray_address, execution.workers, console) as pool:
        yield pool


def executor_of(pool: RayPool | None, recipe: Recipe) -> Executor:
    """Give the executor of a model, or of a bundle's graphs: its workers load it as the recipe says."""
    if pool is None:
        return LocalExecutor()
    from offline.extraction.workers import RayExecutor

    return RayExecutor(pool, recipe)


def hand_out(pool: RayPool | None, recipe: Recipe) -> HandOut | None:
    """Give what hands tasks out to workers of a recipe, which are there already; None where there are none.

    What it gives raises ClusterUnavailable as `RayPool.run` does, and VideosFailed where one failed that can be read.
    """
    if pool is None:
        return None

    def done(tasks: Mapping[str, Task], progress: Progress) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        results = pool.run(recipe, tasks, progress)
        unreadable = {name: failure.text for name, failure in results.failed.items() if failure.unreadable}
        for name in unreadable:
            del results.failed[name]
        results.require_all(False, pool.say)
        return results.values, unreadable

    return done


def require_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        MissingExtra: It is not installed; the message holds the pip command.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra('Ray is not installed; run: pip install "headhunt-vad[ray]"')
