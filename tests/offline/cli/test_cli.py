"""`hh-offline` as a person runs it: good input, bad input, one line of error, the right exit code."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.inference.scorer import ScorerGraph
from models.reference import write_untrained
from offline.cli import cli
from offline.data.dataset import read_dataset
from offline.data.scores import read_scores
from offline.evaluation.metrics import frame_auc
from offline.evaluation.verdict import TOKENS_ALONE
from offline.evaluation.yardsticks import perfect
from offline.extraction.features import FeatureSet


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    write_untrained(folder)
    return str(folder)


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run_command(cli, [str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def error_line(err: str) -> str:
    """The one line of error; anything more is a fault of the command."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_extract_then_hunt(model: str, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    common = ("--model", model, "--manifest", dataset_csv, "--quiet")
    code, out, err = run(capfd, "extract", *common, "--output", tmp_path / "store")
    assert code == 0, err
    assert "6 calibration videos, 5 prompts, 6 x 6 heads of 32" in out
    code, out, err = run(capfd, "extract", *common, "--output", tmp_path / "packed.npz", "--stream-layers")
    assert code == 0, err
    # Layer by layer, with the same bits.
    with np.load(tmp_path / "store" / "calibration.npz") as one, np.load(tmp_path / "packed.npz") as other:
        assert np.array_equal(one["features"], other["features"])
    found = []
    for features in ("store", "packed.npz"):
        hunted = tmp_path / f"{features}.json"
        code, out, err = run(
            capfd, "hunt", "--features", tmp_path / features, "--output", hunted, "--max-layer", 3, "--quiet"
        )
        assert code == 0, err
        found.append(json.loads(hunted.read_text()))
    assert found[0] == found[1]
    assert len(found[0]["experts"]) == 5
    assert max(expert["layer"] for expert in found[0]["experts"]) <= 3
    assert found[0]["chance"]["heads"] == 4 * 6


