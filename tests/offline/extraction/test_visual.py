"""Statistics of visual tokens: what transformers' own path gives, through any family, streamed or by the graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from clips import write_clip
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from oracle import some_frames
from qwen_checkpoints import SIDE, write_qwen3_vl

from edge_runtime.bundle.reader import Bundle
from edge_runtime.inference.engines import open_engine
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.families.internvl import InternVL
from models.loading import load
from models.reference import write_untrained
from models.sweep import Sweep
from models.transformers_mllm import TransformersMllm
from offline.data.cache import EntryStore
from offline.data.dataset import Video
from offline.extraction.extract import Extraction, extract
from offline.extraction.visual import GraphTokens, ModelTokens, token_statistics


def opened(folder: Path) -> TransformersMllm:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, TransformersMllm)
    return mllm


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> TransformersMllm:
    """The built-in model without training, of which `bundle` was made."""
    folder = tmp_path_factory.mktemp("reference")
    write_untrained(folder)
    return opened(folder)


def assert_statistics_of(found: np.ndarray, tokens: np.ndarray) -> None:
    exact = tokens.astype(np.float64)
    wanted = np.stack([exact.mean(axis=0), exact.std(axis=0)])
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(exact).max())


@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(-1e3, 1e3, width=32)))
def test_an_offset_moves_the_mean_alone(tokens: np.ndarray) -> None:
    found, moved = token_statistics(tokens), token_statistics(tokens.astype(np.float64) + 10_000)
    np.testing.assert_allclose(moved[0], found[0] + 10_000, rtol=1e-6)
    np.testing.assert_allclose(moved[1], found[1], rtol=1e-4, atol=1e-3)


def test_statistics_of_the_reference_model_are_those_of_transformers_own_tokens(reference: TransformersMllm) -> None:
    frames = some_frames(1, 16, reference.pixels.size)[0]
    assert isinstance(reference, InternVL)
    plain, config = reference.plain, reference.plain.config
    with torch.inference_mode():
        tokens = plain.model.get_image_features(
            pixel_values=reference._normalisation.apply(frames, reference.device),
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
            return_dict=True,
        ).pooler_output
    (found,) = ModelTokens(reference).extract([frames])
    assert_statistics_of(found, tokens.reshape(-1, reference.geometry.width).numpy())


def test_pairs_of_frames_and_additions_give_all_their_columns(tmp_path: Path) -> None:
    """Qwen3-VL: g = 2, and DeepStack's columns beside the token's own."""
    mllm = opened(write_qwen3_vl(tmp_path))
    mllm.use_pixels(PixelSpec(size=(3 * SIDE, 5 * SIDE)))
    frames = some_frames(2, 6, (3 * SIDE, 5 * SIDE))
    assert (mllm.frames_per_group, bool(mllm.additions_after)) == (2, True)
    for shown, found in zip(frames, ModelTokens(mllm).extract(frames), strict=True):
        assert found.shape == (2, mllm.geometry.width * (1 + len(mllm.additions_after)))
        assert_statistics_of(found, mllm.visual_tokens(shown).flatten(0, 1).numpy())


def test_streamed_weights_give_the_same_bits(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", Shape())
    whole, streaming = opened(folder), opened(folder)
    streaming.sweep = Sweep(1, 1 << 20, tmp_path / "spill", units=4)
    frames = some_frames(3, 5, whole.pixels.size)
    steps: list[tuple[int, int]] = []
    found = ModelTokens(streaming).extract(frames, lambda done, of: steps.append((done, of)))
    np.testing.assert_array_equal(found, ModelTokens(whole).extract(frames))
    assert len(steps) > 1
    assert steps[-1][0] == steps[-1][1]


def test_a_bundle_gives_what_its_model_gives(bundle: Bundle, reference: TransformersMllm) -> None:
    golden = bundle.golden()
    graphs = open_engine(bundle, "cpu")
    try:
        found = GraphTokens(graphs, ["0"]).extract(golden.frames)
    finally:
        graphs.close()
    wanted = ModelTokens(reference).extract(golden.frames)
    for one, other, tokens in zip(found, wanted, golden.tokens, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(tokens).max())
        assert_statistics_of(one, tokens.reshape(-1, tokens.shape[-1]))


def test_what_is_stored_is_not_computed_again_and_never_taken_for_another_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Video(write_clip(tmp_path / "a.mp4", 100, seed=1), "a.mp4", "normal", "test")
    models = [opened(write_checkpoint(tmp_path / str(seed), Shape(layers=1), seed)) for seed in (0, 1)]
    segment, store = SegmentSpec(frames=48, sampled=4, fps=15), EntryStore(tmp_path / "store")

    def features(mllm: TransformersMllm) -> np.ndarray:
        extraction = Extraction(ModelTokens(mllm), mllm.pixels, segment, store)
        return extract([video], {video.name: "segment"}, extraction)[0].features

    first = features(models[0])
    assert first.shape == (3, 2, models[0].geometry.width)
    assert not np.allclose(first, features(models[1]))

    def refuse(*_: object) -> None:
        raise AssertionError("it is in the store")

    monkeypatch.setattr(InternVL, "segment_tokens", refuse)
    np.testing.assert_array_equal(features(models[0]), first)
