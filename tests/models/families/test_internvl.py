"""The InternVL adapter against plain transformers: tokens, one shared prefix, folded pixels, odd configs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from oracle import plain_head_features, seeing, some_frames
from processors import use_torchvision

from edge_runtime.errors import CheckpointError
from models.families.internvl import InternVL
from models.loading import load
from models.normalisation import IMAGENET
from models.prompts import PROMPTS

SEEN = seeing(2)
SHAPES = {
    "qwen2": Shape(),
    "qwen3": Shape(family="qwen3", kv_heads=1, head_dim=12, vision={"use_qk_norm": True, "norm_type": "rms_norm"}),
    "llama": Shape(family="llama", kv_heads=4, head_dim=6, vision={"use_mean_pooling": True}),
}


@pytest.fixture(scope="module", params=SHAPES)
def mllm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> InternVL:
    folder = write_checkpoint(tmp_path_factory.mktemp(request.param), SHAPES[request.param])
    model = load(str(folder), "cpu")
    assert isinstance(model, InternVL)
    return model


def changed(folder: Path, **values: object) -> str:
    """The checkpoint with some keys of its config changed; `text_config.x` is written text_config__x."""
    path = folder / "config.json"
    document = json.loads(path.read_text())
    for key, value in values.items():
        *parents, last = key.split("__")
        node = document
        for parent in parents:
            node = node[parent]
        node[last] = value
    path.write_text(json.dumps(document))
    return str(folder)


def test_one_shared_prefix_equals_one_full_pass_a_prompt(mllm: InternVL) -> None:
    frames = some_frames(2, 3, mllm.pixels.size)
    found = mllm.head_features(frames, PROMPTS, seeing(3))
    geometry = mllm.geometry
    assert found.shape == (2, len(PROMPTS), geometry.layers, geometry.heads, geometry.head_dim)
    assert found.dtype == np.float32
    for number, prompt in enumerate(PROMPTS):
        wanted = plain_head_features(mllm, frames, prompt)
        assert np.abs(found[:, number] - wanted).max() <= 1e-5 * np.abs(wanted).max(), prompt.name


def test_the_order_of_prompts_and_their_company_change_nothing(mllm: InternVL) -> None:
    frames = some_frames(1, 2, mllm.pixels.size)
    together = mllm.head_features(frames, PROMPTS, SEEN)
    turned = mllm.head_features(frames, PROMPTS[::-1], SEEN)[:, ::-1]
    np.testing.assert_allclose(turned, together, atol=1e-5 * np.abs(together).max())
    alone = mllm.head_features(frames, PROMPTS[2:3], SEEN)[:, 0]
    np.testing.assert_allclose(alone, together[:, 2], atol=1e-5 * np.abs(together).max())


def test_the_vision_module_gives_the_tokens_of_transformers_own_path(mllm: InternVL) -> None:
    frames = some_frames(1, 5, mllm.pixels.size)[0]
    # The extremes of a pixel are where a wrong fold would show most.
    frames[0], frames[1] = 0, 255
    wanted = mllm.visual_tokens(frames)
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        found = mllm.vision(torch.from_numpy(frames)[:, None])
    assert found.shape == wanted.shape == (5, mllm.tokens_per_frame, mllm.geometry.width)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_the_folded_patch_embedding_is_the_convolution_of_normalised_pixels(mllm: InternVL) -> None:
    frames = torch.from_numpy(some_frames(1, 4, mllm.pixels.size, seed=3)[0]).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (IMAGENET.mean, IMAGENET.std))
    old = mllm.plain.model.vision_tower.embeddings.patch_embeddings.projection
    with torch.inference_mode():
        wanted = old.double()((frames.double() / 255 - mean) / std)
        old.float()
        found = mllm.vision.stages[0].patches(frames.float())
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_geometry_is_the_configs_and_the_weights(mllm: InternVL) -> None:
    text, geometry = mllm.plain.config.text_config, mllm.geometry
    assert (geometry.layers, geometry.heads) == (text.num_hidden_layers, text.num_attention_heads)
    assert geometry.kv_heads == text.num_key_value_heads
    layer = mllm.plain.model.language_model.layers[0].self_attn
    assert layer.q_proj.out_features == geometry.heads * geometry.head_dim
    assert layer.k_proj.out_features == geometry.kv_heads * geometry.head_dim
    assert layer.o_proj.out_features == geometry.width


def test_the_normalisation_is_the_folders_own(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(layers=1))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.5, 0.2], "image_std": [0.3, 0.6, 0.9]})
    )
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, InternVL)
    grey = np.full((1, 1, 32, 32, 3), 255, np.uint8)
    pixels = mllm.plain_pixels(grey)["pixel_values"][0, :, 0, 0]
    np.testing.assert_allclose(pixels.numpy(), [0.9 / 0.3, 0.5 / 0.6, 0.8 / 0.9], rtol=1e-5)
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        found = mllm.vision(torch.from_numpy(grey[0])[:, None])
    np.testing.assert_allclose(found, mllm.visual_tokens(grey[0]), atol=1e-5 * float(found.abs().max()))


@pytest.mark.parametrize(
    "values",
    [
        {
            "text_config__use_sliding_window": True,
            "text_config__layer_types": ["full_attention", "sliding_attention"],
        },
        {"vision_feature_layer": -2},
        {"vision_feature_select_strategy": "full"},
    ],
    ids=lambda values: next(iter(values)),
)
def test_configs_that_cannot_be_exported_exactly_are_refused(values: dict[str, object], tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(layers=2))
    with pytest.raises(CheckpointError, match=str(tmp_path)) as caught:
        load(changed(folder, **values), "cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "document", ["{", '{"image_mean": [0.5], "image_std": [0.5]}', "[1]", '{"image_mean": 1, "image_std": 2}']
)
def test_a_broken_preprocessor_config_is_a_checkpoint_error(document: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(layers=1))
    (folder / "preprocessor_config.json").write_text(document)
    with pytest.raises(CheckpointError, match="preprocessor_config") as caught:
        load(str(folder), "cpu")
    assert "\n" not in str(caught.value)


# As the templates of InternVL's `-hf` checkpoints write a video.
_VIDEO_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<video>\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.mark.parametrize("written", [False, True], ids=["by-the-tokenizer-alone", "by-the-template-too"])
def test_a_beginning_of_sequence_token_stands_there_once_as_in_its_processor(written: bool, tmp_path: Path) -> None:
    use_torchvision()
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer, GotOcr2ImageProcessor
    from transformers.models.internvl.processing_internvl import InternVLProcessor
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    folder = write_checkpoint(tmp_path, Shape(layers=1, family="llama", kv_heads=4, text={"vocab_size": 200}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    begin = ("<s>", tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[begin])
    tokenizer.chat_template = "{{ bos_token }}" * written + _VIDEO_TEMPLATE
    tokenizer.save_pretrained(folder)

    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, InternVL)
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        video_processor=InternVLVideoProcessor(size={"height": 32, "width": 32}),
        image_seq_length=mllm.tokens_per_frame,
        chat_template=mllm.conversation.template,
    )
    frames = some_frames(1, 3, mllm.pixels.size)[0]
    for prompt in PROMPTS[:2]:
        content = [{"type": "video", "video": list(frames)}, {"type": "text", "text": prompt.text}]
        # transformers' own decision whether the tokenizer is to add anything.
        wanted = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            processor_kwargs={"do_sample_frames": False},
        )["input_ids"]
        found = mllm.layout(prompt, seeing(3)).ids(mllm.visual_id)
        assert found == wanted[0]
        assert [place for place, token in enumerate(found) if token == tokenizer.bos_token_id] == [0]