def test_hunt_says_what_it_owes_to_chance_and_how_stable_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = np.arange(24) % 2 == 1
    features = np.random.default_rng(0).standard_normal((24, 1, 2, 4, 6)).astype(np.float32)
    features[labels, :, 1, 2] += 3
    names = tuple(map(str, range(24)))
    FeatureSet(features, labels, ("plain",), names).write(tmp_path / "features.npz")
    common = ("hunt", "--features", tmp_path / "features.npz", "--output", tmp_path / "hunt.json", "--top-k", 1)
    code, out, err = run(capfd, *common, "--stability", 4, "--quiet")
    assert code == 0, err
    content = json.loads((tmp_path / "hunt.json").read_text())
    assert content["stability"]["frequency"][1][2] == 1.0
    assert "in 100 % of 4 halves" in out
    assert "The heads know something of the labels. The best of 8 heads (layer 1, head 2)" in err
    assert all(sentence in err for sentence in content["chance"]["sentences"])
    code, out, err = run(capfd, *common, "--stability", 4, "--select", "stable", "--quiet")
    assert code == 0, err
    assert out.startswith("1. layer   1  head   2")
    content = json.loads((tmp_path / "hunt.json").read_text())
    assert content["select"] == "stable"
    assert all(sentence in err for sentence in content["chance"]["sentences"])
    for words in (("--select", "stable"), ("--select", "stable", "--stability", 4, "--prompt", "plain")):
        code, _, err = run(capfd, *common, *words, "--quiet")
        assert (code, err.count("\n")) == (2, 1)
        assert "--stability 50" in err
    code, out, err = run(capfd, *common, "--no-chance", "--quiet")
    assert (code, err) == (0, "")
    assert not {"chance", "stability"} & set(json.loads((tmp_path / "hunt.json").read_text()))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--memory", "0.001"), 2, "one layer needs 1.5 MiB"),
        (("--memory", "0.001", "--no-stream-layers"), 2, "say --stream-layers"),
        (("--sampled", "300"), 2, "has 2048; let it see fewer frames (about 89 fit"),
        (("--system-message", "model"), 0, ""),
    ],
)
def test_what_a_model_may_take_is_told_before_it_begins(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    model: str,
    dataset_csv: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    common = ("--model", model, "--manifest", dataset_csv, "--quiet", "--sampled", 2)
    found, _, err = run(capfd, "extract", *common, "--output", tmp_path / "store", *arguments)
    assert found == code, err
    if words:
        assert words in error_line(err)
        assert not list((tmp_path / "store").glob("*.npz"))


def test_verify_agrees_with_the_source_model(
    model: str, bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capfd, "verify", bundle_dir, "--model", model, "--manifest", dataset_csv)
    assert code == 0, err
    assert out.startswith("8 segments: largest difference")
    assert "note:" not in err
    other = tmp_path / "other"
    other.mkdir()
    write_untrained(other, seed=1)
    code, _, err = run(capfd, "verify", bundle_dir, "--model", other)
    assert code == 1
    assert "differ from the model's by" in error_line(err)
    assert "note: the model's weights are not those" in err


def test_evaluate_a_bundle_and_its_saved_scores_alike(
    bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.json"
    common = ("--manifest", dataset_csv, "--split", "validation", "--json", "--quiet")
    code, out, err = run(capfd, "evaluate", "--bundle", bundle_dir, *common, "--save-scores", scores)
    assert code == 0, err
    of_bundle = json.loads(out)
    code, out, err = run(capfd, "evaluate", "--scores", scores, *common)
    assert code == 0, err
    of_scores = json.loads(out)
    for figure in ("auc", "average_precision", "pr_auc_trapezoid"):
        assert of_bundle["series"]["raw"][figure] == pytest.approx(of_scores["series"]["raw"][figure], abs=1e-12)
    manifest = Bundle.open(bundle_dir).manifest
    # What the build promised is what the edge's own detector gives on the same videos.
    assert of_bundle["series"]["smoothed"]["auc"] == pytest.approx(manifest.validation.auc, abs=1e-9)
    assert of_bundle["series"]["smoothed"]["f1"]["calibrated"]["f1"] == pytest.approx(
        manifest.validation.f1, abs=1e-9
    )
    assert of_bundle["videos"] == manifest.validation.videos


def test_evaluate_sets_a_bundle_beside_its_visual_tokens_alone(
    bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    common = ("evaluate", "--bundle", bundle_dir, "--provider", "cpu", "--quiet", "--cache", tmp_path / "cache")
    code, out, err = run(capfd, *common, "--manifest", dataset_csv, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(TOKENS_ALONE) < set(found["baselines"])
    for row in TOKENS_ALONE:
        raw, smoothed = (found["baselines"][row][series] for series in ("raw", "smoothed"))
        assert 0 <= raw["auc"] <= 1
        assert smoothed["minus"]["auc"] == pytest.approx(
            found["series"]["smoothed"]["auc"] - smoothed["auc"], abs=1e-12
        )
    code, out, err = run(capfd, *common, "--manifest", dataset_csv)
    assert code == 0, err
    assert out.rstrip().count(found["verdict"]) == 1
    for row in TOKENS_ALONE:
        assert any(line.startswith(row) for line in out.splitlines())
    for flag in ("--no-visual", "--no-baselines"):
        code, out, err = run(capfd, *common, "--manifest", dataset_csv, "--json", flag)
        assert code == 0, err
        without = json.loads(out)
        assert not set(TOKENS_ALONE) & set(without["baselines"])
        assert (without["verdict"], without["remarks"]) == (None, [])

    # Only the test split: what cannot be fitted is a remark.
    rows = dataset_csv.read_text(encoding="utf-8").splitlines()
    alone = tmp_path / "alone.csv"
    lines = [rows[0], *(f"{dataset_csv.parent}/{row}" for row in rows[1:] if ",test," in row)]
    alone.write_text("\n".join(lines) + "\n", encoding="utf-8")
    code, out, err = run(capfd, *common, "--manifest", alone, "--json")
    assert code == 0, err
    without = json.loads(out)
    assert "visual tokens alone not computed: the manifest has no calibration split" in without["remarks"]
    assert without["verdict"] is None


def test_recalibrate_keeps_the_graphs_and_learns_the_rest(
    bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = dataset_csv.parent / "site.csv"
    with dataset_csv.open() as file:
        rows = list(csv.DictReader(file))
    with site.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        # The site has only what was the test split, and no validation videos.
        writer.writerows(row | {"split": "calibration"} for row in rows if row["split"] == "test")
    output = tmp_path / "site"
    code, _, err = run(capfd, "recalibrate", bundle_dir, "--manifest", site, "--output", output)
    assert code == 0, err
    assert "no validation videos" in err.lower()
    old, new = Bundle.open(bundle_dir).manifest, Bundle.open(output).manifest
    assert new.bundle_id != old.bundle_id
    assert new.experts == old.experts
    assert not new.locators.full.calibrated
    assert new.locators.full.threshold == 0.65
    graphs = {entry.path: entry.sha256 for entry in old.files if entry.path.startswith(("vision", "language"))}
    assert graphs.items() <= {entry.path: entry.sha256 for entry in new.files}.items()
    assert (output / "report.html").is_file()
    code, _, err = run(capfd, "recalibrate", bundle_dir, "--manifest", site, "--output", output)
    assert code == 2
    assert "--overwrite" in error_line(err)


def test_a_recalibration_keeps_to_the_rule_that_fitted_the_bundle(
    bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    common = ("--manifest", dataset_csv, "--cache", tmp_path / "cache", "--quiet")
    chain = {"first": ("--scorer", "gaussians"), "second": (), "third": ("--scorer", "logistic")}
    before, scorers = bundle_dir, {}
    for name, words in chain.items():
        code, _, err = run(capfd, "recalibrate", before, *common, "--output", tmp_path / name, *words)
        assert code == 0, err
        before = tmp_path / name
        scorers[name] = ScorerGraph(before / "scorer.onnx").probabilities(Bundle.open(before).golden().features)
    rules = {name: Bundle.open(tmp_path / name).manifest.producer["scorer"] for name in chain}
    assert rules == {"first": "gaussians", "second": "gaussians", "third": "logistic"}
    np.testing.assert_array_equal(scorers["first"], scorers["second"])
    assert not np.allclose(scorers["second"], scorers["third"])


def test_a_stride_goes_through_recalibration_evaluation_and_the_edge(
    bundle_dir: Path, dataset_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, scores = tmp_path / "strided", tmp_path / "scores.json"
    code, _, err = run(
        capfd, "recalibrate", bundle_dir, "--manifest", dataset_csv, "--output", output, "--stride", 24, "--quiet"
    )
    assert code == 0, err
    assert Bundle.open(output).manifest.segment.stride == 24
    common = ("--manifest", dataset_csv, "--split", "validation", "--json", "--quiet", "--no-baselines")
    code, out, err = run(capfd, "evaluate", "--bundle", output, *common, "--save-scores", scores)
    assert code == 0, err
    promised = Bundle.open(output).manifest.validation
    assert json.loads(out)["series"]["smoothed"]["auc"] == pytest.approx(promised.auc, abs=1e-9)
    videos = read_dataset(dataset_csv).split("validation").videos
    stored = read_scores(scores, videos)
    for name, auc in json.loads(out)["ceilings"].items():
        of_two = perfect(name, videos, stored, overlap=2)
        labels = np.concatenate([video.frame_labels(stored[video.name].frames) for video in videos])
        at_best = np.concatenate([of_two[video.name].expand() for video in videos])
        assert auc["auc"] == pytest.approx(frame_auc(labels, at_best))
    spans = [segment[:2] for video in json.loads(scores.read_text()).values() for segment in video["segments"]]
    assert max(end - start for start, end in spans) == 24
    # Said at the command line it goes before the bundle's own.
    code, _, err = run(capfd, "evaluate", "--bundle", output, *common, "--save-scores", scores, "--stride", 48)
    assert code == 0, err
    spans = [segment[:2] for video in json.loads(scores.read_text()).values() for segment in video["segments"]]
    assert max(end - start for start, end in spans) == 48
    code, _, err = run(capfd, "evaluate", "--bundle", output, *common, "--stride", 20)
    assert code == 2
    assert "must divide the 48 frames of a segment, got 20" in error_line(err)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["build", "--model", "reference", "--manifest", "nowhere.csv", "--output", "b"], 1, "nowhere.csv"),
        (["hunt", "--features", "nowhere", "--output", "hunt.json"], 1, "nowhere"),
        (["verify", "nowhere"], 3, "nowhere"),
        (["evaluate", "--manifest", "data.csv"], 2, "--bundle and --scores"),
        (["import", "youtube", "--annotations", "a", "--output", "b"], 2, "ucf-crime"),
        (["extract", "--model", "no/such/model", "--manifest", "{csv}", "--output", "f"], 1, "no/such/model"),
        (["build", "--model", "{model}", "--manifest", "{csv}", "--output", "b", "--top-k", "99"], 2, "36 heads"),
        (["build", "--model", "{model}", "--manifest", "{csv}", "--output", "b", "--prompt", "x"], 2, "'x'"),
        (["build", "--model", "{model}", "--manifest", "{csv}", "--output", "b", "--max-layer", "6"], 2, "0 to 5"),
        (["build", "--model", "{model}", "--manifest", "{csv}", "--output", "{csv}"], 2, "data.csv"),
        (
            ["build", "--model", "{model}", "--manifest", "{csv}", "--output", "b", "--reuse-unchanged", "nan"],
            2,
            "nan",
        ),
    ],
)
def test_bad_input_gets_one_line(
    arguments: list[str],
    code: int,
    said: str,
    model: str,
    dataset_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(csv=dataset_csv, model=model) for argument in arguments]
    got, _, err = run(capfd, *filled)
    assert got == code, err
    assert said in error_line(err)
    assert not (tmp_path / "b").exists()


def test_usage_errors_are_clicks_own() -> None:
    done = subprocess.run([sys.executable, "-m", "offline.cli", "build"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Missing option" in done.stderr


def test_every_command_has_help_with_an_example(capfd: pytest.CaptureFixture[str]) -> None:
    for name in cli.commands:
        code, out, _ = run(capfd, name, "--help")
        assert code == 0
        assert f"hh-offline {name}" in out, f"{name} has no example"


def test_help_needs_no_heavy_library() -> None:
    script = (
        "import sys; import offline.cli; print([m for m in ('torch', 'transformers', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
