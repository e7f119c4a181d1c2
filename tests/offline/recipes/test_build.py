"""The whole build on a tiny model: the same each time, nothing lost, every bad input one line."""

from __future__ import annotations

import csv
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from checkpoints import Shape, write_checkpoint
from clips import ROOT, write_clip, write_dataset_folder
from msgspec import UNSET
from onnx import numpy_helper
from oracle import plain_head_features

import export.deploy
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import (
    DatasetError,
    HeadHuntError,
    InferenceFailed,
    OutputFailed,
    ParityError,
    ProviderUnavailable,
    SourceUnavailable,
    UsageError,
)
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.scorer import ScorerGraph
from export.precision.rounding import Rounded
from export.publish import GROWING, LANGUAGE, SCORER, VISION
from export.torch_onnx import save
from models.families.internvl import InternVL
from models.loading import load
from models.prompts import PROMPTS
from offline.calibration.rules import ScorerRule
from offline.calibration.samples import Samples
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import read_dataset
from offline.evaluation.run import Running, run_videos
from offline.extraction.model import ModelUse
from offline.hunting.evidence import read_evidence
from offline.recipes.build import BuildOptions, Built, build
from offline.recipes.verify import verify

QUIET = Console(quiet=True)
SPLITS = {"calibration": 6, "validation": 4}


