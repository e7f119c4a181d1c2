"""The decoder piece by piece against the decoder in one piece, over all families and however the sequence is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import llava_checkpoints
import numpy as np
import onnxruntime
import pytest
import smolvlm_checkpoints
from checkpoints import Shape, write_checkpoint
from llava_checkpoints import LlavaShape
from numpy.typing import NDArray
from oracle import seeing
from qwen_checkpoints import write_qwen2_5_vl, write_qwen3_vl

from export.graphs import export_growing, export_language
from export.precision.rounding import Rounding
from export.publish import GROWING, LANGUAGE
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS

FRAMES = 4
EXPERTS = [HeadRef(2, 3), HeadRef(0, 1), HeadRef(1, 2), HeadRef(2, 0)]
# Geometries in which something is easily taken for granted: shared keys, rotations along three axes, frames in
# pairs, vision features that enter above the lowest layer.
MODELS: dict[str, Callable[[Path], Path]] = {
    "internvl-qwen2": lambda folder: write_checkpoint(folder, Shape(kv_heads=2)),
    "internvl-qwen3-uneven": lambda folder: write_checkpoint(folder, Shape(family="qwen3", heads=6, kv_heads=3)),
    "llava": lambda folder: llava_checkpoints.write_llava(folder, LlavaShape(layers=3)),
    "smolvlm": lambda folder: smolvlm_checkpoints.write_checkpoint(folder, smolvlm_checkpoints.Shape()),
    "qwen2.5-vl": write_qwen2_5_vl,
    "qwen3-vl-deepstack": write_qwen3_vl,
}
Graph = Callable[..., list[NDArray[np.float32]]]


def opened(path: Path) -> Graph:
    session = onnxruntime.InferenceSession(str(path))
    names = [one.name for one in session.get_inputs()]
    return lambda *given: session.run(None, dict(zip(names, given, strict=True)))


def in_pieces(
    graph: Graph, tokens: NDArray[np.float32], pieces: list[tuple[int, int]], width: int
) -> NDArray[np.float32]:
    """Features after pieces of (positions, visual ones among them)."""
    state = np.zeros((len(tokens), 0, width), np.float32)
    shown = 0
    for positions, visual in pieces:
        known = state.shape[1]
        features, grown = graph(tokens[:, shown : shown + visual], np.arange(known, known + positions), state)
        state, shown = np.concatenate([state, grown], axis=1), shown + visual
    assert shown == tokens.shape[1]
    return features


@pytest.mark.parametrize("name", MODELS)
def test_group_by_group_it_gives_what_the_whole_sequence_gives(name: str, tmp_path: Path) -> None:
    mllm = load(str(MODELS[name](tmp_path / "model")), "cpu")
    export_language(mllm, PROMPTS[0], EXPERTS, seeing(FRAMES), tmp_path)
    ends = export_growing(mllm, PROMPTS[0], EXPERTS, seeing(FRAMES), tmp_path)
    plain, growing = opened(tmp_path / LANGUAGE), opened(tmp_path / GROWING)
    width = onnxruntime.InferenceSession(str(tmp_path / GROWING)).get_inputs()[2].shape[2]
    size = onnxruntime.InferenceSession(str(tmp_path / LANGUAGE)).get_inputs()[0].shape

    tokens = np.random.default_rng(0).normal(size=(2, *size[1:])).astype(np.float32)
    (wanted,) = plain(tokens)
    groups, each = len(ends), mllm.tokens_per_frame
    assert groups == FRAMES // mllm.frames_per_group
    starts = [0, *ends[:-1]]
    one_by_one = [(end - start, each) for start, end in zip(starts, ends, strict=True)]
    cuts = {
        "whole": [(ends[-1], groups * each)],
        "one by one": one_by_one,
        "the last alone": [(starts[-1], (groups - 1) * each), one_by_one[-1]],
    }
    for cut, pieces in cuts.items():
        found = in_pieces(growing, tokens, pieces, width)
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max(), cut


def test_the_weights_are_written_once(tmp_path: Path) -> None:
    mllm = load(str(write_checkpoint(tmp_path / "model", Shape())), "cpu")
    for rounding in (Rounding(), Rounding("bf16"), Rounding("fp16")):
        folder = tmp_path / rounding.precision
        folder.mkdir()
        export_language(mllm, PROMPTS[0], EXPERTS, seeing(FRAMES), folder, rounding)
        before = (folder / f"{LANGUAGE}.data").read_bytes()
        export_growing(mllm, PROMPTS[0], EXPERTS, seeing(FRAMES), folder, rounding)
        assert (folder / f"{LANGUAGE}.data").read_bytes() == before
        own = (folder / f"{GROWING}.data").read_bytes()
        # What is left are embeddings and rotations; no product's weight is among them.
        weight = mllm.weights.read(mllm.weights.name_of(mllm.decoder.layers[0].mlp.down_proj.weight))
        assert weight.numpy().T.tobytes() not in own
        assert len(own) < len(before) / 2
        opened(folder / GROWING)
