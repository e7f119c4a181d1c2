"""The token layout against transformers' own InternVL processor, and templates that lose what a user says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.internvl.processing_internvl import InternVLProcessor

from edge_runtime.errors import CheckpointError
from models.layout import Conversation, FrameMarkup, TokenLayout, build_layout
from models.prompts import PROMPTS
from models.reference.architecture import TEMPLATE, build_tokenizer

MARKUP = FrameMarkup("<img>", "<IMG_CONTEXT>", "</img>")
QUESTION = "Is anything unusual happening in this video?"
PARTS_ONLY = (
    "{% for message in messages %}<|im_start|>{% for part in message['content'] %}"
    "{{ part['text'] }}{% endfor %}<|im_end|>{% endfor %}assistant"
)
STRING_ONLY = (
    "{% for message in messages %}{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{% endfor %}assistant"
)
TRIMMING = "{% for message in messages %}<|im_start|>{{ message['content'] | trim }}<|im_end|>{% endfor %}assistant"


def tokenizer_with(template: str) -> Any:
    tokenizer = build_tokenizer([])
    tokenizer.chat_template = template
    return tokenizer


def context_id(tokenizer: Any) -> int:
    return int(tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"))


def layout_of(
    tokenizer: Any, frames: int = 3, tokens: int = 4, question: str = QUESTION, markup: FrameMarkup = MARKUP
) -> TokenLayout:
    conversation = Conversation(tokenizer, tokenizer.chat_template, "<video>")
    return build_layout(conversation, markup.write(frames, tokens), question, context_id(tokenizer), frames, tokens)


def flat(layout: TokenLayout, context: int) -> list[int]:
    ids: list[int] = []
    for run in layout.before:
        ids += [*run, *[context] * layout.tokens_per_frame]
    return [*ids, *layout.after]


def expanded_by_transformers(frames: int, tokens: int) -> str:
    """What the processor puts in the place of `<video>`; its text half needs no torchvision."""
    processor = SimpleNamespace(
        start_image_token="<img>", image_token="<IMG_CONTEXT>", end_image_token="</img>", image_seq_length=tokens
    )
    videos = {"pixel_values_videos": [np.empty((frames, 0))]}
    text: str = InternVLProcessor.replace_video_token(processor, videos, 0)
    return text


@given(frames=st.integers(1, 20), tokens=st.integers(1, 8), prompt=st.sampled_from(PROMPTS))
def test_the_layout_is_what_transformers_processor_expands_a_video_to(frames: int, tokens: int, prompt: Any) -> None:
    tokenizer = build_tokenizer([])
    conversation = tokenizer.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": f"<video>\n{prompt.text}"}]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    text = conversation.replace("<video>", expanded_by_transformers(frames, tokens))
    wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
    layout = layout_of(tokenizer, frames, tokens, prompt.text)
    assert flat(layout, context_id(tokenizer)) == layout.ids(context_id(tokenizer)) == wanted
    assert layout.length == len(wanted)
    assert layout.prefix_length + len(layout.after) == layout.length
    assert len(layout.before) == frames
    # The last position is where the model would begin to answer.
    assert tokenizer.decode(layout.after).rstrip().endswith("assistant")


def test_only_what_follows_the_last_frame_depends_on_the_prompt() -> None:
    tokenizer = build_tokenizer([])
    layouts = [layout_of(tokenizer, question=prompt.text) for prompt in PROMPTS]
    assert len({layout.before for layout in layouts}) == 1
    assert len({layout.after for layout in layouts}) == len(PROMPTS)


def test_a_family_may_write_frames_without_any_text_between_them() -> None:
    tokenizer = build_tokenizer([])
    markup = FrameMarkup(start="", context="<IMG_CONTEXT>", end="", label="", between="")
    layout = layout_of(tokenizer, markup=markup)
    assert layout.before[0]
    assert layout.before[1:] == ((), ())
    assert layout.after == layout_of(tokenizer).after[1:]  # but for the end of the last frame


def test_a_family_may_label_and_part_frames_in_its_own_way() -> None:
    markup = FrameMarkup("<img>", "<IMG_CONTEXT>", "</img>", label="{number}. ", between=" ; ")
    assert markup.write(2, 1) == "1. <img><IMG_CONTEXT></img> ; 2. <img><IMG_CONTEXT></img>"


@pytest.mark.parametrize("template", [TEMPLATE, PARTS_ONLY, STRING_ONLY, TRIMMING])
@pytest.mark.parametrize("question", [QUESTION, f"  {QUESTION}\n", "a", "Frame1: "])
def test_templates_of_either_form_carry_any_question(template: str, question: str) -> None:
    tokenizer = tokenizer_with(template)
    layout = layout_of(tokenizer, question=question)
    ids = tokenizer(f"</img>\n{question.strip()}<|im_end|>", add_special_tokens=False)["input_ids"]
    assert list(layout.after[: len(ids)]) == ids


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ 'hello' }}", id="drops the text"),
        pytest.param("{{ messages[0]['content'] | string | upper }}", id="changes the text"),
        pytest.param("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", id="says it twice"),
        pytest.param("{{ messages[0]['content'][:40] }}", id="cuts it short"),
        pytest.param("{{ raise_exception('no users here') }}", id="refuses"),
        pytest.param("{% for %}", id="no template at all"),
    ],
)
def test_a_template_that_does_not_carry_the_text_through_is_refused(template: str) -> None:
    with pytest.raises(CheckpointError, match="template") as caught:
        layout_of(tokenizer_with(template))
    assert "\n" not in str(caught.value)


def test_a_template_that_adds_visual_tokens_of_its_own_is_refused() -> None:
    template = "<IMG_CONTEXT>{{ messages[0]['content'] }}assistant"
    with pytest.raises(CheckpointError, match="13 visual tokens for 3 frames of 4"):
        layout_of(tokenizer_with(template))


def test_a_tokenizer_without_the_visual_token_is_refused() -> None:
    tokenizer = build_tokenizer([])
    with pytest.raises(CheckpointError, match="0 visual tokens"):
        layout_of(tokenizer, markup=FrameMarkup("<img>", "<nothing>", "</img>"))


@pytest.mark.parametrize(("before", "after"), [((), (1,)), (((1,),), ())])
def test_a_layout_without_frames_or_without_an_end_is_nonsense(before: Any, after: Any) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        TokenLayout(before, after, 4)


DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nbe kind<|im_end|>\n{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'video' %}<video>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
USER = "<|im_start|>user\nFRAMES" + QUESTION + "<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("system", "before"),
    [
        (None, "<|im_start|>system\nbe kind<|im_end|>\n"),
        ("", ""),
        ("watch", "<|im_start|>system\nwatch<|im_end|>\n"),
    ],
)
def test_a_system_message_is_the_templates_own_or_none_or_the_one_asked_for(system: str | None, before: str) -> None:
    conversation = Conversation(build_tokenizer([]), DEFAULT_SYSTEM, "<video>", system)
    assert conversation.write("FRAMES", QUESTION) == before + USER


@pytest.mark.parametrize("system", [None, ""])
def test_a_template_without_a_system_message_stays_as_it_is(system: str | None) -> None:
    conversation = Conversation(build_tokenizer([]), TEMPLATE, "<video>", system)
    assert conversation.write("FRAMES", QUESTION).startswith("<|im_start|>user\nFRAMES\n")
