"""An Mllm around a transformers model: what all families have in common.

A family adds what is its own: how frames become tokens, how they are written into the sequence, and where it has
them, positions along several axes and additions higher up in the decoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import UsageError
from edge_runtime.stream.segments import SegmentSpec
from models.decoder import check_attention, read_decoder
from models.family import Answer, Mllm, SourceModel
from models.generate import likeliest_answer
from models.layerwise import Sequences, run_layer
from models.layout import Conversation, TokenLayout, build_layout, read_template
from models.prompts import Prompt
from models.states import State
from models.sweep import Demand, Stage, Sweep, run_stages
from models.weights import Weights

# Groups of frames that go through the vision tower together.
_GROUPS_AT_ONCE = 4
#: Instead of a text: no system message at all, and the one that the family's makers use.
SYSTEM_NONE, SYSTEM_MODEL = "none", "model"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it was opened.

    Attributes:
        folder: Where its files are.
        model: The transformers model, without memory for its weights.
        weights: Its weights.
        tokenizer: The transformers tokenizer.
        source: Where the weights came from.
        fingerprint: sha256 over its files.
        system_message: What stands before the user's part: a text, SYSTEM_NONE, SYSTEM_MODEL, or None for what the
            chat template does.
    """

    folder: Path
    model: Any
    weights: Weights
    tokenizer: Any
    source: SourceModel
    fingerprint: str
    system_message: str | None = None


