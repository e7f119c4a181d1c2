"""Write a seeded random checkpoint of a real model's geometry, as shards, to measure memory and time at full size.

    python -m benchmarks full-size internvl3-8b /tmp/internvl3-8b
    python -m benchmarks full-size internvl3-38b /tmp/internvl3-38b-4 --layers 4

The weights are noise of the scale that keeps activations finite: what such a model says is worth nothing, what it
takes is what the real one takes. One tensor is in memory at a time.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file

from benchmarks.commanding import PATH, say
from benchmarks.processes import benchmark, room, run
from edge_runtime.errors import HeadHuntError, UsageError
from models.reference.architecture import build_tokenizer
from models.sweep import GIB
from models.weights import INDEX

SHARD = 4 * GIB
INTERN = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
INTERN_6B = {"hidden_size": 3200, "num_hidden_layers": 45, "num_attention_heads": 25, "intermediate_size": 12800}


def text(width: int, layers: int, heads: int, kv_heads: int, mlp: int) -> dict[str, Any]:
    """Sizes of a decoder, as its config names them."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": mlp,
    }


# Text, vision, tied output layer (DESIGN of the models: their config.json on the hub).
INTERNVL = {
    "internvl3-1b": (text(896, 24, 14, 2, 4864), INTERN, True),
    "internvl3-2b": (text(1536, 28, 12, 2, 8960), INTERN, True),
    "internvl3-8b": (text(3584, 28, 28, 4, 18944), INTERN, False),
    "internvl3-38b": (text(5120, 64, 40, 8, 27648), INTERN_6B, False),
}
QWEN3 = {
    "qwen3-vl-8b": (
        text(4096, 36, 32, 8, 12288) | {"head_dim": 128},
        {
            "hidden_size": 1152,
            "depth": 27,
            "num_heads": 16,
            "intermediate_size": 4304,
            "out_hidden_size": 4096,
            "deepstack_visual_indexes": [8, 16, 24],
            "num_position_embeddings": 2304,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    ),
}
VOCABULARY = 151_680
# Text, vision, and how many patches a side make a token.
SMOLVLM = {
    "smolvlm2-256m": (
        text(576, 30, 9, 3, 1536) | {"vocab_size": 49_280, "max_position_embeddings": 8192},
        {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "image_size": 512,
            "patch_size": 16,
        },
        4,
    ),
}


def internvl(name: str, layers: int | None, folder: Path) -> Any:
    """The config of an InternVL3, with its tokenizer and preprocessor written."""
    from transformers import InternVLConfig, InternVLVisionConfig, Qwen2Config

    sizes, vision, tied = INTERNVL[name]
    tokenizer = build_tokenizer([])
    tokenizer.save_pretrained(folder)
    document = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    more = {"num_hidden_layers": layers} if layers else {}
    return InternVLConfig(
        vision_config=InternVLVisionConfig(
            **vision, image_size=(448, 448), patch_size=(14, 14), attention_bias=True, use_mean_pooling=True
        ),
        text_config=Qwen2Config(
            **(sizes | more), vocab_size=VOCABULARY, max_position_embeddings=32768, tie_word_embeddings=tied
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=256,
        downsample_ratio=0.5,
        tie_word_embeddings=tied,
        architectures=["InternVLForConditionalGeneration"],
    )


def qwen3(name: str, layers: int | None, folder: Path) -> Any:
    """The config of a Qwen3-VL, with a tokenizer of its vision tokens written."""
    from transformers import Qwen3VLConfig

    sizes, vision = QWEN3[name]
    tokenizer = build_tokenizer([])
    tokens = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'video' %}"
        "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
        "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    ids = dict(zip(tokens, tokenizer.convert_tokens_to_ids(tokens), strict=True))
    more = {"num_hidden_layers": layers} if layers else {}
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    return Qwen3VLConfig(
        text_config=sizes | more | {"vocab_size": VOCABULARY, "rope_parameters": rope},
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=False,
        architectures=["Qwen3VLForConditionalGeneration"],
    )


def smolvlm(name: str, layers: int | None, folder: Path) -> Any:
    """The config of a SmolVLM2, with a tokenizer of its special tokens and its preprocessor written."""
    from transformers import LlamaConfig, SmolVLMConfig, SmolVLMVisionConfig

    sizes, vision, scale = SMOLVLM[name]
    tokenizer = build_tokenizer([])
    special = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.save_pretrained(folder)
    document = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"longest_edge": 2048},
        "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": vision["image_size"]}},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(document))
    more = {"num_hidden_layers": layers} if layers else {}
    return SmolVLMConfig(
        text_config=LlamaConfig(**(sizes | more)),
        vision_config=SmolVLMVisionConfig(**vision),
        image_token_id=tokenizer.convert_tokens_to_ids(special[0]),
        scale_factor=scale,
        tie_word_embeddings=False,
        architectures=["SmolVLMForConditionalGeneration"],
    )