def campaign_module() -> Any:
    spec = importlib.util.spec_from_file_location("kill_campaign", ROOT / "benchmarks" / "kill_campaign.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_campaign"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> BuildOptions:
    folder = tmp_path_factory.mktemp("build")
    model = write_checkpoint(folder / "model", Shape(layers=2))
    (folder / "videos").mkdir()
    manifest = write_dataset_folder(folder / "videos", SPLITS)
    return BuildOptions(
        model=str(model),
        manifest=manifest,
        output=folder / "first",
        cache=folder / "cache",
        prompts=PROMPTS[:2],
        top_k=3,
        depth_curve=False,
    )


@pytest.fixture(scope="module")
def built(options: BuildOptions) -> Built:
    return build(options, QUIET)


@pytest.fixture
def exported_before(built: Built, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets builds take the finished build's graphs, perhaps changed, in place of an export of seconds."""

    def use(change: Callable[[Path], None] | None = None) -> None:
        def copy(name: str, folder: Path) -> Rounded:
            for path in (built.bundle.path / name, built.bundle.path / f"{name}.data"):
                shutil.copy(path, folder / path.name)
            return Rounded("fp32")

        def vision(_mllm: Any, folder: Path, _rounding: Any) -> Rounded:
            return copy(VISION, folder)

        def language(_mllm: Any, _prompt: Any, _experts: Any, _segment: Any, folder: Path, _rounding: Any) -> Rounded:
            rounded = copy(LANGUAGE, folder)
            if change is not None:
                change(folder)
            return rounded

        def growing(
            _mllm: Any, _prompt: Any, _experts: Any, _segment: Any, folder: Path, _rounding: Any
        ) -> list[int]:
            copy(GROWING, folder)
            spec = built.bundle.manifest.graphs.growing
            assert spec is not UNSET
            return spec.ends

        monkeypatch.setattr(export.deploy, "export_vision", vision)
        monkeypatch.setattr(export.deploy, "export_language", language)
        monkeypatch.setattr(export.deploy, "export_growing", growing)

    return use


def perturb(factor: float) -> Callable[[Path], None]:
    """One weight of the exported language graph, multiplied."""

    def change(folder: Path) -> None:
        model = onnx.load(str(folder / LANGUAGE))
        floats = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
        largest = max(floats, key=lambda one: int(np.prod(one.dims)))
        values = numpy_helper.to_array(largest).copy()
        values *= np.float32(factor)
        largest.CopyFrom(numpy_helper.from_array(values, largest.name))
        save(ir.from_proto(model), folder / LANGUAGE)

    return change


def refused(options: BuildOptions, kind: type[HeadHuntError], match: str) -> None:
    before = beside(options)
    with pytest.raises(kind, match=match) as caught:
        build(options, QUIET)
    assert "\n" not in str(caught.value)
    assert beside(options) == before


def beside(options: BuildOptions) -> list[Path]:
    """What stands where the bundle will, but for the cache that a failed build leaves on purpose."""
    if not options.output.parent.is_dir():
        return []
    return sorted(path for path in options.output.parent.iterdir() if path != options.cache_folder)


def test_two_builds_from_separate_caches_are_equal_in_all_but_the_time(
    options: BuildOptions, built: Built, tmp_path: Path
) -> None:
    again = build(replace(options, output=tmp_path / "second", cache=None), QUIET)
    assert (tmp_path / "second.cache").is_dir()
    assert [one.ref for one in again.hunt.experts] == [one.ref for one in built.hunt.experts]
    assert (again.bundle.path / "scorer.onnx").read_bytes() == (built.bundle.path / "scorer.onnx").read_bytes()
    result = campaign_module().bundle_result
    assert result(again.bundle.path) == result(built.bundle.path)
    assert {VISION, LANGUAGE, f"{VISION}.data", f"{LANGUAGE}.data", "scorer.onnx"} <= result(built.bundle.path).keys()


def test_the_bundle_gives_the_features_of_the_plain_model_in_expert_order(
    options: BuildOptions, built: Built
) -> None:
    mllm = load(options.model, "cpu")
    assert isinstance(mllm, InternVL)
    manifest, golden = built.bundle.manifest, built.bundle.golden()
    prompt = next(prompt for prompt in PROMPTS if prompt.name == manifest.prompt.name)
    every = plain_head_features(mllm, golden.frames, prompt)
    wanted = np.concatenate([every[:, one.layer, one.head] for one in manifest.experts], axis=1)
    assert np.abs(golden.features - wanted).max() <= 1e-5 * np.abs(wanted).max()
    graphs = OnnxEngine(built.bundle.file(VISION), built.bundle.file(LANGUAGE), provider="cpu")
    np.testing.assert_array_equal(graphs.features(golden.frames[:1]), golden.features[:1])
    scorer = ScorerGraph(built.bundle.file("scorer.onnx"))
    np.testing.assert_allclose(scorer.probabilities(golden.features), golden.probabilities, atol=1e-6)


def test_what_was_measured_stands_in_the_manifest(built: Built) -> None:
    manifest = built.bundle.manifest
    assert manifest.parity["segments"] >= 8
    assert 0 <= manifest.parity["relative"] <= manifest.parity["tolerance"] == 1e-4
    assert manifest.segment.fps == pytest.approx(15)
    assert (manifest.segment.frames, manifest.segment.sampled) == (48, 16)
    assert manifest.locators.full.calibrated
    # One ruler: the locator's own F1 and the validation's are the same number.
    assert manifest.validation.f1 == pytest.approx(manifest.locators.full.f1)
    assert manifest.validation.videos == SPLITS["validation"]
    assert manifest.scorer.unit == "segment"
    with manifest_rows(built) as rows:
        assert manifest.validation.frames == sum(int(row["frames"]) for row in rows if row["split"] == "validation")


@contextmanager
def manifest_rows(built: Built) -> Iterator[list[dict[str, str]]]:
    path = Path(built.fitted.calibration_units[0].video.path).parent / "data.csv"
    with path.open(newline="") as file:
        yield list(csv.DictReader(file))


def test_no_graph_and_no_manifest_knows_the_machine(options: BuildOptions, built: Built) -> None:
    # The report repeats the command as it was typed, for whoever wants to build again.
    for path in set(built.bundle.path.iterdir()) - {built.bundle.path / "report.html"}:
        content = path.read_bytes()
        for trace in (str(ROOT), str(options.manifest.parent.parent), "site-packages"):
            assert trace.encode() not in content, f"{trace} in {path.name}"


@pytest.mark.parametrize(("factor", "kind"), [(1.02, ParityError), (float("nan"), InferenceFailed)])
def test_a_broken_export_never_becomes_a_bundle_and_an_older_one_survives(
    factor: float,
    kind: type[HeadHuntError],
    options: BuildOptions,
    exported_before: Callable[..., None],
    built: Built,
    tmp_path: Path,
) -> None:
    exported_before(perturb(factor))
    refused(replace(options, output=tmp_path / "new"), kind, r"differ.*by \d|not finite")
    assert not (tmp_path / "new").exists()
    shutil.copytree(built.bundle.path, tmp_path / "old")
    refused(replace(options, output=tmp_path / "old", overwrite=True), kind, r"differ.*by \d|not finite")
    assert Bundle.open(tmp_path / "old").manifest == built.bundle.manifest


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of some KiB."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        folder = tmp_path / f"disk{kib}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("cannot mount a small disk here; needs root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # Lazily: the error that was caught still holds the graphs that were open when the disk was full.
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(
    options: BuildOptions,
    exported_before: Callable[..., None],
    built: Built,
    full_disk: Callable[[int], Path],
) -> None:
    bundle = built.bundle.path
    size = sum(-(-path.stat().st_size // 4096) * 4 for path in bundle.iterdir())
    cached = sorted(path.name for path in options.cache_folder.iterdir())
    exported_before()
    # The disk is full at the graphs, at the golden segments, and at the very end.
    for kib, said in (
        (40, r"the graphs take \S+ \wiB to .* are free"),
        (size // 2, "No space left on device"),
        (size - 8, "No space left on device"),
    ):
        disk = full_disk(kib)
        refused(replace(options, output=disk / "bundle"), OutputFailed, said)
        assert not (disk / "bundle").exists()
    # An older bundle is there, and there is no room for another beside it.
    disk = full_disk(size + size // 2)
    shutil.copytree(bundle, disk / "bundle")
    refused(replace(options, output=disk / "bundle", overwrite=True), OutputFailed, "No space left on device")
    assert Bundle.open(disk / "bundle").manifest == built.bundle.manifest
    assert sorted(path.name for path in options.cache_folder.iterdir()) == cached


def test_a_disk_that_is_full_while_graphs_or_features_are_written(
    options: BuildOptions, built: Built, full_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    # Room for the vision graph, which is needed in any case, and not for much more.
    kib = (built.bundle.path / f"{VISION}.data").stat().st_size // 1024 + 20
    refused(replace(options, output=full_disk(kib) / "bundle"), OutputFailed, "No space left on device")
    refused(
        replace(options, output=tmp_path / "bundle", cache=full_disk(20) / "cache"),
        OutputFailed,
        "No space left on device",
    )


# -- videos that cannot be read ---------------------------------------------------------------------------------


def audio_only(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 8000)


def zero_frames(path: Path) -> None:
    writer = cv2.VideoWriter(str(path.with_suffix(".avi")), cv2.VideoWriter_fourcc(*"MJPG"), 15.0, (64, 48))
    writer.release()
    path.with_suffix(".avi").rename(path)


def truncated(path: Path) -> None:
    write_clip(path, 100, seed=3)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cut_avi(path: Path) -> None:
    """Opens and plays; that frames are missing shows at the end only."""
    whole = path.with_suffix(".avi")
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 15.0, (160, 120))
    noise = np.random.default_rng(0)
    for _ in range(100):
        writer.write(noise.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    writer.release()
    content = whole.read_bytes()
    whole.unlink()
    path.write_bytes(content[: len(content) * 7 // 10])


FAULTS: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": truncated,
    "cut short": cut_avi,
    "audio only": audio_only,
    "no frames": zero_frames,
    "text": lambda path: path.write_text("no video"),
}


def own_videos(options: BuildOptions, folder: Path, keep: Callable[[dict[str, str]], bool] = lambda _: True) -> Path:
    """A copy of the videos and of the rows of data.csv that are kept, without frame counts."""
    shutil.copytree(options.manifest.parent, folder)
    with (folder / "data.csv").open(newline="") as file:
        rows = [row | {"frames": ""} for row in csv.DictReader(file) if keep(row)]
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "data.csv"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["calibration1.mp4", "validation0.mp4"])
def test_a_video_that_cannot_be_read_is_named(
    fault: str, name: str, options: BuildOptions, exported_before: Callable[..., None], tmp_path: Path
) -> None:
    exported_before()
    manifest = own_videos(options, tmp_path / "videos")
    FAULTS[fault](tmp_path / "videos" / name)
    kind = DatasetError if fault == "missing" else SourceUnavailable
    refused(replace(options, manifest=manifest, output=tmp_path / "out" / "bundle"), kind, name)
    assert not (tmp_path / "out" / "bundle").exists()


def test_unreadable_videos_are_left_out_by_name(
    options: BuildOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = own_videos(options, tmp_path / "videos")
    broken = {"calibration1.mp4": "cut short", "calibration2.mp4": "missing", "validation1.mp4": "audio only"}
    for name, fault in broken.items():
        FAULTS[fault](tmp_path / "videos" / name)
    made = build(
        replace(options, manifest=manifest, output=tmp_path / "bundle", skip_unreadable=True, overwrite=False), QUIET
    )
    for name in broken:
        assert name in caplog.text
    used = {one.video.name for one in (*made.fitted.calibration_units, *made.fitted.validation_units)}
    every = {f"{split}{number}.mp4" for split, count in SPLITS.items() for number in range(count)}
    assert used == every - broken.keys()
    assert made.bundle.manifest.scorer.samples == sum(len(one.spans) for one in made.fitted.calibration_units)
    assert made.bundle.manifest.validation.videos == SPLITS["validation"] - 1
    assert made.bundle.manifest.parity["segments"] >= 8


def test_a_class_that_is_left_without_a_video_is_a_dataset_error(options: BuildOptions, tmp_path: Path) -> None:
    wanted = {"calibration0.mp4", "calibration1.mp4", "calibration2.mp4"}
    manifest = own_videos(options, tmp_path / "videos", lambda row: row["path"] in wanted)
    FAULTS["cut short"](tmp_path / "videos" / "calibration1.mp4")
    refused(
        replace(options, manifest=manifest, output=tmp_path / "bundle", skip_unreadable=True),
        DatasetError,
        "no anomalous video",
    )


# -- what is refused before the long work -----------------------------------------------------------------------


def test_arguments_that_cannot_be_carried_out(options: BuildOptions, built: Built, tmp_path: Path) -> None:
    refused(replace(options, output=tmp_path / "b", prompt="poem"), UsageError, "poem.*coarse")
    refused(replace(options, output=tmp_path / "b", provider="abacus"), UsageError, "abacus")
    refused(
        replace(options, output=tmp_path / "b", provider="cuda:1"), ProviderUnavailable, "cuda:1 is not installed"
    )
    refused(replace(options, output=tmp_path / "b", use=ModelUse(device="tpu")), UsageError, "tpu")
    refused(replace(options, output=tmp_path / "b", reuse_unchanged=-1), UsageError, "grey levels.*got -1")
    refused(options, UsageError, "--overwrite")
    refused(replace(options, output=tmp_path / "b", top_k=9), UsageError, "8|9")
    refused(replace(options, output=tmp_path / "b", max_layer=2), UsageError, "2")


def test_an_event_beyond_the_last_frame_is_named(options: BuildOptions, tmp_path: Path) -> None:
    manifest = own_videos(options, tmp_path / "videos")
    manifest.write_text(manifest.read_text().replace("30-90", "30-9000", 1))
    refused(replace(options, manifest=manifest, output=tmp_path / "b"), DatasetError, r"calibration1\.mp4.*30-9000")


def test_without_timed_validation_the_locator_says_it_is_not_calibrated(
    options: BuildOptions,
    exported_before: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exported_before()  # the same calibration videos, so the same experts
    manifest = own_videos(options, tmp_path / "videos", lambda row: row["split"] == "calibration")
    made = build(replace(options, manifest=manifest, output=tmp_path / "bundle", reuse_unchanged=2), Console())
    locators = made.bundle.manifest.locators
    assert [(one.sigma, one.threshold, one.calibrated, one.f1) for one in (locators.full, locators.low_latency)] == [
        (1.5, 0.65, False, None)
    ] * 2
    assert (locators.full.lookahead, locators.low_latency.lookahead) == (5, 0)
    assert made.bundle.manifest.validation.auc is None
    said = capsys.readouterr().err
    assert "calibrated" in said
    assert "--reuse-unchanged was not measured" in said
    assert made.bundle.manifest.reuse_threshold is None


def test_with_a_stride_the_locator_is_calibrated_on_what_the_edge_gives_with_it(
    options: BuildOptions, built: Built, exported_before: Callable[..., None], tmp_path: Path
) -> None:
    exported_before()
    made = build(replace(options, stride=16, output=tmp_path / "bundle"), QUIET)
    segment, apart = made.bundle.manifest.segment, built.bundle.manifest.segment
    assert (segment.stride, segment.overlap) == (16, 3)
    assert apart.stride is UNSET
    # What it learned from does not overlap, so it learned the same.
    assert made.fitted.scorer == built.fitted.scorer
    validation = read_dataset(options.manifest).split("validation")
    runs = run_videos(made.bundle, validation, Running(), QUIET)
    assert len(runs) == len(made.fitted.scored)
    for run in runs:
        fitted = made.fitted.scored[run.video.name]
        assert [(start, end) for start, end, _ in run.raw.segments] == [(s, e) for s, e, _ in fitted.segments]
        assert run.raw.expand() == pytest.approx(fitted.expand(), abs=1e-6)
        assert run.raw.segments[0][1] == 16
    with pytest.raises(UsageError, match="a stride must divide the 48 frames"):
        build(replace(options, stride=20, output=tmp_path / "other"), QUIET)
    assert "--stride 16" in replace(options, stride=16).command


def test_a_scorer_by_another_rule_is_what_the_bundle_holds(
    options: BuildOptions, exported_before: Callable[..., None], tmp_path: Path
) -> None:
    exported_before()
    asked = replace(options, output=tmp_path / "b", scorer="log-odds", chance=False)
    made = build(asked, QUIET)
    assert "--scorer log-odds --no-chance" in asked.command
    samples = Samples.of(made.fitted.calibration_units)
    width = made.bundle.manifest.geometry.head_dim
    expected = ScorerRule(width, "log-odds").fit(samples).predict_proba(samples.features)[:, 1]
    given = ScorerGraph(made.bundle.path / SCORER).probabilities(samples.features)
    np.testing.assert_allclose(given, expected, atol=1e-5)
    plain = ScorerRule(width).fit(samples).predict_proba(samples.features)[:, 1]
    assert np.abs(given - plain).max() > 1e-3


def test_max_layer_keeps_every_expert_and_the_graph_that_shallow(options: BuildOptions, tmp_path: Path) -> None:
    made = build(replace(options, output=tmp_path / "bundle", max_layer=0), QUIET)
    assert {one.ref.layer for one in made.hunt.experts} == {0}
    nodes = onnx.load(str(made.bundle.file(LANGUAGE)), load_external_data=False).graph.node
    assert sum(node.op_type == "Attention" for node in nodes) == 1


def test_what_reused_frames_change_is_told_where_it_was_asked(
    options: BuildOptions,
    built: Built,
    exported_before: Callable[..., None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    exported_before()
    asking = replace(options, output=tmp_path / "bundle", reuse_unchanged=255)
    made = build(asking, Console())
    manifest, segments = made.bundle.manifest, sum(len(one.spans) for one in made.fitted.validation_units)
    assert manifest.reuse_threshold == 255
    # Of each video's frames the first alone is encoded.
    assert manifest.parity["reuse_groups"] == 16 * segments
    assert manifest.parity["reuse_share"] == pytest.approx(1 - SPLITS["validation"] / (16 * segments))
    assert {"reuse_score_change", "reuse_auc_change", "reuse_auc_change_low"} <= manifest.parity.keys()
    assert "Frames that differ by at most 255 grey levels: " in capsys.readouterr().err
    assert "Frames that did not change" in (made.bundle.path / "report.html").read_text()
    assert shlex.split(asking.command)[-2:] == ["--reuse-unchanged", "255"]
    # It is measured, not switched on: what was fitted is the same.
    assert manifest.locators == built.bundle.manifest.locators
    assert built.bundle.manifest.reuse_threshold is None


def test_an_output_without_a_name_of_its_own_gets_its_folders_beside_it(
    options: BuildOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for output in (Path(), Path("../here"), Path("inner/..")):
        unnamed = replace(options, output=output, cache=None)
        assert unnamed.target == tmp_path / "here"
        assert unnamed.cache_folder == tmp_path / "here.cache"


def test_a_rounded_bundle_says_what_it_costs_and_runs_where_it_was_fitted(options: BuildOptions) -> None:
    """int8 from beginning to end: what stayed, what it costs, the same self-test on both engines, parity again."""
    rounded = build(replace(options, output=options.output.with_name("int8"), precision="int8", force=True), QUIET)
    manifest = rounded.bundle.manifest
    assert set(manifest.graphs.precisions) <= {"int8", "bf16"}
    assert manifest.producer["provider"] == "openvino"
    assert 0.9 < manifest.parity["centred_cosine"] <= 1
    assert {"score_change", "auc_change", "auc_change_low", "auc_change_high"} <= manifest.parity.keys()
    assert options.cache is not None
    survival = read_evidence(EntryStore(options.cache), manifest).survival
    assert survival is not None
    assert survival.precision == "int8"
    # Of all heads, not of the experts; in 8 bits none is untouched, and none gives what is no number.
    assert survival.share.shape == (manifest.geometry.layers, manifest.geometry.heads)
    assert ((survival.share > 1e-4) & np.isfinite(survival.share)).all()
    assert len(survival.without) == len(manifest.experts)
    assert "What int8 does to every head" in (rounded.bundle.path / "report.html").read_text()
    assert not [path.name for path in rounded.bundle.path.iterdir() if path.is_dir()]
    plain = build(replace(options, output=options.output.with_name("fp32"), precision="fp32"), QUIET)
    assert read_evidence(EntryStore(options.cache), plain.bundle.manifest).survival is None
    sizes = [
        sum(entry.bytes for entry in one.bundle.manifest.files if entry.path.endswith(".data"))
        for one in (rounded, plain)
    ]
    assert sizes[0] < 0.8 * sizes[1]
    for provider in ("openvino", "cpu"):
        with Detector(rounded.bundle, provider=provider) as detector:
            detector.self_test()
    assert verify(rounded.bundle.path, options.model).parity.relative <= rounded.parity.tolerance


def test_a_precision_that_costs_too_much_writes_nothing(
    options: BuildOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offline.calibration.cost.WORST_CHANGE", 1.0)
    # Nor are all heads exported where that was not wanted.
    monkeypatch.setattr("offline.recipes.build.features_of_both", None)
    target = options.output.with_name("refused")
    with pytest.raises(ParityError, match=r"precision bf16 changes the validation AUC by .* or say --force"):
        build(replace(options, output=target, precision="bf16", deployment_noise=False), QUIET)
    assert not target.exists()
