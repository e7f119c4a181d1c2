"""Tiny SmolVLM2 checkpoints of odd geometries, and the processor that belongs to them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from checkpoints import text_sizes, write_seeded
from processors import use_torchvision
from transformers import LlamaConfig, SmolVLMConfig, SmolVLMForConditionalGeneration, SmolVLMVisionConfig

from models.reference.architecture import build_tokenizer

#: What SmolVLM's tokenizers have beside those of their language model, by the name that its processor asks for.
SPECIAL = {
    "image_token": "<image>",
    "fake_image_token": "<fake_token_around_image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
    "video_token": "<video>",
}
# The words of an introduction: a word that the tokenizer does not know could stand for any other.
_WORDS = [
    "You are provided the following series of frames from a [H:MM:SS] video. Frame from 00:00: day, days, Assistant:",
    "one two three four five six seven eight nine ten eleven twelve thirteen sixteen twenty thirty sixty-four",
]


@dataclass(frozen=True)
class Shape:
    """What a checkpoint looks like inside. 38 pixels in patches of 6 leave 2 over, and give 9 tokens a frame."""

    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    width: int = 32
    head_dim: int | None = None
    tied: bool = False
    size: int = 38
    patch: int = 6
    scale_factor: int = 2
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    text: dict[str, Any] = field(default_factory=dict)
    vision: dict[str, Any] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """Visual tokens of a frame."""
        return (self.size // self.patch // self.scale_factor) ** 2


def write_checkpoint(folder: Path, shape: Shape, seed: int = 0) -> Path:
    """A whole checkpoint folder: config, weights, tokenizer, and what its processor reads."""
    tokenizer = extended(build_tokenizer(_WORDS))
    text = text_sizes(tokenizer, shape)
    vision = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 40}
    config = SmolVLMConfig(
        vision_config=SmolVLMVisionConfig(image_size=shape.size, patch_size=shape.patch, **(vision | shape.vision)),
        text_config=LlamaConfig(**(text | shape.text)),
        image_token_id=tokenizer.convert_tokens_to_ids(SPECIAL["image_token"]),
        scale_factor=shape.scale_factor,
        tie_word_embeddings=shape.tied,
        architectures=["SmolVLMForConditionalGeneration"],
    )
    write_seeded(folder, SmolVLMForConditionalGeneration, config, tokenizer, seed)
    write_processor(folder, shape.size, shape.tokens, shape.mean, shape.std)
    return folder


def extended(tokenizer: Any, special: dict[str, str] = SPECIAL, end: str = "<end_of_utterance>") -> Any:
    """A language model's tokenizer with a family's special tokens, which it knows by their names too."""
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    core = tokenizer.backend_tokenizer
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special.values()])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=tokenizer.unk_token,
        bos_token=tokenizer.bos_token,
        pad_token=tokenizer.pad_token,
        eos_token=end,
        extra_special_tokens=special,
    )


def write_processor(
    folder: Path,
    size: int,
    tokens: int,
    mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> None:
    """The files of a processor, as SmolVLM2's own repositories hold them."""
    preprocessor = {
        "do_convert_rgb": True,
        "do_image_splitting": False,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(mean),
        "image_processor_type": "SmolVLMImageProcessor",
        "image_std": list(std),
        "max_image_size": {"longest_edge": size},
        "processor_class": "SmolVLMProcessor",
        "resample": 1,
        "rescale_factor": 1 / 255,
        # SmolVLM2's own is four times as large: frames are first enlarged to it. Here nothing is resized.
        "size": {"longest_edge": size},
        "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": size}},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2))
    processor = {"image_seq_len": tokens, "processor_class": "SmolVLMProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(processor, indent=2))


def read_processor(folder: Path) -> Any:
    """transformers' own processor of a checkpoint folder, or a skipped test."""
    use_torchvision()
    from transformers import AutoTokenizer
    from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor
    from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

    stated = json.loads((folder / "processor_config.json").read_text())
    return SmolVLMProcessor(
        SmolVLMImageProcessor.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        SmolVLMVideoProcessor.from_pretrained(folder),
        image_seq_len=stated["image_seq_len"],
    )