CONFIGS: dict[str, Callable[[str, int | None, Path], Any]] = (
    dict.fromkeys(INTERNVL, internvl) | dict.fromkeys(QWEN3, qwen3) | dict.fromkeys(SMOLVLM, smolvlm)
)


def checkpoint(model: str, work: Path) -> str:
    """What `models.loading.load` takes for a model: a geometry's name becomes a folder, written where it is not yet.

    Raises:
        HeadHuntError: It could not be written.
    """
    if model not in CONFIGS:
        return model
    folder = room(model, work) / "checkpoint"
    # Its index is written last.
    if not (folder / INDEX).is_file():
        say(f"Writing a checkpoint in the geometry of {model}")
        # As its own process: what it takes is gone before anything is measured.
        ran = run(benchmark("full-size", model, str(folder)))
        if ran.code:
            raise HeadHuntError(f"{model}: the checkpoint could not be written ({ran.last})")
    return str(folder)


def noise(name: str, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Seeded by the name: equal names give equal weights, whatever is written beside them."""
    if len(shape) < 2:
        norm = "norm" in name and name.endswith("weight")
        return torch.full(shape, 1.0 if norm or "lambda" in name else 0.01, dtype=dtype)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    generator = torch.Generator().manual_seed(seed)
    fan_in = shape[1:].numel()
    scaled: torch.Tensor = torch.randn(shape, generator=generator) * fan_in**-0.5
    return scaled.to(dtype)


@click.command("full-size")
@click.argument("name", type=click.Choice(list(CONFIGS)))
@click.argument("folder", type=PATH)
@click.option("--layers", type=click.IntRange(min=1), help="Decoder layers, instead of the model's own number.")
@click.option("--dtype", type=click.Choice(["bfloat16", "float32"]), default="bfloat16", show_default=True)
def full_size(name: str, folder: Path, layers: int | None, dtype: str) -> None:
    """Write a checkpoint of noise in the geometry NAME into FOLDER."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIGS[name](name, layers, folder)
    kind = getattr(torch, dtype)
    with init_empty_weights(include_buffers=False):
        model = getattr(transformers, config.architectures[0])._from_config(config, dtype=kind)
    shapes = {key: value.shape for key, value in model.state_dict().items() if key not in model.all_tied_weights_keys}
    needed = sum(shape.numel() for shape in shapes.values()) * kind.itemsize
    if (free := shutil.disk_usage(folder).free) < needed + GIB:
        raise UsageError(
            f"{folder}: {needed / GIB:.1f} GiB are needed, {free / GIB:.1f} are free; choose another folder"
        )
    config.save_pretrained(folder)
    weight_map: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    for key, shape in shapes.items():
        shard[key] = noise(key, shape, kind)
        if sum(one.nbytes for one in shard.values()) >= SHARD:
            write(shard, folder, weight_map)
    write(shard, folder, weight_map)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": needed}, "weight_map": weight_map}))
    click.echo(f"{folder}: {needed / GIB:.1f} GiB in {len(set(weight_map.values()))} shards")


def write(shard: dict[str, torch.Tensor], folder: Path, weight_map: dict[str, str]) -> None:
    """Write what was gathered, and forget it."""
    if shard:
        file = f"model-{len(set(weight_map.values())) + 1:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
        shard.clear()
