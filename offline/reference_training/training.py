"""The stages of training, their schedule and their state on disk.

First the vision tower and the projector learn what is in which cell of single frames, then the whole model learns on
clips. Every step is a function of the state before it and of (seed, stage, step), so a run that was stopped at any
saved step goes on to the same weights. Several worker processes (torch.distributed) may share the examples of each
step; their gradients add up to that of the step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import distributed, nn

from edge_runtime.errors import UsageError
from edge_runtime.files import write_atomic
from models.reference.architecture import REFERENCE, REFERENCE_LARGE, build_tokenizer
from offline.reference_training.batches import CLIP_NAMES, Packer, frame_batch
from offline.reference_training.clips import CELL_NAMES, ClipPool
from offline.reference_training.growing import grow
from offline.reference_training.network import Trainee
from offline.reference_training.pool import PAIRS
from offline.reference_training.precision import mixed_precision
from offline.reference_training.questions import Asker, all_texts, present_names

Report = Callable[[str], None]

POOL: Final = "pool"
REPORT_EVERY: Final = 20


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """One stage of training.

    Attributes:
        what: `frames` trains the vision tower and the projector on single frames, `clips` the whole model on clips.
        steps: Number of steps.
        batch: Examples a step, over all workers.
        rate: Peak learning rate.
        warmup: Steps over which the rate rises.
        decay: Steps over which it falls.
        muon: Matrices learn by Muon instead of AdamW.
        rarity_every: Every how many clips of the pool one is looked at, to estimate how rare things are.
        seeing_share: On clips, the part of the rate at which the vision tower and the projector learn.

    Raises:
        ValueError: A number is not positive.
    """

    what: Literal["frames", "clips"]
    steps: int
    batch: int
    rate: float
    warmup: int
    decay: int
    muon: bool = False
    rarity_every: int = 7
    seeing_share: float = 0.5

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.warmup, self.decay, self.rarity_every) < 1 or self.rate <= 0:
            raise ValueError(f"a stage needs steps, examples and a rate, got {self}")

    def rate_at(self, step: int) -> float:
        """Compute the learning rate of a step, from 0: up in a line, flat, down along a half cosine to a fiftieth."""
        up = min(1.0, (step + 1) / self.warmup)
        left = min(1.0, (self.steps - step) / self.decay)
        return self.rate * up * (0.02 + 0.98 * 0.5 * (1 - math.cos(math.pi * left)))


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a training run depends on, apart from the scene generator.

    Attributes:
        stages: The stages, in order.
        model: What is trained, one of SHAPES.
        grown_from: The built-in model whose shipped weights the training begins with, or None for weights drawn anew.
        seed: Of the first weights and of every batch.
        pairs: Pairs of scenes in a shard.
        shards: Shards of the pool.
        held_out: How many of them, the last ones, are never trained on.
        weight_decay: Of matrices; other parameters do not decay.
        clip_norm: Largest norm of a step's gradient.

    Raises:
        ValueError: No shard is left to train on, or none is held out.
    """

    stages: tuple[TrainingStage, ...]
    model: str = REFERENCE
    grown_from: str | None = None
    seed: int = 0
    pairs: int = PAIRS
    shards: int = 80
    held_out: int = 2
    weight_decay: float = 0.05
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < self.shards:
            raise ValueError(f"some shards are trained on and some held out, got {self.held_out} of {self.shards}")


_SHIPPED: Final = Recipe(
    stages=(
        # 8 is a bad stride: pairs of scenes go through the kinds in steps of 4 clips, so that half of the kinds
        # looked rarer than they are. The shipped weights began this way; the last stage corrects it.
        TrainingStage("frames", steps=400, batch=192, rate=1e-3, warmup=30, decay=150, rarity_every=8),
        TrainingStage("clips", steps=600, batch=16, rate=8e-4, warmup=100, decay=1, rarity_every=8),
        TrainingStage("clips", steps=900, batch=16, rate=1e-3, warmup=30, decay=400, muon=True),
        # Sight had hardly improved since single frames, so it learns at the full rate from here on.
        TrainingStage("clips", steps=4500, batch=16, rate=1e-3, warmup=50, decay=2500, muon=True, seeing_share=1.0),
    )
)

