"""`hh-offline triton` as a person runs it, and what it says of JPEG."""

from __future__ import annotations

import pytest

from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.inference.triton_engine import decode_jpeg, encode_jpeg
from edge_runtime.inference.triton_names import version_of
from offline.cli import cli
from offline.console import Console
from offline.data.dataset import read_dataset
from offline.data.segments import read_segments
from offline.recipes.triton import TritonOptions, measure_jpeg


def run(capfd, *arguments: object) -> tuple[int, str, str]:
    code = run_command(cli, [str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return code, out, err


def test_it_writes_models_and_says_what_to_write_on_the_boxes(bundle_dir, tmp_path, capfd):
    code, out, err = run(
        capfd, "triton", bundle_dir, tmp_path / "models", "--name", "gate", "--jpeg", "90", "--quiet"
    )
    assert (code, err) == (0, "")
    assert "--provider triton://host:8001/gate" in out
    version = version_of(Bundle.open(bundle_dir).manifest.bundle_id)
    names = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert names == [
        "gate_decode",
        f"gate_jpeg_tokens_v{version}",
        f"gate_jpeg_v{version}",
        "gate_language",
        f"gate_score_v{version}",
        "gate_scorer",
        f"gate_segment_v{version}",
        "gate_vision",
    ]
    config = (tmp_path / "models" / f"gate_jpeg_v{version}" / "config.pbtxt").read_text()
    effect = measure_jpeg(Bundle.open(bundle_dir), 90, None, Console(quiet=True))
    assert f'"jpeg_loss" value {{ string_value: "{effect.loss:.6g}" }}' in config
    assert '"jpeg_quality" value { string_value: "90" }' in config


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--name", "a/b"], 2, "no name of models"),
        (["--preferred-batch", "99"], 2, "between 1 and the largest, 8"),
        (["--manifest", "data.csv"], 2, "give --jpeg QUALITY with it"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(bundle_dir, tmp_path, capfd, words, code, said):
    found, _, err = run(capfd, "triton", bundle_dir, tmp_path / "models", *words)
    assert found == code
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "models").exists()


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, capfd):
    found, _, err = run(capfd, "triton", tmp_path, tmp_path / "models")
    assert found == 3
    assert "manifest.json is missing" in err


def test_jpeg_is_measured_on_the_segments_of_the_validation_split(bundle, dataset_csv):
    effect = measure_jpeg(bundle, 60, dataset_csv, Console(quiet=True))
    differences = []
    with Detector(bundle, "cpu", self_test=False) as detector:
        for video in read_dataset(dataset_csv).split("validation").videos:
            for segment in read_segments(video.path, bundle.manifest.pixels, bundle.manifest.segment):
                frames = segment.pixels[None]
                back = decode_jpeg(encode_jpeg(frames, 60), *frames.shape[2:4])
                differences.append(abs(float(detector.score(frames)[0]) - float(detector.score(back)[0])))
    assert effect.segments == len(differences)
    assert effect.changed == pytest.approx(max(differences), abs=1e-5)
    assert effect.mean_changed == pytest.approx(sum(differences) / len(differences), abs=1e-5)


@pytest.mark.parametrize("quality", [0, 101])
def test_a_quality_that_is_none_is_refused(tmp_path, quality):
    with pytest.raises(UsageError, match="1 to 100"):
        TritonOptions(bundle=tmp_path, repository=tmp_path, jpeg=quality)
