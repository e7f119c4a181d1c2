"""A labelled set of generated clips on disk: which scenes, their MP4 files, and `data.csv`.

Every clip is written under a temporary name and renamed, with a record beside it of the spec that made it. A run that
was killed goes on where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_runtime.errors import SourceUnavailable, UsageError
from offline.console import Progress
from offline.scenes.render import BackgroundPictures, render
from offline.scenes.spec import (
    ABNORMAL_ACTIONS,
    FOOTAGE,
    KIND_LAYOUTS,
    KINDS,
    SceneSpec,
    check_acts,
    check_kinds,
    draw_spec,
)
from offline.scenes.truth import BgrImage, RenderedFrame, event_ranges
from offline.scenes.video import PRESETS, Encoding, FootageLoop, write_mp4

SPLITS: Final = ("calibration", "validation", "test")
GENERATOR: Final = 1
"""Number of the picture-making code: raise it when the same spec gives other pictures, so that clips are redone."""


@dataclass(frozen=True, slots=True)
class SplitSize:
    """How many videos of each label a split has.

    Attributes:
        normal: 0 or more.
        anomalous: 0 or more.
    """

    normal: int
    anomalous: int

    def __post_init__(self) -> None:
        if min(self.normal, self.anomalous) < 0:
            raise UsageError(f"a split cannot have {min(self.normal, self.anomalous)} videos")


@dataclass(frozen=True, slots=True)
class SceneSet:
    """What a generated data set consists of.

    Attributes:
        calibration: Size of the split that heads are hunted and scorers fitted on.
        validation: Size of the split that locators are chosen on.
        test: Size of the split that figures are reported of.
        sizes: Picture sizes (width, height) in pixels, taken in turn.
        fps: Frames per second.
        seconds: Range of the videos' lengths.
        event_seconds: Range of the events' lengths.
        kinds: The kinds of anomaly, spread evenly over the anomalous videos of each split.
        without: Kinds of normal life, some of `spec.ACTS`, that happen in none of the videos.

    Raises:
        UsageError: A kind is unknown, a width or height is odd or below 32, a range is empty, an event could fill
            more than 80 % of the shortest video, or there are no videos at all.
    """

    calibration: SplitSize = field(default=SplitSize(8, 8))
    validation: SplitSize = field(default=SplitSize(6, 6))
    test: SplitSize = field(default=SplitSize(6, 6))
    sizes: tuple[tuple[int, int], ...] = ((320, 240),)
    fps: float = 15.0
    seconds: tuple[float, float] = (8.0, 20.0)
    event_seconds: tuple[float, float] = (3.0, 6.0)
    kinds: tuple[str, ...] = KINDS
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kinds(self.kinds)
        check_acts(self.without)
        if not self.kinds and any(split.anomalous for _, split in self.splits()):
            raise UsageError("anomalous videos need at least one kind of anomaly")
        if not self.sizes:
            raise UsageError("a scene set needs at least one picture size")
        for width, height in self.sizes:
            if width % 2 or height % 2 or min(width, height) < 32:
                raise UsageError(f"videos need an even width and height of 32 or more, got {width}x{height}")
        if self.videos == 0:
            raise UsageError("no videos were asked for; ask for at least one")
        for what, (low, high) in (("videos", self.seconds), ("events", self.event_seconds)):
            if not 0 < low <= high < float("inf"):
                raise UsageError(f"{what} last from a number of seconds to one not below it, got {low:g} to {high:g}")
        if self.event_seconds[1] > 0.8 * self.seconds[0]:
            raise UsageError(
                f"an event of {self.event_seconds[1]:g} s leaves too little normal life in a video of "
                f"{self.seconds[0]:g} s; ask for longer videos or shorter events"
            )

    @classmethod
    def of_videos(
        cls,
        videos: int,
        *,
        kinds: tuple[str, ...] = KINDS,
        seconds: tuple[float, float] = (8.0, 20.0),
        event_seconds: tuple[float, float] = (3.0, 6.0),
        without: tuple[str, ...] = (),
    ) -> SceneSet:
        """Spread a number of videos over the splits: 40 % to calibration, 30 % to each other; half are normal.

        Args:
            videos: At least 6, because each of the three splits needs both labels.
            kinds: See SceneSet.
            seconds: See SceneSet.
            event_seconds: See SceneSet.
            without: See SceneSet.

        Raises:
            UsageError: There are fewer than 6 videos, or SceneSet refuses the values.
        """
        if videos < 6:
            raise UsageError(f"{videos} videos are too few: three splits with both labels need at least 6")
        third = max(2, round(0.3 * videos))
        sizes = [SplitSize((n + 1) // 2, n // 2) for n in (videos - 2 * third, third, third)]
        return cls(
            calibration=sizes[0],
            validation=sizes[1],
            test=sizes[2],
            kinds=kinds,
            seconds=seconds,
            event_seconds=event_seconds,
            without=without,
        )

    @property
    def videos(self) -> int:
        """Number of videos over all splits."""
        return sum(split.normal + split.anomalous for _, split in self.splits())

    def splits(self) -> tuple[tuple[str, SplitSize], ...]:
        """List the splits by name, in the order of the CSV."""
        return tuple(zip(SPLITS, (self.calibration, self.validation, self.test), strict=True))


@dataclass(frozen=True, slots=True)
class Clip:
    """One video that is to be made.

    Attributes:
        name: File name, `<split>_<number>_<kind or normal>.mp4`.
        split: One of SPLITS.
        spec: The scene.
        encoding: How it is compressed.
    """

    name: str
    split: str
    spec: SceneSpec
    encoding: Encoding


def plan(scenes: SceneSet, *, seed: int, layout: str | None = None) -> list[Clip]:
    """Draw all clips of a set, in the order of the CSV; the same seed gives the same clips.

    Args:
        scenes: What the set consists of.
        seed: 0 or more.
        layout: The layout of every scene; None draws one for each.

    Raises:
        UsageError: The seed is negative, or a kind cannot happen in `layout`.
    """
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {seed}")
    check_kinds(scenes.kinds, layout=layout)
    clips: list[Clip] = []
    for split_index, (split, wanted) in enumerate(scenes.splits()):
        rng = np.random.default_rng([seed, split_index])
        order = [str(kind) for kind in rng.permutation(scenes.kinds)] if scenes.kinds else []
        labels: list[str | None] = [order[i % len(order)] for i in range(wanted.anomalous)]
        labels += [None] * wanted.normal
        for number, i in enumerate(rng.permutation(len(labels))):
            kind = labels[int(i)]
            spec = draw_spec(
                int(rng.integers(2**62)),
                kind,
                layout=layout,
                size=scenes.sizes[len(clips) % len(scenes.sizes)],
                fps=scenes.fps,
                seconds=scenes.seconds,
                event_seconds=scenes.event_seconds,
                without=scenes.without,
            )
            encoding = Encoding(int(rng.integers(18, 33)), PRESETS[int(rng.integers(len(PRESETS)))])
            name = f"{split}_{number:03d}_{kind if kind is not None else 'normal'}.mp4"
            clips.append(Clip(name, split, spec, encoding))
    return clips


def generate(
    output_dir: Path,
    *,
    seed: int,
    scenes: SceneSet | None = None,
    background: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the clips of a set and their `data.csv`.

    A clip that is complete for the same spec is left as it is.

    Args:
        output_dir: Folder for the clips, made where it is missing.
        seed: Of the whole set; the same seed gives the same bytes.
        scenes: What the set consists of; None is `SceneSet()`.
        background: A real video to show behind the actors, in a loop. Kinds that need a road or a fence are then left
            out, unless `scenes` asks for one, which is an error.
        progress: Called with (clips done, clips in all), also at the start.

    Returns:
        The path of `data.csv`.

    Raises:
        OutputFailed: The disk is full.
        SourceUnavailable: The background cannot be read.
        UsageError: The folder cannot be written, or a kind cannot happen on footage.
    """
    scenes = SceneSet() if scenes is None else scenes
    layout = None
    loops: dict[tuple[int, int], FootageLoop] = {}
    footage_digest = ""
    if background is not None:
        layout = FOOTAGE
        if scenes.kinds == KINDS:
            scenes = _without_impossible(scenes)
        footage_digest = _file_digest(background)
        loops = {size: FootageLoop(background, size=size, fps=scenes.fps) for size in set(scenes.sizes)}
    clips = plan(scenes, seed=seed, layout=layout)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        probe = output_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{output_dir}: cannot be written ({error.strerror}); name another folder") from error
    rows = []
    if progress is not None:
        progress(0, len(clips))
    for done, clip in enumerate(clips, start=1):
        footage = _footage(clip.spec, loops.get(clip.spec.size))
        events = _make(output_dir, clip, footage, footage_digest)
        label = "normal" if clip.spec.kind is None else "anomalous"
        ranges = ";".join(f"{start}-{end}" for start, end in events)
        rows.append((clip.name, label, clip.split, ranges, clip.spec.frames))
        if progress is not None:
            progress(done, len(clips))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("path", "label", "split", "events", "frames"))
    writer.writerows(rows)
    manifest = output_dir / "data.csv"
    _write_text(manifest, table.getvalue())
    return manifest