_GROWN: Final = Recipe(
    # Sight, words and half of the heads of six layers are the first model's, and answer as it did before the first
    # step: this is the time that the other 84 heads take, not a training from nothing.
    stages=(
        TrainingStage("clips", steps=2000, batch=16, rate=1e-3, warmup=100, decay=1500, muon=True, seeing_share=1.0),
    ),
    model=REFERENCE_LARGE,
    grown_from=REFERENCE,
)

RECIPES: Final = {REFERENCE: _SHIPPED, REFERENCE_LARGE: _GROWN}
"""How the shipped checkpoints were trained, by the name of the model."""


class Trainer:
    """A model in training, with its state on disk.

    Attributes:
        recipe: How it is trained.
        worker: Number of this process among those that share each step.
        workers: How many these are.
        pool: The clips that are trained on.
        held_out: The clips that are not.
        tokenizer: The reference model's.
        net: The model.
        stage: Number of the current stage, from 0.
        step: Steps done in it.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Take up training where the folder's state is, or begin.

        Args:
            recipe: How to train.
            folder: Holds the whole pool in `pool`, and the state in `state.pt` once there is one.

        Raises:
            UsageError: The state is one of another recipe.
        """
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        there = distributed.is_initialized()
        self.worker, self.workers = (distributed.get_rank(), distributed.get_world_size()) if there else (0, 1)
        self.pool = ClipPool.open(folder / POOL, 0, recipe.shards - recipe.held_out)
        self.held_out = ClipPool.open(folder / POOL, recipe.shards - recipe.held_out, recipe.held_out)
        self.tokenizer = build_tokenizer(all_texts())
        self.net = Trainee(self.tokenizer, recipe.model)
        if recipe.grown_from is not None:
            grow(recipe.grown_from, self.net.model, self.tokenizer)
        self._state_path = folder / "state.pt"
        self.stage, self.step = 0, 0
        self._begin(0)
        if self._state_path.is_file():
            self._load()

    def run(self, report: Report, save_every: int = 200, stop_after: int | None = None) -> Iterator[int]:
        """Train to the end, or for some steps.

        Args:
            report: Called with a line of text every REPORT_EVERY steps.
            save_every: Steps between saves; the end of a stage is saved, too.
            stop_after: Steps after which to save and return; None goes on to the end.

        Yields:
            The steps done in all, after every save.
        """
        done = 0
        while self.stage < len(self.recipe.stages):
            stage = self.recipe.stages[self.stage]
            sums: dict[str, float] = {}
            began, counted = time.monotonic(), 0
            while self.step < stage.steps:
                if stop_after is not None and done == stop_after:
                    self.save()
                    return
                for name, value in self._one(stage).items():
                    sums[name] = sums.get(name, 0.0) + value
                self.step, done, counted = self.step + 1, done + 1, counted + 1
                if self.step % REPORT_EVERY == 0:
                    pace = (time.monotonic() - began) / counted
                    means = "  ".join(f"{name} {value / counted:.4f}" for name, value in sums.items())
                    report(f"stage {self.stage + 1}  step {self.step}  {means}  {pace:.2f} s/step")
                    sums, began, counted = {}, time.monotonic(), 0
                if self.step % save_every == 0 and self.step < stage.steps:
                    self.save()
                    yield self.steps_done
            self._begin(self.stage + 1)
            self.save()
            yield self.steps_done

    @property
    def steps_done(self) -> int:
        """Steps of all stages so far."""
        return self.step + sum(stage.steps for stage in self.recipe.stages[: self.stage])

    def _begin(self, stage: int) -> None:
        """Make ready for a stage; the one after the last has nothing to make ready."""
        self.stage, self.step = stage, 0
        if stage == len(self.recipe.stages):
            self._optimizers = []
            return
        cells, clips = shares(self.pool, self.recipe.stages[stage].rarity_every)
        self.net.set_prevalence(torch.tensor(cells), torch.tensor(list(clips.values())))
        self.packer = Packer(self.tokenizer, Asker(clips))
        self._optimizers = self._new_optimizers()

    def save(self) -> None:
        """Write the state, whole or not at all; of several workers, which are all alike, only the first does."""
        if self.worker:
            return
        state = {
            "recipe": asdict(self.recipe),
            "stage": self.stage,
            "step": self.step,
            "net": self.net.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        write_atomic(self._state_path, lambda file: torch.save(state, file))

    def _load(self) -> None:
        state = torch.load(self._state_path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise UsageError(f"{self._state_path}: is the state of another recipe; give another folder")
        self._begin(int(state["stage"]))
        self.step = int(state["step"])
        self.net.load_state_dict(state["net"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def _one(self, stage: TrainingStage) -> dict[str, float]:
        """One step; the workers share its examples. Returns the losses of this worker's share, scaled up."""
        rng = np.random.default_rng([self.recipe.seed, self.stage, self.step])
        numbers = rng.integers(0, len(self.pool), stage.batch)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = stage.rate_at(self.step) * group["share"]
            optimizer.zero_grad(set_to_none=True)
        self.net.train()
        with mixed_precision():
            if stage.what == "frames":
                pixels, cells = (part[self.worker :: self.workers] for part in frame_batch(self.pool, numbers, rng))
                losses = {"total": self.net.still_loss(pixels, cells) * len(pixels) / stage.batch}
            else:
                batch = self.packer.pack(self.pool, numbers, rng)
                losses = self.net.losses(batch.part(self.worker, self.workers) if self.workers > 1 else batch)
        losses["total"].backward()  # type: ignore[no-untyped-call]
        trained = [parameter for parameter in self._trained() if parameter.grad is not None]
        if self.workers > 1:
            flat = torch.cat([parameter.grad.flatten() for parameter in trained])  # type: ignore[union-attr]
            distributed.all_reduce(flat)
            totals = torch.split(flat, [parameter.numel() for parameter in trained])
            for parameter, total in zip(trained, totals, strict=True):
                parameter.grad.copy_(total.view_as(parameter))  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(trained, self.recipe.clip_norm)
        for optimizer in self._optimizers:
            optimizer.step()
        return {name: float(value.detach()) * self.workers for name, value in losses.items()}

    def _trained(self) -> list[nn.Parameter]:
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def _new_optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW, and Muon for the model's matrices where the stage says so; matrices decay, the rest does not."""
        stage = self.recipe.stages[self.stage]
        seeing = ("model.model.vision_tower", "model.model.multi_modal_projector", "still.")
        groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.net.named_parameters():
            if stage.what == "frames" and not name.startswith(seeing):
                continue
            matrix = parameter.ndim == 2 and "embed" not in name
            by_muon = stage.muon and matrix and name.startswith("model.")
            groups.setdefault((by_muon, matrix, name.startswith(seeing)), []).append(parameter)
        kinds: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for (by_muon, matrix, sees), parameters in groups.items():
            kinds[by_muon].append(
                {
                    "params": parameters,
                    "weight_decay": self.recipe.weight_decay if matrix else 0.0,
                    "share": stage.seeing_share if stage.what == "clips" and sees else 1.0,
                }
            )
        optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(kinds[False], lr=stage.rate, betas=(0.9, 0.98))]
        if kinds[True]:
            optimizers.append(torch.optim.Muon(kinds[True], lr=stage.rate, adjust_lr_fn="match_rms_adamw"))
        return optimizers


def shares(pool: ClipPool, every: int) -> tuple[list[float], dict[str, float]]:
    """Measure how often things are to be seen in a pool.

    Args:
        pool: The clips.
        every: Every how many clips one is looked at.

    Returns:
        Shares of cells in the order of CELL_NAMES, and shares of clips by the names of CLIP_NAMES.
    """
    numbers = range(0, len(pool), every)
    cells = np.zeros(len(CELL_NAMES))
    clips = dict.fromkeys(CLIP_NAMES, 0)
    for number in numbers:
        clip = pool.clip(number)
        cells += clip.cells(flipped=False).mean(axis=(0, 1))
        for name in present_names(clip.facts):
            clips[name] += 1
    return (cells / len(numbers)).tolist(), {name: count / len(numbers) for name, count in clips.items()}
