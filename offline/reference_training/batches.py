"""Training examples as tensors: clips with several questions each, packed behind one shared run of frames.

The questions of a clip do not see each other: each attends to the frames and to itself, at the positions it would
have if it were alone. So one pass over the frames teaches several exchanges. Every batch is a function of
the seed and the step alone, which is what makes training resumable at any step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.layout import Conversation, FrameMarkup, build_layout
from offline.reference_training.clips import GRID, ClipPool, PoolClip
from offline.reference_training.pool import OBJECTS, PERSON_ACTIONS, SAMPLED, VEHICLE_ACTIONS
from offline.reference_training.questions import Asker, Exchange, present_names, with_context

MARKUP: Final = FrameMarkup("<img>", "<IMG_CONTEXT>", "</img>")
CLIP_NAMES: Final = (*PERSON_ACTIONS, *(f"vehicle {action}" for action in VEHICLE_ACTIONS), *OBJECTS, "abandoned")
"""What a linear layer is to read off the last prompt position, whatever the question."""

IGNORED: Final = -100
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B clips with Q packed positions behind P positions of frames, S = P + Q; n exchanges in all.

    Attributes:
        pixels: (B, 16, 3, H, W), normalised.
        ids: (B, S); visual tokens hold the context token.
        positions: (B, S).
        mask: bool (B, 1, S, S), true where a position may look.
        labels: (B, S), the next token where it belongs to an answer, else IGNORED.
        asked: (n, 2), row and position of every last prompt position.
        shown: (n, len(CLIP_NAMES)), what is to be seen in that row's clip.
        cells: (B, 16, 16, len(CELL_NAMES)), what each visual token of each frame shows.
        exchanges: The exchanges that were packed.
        allowed: For each exchange, the first tokens that are right where an answer may come in any order, else empty.
        whole: Numbers of answer tokens, exchanges and clips of the batch that this is a part of, or of itself. Losses
            are divided by them, so that the parts' gradients add up to the gradient of the whole.
    """

    pixels: Tensor
    ids: Tensor
    positions: Tensor
    mask: Tensor
    labels: Tensor
    asked: Tensor
    shown: Tensor
    cells: Tensor
    exchanges: tuple[Exchange, ...]
    allowed: tuple[frozenset[int], ...]
    whole: tuple[int, int, int]

    def part(self, index: int, parts: int) -> Batch:
        """Take every `parts`-th clip, beginning with `index`."""
        rows = torch.arange(index, len(self.ids), parts)
        mine = self.asked[:, 0] % parts == index
        chosen = [i for i, inside in enumerate(mine.tolist()) if inside]
        asked = self.asked[mine]
        return Batch(
            pixels=self.pixels[rows],
            ids=self.ids[rows],
            positions=self.positions[rows],
            mask=self.mask[rows],
            labels=self.labels[rows],
            asked=torch.stack([asked[:, 0] // parts, asked[:, 1]], dim=1),
            shown=self.shown[mine],
            cells=self.cells[rows],
            exchanges=tuple(self.exchanges[i] for i in chosen),
            allowed=tuple(self.allowed[i] for i in chosen),
            whole=self.whole,
        )


class Packer:
    """Builds batches of one pool with one tokenizer.

    Attributes:
        prefix: (P,), ids of the frames.
        visual: Where in it the visual tokens stand.
    """

    def __init__(self, tokenizer: Any, asker: Asker, room: int = 160, exchanges: int = 5) -> None:
        """Work out what is the same in all batches.

        Args:
            tokenizer: The reference model's.
            asker: Draws the questions.
            room: Q, packed positions behind the frames.
            exchanges: How many questions a clip gets, as far as they fit.
        """
        self._tokenizer = tokenizer
        self._asker = asker
        self._room, self._exchanges = room, exchanges
        self._context_id = int(tokenizer.convert_tokens_to_ids(MARKUP.context))
        self._end_id = int(tokenizer.convert_tokens_to_ids("<|im_end|>"))
        self._words = sorted(word for word in tokenizer.get_vocab() if word.isalpha())
        conversation = Conversation(tokenizer, tokenizer.chat_template, "<video>")
        shown = MARKUP.write(SAMPLED, GRID * GRID)
        layout = build_layout(conversation, shown, "?", self._context_id, SAMPLED, GRID * GRID)
        where = layout.after.index(int(tokenizer.convert_tokens_to_ids("?")))
        self._around = layout.after[:where], layout.after[where + 1 :]
        prefix: list[int] = []
        for run in layout.before:
            prefix += [*run, *[self._context_id] * layout.tokens_per_frame]
        self.prefix = np.array(prefix)
        self.visual = np.flatnonzero(self.prefix == self._context_id)

    def behind_frames(self, question: str) -> tuple[int, ...]:
        """Encode a question: the ids from behind the last frame to the answer, as in `TokenLayout.after`."""
        ids = self._tokenizer(question, add_special_tokens=False)["input_ids"]
        return (*self._around[0], *ids, *self._around[1])

    def pack(self, pool: ClipPool, numbers: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """Build the batch of some clips.

        Args:
            pool: Where the clips are.
            numbers: (B,), numbers of the clips in the pool.
            rng: What flips, augmentation and questions are drawn from.
        """
        P, S, B = len(self.prefix), len(self.prefix) + self._room, len(numbers)
        ids = np.full((B, S), self._end_id)
        ids[:, :P] = self.prefix
        positions = np.broadcast_to(np.arange(S), (B, S)).copy()
        block = np.full((B, S), -1)  # which question a position belongs to; -1 is nothing, 0 the frames
        block[:, :P] = 0
        labels = np.full((B, S), IGNORED)
        asked: list[tuple[int, int]] = []
        shown: list[NDArray[np.bool_]] = []
        packed: list[Exchange] = []
        allowed: list[frozenset[int]] = []
        pictures, cells = [], []
        for row, number in enumerate(numbers):
            clip = pool.clip(int(number))
            flipped = bool(rng.random() < 0.5)
            pictures.append(clip.pictures[:, :, ::-1] if flipped else clip.pictures)
            cells.append(clip.cells(flipped=flipped))
            present = present_names(clip.facts)
            what = np.array([name in present for name in CLIP_NAMES])
            at = P
            exchanges = self._asker.ask(clip.facts, rng, flipped=flipped, count=self._exchanges)
            for index, exchange in enumerate(exchanges, start=1):
                question, answer = self._tokens(exchange, rng)
                end = at + len(question) + len(answer)
                if end > S:
                    continue
                ids[row, at:end] = question + answer
                positions[row, at:end] = P + np.arange(end - at)
                block[row, at:end] = index
                last = at + len(question) - 1
                labels[row, last : end - 1] = answer
                asked.append((row, last))
                shown.append(what)
                packed.append(exchange)
                allowed.append(self._first_tokens(exchange, clip))
                at = end
        order = np.arange(S)
        same = block[:, :, None] == block[:, None, :]
        frames = (block[:, None, :] == 0) & (block[:, :, None] > 0)
        mask = (same | frames) & (order[:, None] >= order[None, :])
        return Batch(
            pixels=augment(np.stack(pictures), rng),
            ids=torch.from_numpy(ids),
            positions=torch.from_numpy(positions),
            mask=torch.from_numpy(mask)[:, None],
            labels=torch.from_numpy(labels),
            asked=torch.tensor(asked).reshape(-1, 2),
            shown=torch.from_numpy(np.array(shown, np.float32).reshape(-1, len(CLIP_NAMES))),
            cells=torch.from_numpy(np.stack(cells)).float(),
            exchanges=tuple(packed),
            allowed=tuple(allowed),
            whole=(int((labels != IGNORED).sum()), len(asked), B),
        )

    def _first_tokens(self, exchange: Exchange, clip: PoolClip) -> frozenset[int]:
        if exchange.topic not in ("describe", "doing"):
            return frozenset()
        if exchange.topic == "describe":
            words = {action.split()[0] for _, action in clip.facts.actions}
        else:
            words = {part.split()[0] for part in exchange.answer.split(" ; ")}
        return frozenset(int(self._tokenizer.convert_tokens_to_ids(word)) for word in words)

    def _tokens(self, exchange: Exchange, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        question = list(self.behind_frames(with_context(exchange.question, rng, self._words)))
        answer = self._tokenizer(exchange.answer, add_special_tokens=False)["input_ids"]
        return question, [*answer, self._end_id]


def frame_batch(pool: ClipPool, numbers: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Take a single frame of each of some clips.

    Args:
        pool: Where the clips are.
        numbers: (B,), numbers of the clips in the pool.
        rng: What frames, flips and augmentation are drawn from.

    Returns:
        Pixels (B, 3, H, W), normalised, and cells (B, 16, len(CELL_NAMES)).
    """
    pictures, cells = [], []
    for number in numbers:
        clip = pool.clip(int(number))
        flipped = bool(rng.random() < 0.5)
        frame = int(rng.integers(SAMPLED))
        picture = clip.pictures[frame]
        pictures.append(picture[:, ::-1] if flipped else picture)
        cells.append(clip.cells(flipped=flipped)[frame])
    return augment(np.stack(pictures)[:, None], rng)[:, 0], torch.from_numpy(np.stack(cells)).float()


def augment(pictures: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, tint and noise, each in the same way for all frames of a clip; then normalise.

    Args:
        pictures: uint8 (B, F, S, S, 3) RGB.
        rng: What the changes are drawn from.

    Returns:
        float32 (B, F, 3, S, S).
    """
    count = len(pictures)
    gain = rng.uniform(0.8, 1.25, (count, 1, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 1, 1, 1, 3))
    shift = rng.uniform(-14, 14, (count, 1, 1, 1, 1))
    level = rng.uniform(0.5, 4.0, count) * (rng.random(count) < 0.5)
    # One multiplication and one addition: brightness, contrast, tint and normalisation at once.
    factor = torch.from_numpy((gain / (255 * _STD)).astype(np.float32))
    offset = torch.from_numpy(((shift / 255 - _MEAN) / _STD).astype(np.float32))
    values = torch.from_numpy(pictures).float().mul_(factor).add_(offset)
    grain = torch.from_numpy(rng.standard_normal(pictures.shape[1:], np.float32)) / (255 * torch.from_numpy(_STD))
    for row in np.flatnonzero(level):
        values[row].add_(grain, alpha=float(level[row]))
    return values.permute(0, 1, 4, 2, 3)
