"""What a worker loads and does for an extraction, and the executor that hands its videos out."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edge_runtime.errors import CheckpointError, HeadHuntError, SourceUnavailable, UsageError
from edge_runtime.machine import available_memory
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.precision import dtype_name
from models.prompts import Prompt
from models.sweep import GIB
from offline.console import Console, Progress
from offline.data.cache import content_key, open_store, spill_folder
from offline.data.dataset import Video
from offline.data.units import Unit
from offline.extraction.extract import Extraction, Extractor, extract
from offline.extraction.model import ModelUse, fit_into_memory, load_model
from offline.extraction.ray_pool import RayPool, Recipe

# Of what is free on the machine, as in models.sweep.
_SHARE = 0.8


@runtime_checkable
class Remakable(Protocol):
    """An extractor that a worker can make for itself."""

    def maker(self) -> Callable[[Any], Extractor]:
        """What makes the same of a model, or of a bundle's graphs; it can be pickled, and holds none."""


class Loaded(Protocol):
    """What a worker has loaded, for those who make extractors of it."""

    @property
    def held(self) -> Any:
        """The model, or what runs a bundle's graphs."""

    @property
    def name(self) -> str:
        """How that is called."""

    @property
    def extractors(self) -> dict[str, Any]:
        """What was made of it, by identity."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model; see Loaded."""

    held: Mllm
    extractors: dict[str, Extractor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """See Loaded."""
        return self.held.source.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe:
    """A model, as a worker loads it.

    Attributes:
        model: A Hugging Face id, a folder, or `reference`; workers find the same under this name.
        use: How it is run.
        prompts: What is asked, for the memory that it takes.
        segment: How videos are cut and sampled.
        pixels: The form in which frames are shown.
    """

    model: str
    use: ModelUse
    prompts: tuple[Prompt, ...]
    segment: SegmentSpec
    pixels: PixelSpec

    @classmethod
    def of(
        cls, mllm: Mllm, model: str, use: ModelUse, prompts: Sequence[Prompt], segment: SegmentSpec
    ) -> ModelRecipe:
        """Say how to load what is loaded here."""
        # A worker has another working folder.
        name = str(Path(model).absolute()) if Path(model).is_dir() else model
        # What is best for each machine would be another model on some.
        use = replace(use, dtype=dtype_name(mllm.dtype))
        return cls(model=name, use=use, prompts=tuple(prompts), segment=segment, pixels=mllm.pixels)

    @property
    def gpu(self) -> bool:
        """See ray_pool.Recipe."""
        return self.use.device != "cpu"

    def open(self, share: float) -> LoadedModel:
        """See ray_pool.Recipe."""
        console = Console(quiet=True)
        mllm = load_model(self.model, self.use, console)
        if mllm.takes_any_size:
            mllm.use_pixels(self.pixels)
        use = self.use
        if use.memory is None and share < 1 and (free := available_memory()) is not None:
            # The machine's other workers take as much.
            use = replace(use, memory=_SHARE * share * free / GIB)
        fit_into_memory(mllm, mllm.demand(self.prompts, self.segment), use, spill_folder(), console)
        return LoadedModel(mllm)


@dataclass(frozen=True, slots=True, eq=False)
class ExtractTask:
    """One video for a worker.

    Attributes:
        video: The video.
        unit: What one unit of it is.
        maker: Makes the extractor of what the worker holds.
        identity: What the extractor's identity is here, as a key.
        pixels: As of Extraction.
        segment: As of Extraction.
        store: The store's folder.
    """

    video: Video
    unit: Unit
    maker: Callable[[Any], Extractor]
    identity: str
    pixels: PixelSpec
    segment: SegmentSpec
    store: Path

    def do(self, loaded: Loaded) -> tuple[int, str]:
        """Put the video's features into the store, unless they are there.

        Returns:
            How many frames were computed, and the digest of the video.

        Raises:
            CheckpointError: This machine has another model under the same name, or another version.
            DatasetError: The video contradicts the manifest.
            HeadHuntError: As of `extract`.
        """
        extractor = loaded.extractors.get(self.identity)
        if extractor is None:
            extractor = self.maker(loaded.held)
            if content_key(**extractor.identity) != self.identity:
                raise CheckpointError(
                    f"{loaded.name} on {socket.gethostname()} is not the model of the machine where the command was "
                    "started; bring the same files and the same version of headhunt-vad to all machines"
                )
            loaded.extractors[self.identity] = extractor
        extraction = Extraction(extractor, self.pixels, self.segment, open_store(self.store))
        try:
            (found,) = extract([self.video], {self.video.name: self.unit}, extraction)
        except SourceUnavailable as error:
            # Without the advice that it carries: the driver gives it once for all videos.
            raise (error.__cause__ if isinstance(error.__cause__, HeadHuntError) else error) from None
        return found.frames if found.computed else 0, found.content


class RayExecutor:
    """Workers of a pool.

    Args:
        pool: The pool.
        recipe: What they load: a model, or a bundle whose graphs the extractors run.
    """

    def __init__(self, pool: RayPool, recipe: Recipe) -> None:
        self._pool, self._recipe = pool, recipe

    def prepare(
        self,
        videos: Sequence[Video],
        units: Mapping[str, Unit],
        extraction: Extraction,
        progress: Progress | None = None,
    ) -> Mapping[str, str]:
        """See executors.Executor.

        Raises:
            FeatureError: Workers write into another store than the one that is read here.
            UsageError: The extractor cannot be made anew on a worker.
        """
        extractor = extraction.extractor
        if not isinstance(extractor, Remakable):
            raise UsageError(f"{type(extractor).__name__} runs in this process only; use --executor local")
        identity, maker = content_key(**extractor.identity), extractor.maker()
        store = extraction.store.folder.absolute()
        tasks = {
            video.name: ExtractTask(
                replace(video, path=video.path.absolute()),
                units[video.name],
                maker,
                identity,
                extraction.pixels,
                extraction.segment,
                store,
            )
            for video in videos
        }
        of = {video.name: video for video in videos}
        seen: set[str] = set()

        def arrived(name: str, content: Any, where: str) -> None:
            # Later ones are missed when they are read; the first of each machine, before hours of work for nothing.
            if where not in seen:
                seen.add(where)
                extract([of[name]], units, extraction, stored={name: content})

        results = self._pool.run(self._recipe, tasks, progress, arrived)
        results.require_all(extraction.skip_unreadable, self._pool.say)
        return results.values
