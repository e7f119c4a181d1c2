"""Which class serves which `model_type` of a config.json.

The table holds names; a family's module and transformers' class are imported when a checkpoint needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import CheckpointError
from models.decoder import TRUNCATABLE
from models.transformers_mllm import TransformersMllm


@dataclass(frozen=True, slots=True)
class Family:
    """How the checkpoints of one `model_type` are loaded.

    Attributes:
        name: As people write it.
        adapter: `module:Class` of the TransformersMllm that wraps them. Pixels and markup are the class's own.
        model: `module:Class` of the transformers model with their weights.
        decoders: `model_type` of the decoders that they may have.
        tokenizers: Files that hold a tokenizer; one of them must be there.
    """

    name: str
    adapter: str
    model: str
    decoders: tuple[str, ...] = TRUNCATABLE
    tokenizers: tuple[str, ...] = ("tokenizer.json", "vocab.json", "tokenizer.model")

    def load_adapter(self) -> type[TransformersMllm]:
        """Import the class that wraps a checkpoint."""
        found: type[TransformersMllm] = _imported(self.adapter)
        return found

    def load_model_class(self) -> Any:
        """Import transformers' class."""
        return _imported(self.model)

    def check_decoder(self, config: Mapping[str, Any]) -> None:
        """Refuse a decoder that cannot be truncated, by the name in `text_config`.

        Args:
            config: The object in config.json. Without a `text_config` or a name in it, transformers takes the
                family's usual one.

        Raises:
            CheckpointError: It names the decoder and those that are supported.
        """
        text = config.get("text_config") or {}
        if not isinstance(text, dict):
            raise CheckpointError("text_config is no JSON object; copy config.json again")
        decoder = text.get("model_type")
        if decoder is not None and decoder not in self.decoders:
            raise CheckpointError(
                f"{self.name} with a {decoder!r} decoder (text_config.model_type) is not supported; "
                f"supported: {', '.join(self.decoders)}"
            )


FAMILIES: dict[str, Family] = {
    "internvl": Family(
        name="InternVL",
        adapter="models.families.internvl:InternVL",
        model="transformers:InternVLForConditionalGeneration",
    ),
    "llava_onevision": Family(
        name="LLaVA-OneVision",
        adapter="models.families.llava_onevision:LlavaOnevision",
        model="transformers:LlavaOnevisionForConditionalGeneration",
    ),
    "qwen2_5_vl": Family(
        name="Qwen2.5-VL",
        adapter="models.families.qwen2_5_vl:Qwen25VL",
        model="transformers:Qwen2_5_VLForConditionalGeneration",
        decoders=("qwen2_5_vl_text",),
    ),
    "qwen3_vl": Family(
        name="Qwen3-VL",
        adapter="models.families.qwen3_vl:Qwen3VL",
        model="transformers:Qwen3VLForConditionalGeneration",
        decoders=("qwen3_vl_text",),
    ),
    "smolvlm": Family(
        name="SmolVLM2",
        adapter="models.families.smolvlm:SmolVLM",
        model="transformers:SmolVLMForConditionalGeneration",
    ),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a checkpoint.

    Args:
        config: The object in config.json.

    Raises:
        CheckpointError: No family has that `model_type`; the message lists those that there are.
    """
    kind = str(config.get("model_type"))
    if kind not in FAMILIES:
        raise CheckpointError(f"model_type {kind!r} is not supported; supported: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[kind]


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)
