"""The static token sequence of a segment and a question, in the model's own chat template.

Nothing in the sequence depends on what the frames show, so it is worked out once, and both the hunt and the exported
graph assemble their inputs from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Token ids around the visual tokens of a segment's frames.

    Everything but `after` is the same for every prompt, which is why several prompts cost little more than one.

    Attributes:
        before: One run of ids for each group of frames, standing directly before its visual tokens; may be empty.
        after: The ids behind the last frame: the question and whatever the template puts before the answer.
        tokens_per_frame: T, visual tokens of one group.
    """

    before: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]
    tokens_per_frame: int

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

    def ids(self, visual_id: int) -> list[int]:
        """The whole sequence as transformers' own forward takes it, `visual_id` standing for every visual token."""
        found: list[int] = []
        for run in self.before:
            found += [*run, *[visual_id] * self.tokens_per_frame]
        return [*found, *self.after]


@dataclass(frozen=True, slots=True)
class FrameMarkup:
    """How a family writes frames into a user's text.

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


def build_layout(
    tokenizer: Any, markup: FrameMarkup, context_id: int, frames: int, tokens_per_frame: int, question: str
) -> TokenLayout:
    """Tokenise the whole conversation and cut it at the visual tokens.

    Args:
        tokenizer: transformers' tokenizer, with a chat template.
        markup: How frames are written.
        context_id: The id of `markup.context`.
        frames: How many are written (groups, where the vision tower merges frames).
        tokens_per_frame: T, visual tokens of each.
        question: What stands behind the frames.

    Raises:
        CheckpointError: The template or the tokenizer does not reproduce the visual tokens.
    """
    # Templates trim what a user says.
    text = _apply_template(tokenizer, f"{markup.write(frames, tokens_per_frame)}\n{question.strip()}")
    ids = [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
    if (found := ids.count(context_id)) != frames * tokens_per_frame:
        raise CheckpointError(
            f"the tokenizer gives {found} visual tokens for {frames} frames of {tokens_per_frame}; "
            f"is {markup.context!r} one special token in it?"
        )
    before: list[tuple[int, ...]] = []
    at = 0
    for _ in range(frames):
        first = ids.index(context_id, at)
        before.append(tuple(ids[at:first]))
        at = first + tokens_per_frame
        if any(token != context_id for token in ids[first:at]):
            raise CheckpointError("the chat template splits the visual tokens of a frame; it cannot be used")
    return TokenLayout(tuple(before), tuple(ids[at:]), tokens_per_frame)


def _apply_template(tokenizer: Any, content: str) -> str:
    """The conversation as text, ending where the model's answer would begin."""
    if not getattr(tokenizer, "chat_template", None):
        raise CheckpointError("the tokenizer has no chat template; add chat_template.jinja to the model folder")
    # Multimodal templates read a list of parts, text-only ones a string.
    for form in ([{"type": "text", "text": content}], content):
        try:
            text = tokenizer.apply_chat_template(
                [{"role": "user", "content": form}], tokenize=False, add_generation_prompt=True
            )
        except Exception:  # noqa: BLE001, S112 - whatever a template raises; the other form may do
            continue
        if isinstance(text, str) and text.count(content) == 1:
            return text
    raise CheckpointError("the chat template does not carry a user's text through; it cannot be used")
