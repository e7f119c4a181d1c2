"""The static token sequence of a segment and a question, in the model's own chat template.

Nothing in the sequence depends on what the frames show, so it is worked out once, and both the hunt and the exported
graph assemble their inputs from it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import CheckpointError
from models.files import read_json


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Token ids around the visual tokens of a segment's frames.

    Everything but `after` is the same for every prompt, which is why several prompts cost little more than one.

    Attributes:
        before: One run of ids for each group of frames, standing directly before its visual tokens; may be empty.
        after: The ids behind the last frame: the question and whatever the template puts before the answer.
        tokens_per_frame: T, visual tokens of one group.
        seconds_per_group: From one group to the next, where the family places groups by their time.
    """

    before: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]
    tokens_per_frame: int
    seconds_per_group: float | None = None

    def __post_init__(self) -> None:
        if not self.before or not self.after:
            raise ValueError("a layout has at least one frame and something behind it")

    @property
    def prefix_length(self) -> int:
        """Positions up to the last visual token."""
        return sum(len(run) for run in self.before) + len(self.before) * self.tokens_per_frame

    @property
    def length(self) -> int:
        """All positions; the last one is where the head features are taken."""
        return self.prefix_length + len(self.after)

    @property
    def group_ends(self) -> list[int]:
        """Where each group of frames ends in the sequence; what stands behind the last one goes with it."""
        ends = list(itertools.accumulate(len(run) + self.tokens_per_frame for run in self.before))
        return [*ends[:-1], self.length]

    def ids(self, visual_id: int) -> list[int]:
        """The whole sequence as transformers' own forward takes it, `visual_id` standing for every visual token."""
        found: list[int] = []
        for run in self.before:
            found += [*run, *[visual_id] * self.tokens_per_frame]
        return [*found, *self.after]


@dataclass(frozen=True, slots=True)
class FrameMarkup:
    """How a family that writes every frame alike writes them.

    Attributes:
        start: Before the visual tokens of a frame.
        context: The token that stands once for every visual token.
        end: Behind them.
        label: Before each frame, with its `{number}` from 1.
        between: Between two frames.
    """

    start: str
    context: str
    end: str
    label: str = "Frame{number}: "
    between: str = "\n"

    def write(self, frames: int, tokens_per_frame: int) -> str:
        """All frames as text."""
        picture = self.start + self.context * tokens_per_frame + self.end
        return self.between.join(self.label.format(number=number) + picture for number in range(1, frames + 1))


# Stands for a text where a template is tried: short ones may be in it anyway.
_ANY = "\u2042any text\u2042"


@dataclass(frozen=True, slots=True, eq=False)
class Conversation:
    """How a checkpoint writes what a user shows and asks.

    Attributes:
        tokenizer: transformers' tokenizer.
        template: The chat template, Jinja.
        placeholder: What the template writes for a video; the video's own text takes its place.
        system: What stands before the user's part: a text, "" for nothing, or None for what the template does.
    """

    tokenizer: Any
    template: str
    placeholder: str
    system: str | None = None

    def write(self, video: str, question: str) -> str:
        """The whole text, ending where the model's answer would begin.

        Args:
            video: How the frames are written.
            question: What stands behind them.

        Raises:
            CheckpointError: The template does not carry a user's video and text through.
        """
        # Templates trim what a user says.
        question = question.strip()
        text = self._render([{"type": "video"}, {"type": "text", "text": question}])
        frame = self._render([{"type": "video"}, {"type": "text", "text": _ANY}])
        if text is not None and frame is not None and frame.count(self.placeholder) == frame.count(_ANY) == 1:
            before, after = frame.split(_ANY)
            if text == before + question + after and self.placeholder in before:
                return before.replace(self.placeholder, video) + question + after
        # Templates of text alone: multimodal ones read a list of parts, others a string.
        content = f"{video}\n{question}"
        for form in ([{"type": "text", "text": content}], content):
            text = self._render(form)
            if text is not None and text.count(content) == 1:
                return text
        raise CheckpointError("the chat template does not carry a user's text through; it cannot be used")

    def tokens(self, text: str) -> list[int]:
        """Ids of the whole text, with what the tokenizer puts around a text, as the family's processor takes them."""
        begin = self.tokenizer.bos_token
        begun = begin is not None and text.startswith(begin)
        return [int(token) for token in self.tokenizer(text, add_special_tokens=not begun)["input_ids"]]

    def _render(self, content: Any) -> str | None:
        """The conversation with a user's content; None where the template does not take it."""
        user = {"role": "user", "content": content}
        if self.system is None:
            return self._apply([user])
        parts = isinstance(content, list)

        def said(text: str) -> dict[str, Any]:
            return {"role": "system", "content": [{"type": "text", "text": text}] if parts else text}

        if self.system:
            return self._apply([said(self.system), user])
        # Without a message templates may put in one of their own: what stands behind any message is the user's part.
        alone, both = self._apply([said(_ANY)], prompt=False), self._apply([said(_ANY), user])
        if alone is None or both is None or not both.startswith(alone):
            return self._apply([user])
        begin = self.tokenizer.bos_token
        kept = begin if begin is not None and both.startswith(begin) else ""
        return kept + both.removeprefix(alone)

    def _apply(self, messages: list[dict[str, Any]], prompt: bool = True) -> str | None:
        try:
            text = self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=prompt
            )
        except Exception:  # noqa: BLE001 - whatever a template raises; another form may do
            return None
        return text if isinstance(text, str) else None


def build_layout(
    conversation: Conversation,
    video: str,
    question: str,
    context_id: int,
    groups: int,
    tokens_per_group: int,
    behind: int = 0,
) -> TokenLayout:
    """Tokenise the whole conversation and cut it at the visual tokens.

    Args:
        conversation: How the checkpoint writes it.
        video: How the frames are written.
        question: What stands behind the frames.
        context_id: The id that stands for a visual token.
        groups: How many groups of frames are written.
        tokens_per_group: T, visual tokens of each.
        behind: How many such ids stand directly behind the last group for something else; they begin `after`.

    Raises:
        CheckpointError: The template or the tokenizer does not reproduce the visual tokens.
    """
    ids = conversation.tokens(conversation.write(video, question))
    if (found := ids.count(context_id)) != groups * tokens_per_group + behind:
        raise CheckpointError(
            f"the tokenizer gives {found} visual tokens for {groups} frames of {tokens_per_group}; "
            f"is {conversation.tokenizer.convert_ids_to_tokens(context_id)!r} one special token in it?"
        )
    before: list[tuple[int, ...]] = []
    at = 0
    for _ in range(groups):
        first = ids.index(context_id, at)
        before.append(tuple(ids[at:first]))
        at = first + tokens_per_group
        if any(token != context_id for token in ids[first:at]):
            raise CheckpointError("the chat template splits the visual tokens of a frame; it cannot be used")
    if ids[at : at + behind] != [context_id] * behind:
        raise CheckpointError("the chat template splits the visual tokens of a video; it cannot be used")
    return TokenLayout(tuple(before), tuple(ids[at:]), tokens_per_group)


def read_template(folder: Path, tokenizer: Any) -> str:
    """The chat template of a checkpoint: its own file, the processor's, or the tokenizer's.

    Raises:
        CheckpointError: There is none.
    """
    jinja, document = folder / "chat_template.jinja", folder / "chat_template.json"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    found = read_json(document).get("chat_template") if document.is_file() else tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default")
    if not isinstance(found, str) or not found:
        raise CheckpointError("holds no chat template; add chat_template.jinja to the model folder")
    return found
