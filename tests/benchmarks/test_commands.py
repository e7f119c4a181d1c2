"""The cheap measurements themselves, small: their figures agree with each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import cli
from benchmarks.edge import AnswersAtOnce
from benchmarks.full_size import CONFIGS
from edge_runtime.bundle.reader import Bundle
from edge_runtime.inference.engine import Engine
from models.prompts import PROMPTS


def figures(*words: object) -> dict[str, Any]:
    done = CliRunner().invoke(cli, [*map(str, words), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["machine"]["cores"] >= 1
    assert "python" in told["versions"]
    found: dict[str, Any] = told["figures"]
    return found


def test_hunt() -> None:
    found = figures("hunt", "--videos", 20, "--prompts", 2, "--layers", 3, "--heads", 4, "--width", 8, "--rounds", 1)
    assert found["ms_a_head"] == pytest.approx(1e3 * found["seconds"] / (2 * 3 * 4))
    assert set(found["metrics_ms_a_head"]) == {"lda", "kl", "mmd", "nmi"}
    assert min(found["metrics_ms_a_head"].values()) > 0


def test_edge(bundle_dir: Path) -> None:
    found = figures("edge", "--bundle", bundle_dir, "--rounds", 2, "--threads", 1)
    assert set(found["beside_ms"]) == {"file", "camera", "camera, eager"}
    for way, spent in found["spent_ms"].items():
        assert found["beside_ms"][way] == pytest.approx(sum(spent.values()))
        # Every segment is resized, scored and told.
        assert min(spent["resizing"], spent["scorer"], spent["records"]) > 0
        own = found["beside_ms"][way]
        assert found["share"][way] == pytest.approx(own / (own + found["graphs_ms"]))


def test_extract() -> None:
    found = figures("extract", "--model", "reference", "--frames", 2, "--rounds", 1, "--threads", 1)
    prefix, questions = found["prefix"], found["questions"]
    assert len(questions) == len(PROMPTS)
    whole = [prefix + own for own in questions]
    assert found["at_most"] == pytest.approx(sum(whole) / (prefix + sum(questions)))
    assert found["ratio"] == pytest.approx(found["passes_s"] / found["shared_s"])


def test_start(bundle_dir: Path) -> None:
    found = figures("start", "--bundle", bundle_dir, "--provider", "cpu", "--rounds", 1, "--threads", 1)
    assert found["bytes"] == sum(path.stat().st_size for path in bundle_dir.iterdir() if path.name != "manifest.json")
    assert found["ratio"] == pytest.approx(found["opened_s"] / found["sha256sum_s"])


def test_batches(bundle_dir: Path) -> None:
    words = ["--bundle", bundle_dir, "--provider", "cpu", "--rounds", 1, "--threads", 1, "--size", 3]
    found = figures("batches", *words)
    assert set(found["ms_a_segment"]) == set(found["ratio"]) == {"1", "3"}
    assert found["ratio"]["1"] == 1
    assert found["ratio"]["3"] == pytest.approx(found["ms_a_segment"]["3"] / found["ms_a_segment"]["1"])
    assert found["apart"] < 1e-4


def test_the_stand_in_for_the_graphs_is_an_engine_that_gives_as_many_tokens(bundle: Bundle) -> None:
    engine, golden = AnswersAtOnce(bundle), bundle.golden()
    assert isinstance(engine, Engine)
    assert engine.tokens(golden.frames[:1]).shape == golden.tokens[:1].shape
    a_frame = golden.tokens.shape[1] // golden.frames.shape[1]
    assert engine.tokens(golden.frames[:1, :3]).shape[1] == 3 * a_frame
    assert np.array_equal(engine.features(golden.frames[:1]), golden.features[:1])


def test_smolvlm2_has_the_geometry_of_the_real_one(tmp_path: Path) -> None:
    config = CONFIGS["smolvlm2-256m"]("smolvlm2-256m", None, tmp_path)
    text, vision = config.text_config, config.vision_config
    assert (text.hidden_size, text.num_hidden_layers, text.num_attention_heads) == (576, 30, 9)
    assert (text.num_key_value_heads, text.hidden_size // text.num_attention_heads, text.intermediate_size) == (
        3,
        64,
        1536,
    )
    assert (vision.hidden_size, vision.num_hidden_layers, vision.image_size, vision.patch_size) == (768, 12, 512, 16)
    assert (vision.image_size // vision.patch_size // config.scale_factor) ** 2 == 64


@pytest.mark.parametrize(
    "words",
    [
        ["graph"],
        ["textual"],
        ["extract"],
        ["hunt"],
        ["edge"],
        ["start"],
        ["memory"],
        ["cameras"],
        ["batches"],
        ["all"],
    ],
)
def test_every_command_has_a_help_text(words: list[str]) -> None:
    done = CliRunner().invoke(cli, [*words, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


def test_an_unknown_result_takes_no_note(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["note", "hunt", "slow", "--output", str(tmp_path)])
    assert "no result 'hunt'" in str(done.exception)
