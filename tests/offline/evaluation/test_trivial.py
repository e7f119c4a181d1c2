"""Baselines of a manifest: measured where the videos are, and a sentence where they are not."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import DatasetError
from offline.ablation.peers import baseline_rows
from offline.cli import cli
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.scores import VideoScores, write_scores
from offline.evaluation.baselines import FEW_SHOT, MEASURES, measure, scores_of
from offline.evaluation.trivial import Measuring, measure_baselines

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def dataset(dataset_csv: Path) -> Dataset:
    return read_dataset(dataset_csv)


def test_every_baseline_where_all_videos_are_there(dataset: Dataset) -> None:
    judged = dataset.split("test").videos
    found = measure_baselines(judged, dataset.split("calibration"), QUIET)
    assert (set(found.scores), found.remarks) == ({*MEASURES, FEW_SHOT}, ())
    for name in MEASURES:
        assert found.scores[name] == {v.name: scores_of(measure(v.path, v.name), name) for v in judged}


def test_the_untrained_ones_without_a_calibration_split(dataset: Dataset, tmp_path: Path) -> None:
    judged = dataset.split("test").videos
    fit_on = dataset.split("calibration")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for calibration, reason in (
        (Dataset(dataset.path, ()), "the manifest has no calibration split"),
        (Dataset(dataset.path, fit_on.videos[:1]), "the calibration split has no "),
        (replace(fit_on, videos=(*fit_on.videos, replace(fit_on.videos[0], path=tmp_path / "x"))), "are not there"),
        (replace(fit_on, videos=(*fit_on.videos, replace(fit_on.videos[0], name="y", path=broken))), "broken.mp4"),
    ):
        found = measure_baselines(judged, calibration, QUIET)
        assert set(found.scores) == set(MEASURES)
        (remark,) = found.remarks
        assert remark.startswith(f"{FEW_SHOT} not computed: ")
        assert reason in remark


def test_none_where_a_judged_video_is_not_there(dataset: Dataset, tmp_path: Path) -> None:
    judged = [replace(video, path=tmp_path / video.name) for video in dataset.split("test")]
    found = measure_baselines(judged, dataset.split("calibration"), QUIET)
    assert found.scores == {}
    assert found.remarks == (
        f"trivial baselines not computed: 2 of 2 video files are not there, the first is {judged[0].name}",
    )


def test_what_the_store_holds_is_not_measured_again(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, fit_on = dataset.split("test").videos, dataset.split("calibration")
    measuring = Measuring(store=EntryStore(tmp_path))
    first = measure_baselines(judged, fit_on, QUIET, measuring)
    monkeypatch.setattr("offline.evaluation.trivial.measure", None)
    assert measure_baselines(judged, fit_on, QUIET, measuring) == first
    monkeypatch.undo()
    assert measure_baselines(judged, fit_on, QUIET) == first


def test_rows_of_an_ablation_say_why_a_baseline_is_missing(dataset: Dataset) -> None:
    judged = dataset.split("test").videos
    found = measure_baselines(judged, Dataset(dataset.path, ()), QUIET)
    rows = {method.name: (method.reason, scores) for method, scores in baseline_rows(judged, found)}
    assert set(rows) == {*MEASURES, FEW_SHOT}
    assert all(rows[name][0] is None and rows[name][1] for name in MEASURES)
    assert rows[FEW_SHOT] == (found.remarks[0], {})


def test_a_count_that_disagrees_with_the_file_is_an_error(dataset: Dataset) -> None:
    first, *others = dataset.split("test").videos
    with pytest.raises(DatasetError, match=rf"{first.name} .*the manifest says 9000 frames, the video has"):
        measure_baselines([replace(first, frames=9000), *others], dataset.split("calibration"), QUIET)


# --- through the command ---


def _scores(dataset: Dataset, path: Path, extra: int = 0) -> Path:
    rows = []
    for video in dataset.split("test"):
        frames = measure(video.path, video.name).frames + extra
        rows.append(
            VideoScores(
                video.name,
                frames,
                tuple((s, min(s + 48, frames), 0.5 * video.anomalous) for s in range(0, frames, 48)),
            )
        )
    write_scores(rows, path)
    return path


def _run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_command(cli, [*map(str, arguments), "--quiet"])
    out, err = capfd.readouterr()
    return code, out, err


def _edited(source: Path, target: Path, **cells: str) -> Path:
    """The manifest, its paths absolute, with some cells of every test row replaced."""
    with source.open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["path"] = str(source.parent / row["path"])
        row.update(cells if row["split"] == "test" else {})
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return target


def test_evaluate_prints_and_stores_what_is_beside(
    dataset: Dataset, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scores = _scores(dataset, tmp_path / "scores.json")
    common = ("evaluate", "--scores", scores, "--manifest", dataset_csv)
    code, out, err = _run(capfd, *common)
    assert code == 0, err
    for name in (*MEASURES, FEW_SHOT, "perfect segments", "perfect shares"):
        assert f"\n{name} " in out
    code, out, err = _run(capfd, *common, "--json")
    assert code == 0, err
    content = json.loads(out)
    assert set(content["baselines"]) == {*MEASURES, FEW_SHOT}
    assert content["remarks"] == []
    code, out, err = _run(capfd, *common, "--json", "--no-baselines")
    assert code == 0, err
    content = json.loads(out)
    assert content["baselines"] == {}
    assert set(content["ceilings"]) == {"perfect segments", "perfect shares"}


def test_evaluate_says_why_there_are_no_baselines(
    dataset: Dataset, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Stored scores may be judged on a machine that has no video at all."""
    manifest = tmp_path / "data.csv"
    manifest.write_text(dataset_csv.read_text())
    code, out, err = _run(
        capfd, "evaluate", "--scores", _scores(dataset, tmp_path / "s.json"), "--manifest", manifest
    )
    assert code == 0, err
    assert "trivial baselines not computed: 2 of 2 video files are not there" in out
    assert "\nperfect segments " in out


def test_scores_of_another_length_than_the_file_are_refused(
    dataset: Dataset, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scores = _scores(dataset, tmp_path / "scores.json", extra=1)
    manifest = _edited(dataset_csv, dataset_csv.parent / "unknown-counts.csv", frames="")
    names = {str(dataset_csv.parent / video.name): video.name for video in dataset.split("test")}
    content = json.loads(scores.read_text())
    scores.write_text(json.dumps({path: content[name] for path, name in names.items()}))
    code, _, err = _run(capfd, "evaluate", "--scores", scores, "--manifest", manifest)
    assert (code, len(err.splitlines())) == (1, 1)
    assert "but its file has" in err
    assert next(iter(names)) in err
    assert _run(capfd, "evaluate", "--scores", scores, "--manifest", manifest, "--no-baselines")[0] == 0


@pytest.mark.parametrize("way", [("--scores", "nowhere.json"), ("--bundle", "nowhere")])
@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"label": "normal", "events": ""}, "split 'test' has normal videos only"),
        ({"label": "anomalous", "events": ""}, "split 'test' has no frame known to be normal"),
    ],
)
def test_a_split_of_one_class_is_refused_before_anything_is_run(
    way: tuple[str, str],
    cells: dict[str, str],
    said: str,
    dataset_csv: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    manifest = _edited(dataset_csv, tmp_path / "data.csv", **cells)
    code, out, err = _run(capfd, "evaluate", *way, "--manifest", manifest)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert said in err
    assert "choose another split" in err