class TransformersMllm(Mllm):
    """One loaded checkpoint; a family subclasses it.

    The subclass sets `pixels`, `tokens_per_frame`, `frames_per_group`, `vision`, and:

    Attributes:
        system_message: What the makers of the family put before the user's part in their own code, where their
            template does not.
        visual_id: The id that stands for a visual token in `input_ids`.
        placeholder: What the chat template writes for a video.
        ids_behind: How many of that id stand behind the last group for something else than a visual token.
        conversation: How the checkpoint writes what a user shows and asks.
        vision_grid: Positions of one group of frames in the vision tower, and the tower's width.
    """

    visual_id: int
    placeholder: ClassVar[str] = "<video>"
    ids_behind: ClassVar[int] = 0
    system_message: ClassVar[str | None] = None
    conversation: Conversation
    vision_grid: tuple[int, int]

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Refuse, before its weights are read, a checkpoint that cannot be exported exactly.

        Args:
            config: As transformers loaded it.

        Raises:
            CheckpointError: What is not supported, and what is.
        """
        check_attention(config.text_config)

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model = checkpoint.model.eval().requires_grad_(False)
        self.weights = checkpoint.weights
        self._tokenizer = checkpoint.tokenizer
        self.source = checkpoint.source
        self.fingerprint = checkpoint.fingerprint
        self.decoder = read_decoder(self.language, checkpoint.model.config.text_config)
        self.geometry = self.decoder.geometry
        self.sweep = Sweep(None, 0, Path())
        template = self.read_template(checkpoint)
        self.conversation = Conversation(
            checkpoint.tokenizer, template, self.placeholder, self._system(checkpoint.system_message)
        )

    def _system(self, asked: str | None) -> str | None:
        if asked == SYSTEM_MODEL and self.system_message is None:
            raise UsageError(f"{self.source.name}: its makers put no system message in front; leave it out")
        return {SYSTEM_NONE: "", SYSTEM_MODEL: self.system_message}.get(asked or "", asked)

    @classmethod
    def read_template(cls, checkpoint: Checkpoint) -> str:
        """The chat template; families whose processor has one of its own override this."""
        return read_template(checkpoint.folder, checkpoint.tokenizer)

    @property
    def language(self) -> Any:
        """The decoder, without its output layer."""
        return self._model.model.language_model

    @property
    def device(self) -> torch.device:
        """Where the weights are, or will be."""
        return self.weights.device

    @property
    def said_before(self) -> str | None:
        """See Mllm."""
        return self.conversation.system

    @property
    def plain(self) -> Any:
        """The transformers model itself with all its weights, for oracles and for generating text."""
        self.weights.fill(self._model)
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer itself."""
        return self._tokenizer

    def layout(self, prompt: Prompt, segment: SegmentSpec) -> TokenLayout:
        """The token sequence of a segment and a prompt; see Mllm."""
        self._check_groups(segment)
        layout = self.write(prompt, segment)
        self._check_length(layout, segment)
        return layout

    @abstractmethod
    def write_video(self, segment: SegmentSpec) -> str:
        """How the frames of a segment are written, with `visual_id`'s token for every visual token."""

    def write(self, prompt: Prompt, segment: SegmentSpec) -> TokenLayout:
        """The sequence, however long it is; the last group of frames may be filled up."""
        return build_layout(
            self.conversation,
            self.write_video(segment),
            prompt.text,
            self.visual_id,
            -(-segment.sampled // self.frames_per_group),
            self.tokens_per_frame,
            self.ids_behind,
        )

    def _check_groups(self, segment: SegmentSpec) -> None:
        if missing := -segment.sampled % self.frames_per_group:
            raise UsageError(
                f"{self.source.name} sees frames in groups of {self.frames_per_group}, and {segment.sampled} make no "
                f"whole groups; let it see {segment.sampled + missing} (--sampled {segment.sampled + missing})"
            )

    def _check_length(self, layout: TokenLayout, segment: SegmentSpec) -> None:
        limit = int(self._model.config.text_config.max_position_embeddings)
        if (needed := int(self.positions(layout).max()) + 1) <= limit:
            return
        a_group = (needed - len(layout.after)) / len(layout.before)
        fitting = int((limit - len(layout.after)) / a_group) * self.frames_per_group
        raise UsageError(
            f"{segment.sampled} frames and the question take {needed} positions, {self.source.name} has {limit}; "
            f"let it see fewer frames (about {max(fitting, 0)} fit: --sampled)"
        )

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (1, len(ids), D) of constant text; only their rows of the table are read."""
        if not ids:
            return torch.zeros(1, 0, self.geometry.width, dtype=self.dtype, device=self.device)
        table = self._model.get_input_embeddings().weight
        name = self.weights.name_of(table)
        distinct = sorted(set(ids))
        rows = self.weights.read(name, rows=distinct)
        places = {one: place for place, one in enumerate(distinct)}
        return rows[[places[one] for one in ids]][None].to(self.device)

    @abstractmethod
    def visual_tokens(self, frames: NDArray[np.uint8]) -> Tensor:
        """Tokens by the plain transformers path, from normalised pixels.

        Args:
            frames: uint8 (n·g, H, W, 3) RGB.

        Returns:
            (n, T, D·(1 + additions)).
        """

    @abstractmethod
    def plain_pixels(self, frames: NDArray[np.uint8]) -> dict[str, Tensor]:
        """The frames, uint8 (b, F, H, W, 3) RGB, as transformers' own forward and generate take them by name."""

    def plain_inputs(self, frames: NDArray[np.uint8], prompt: Prompt, segment: SegmentSpec) -> dict[str, Tensor]:
        """What transformers' own forward and generate take: `input_ids` (b, s), and the frames, (b, F, H, W, 3).

        The last frame is repeated until the last group is whole, as the processors do.
        """
        layout = self.write(prompt, segment)
        self._check_length(layout, segment)
        if missing := -frames.shape[1] % self.frames_per_group:
            frames = np.concatenate([frames, np.repeat(frames[:, -1:], missing, axis=1)], axis=1)
        ids = layout.ids(self.visual_id)
        return {"input_ids": torch.tensor([ids] * len(frames), device=self.device), **self.plain_pixels(frames)}

    def head_features(
        self,
        units: Iterable[NDArray[np.uint8]],
        prompts: Sequence[Prompt],
        segment: SegmentSpec,
        layers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> NDArray[np.float32]:
        """Features of every head under every prompt; see Mllm."""
        found: list[list[Tensor]] = []

        def keep(unit: int, heads: Tensor) -> None:
            if unit == len(found):
                found.append([])
            found[unit].append(heads.to("cpu", torch.float32))

        count = self.geometry.layers if layers is None else layers
        with torch.inference_mode():
            for _ in self._run(units, prompts, segment, count, keep, progress):
                pass
        stacked = torch.stack([torch.stack(heads, dim=1) for heads in found])  # (U, M, L, H·d)
        features: NDArray[np.float32] = stacked.reshape(*stacked.shape[:3], self.geometry.heads, -1).numpy()
        return features

    @torch.inference_mode()
    def segment_tokens(
        self, units: Iterable[NDArray[np.uint8]], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Visual tokens before the decoder; see Mllm."""
        entered = ({"0": self._grouped(frames)} for frames in units)
        for state in run_stages(entered, self._vision_stages(), self.weights, self.sweep, progress):
            tokens: NDArray[np.float32] = state["0"].flatten(0, 1).to("cpu", torch.float32).numpy()
            yield tokens

    @torch.inference_mode()
    def first_token_logits(
        self, frames: NDArray[np.uint8], prompts: Sequence[Prompt], segment: SegmentSpec
    ) -> NDArray[np.float32]:
        """Logits of the first answer token under every prompt, on one shared prefix.

        Args:
            frames: uint8 (F, H, W, 3) RGB.
            prompts: M of them.
            segment: How they were sampled.

        Returns:
            float32 (M, vocabulary).
        """
        (state,) = self._run([frames], prompts, segment, self.geometry.layers, lambda _unit, _heads: None)
        last = torch.cat([state[f"question{number}"][:, -1] for number in range(len(prompts))])
        norm, head = self.language.norm, self._model.lm_head
        with self.weights.held(norm, head):
            logits: Tensor = head(norm(last))
        return logits.to("cpu", torch.float32).numpy()

    def describe(self, frames: NDArray[np.uint8], prompt: Prompt, segment: SegmentSpec, max_tokens: int) -> Answer:
        """What the whole model says about one run of frames; see Mllm."""
        inputs = self.plain_inputs(frames[None], prompt, segment)
        return likeliest_answer(self.plain, self._tokenizer, inputs, max_tokens)

    def to(self, device: str) -> None:
        """Take the weights out of memory; see Mllm."""
        self.weights.release(device)
        self._place_constants()

    def _place_constants(self) -> None:
        """Bring what the tower has beside its weights to where the weights go."""
        for module in self.vision.modules():
            for parameter in module._parameters.values():
                # What was made of a weight, such as a folded convolution.
                if parameter is not None and not parameter.is_meta:
                    parameter.data = parameter.data.to(self.device)
            for key, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[key] = buffer.to(self.device)

    def demand(self, prompts: Sequence[Prompt], segment: SegmentSpec, layers: int | None = None) -> Demand:
        """What running the model on one unit takes, in bytes."""
        sequences = [self.layout(prompt, segment) for prompt in prompts]
        length = sequences[0].prefix_length + sum(len(one.after) for one in sequences)
        used = self.decoder.layers[:layers]
        sizes = [self.weights.size(stage) for stage in (*self.vision.stages, *used)]
        item, width = self.dtype.itemsize, self.geometry.width
        n = segment.sampled // self.frames_per_group
        decoder_state = length * width * item * (1 + len(self.additions_after))
        vision_state, vision_work = self._vision_demand(n)
        decoder_work = length * (3 * _widest(used[0]) + 8 * width) * item
        return Demand(
            whole=sum(sizes),
            largest=max(sizes),
            state=max(decoder_state, vision_state),
            work=max(decoder_work, vision_work),
            features=len(prompts) * len(used) * self.geometry.heads * self.geometry.head_dim * 4 * 2,
        )

    def _vision_demand(self, n: int) -> tuple[int, int]:
        """Bytes between two stages of the tower for n groups of frames, and within one for those that run at once."""
        blocks = [stage for stage in self.vision.stages if _widest(stage)]
        patches, width = self.vision_grid
        widest = max(_widest(stage) for stage in blocks)
        item = self.dtype.itemsize
        tokens = n * self.tokens_per_frame * self.geometry.width * (1 + len(self.additions_after))
        state = max(n * patches * width * (1 + len(self.additions_after)), tokens) * item
        return state, min(n, _GROUPS_AT_ONCE) * patches * (3 * widest + 8 * width) * item

    def sequences(self, prompts: Sequence[Prompt], segment: SegmentSpec) -> Sequences:
        """The constants of some prompts on a segment.

        Raises:
            UsageError: A sequence is longer than the model's positions.
        """
        layouts = [self.layout(prompt, segment) for prompt in prompts]
        first = layouts[0]
        assert all(layout.before == first.before for layout in layouts)
        turns = [self.decoder.rotation(self.positions(one).to(self.device), self.dtype) for one in layouts]
        end = first.prefix_length
        shared = (turns[0][0][:, :end], turns[0][1][:, :end])
        if any(not torch.equal(cos[:, :end], shared[0]) for cos, _ in turns):
            raise UsageError(
                f"{self.source.name} rotates frames by the length of the whole sequence, and the prompts differ in "
                "theirs; hunt under prompts of equal length, or under one"
            )
        visual = torch.tensor(first.ids(self.visual_id)[:end], device=self.device) == self.visual_id
        runs = [*first.before, *(layout.after for layout in layouts)]
        # One read for all of them.
        embedded = torch.split(self.embed([one for run in runs for one in run]), list(map(len, runs)), dim=1)
        return Sequences(
            before=embedded[: len(first.before)],
            questions=embedded[len(first.before) :],
            rotation=shared,
            rotations=[(cos[:, end:], sin[:, end:]) for cos, sin in turns],
            visual=visual.nonzero()[:, 0],
            additions_after=self.additions_after,
        )

    def _run(
        self,
        units: Iterable[NDArray[np.uint8]],
        prompts: Sequence[Prompt],
        segment: SegmentSpec,
        layers: int,
        keep: Callable[[int, Tensor], None],
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[State]:
        """All units through the tower and the decoder's lowest layers, stage by stage where the model streams.

        `keep` is given the head features of each unit in each layer, (M, H·d_h), layer by layer. Yields what the last
        layer gives, unit by unit.
        """
        sequences = self.sequences(prompts, segment)

        def layer_stage(number: int, layer: nn.Module) -> Stage:
            def run(unit: int, state: State) -> State:
                above, heads = run_layer(layer, number, state, sequences)
                keep(unit, heads)
                return above

            return Stage(layer, run)

        stages = [
            *self._vision_stages(),
            Stage(nn.Identity(), lambda _unit, state: sequences.enter(state["0"])),
            *(layer_stage(number, layer) for number, layer in enumerate(self.decoder.layers[:layers])),
        ]
        entered = ({"0": self._grouped(frames)} for frames in units)
        return run_stages(entered, stages, self.weights, self.sweep, progress)

    def _vision_stages(self) -> list[Stage]:
        return [Stage(stage, _in_pieces(stage)) for stage in self.vision.stages]

    def _grouped(self, frames: NDArray[np.uint8]) -> Tensor:
        """uint8 (F, H, W, 3) to (n, g, H, W, 3). torch warns of memory that nobody may write to: copied only then."""
        pixels = torch.from_numpy(np.require(frames, requirements="W"))
        return pixels.reshape(-1, self.frames_per_group, *pixels.shape[1:])


def _in_pieces(stage: nn.Module) -> Callable[[int, State], State]:
    """A stage of the vision tower over a few groups of frames at a time: its workspace stays small."""

    def run(_unit: int, state: State) -> State:
        inputs = [state[str(place)] for place in range(len(state))]
        pieces = zip(*(torch.split(tensor, _GROUPS_AT_ONCE) for tensor in inputs), strict=True)
        outputs = zip(*(stage(*piece) for piece in pieces), strict=True)
        return {str(place): torch.cat(parts) for place, parts in enumerate(outputs)}

    return run


def _widest(stage: nn.Module) -> int:
    """The widest output of a product in it."""
    return max((part.out_features for part in stage.modules() if isinstance(part, nn.Linear)), default=0)