def _without_impossible(scenes: SceneSet) -> SceneSet:
    fitting = tuple(kind for kind in scenes.kinds if FOOTAGE in KIND_LAYOUTS[kind])
    return replace(scenes, kinds=fitting)


def _footage(spec: SceneSpec, loop: FootageLoop | None) -> BackgroundPictures | None:
    """The background of one clip: the loop, begun somewhere else for every seed."""
    if loop is None:
        return None
    offset = int(np.random.default_rng([spec.seed, 7]).integers(len(loop)))

    def picture(index: int) -> BgrImage:
        return loop.picture(index + offset)

    return picture


def make_clip(folder: Path, clip: Clip) -> list[tuple[int, int]]:
    """Write one clip by itself, with its record, unless it is there for the same spec.

    Args:
        folder: Where to; it is there.
        clip: What to make; its split says nothing here.

    Returns:
        Its events as the ground truth shows them, in frames.

    Raises:
        OutputFailed: The disk is full.
    """
    return _make(folder, clip, None, "")


def _make(folder: Path, clip: Clip, footage: BackgroundPictures | None, footage_digest: str) -> list[tuple[int, int]]:
    """Write one clip unless it is there; returns its events as the ground truth shows them."""
    path = folder / clip.name
    record_path = path.with_suffix(".json")
    made_from = f"{GENERATOR} {clip.spec.digest()} {clip.encoding.crf} {clip.encoding.preset} {footage_digest}"
    digest = hashlib.sha256(made_from.encode()).hexdigest()
    known = _recorded_events(record_path, path, digest)
    if known is not None:
        return known
    actions: list[frozenset[str]] = []

    def images() -> Iterator[BgrImage]:
        for frame in render(clip.spec, footage=footage):
            actions.append(_actions(frame))
            yield frame.image

    # Away with the old record first: it must never vouch for a new file.
    record_path.unlink(missing_ok=True)
    write_mp4(path, images(), size=clip.spec.size, fps=clip.spec.fps, encoding=clip.encoding)
    events = event_ranges(actions, ABNORMAL_ACTIONS)
    record = {
        "digest": digest,
        "sha256": _file_digest(path),
        "events": events,
        "spec": asdict(clip.spec),
        "encoding": asdict(clip.encoding),
    }
    _write_text(record_path, json.dumps(record, indent=1) + "\n")
    return events


def _actions(frame: RenderedFrame) -> frozenset[str]:
    return frozenset(thing.action for thing in frame.objects)


def _recorded_events(record_path: Path, path: Path, digest: str) -> list[tuple[int, int]] | None:
    """The events of a clip that is complete for this digest, else None."""
    try:
        record = json.loads(record_path.read_text("utf-8"))
        if record["digest"] != digest or record["sha256"] != _file_digest(path):
            return None
        return [(int(start), int(end)) for start, end in record["events"]]
    except (OSError, SourceUnavailable, ValueError, KeyError, TypeError):
        return None  # missing, cut off or of another make: render it again


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SourceUnavailable(f"{path}: cannot be read ({error.strerror})") from error


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, "utf-8")
    partial.replace(path)
