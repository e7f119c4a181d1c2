"""A language model that was trained, not drawn: what it says, its outlier, and everything exact in spite of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from oracle import hooked, seeing, some_frames
from processors import processed
from smollm import SIZE, TOKENS, smollm_checkpoints
from smolvlm_checkpoints import read_processor
from transformers import AutoModelForImageTextToText

from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.precisions import parity_tolerance
from export.graphs import export_language, export_vision
from export.language import TruncatedLanguage
from export.parity import measure_parity, require_parity
from export.publish import LANGUAGE, VISION
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS, Prompt
from models.transformers_mllm import TransformersMllm

FRAMES = 2
SEEN = seeing(FRAMES)
# What the decoder's outlier is made by; the layers above see it.
OUTLIER_AFTER = 11


@pytest.fixture(scope="module", params=["smolvlm", "internvl"])
def folder(request: pytest.FixtureRequest) -> Path:
    return smollm_checkpoints()[request.param]


@pytest.fixture(scope="module")
def mllm(folder: Path) -> TransformersMllm:
    model = load(str(folder), "cpu", "float32")
    assert isinstance(model, TransformersMllm)
    return model


@pytest.fixture(scope="module")
def untouched(folder: Path) -> Any:
    """transformers' own model as transformers loads it."""
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def frames(units: int = 1) -> NDArray[np.uint8]:
    return some_frames(units, FRAMES, SIZE)


def hooked_on(untouched: Any, inputs: dict[str, Any]) -> NDArray[np.float32]:
    language = (
        untouched.model.text_model if hasattr(untouched.model, "text_model") else untouched.model.language_model
    )
    with torch.inference_mode():
        return hooked(untouched, language, inputs)[0]


