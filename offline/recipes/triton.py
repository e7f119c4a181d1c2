"""A bundle's models for a Triton server, and what JPEG on the way there does to its scores."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import fitted_on, open_engine
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.inference.triton_engine import decode_jpeg, encode_jpeg
from edge_runtime.inference.triton_names import LOSS_PARAMETER, QUALITY_PARAMETER
from edge_runtime.stream.pixels import UInt8Array
from export.triton.configs import Serving
from export.triton.repository import Written, write_repository
from offline.console import Console
from offline.data.dataset import read_dataset
from offline.data.segments import read_segments
from offline.evaluation.metrics import frame_auc


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonOptions:
    """What `hh-offline triton` was asked for.

    Attributes:
        bundle: The bundle.
        repository: Where the models go.
        serving: How they are run.
        name: What their names begin with; None for the bundle's id.
        jpeg: Quality of the JPEG that models take as well; None for none that do.
        manifest: Videos on whose validation split JPEG is measured; None for the golden segments alone.
    """

    bundle: Path
    repository: Path
    serving: Serving = field(default_factory=Serving)
    name: str | None = None
    jpeg: int | None = None
    manifest: Path | None = None

    def __post_init__(self) -> None:
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise UsageError(f"the quality of JPEG is 1 to 100, got {self.jpeg}")
        if self.manifest is not None and self.jpeg is None:
            raise UsageError("--manifest is what JPEG is measured on; give --jpeg QUALITY with it")


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegEffect:
    """What JPEG does to a bundle.

    Attributes:
        quality: Of the JPEG.
        loss: Largest difference of a golden feature, as a share of the largest feature of its segment.
        golden: Largest difference of a golden segment's score.
        ratio: Bytes of the golden frames as JPEG, as a share of those as they are.
        segments: How many segments of the validation split were measured.
        changed: Largest difference of a score among them; None where there are none.
        mean_changed: The mean difference.
        auc: AUC over those segments as they are, and as JPEG; None where undefined.
    """

    quality: int
    loss: float
    golden: float
    ratio: float
    segments: int = 0
    changed: float | None = None
    mean_changed: float | None = None
    auc: tuple[float | None, float | None] | None = None

    def parameters(self) -> dict[str, str]:
        """As it stands in the configuration of the ensembles that take JPEG."""
        told = {QUALITY_PARAMETER: str(self.quality), LOSS_PARAMETER: f"{self.loss:.6g}"}
        return told | {"jpeg_score_change": f"{self.golden if self.changed is None else self.changed:.6g}"}

    def lines(self) -> list[str]:
        """The same for a person."""
        said = [
            f"JPEG of quality {self.quality}: {100 * self.ratio:.0f} % of the bytes; golden scores change by up to "
            f"{self.golden:.2g}, golden features by {self.loss:.2g} of their scale"
        ]
        if self.changed is not None:
            said.append(
                f"validation: {self.segments} segments, scores change by up to {self.changed:.2g}, "
                f"{self.mean_changed:.2g} on average"
            )
        if self.auc is not None and None not in self.auc:
            said.append(f"validation: AUC over segments {self.auc[0]:.4f} as they are, {self.auc[1]:.4f} as JPEG")
        return said


def serve_on_triton(options: TritonOptions, console: Console) -> tuple[Written, JpegEffect | None]:
    """Write the models, and say what JPEG does where they take it.

    Raises:
        HeadHuntError: The bundle is refused, a video cannot be read, or the repository cannot be written.
    """
    bundle = Bundle.open(options.bundle)
    effect = None
    if options.jpeg is not None:
        effect = measure_jpeg(bundle, options.jpeg, options.manifest, console)
        for line in effect.lines():
            console.say(line)
    jpeg = None if effect is None else effect.parameters()
    return write_repository(bundle, options.repository, options.serving, options.name, jpeg), effect


def packages_here() -> tuple[str, ...]:
    """Where this environment's packages are, for models in Python on the same machine."""
    return tuple(dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")))


def measure_jpeg(bundle: Bundle, quality: int, manifest: Path | None, console: Console) -> JpegEffect:
    """Score the same segments as they are and by way of JPEG, on this machine.

    Args:
        bundle: The bundle.
        quality: Of the JPEG.
        manifest: Of videos with a validation split; None for the golden segments alone.
        console: Shows how far it is.

    Raises:
        HeadHuntError: A graph fails, a video cannot be read, or the split is empty.
    """
    golden = bundle.golden()
    scorer = ScorerGraph(bundle.file(bundle.manifest.scorer.file))
    engine = open_engine(bundle, fitted_on(bundle.manifest))
    try:
        exact = engine.features(golden.frames)
        files, frames = _there_and_back(golden.frames, quality)
        changed = engine.features(frames)
        scale = np.abs(exact).max(axis=1)
        effect = JpegEffect(
            quality=quality,
            loss=float((np.abs(changed - exact).max(axis=1) / np.where(scale > 0, scale, 1)).max()),
            golden=float(np.abs(scorer.probabilities(changed) - scorer.probabilities(exact)).max()),
            ratio=files.nbytes / golden.frames.nbytes,
        )
        if manifest is None:
            return effect
        scores, anomalous = _scores(bundle, engine, scorer, quality, manifest, console)
    finally:
        engine.close()
    apart = np.abs(scores[:, 1] - scores[:, 0])
    return JpegEffect(
        quality=quality,
        loss=effect.loss,
        golden=effect.golden,
        ratio=effect.ratio,
        segments=len(scores),
        changed=float(apart.max()),
        mean_changed=float(apart.mean()),
        auc=(frame_auc(anomalous, scores[:, 0]), frame_auc(anomalous, scores[:, 1])),
    )


def _scores(
    bundle: Bundle, engine: Engine, scorer: ScorerGraph, quality: int, manifest: Path, console: Console
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores (N, 2) of the validation split's segments, as they are and as JPEG; and which are anomalous (N,)."""
    videos = [video for video in read_dataset(manifest).split("validation").videos if video.timed]
    if not videos:
        raise UsageError(
            f"{manifest}: the validation split has no video whose events have times; leave --manifest out"
        )
    scores: list[tuple[float, float]] = []
    anomalous: list[bool] = []

    def both(frames: UInt8Array) -> Iterator[float]:
        for given in (frames, _there_and_back(frames, quality)[1]):
            yield float(scorer.probabilities(engine.features(given))[0])

    with console.bar("Measuring JPEG", "video") as progress:
        for done, video in enumerate(videos):
            progress(done, len(videos), video.name)
            for segment in read_segments(video.path, bundle.manifest.pixels, bundle.manifest.segment):
                exact, changed = both(segment.pixels[None])
                scores.append((exact, changed))
                anomalous.append(video.overlaps(segment.start_frame, segment.end_frame))
        progress(len(videos), len(videos))
    if not scores:
        raise DatasetError(f"{manifest}: the validation split has no segment")
    return np.array(scores), np.array(anomalous)


def _there_and_back(frames: UInt8Array, quality: int) -> tuple[UInt8Array, UInt8Array]:
    """The files that would travel, and the frames that a server makes of them."""
    files = encode_jpeg(frames, quality)
    height, width = frames.shape[2:4]
    return files, decode_jpeg(files, height, width)
