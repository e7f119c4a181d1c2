"""Train a built-in model with one command: `python -m offline.reference_training WORK`.

Renders the pool, trains stage after stage, measures on held-out scenes, writes the checkpoint. Whatever is done is
not done again: started anew after a stop, it goes on where it was. Under torchrun the workers share each step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import click

from edge_runtime.errors import HeadHuntError
from models.reference.architecture import REFERENCE, SHAPES


@click.command()
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--model", default=REFERENCE, show_default=True, type=click.Choice(sorted(SHAPES)), help="What to train."
)
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for the checkpoint.")
@click.option("--threads", default=2, show_default=True, help="Threads of torch, and processes that render.")
@click.option("--measure-every", default=500, show_default=True, help="Steps between measurements.")
@click.option(
    "--benchmark",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="data.csv of generated scenes with calibration and test split: hunt on it, too, at every measurement.",
)
def main(
    work: Path, model: str, output: Path | None, threads: int, measure_every: int, benchmark: Path | None
) -> None:
    """Train a built-in model in the folder WORK (about 9 GB, two hours on two idle cores).

    Example: python -m offline.reference_training /var/tmp/reference --output models/reference/checkpoint
    """
    import torch
    from torch import distributed

    from models.loading import load
    from offline.reference_training.checkpoint import write_checkpoint
    from offline.reference_training.measure import cut_videos, describe_accuracy, few_shot, table
    from offline.reference_training.pool import write_pool
    from offline.reference_training.training import POOL, RECIPES, Trainer

    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    first = not distributed.is_initialized() or distributed.get_rank() == 0

    def say(text: str) -> None:
        if first:
            click.echo(f"{time.strftime('%H:%M:%S')}  {text}")

    torch.set_num_threads(threads)
    recipe = RECIPES[model]
    if first:
        say(f"pool: {recipe.shards} shards")
        write_pool(work / POOL, recipe.shards, pairs=recipe.pairs, processes=threads)
    if distributed.is_initialized():
        distributed.barrier()
    trainer = Trainer(recipe, work)
    folder = output if output is not None else work / "checkpoint"

    def measure() -> None:
        write_checkpoint(folder, trainer.net.model, trainer.tokenizer)
        accuracy = describe_accuracy(trainer.net, trainer.packer, trainer.held_out)
        say(json.dumps({topic: round(share, 3) for topic, share in accuracy.items()}))
        if benchmark is not None:
            mllm = load(str(folder), device="cpu")
            calibration, test = (cut_videos(benchmark, split, mllm) for split in ("calibration", "test"))
            say("frame AUC\n" + table(few_shot(mllm, calibration, test)))

    for step in trainer.run(say, save_every=min(100, measure_every)):
        if first and step % measure_every == 0:
            measure()
    if first:
        measure()


if __name__ == "__main__":
    try:
        main()
    except HeadHuntError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