def words(text: str) -> set[str]:
    return {word for word in text.lower().split() if word.isalpha()}


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Along the last axis."""
    first, second = one.astype(np.float64), other.astype(np.float64)
    products: NDArray[np.float64] = (first * second).sum(axis=-1)
    return products / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)


def test_it_is_the_language_model_that_the_config_says(mllm: TransformersMllm) -> None:
    geometry = mllm.geometry
    assert (geometry.layers, geometry.heads, geometry.kv_heads, geometry.head_dim) == (30, 9, 3, 64)
    assert mllm.tokens_per_frame == TOKENS
    assert mllm.weights.stored_dtype == torch.bfloat16


def test_visual_tokens_are_as_long_as_those_of_words(mllm: TransformersMllm) -> None:
    visual = mllm.visual_tokens(frames()[0]).square().mean().sqrt()
    spoken = mllm.plain.get_input_embeddings().weight.square().mean().sqrt()
    assert 0.5 * spoken < visual < 2 * spoken


@pytest.mark.parametrize("folder", ["smolvlm"], indirect=True)
def test_its_language_model_answers_in_sentences(mllm: TransformersMllm) -> None:
    asked = "<|im_start|>user\nWhat is a surveillance camera?<|im_end|>\n<|im_start|>assistant\n"
    ids = mllm.tokenizer(asked, return_tensors="pt", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        said = mllm.plain.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False
        )
    text = mllm.tokenizer.decode(said[0, ids.shape[1] :])
    assert {"a", "is", "camera", "surveillance"} <= words(text)
    assert len(words(text)) >= 10


@pytest.mark.parametrize("folder", ["internvl"], indirect=True)
def test_it_answers_behind_frames_that_mean_nothing_to_it(mllm: TransformersMllm) -> None:
    question = Prompt("plain", "What is a surveillance camera? Explain in a few sentences.")
    answer = mllm.describe(frames()[0], question, SEEN, 24)
    assert answer.cut
    assert len(words(answer.text)) >= 8


def test_its_first_position_is_an_outlier(mllm: TransformersMllm) -> None:
    inputs = mllm.plain_inputs(frames(), PROMPTS[0], SEEN)
    with torch.inference_mode():
        states = mllm.plain(**inputs, output_hidden_states=True).hidden_states
    above = states[OUTLIER_AFTER + 1]
    first, others = above[0, 0].abs().max(), above[0, 1:].abs().max()
    assert first > 1000
    assert first > 10 * others
    assert states[OUTLIER_AFTER][0, 0].abs().max() < 1000


@pytest.mark.parametrize("folder", ["smolvlm"], indirect=True)
def test_byte_for_byte_ids_are_those_of_smolvlms_processor(folder: Path, mllm: TransformersMllm) -> None:
    processor = read_processor(folder)
    for segment in (SEEN, seeing(5, frames=7321, fps=29.97)):
        shown = some_frames(1, segment.sampled, SIZE)
        for prompt in (*PROMPTS, Prompt("lines", "One line,\n\n  another:\tand 1234 näïve 日本?")):
            # Unlike words, bytes leave no space and no line break out.
            wanted = processed(processor, shown[0], prompt.text, segment)["input_ids"]
            assert mllm.plain_inputs(shown, prompt, segment)["input_ids"].tolist() == wanted.tolist()


def test_the_hunt_sees_what_hooks_on_the_untouched_model_see(mllm: TransformersMllm, untouched: Any) -> None:
    found = mllm.head_features(frames(), PROMPTS[:2], SEEN)[0]
    for number, prompt in enumerate(PROMPTS[:2]):
        wanted = hooked_on(untouched, mllm.plain_inputs(frames(), prompt, SEEN))
        # Layer by layer: the scale of one must not excuse another.
        for layer in range(mllm.geometry.layers):
            assert np.abs(found[number, layer] - wanted[layer]).max() <= 1e-4 * np.abs(wanted[layer]).max(), layer


@pytest.mark.parametrize("folder", ["smolvlm"], indirect=True)
def test_bfloat16_stays_near_float32_beyond_the_outlier(folder: Path, mllm: TransformersMllm) -> None:
    layers = OUTLIER_AFTER + 3
    wanted = mllm.head_features(frames(), PROMPTS[:1], SEEN, layers)[0, 0]
    coarse = load(str(folder), "cpu", "float32")
    # Straight at the weights: `load` refuses what a processor only emulates.
    coarse.weights.convert(torch.bfloat16)
    found = coarse.head_features(frames(), PROMPTS[:1], SEEN, layers)[0, 0]
    assert cosines(found.reshape(layers, -1), wanted.reshape(layers, -1)).min() > 0.99
    assert cosines(found, wanted).min() > 0.97
    assert np.abs(found - wanted).max() > 1e-4 * np.abs(wanted).max()  # it was another format


def test_the_truncated_decoder_sees_the_same_through_all_layers(mllm: TransformersMllm, untouched: Any) -> None:
    top = mllm.geometry.layers - 1
    experts = [HeadRef(top, 4), HeadRef(OUTLIER_AFTER + 1, 1), HeadRef(2, 8), HeadRef(top, 0)]
    wanted = hooked_on(untouched, mllm.plain_inputs(frames(), PROMPTS[0], SEEN))
    language = TruncatedLanguage(mllm, PROMPTS[0], experts, SEEN)
    tokens = mllm.visual_tokens(frames()[0]).flatten(0, 1)[None]
    with torch.inference_mode(), mllm.weights.held(language):
        found = language(tokens)[0].reshape(len(experts), -1).numpy()
    for place, expert in enumerate(experts):
        scale = np.abs(wanted[expert.layer]).max()
        assert np.abs(found[place] - wanted[expert.layer, expert.head]).max() <= 1e-4 * scale, expert


# An export takes seconds a layer: benchmarks/smollm_parity.py writes both shells through all of them.
@pytest.mark.parametrize("folder", ["smolvlm"], indirect=True)
def test_its_graphs_see_what_hooks_on_the_untouched_model_see(
    mllm: TransformersMllm, untouched: Any, tmp_path: Path
) -> None:
    experts = [HeadRef(3, 4), HeadRef(1, 1), HeadRef(3, 0)]
    export_vision(mllm, tmp_path)
    export_language(mllm, PROMPTS[0], experts, SEEN, tmp_path)
    units = frames(2)
    wanted = []
    for unit in units:
        every = hooked_on(untouched, mllm.plain_inputs(unit[None], PROMPTS[0], SEEN))
        wanted.append(np.concatenate([every[expert.layer, expert.head] for expert in experts]))
    graphs = OnnxEngine(tmp_path / VISION, tmp_path / LANGUAGE, provider="cpu")
    require_parity(measure_parity(np.stack(wanted), graphs, units, parity_tolerance(["fp32"])))
