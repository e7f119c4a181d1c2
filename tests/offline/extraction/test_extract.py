"""Extraction: nothing is computed twice, and nothing stale is ever taken for true."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import Shape, write_checkpoint
from clips import write_clip

from edge_runtime.errors import DatasetError, FeatureError, SourceUnavailable
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.loading import load
from models.prompts import PROMPTS, Prompt
from models.sweep import Sweep
from offline.data.cache import EntryStore
from offline.data.dataset import Video
from offline.data.segments import median_rate
from offline.data.units import Unit
from offline.extraction.extract import AllHeads, Extracted, Extraction, Steps, extract
from offline.extraction.features import INDEX, FeatureSet, read_features, write_index

SEGMENT = SegmentSpec(frames=48, sampled=4, fps=15)


class Counting(AllHeads):
    """The real extractor, that also counts the units that it was given."""

    calls = 0

    def extract(self, units: Iterable[np.ndarray], progress: Steps | None = None) -> Sequence[np.ndarray]:
        return super().extract(map(self._count, units), progress)

    def _count(self, frames: np.ndarray) -> np.ndarray:
        self.calls += 1
        return frames


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Mllm]:
    """One checkpoint, and another that differs in its weights alone."""
    folder = tmp_path_factory.mktemp("models")
    return [load(str(write_checkpoint(folder / str(seed), Shape(layers=1), seed)), "cpu") for seed in (0, 1)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clip(tmp_path / "normal.mp4", 100, seed=1)
    write_clip(tmp_path / "anomalous.mp4", 110, (30, 60), seed=2)
    return tmp_path


def videos(folder: Path, events: tuple[tuple[int, int], ...] = ((30, 60),), **names: str) -> list[Video]:
    found = []
    for label in ("normal", "anomalous"):
        name = names.get(label, f"{label}.mp4")
        hot = events if label == "anomalous" else ()
        found.append(Video(path=folder / name, name=name, label=label, split="calibration", events=hot))
    return found


def run(
    folder: Path,
    mllm: Mllm,
    given: Sequence[Video] | None = None,
    prompts: Sequence[Prompt] = PROMPTS[:2],
    segment: SegmentSpec = SEGMENT,
    unit: Unit = "segment",
    size: int = 32,
    skip_unreadable: bool = False,
) -> tuple[list[Extracted], int]:
    """Extract; returns the result and how many units were computed."""
    given = videos(folder) if given is None else given
    counting = Counting(mllm, prompts, segment)
    units: dict[str, Unit] = {video.name: unit for video in given}
    store = EntryStore(folder / "store")
    extraction = Extraction(counting, PixelSpec(size=size), segment, store, skip_unreadable)
    return extract(given, units, extraction), counting.calls


def equal(one: list[Extracted], other: list[Extracted]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(a.features, b.features) and np.array_equal(a.spans, b.spans)
        for a, b in zip(one, other, strict=True)
    )


def test_what_is_done_is_not_done_again(folder: Path, models: list[Mllm]) -> None:
    first, calls = run(folder, models[0])
    assert calls == 3 + 3
    again, calls = run(folder, models[0])
    assert calls == 0
    assert equal(first, again)
    assert [one.features.shape for one in first] == [(3, 2, 1, 4, 8)] * 2
    assert [one.frames for one in first] == [100, 110]
    assert [one.labels.tolist() for one in first] == [[False] * 3, [True, True, False]]
    # What is not changed by name or place: features are found by content.
    (folder / "normal.mp4").rename(folder / "renamed.mp4")
    moved, calls = run(folder, models[0], videos(folder, normal="renamed.mp4"))
    assert calls == 0
    assert equal(first, moved)
    assert moved[0].video.name == "renamed.mp4"
    # The rate cuts no file: a bundle's median may move without a new extraction.
    assert run(folder, models[0], segment=SegmentSpec(frames=48, sampled=4, fps=25), given=[moved[0].video])[1] == 0


def test_every_change_that_could_change_a_feature_is_noticed(folder: Path, models: list[Mllm]) -> None:
    first, _ = run(folder, models[0])
    other, calls = run(folder, models[1])
    assert calls == 6
    assert not equal(first, other)
    assert run(folder, models[0], prompts=PROMPTS[1:3])[1] == 6
    reworded = (Prompt(PROMPTS[0].name, PROMPTS[0].text + " Now."), PROMPTS[1])
    assert run(folder, models[0], prompts=reworded)[1] == 6
    assert run(folder, models[0], prompts=PROMPTS[:2][::-1])[1] == 6
    assert run(folder, models[0], segment=SegmentSpec(frames=48, sampled=5, fps=15))[1] == 6
    assert run(folder, models[0], segment=SegmentSpec(frames=60, sampled=4, fps=15))[1] == 4
    assert run(folder, models[0], unit="video")[1] == 2
    write_clip(folder / "normal.mp4", 100, seed=9)
    changed, calls = run(folder, models[0])
    assert calls == 3
    assert not np.array_equal(changed[0].features, first[0].features)
    assert np.array_equal(changed[1].features, first[1].features)
    # And all of that left the first entries as they were.
    write_clip(folder / "normal.mp4", 100, seed=1)
    assert run(folder, models[0])[1] == 0


def test_new_events_change_labels_and_compute_nothing(folder: Path, models: list[Mllm]) -> None:
    run(folder, models[0])
    found, calls = run(folder, models[0], videos(folder, events=((96, 97),)))
    assert calls == 0
    assert found[1].labels.tolist() == [False, False, True]


def test_events_beyond_the_video_are_refused_also_where_features_are_stored(folder: Path, models: list[Mllm]) -> None:
    run(folder, models[0])
    with pytest.raises(DatasetError, match=r"anomalous\.mp4.*110"):
        run(folder, models[0], videos(folder, events=((30, 111),)))


def test_a_corrupt_entry_is_computed_again(folder: Path, models: list[Mllm]) -> None:
    first, _ = run(folder, models[0])
    for number, path in enumerate(sorted((folder / "store").iterdir())):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if number else b"")
    again, calls = run(folder, models[0])
    assert calls == 6
    assert equal(first, again)
    assert run(folder, models[0])[1] == 0


def test_a_copy_of_a_video_is_extracted_once(folder: Path, models: list[Mllm]) -> None:
    shutil.copy(folder / "normal.mp4", folder / "copy.mp4")
    given = [*videos(folder), Video(path=folder / "copy.mp4", name="copy.mp4", label="normal", split="calibration")]
    found, calls = run(folder, models[0], given)
    assert calls == 6
    assert np.array_equal(found[0].features, found[2].features)


def test_a_video_that_cannot_be_read_is_named_or_left_out_by_name(
    folder: Path, models: list[Mllm], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "normal.mp4").write_bytes(b"no video at all")
    with pytest.raises(SourceUnavailable, match=r"normal\.mp4.*--skip-unreadable") as caught:
        run(folder, models[0])
    assert "\n" not in str(caught.value)
    found, calls = run(folder, models[0], skip_unreadable=True)
    assert [one.video.name for one in found] == ["anomalous.mp4"]
    assert calls == 3
    assert "normal.mp4" in caplog.text
    with pytest.raises(SourceUnavailable, match=r"normal\.mp4"):
        median_rate(videos(folder))
    assert median_rate(videos(folder), skip_unreadable=True) == pytest.approx(15)


def test_a_set_goes_to_disk_and_comes_back(folder: Path, models: list[Mllm]) -> None:
    found, _ = run(folder, models[0])
    features = FeatureSet.of(found, PROMPTS[:2])
    assert features.features.shape == (6, 2, 1, 4, 8)
    assert features.videos == ("normal.mp4",) * 3 + ("anomalous.mp4",) * 3
    write_index(folder / "store", features, found, models[0])
    features.write(folder / "features.npz")
    for path in (folder / "store", folder / "features.npz"):
        back = read_features(path)
        assert np.array_equal(back.features, features.features)
        assert np.array_equal(back.labels, features.labels)
        assert (back.prompts, back.videos) == (features.prompts, features.videos)


def test_a_set_of_nothing_and_damaged_files_are_feature_errors(tmp_path: Path) -> None:
    with pytest.raises(FeatureError):
        FeatureSet.of([], PROMPTS)
    with pytest.raises(FeatureError, match="run hh-offline extract again"):
        read_features(tmp_path)
    np.savez(tmp_path / "other.npz", labels=np.zeros(2))
    (tmp_path / "short.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:100])
    np.savez(tmp_path / "pickled.npz", features=np.array([{}], dtype=object), labels=np.zeros(1))
    np.save(tmp_path / "single.npz", np.zeros(3))
    (tmp_path / "single.npz.npy").rename(tmp_path / "single.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("other", "short", "pickled", "single", "empty", "absent"):
        with pytest.raises(FeatureError, match=f"{name}.npz") as caught:
            read_features(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)
    for index in ("", "{", "[]", "{}", '{"calibration": 3}'):
        (tmp_path / INDEX).write_text(index)
        with pytest.raises(FeatureError):
            read_features(tmp_path)


def test_videos_go_through_a_model_that_streams_together_and_give_the_same(
    folder: Path, models: list[Mllm], tmp_path: Path
) -> None:
    wanted, _ = run(folder, models[0])
    shutil.rmtree(folder / "store")
    told: list[str] = []
    models[0].sweep = Sweep(1, 0, tmp_path / "spill", units=100)
    try:
        extraction = Extraction(
            AllHeads(models[0], PROMPTS[:2], SEGMENT), PixelSpec(size=32), SEGMENT, EntryStore(folder / "store")
        )
        units: dict[str, Unit] = {video.name: "segment" for video in videos(folder)}
        found = extract(videos(folder), units, extraction, lambda _done, _total, name: told.append(name))
    finally:
        models[0].sweep = Sweep(None, 0, tmp_path)
    assert equal(found, wanted)
    steps = [one for one in told if one.startswith("step")]
    assert steps == [f"step {number} of {len(steps)}" for number in range(1, len(steps) + 1)]


def test_what_was_computed_together_is_kept_whatever_comes_after(
    folder: Path, models: list[Mllm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is gone by then, and a video that contradicts the manifest beside one that does not."""
    wrong = replace(videos(folder)[0], frames=9000)
    given = [wrong, videos(folder)[1]]
    units: dict[str, Unit] = {video.name: "segment" for video in given}
    store = EntryStore(folder / "store")
    extractor = AllHeads(models[0], PROMPTS[:2], SEGMENT)
    original = extractor.extract

    def then_gone(units: Iterable[np.ndarray], progress: Steps | None = None) -> Sequence[np.ndarray]:
        computed = original(units, progress)
        for video in given:
            video.path.rename(video.path.with_suffix(".gone"))
        return computed

    monkeypatch.setattr(extractor, "extract", then_gone)
    models[0].sweep = Sweep(1, 0, tmp_path / "spill", units=100)
    try:
        with pytest.raises(DatasetError, match=r"normal\.mp4.*9000"):
            extract(given, units, Extraction(extractor, PixelSpec(size=32), SEGMENT, store))
    finally:
        models[0].sweep = Sweep(None, 0, tmp_path)
    assert len(list(store.folder.glob("*.npz"))) == 2


def test_features_of_all_layers_serve_whoever_reads_the_lowest(folder: Path, tmp_path: Path) -> None:
    mllm = load(str(write_checkpoint(tmp_path / "model", Shape(layers=3))), "cpu")
    units: dict[str, Unit] = {video.name: "segment" for video in videos(folder)}

    def extracted(layers: int | None) -> tuple[list[Extracted], int]:
        heads = Counting(mllm, PROMPTS[:1], SEGMENT, layers)
        extraction = Extraction(heads, PixelSpec(size=32), SEGMENT, EntryStore(folder / "store"))
        return extract(videos(folder), units, extraction), heads.calls

    shallow, calls = extracted(2)
    assert calls == 6
    assert shallow[0].features.shape[2] == 2
    whole, calls = extracted(None)
    assert calls == 6
    assert np.array_equal(whole[0].features[:, :, :2], shallow[0].features)
    assert extracted(1)[1] == 0
    assert extracted(3)[1] == 0
    assert np.array_equal(extracted(1)[0][0].features, whole[0].features[:, :, :1])
