"""The shapes and the tokenizer of the built-in models: small InternVL checkpoints in plain Hugging Face format.

A vision tower of 4 layers on 96 x 96 pixels gives 16 tokens a frame to a decoder, which is what the models differ in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.prompts import PROMPTS

LICENCE = "apache-2.0"

REFERENCE: Final = "reference"
REFERENCE_LARGE: Final = "reference-large"


@dataclass(frozen=True, slots=True)
class Shape:
    """The decoder of a built-in model; all of them are as wide, 192, with an MLP of 512.

    Attributes:
        layers: L.
        heads: H, heads a layer.
        groups: Heads of keys and values a layer, each shared by H / groups heads.
        head_width: d.
    """

    layers: int
    heads: int
    groups: int
    head_width: int = 32


SHAPES: Final = {
    REFERENCE: Shape(layers=6, heads=6, groups=2),
    REFERENCE_LARGE: Shape(layers=10, heads=12, groups=4),
}
"""The built-in models by the name that `--model` takes."""

# 8 x 8 patches cost the same at any picture size; at 96 pixels arms can be told from bodies.
SIZE, PATCH = 96, 12

SPECIAL = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tokenizer(texts: list[str]) -> Any:
    """Build a word-level tokenizer over the words of some texts and of the task prompts.

    Words are lower-cased and split at white space, punctuation and digits; the vocabulary is sorted, so that the same
    texts give the same ids.

    Args:
        texts: May be none.

    Returns:
        A transformers tokenizer with the chat template TEMPLATE.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    normalizer = normalizers.Lowercase()
    splitter = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)])
    words = {str(digit) for digit in range(10)} | {"frame", ":", "user", "assistant", "system", ".", ","}
    for text in [*texts, *(prompt.text for prompt in PROMPTS)]:
        words |= {word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))}
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *sorted(words - set(SPECIAL))])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizer
    core.pre_tokenizer = splitter
    core.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|im_end|>",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_config(shape: Shape, vocabulary: int, image_token_id: int, pad_token_id: int, eos_token_id: int) -> Any:
    """Build the InternVLConfig of a built-in model.

    Args:
        shape: Its decoder.
        vocabulary: Number of tokens.
        image_token_id: The token that stands for every visual token.
        pad_token_id: The token that fills up.
        eos_token_id: The token that ends an answer.
    """
    from transformers import InternVLConfig, InternVLVisionConfig, Qwen2Config

    vision = InternVLVisionConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        image_size=(SIZE, SIZE),
        patch_size=(PATCH, PATCH),
        attention_bias=True,
        layer_scale_init_value=1.0,
        use_mean_pooling=False,
    )
    text = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        head_dim=shape.head_width,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=pad_token_id,
        eos_token_id=eos_token_id,
        bos_token_id=None,
    )
    return InternVLConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=image_token_id,
        image_seq_length=16,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
        architectures=["InternVLForConditionalGeneration"],
    )


def write_preprocessor(folder: Path) -> None:
    """Write `preprocessor_config.json` into a folder: picture size, resampling (a box) and normalisation."""
    normalisation = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    document = normalisation | {"resample": 4, "size": SIZE}
    (folder / "preprocessor_config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
