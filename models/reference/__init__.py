"""The built-in models: the checkpoints that `--model reference` and `--model reference-large` load.

Where no trained weights are shipped beside this file, a seeded, untrained checkpoint of the same architecture
is written to the user's cache folder. It is a real checkpoint that the ordinary loader loads, but it has
learned nothing, and whoever uses it says so (`is_trained`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from edge_runtime._version import __version__
from models.reference.architecture import REFERENCE, REFERENCE_LARGE, SHAPES

_HERE = Path(__file__).parent
_SHIPPED = {REFERENCE: _HERE / "checkpoint", REFERENCE_LARGE: _HERE / "checkpoint_large"}
_SEED = 0


def is_trained(name: str = REFERENCE) -> bool:
    """Whether trained weights of a built-in model are shipped with this installation."""
    return (_SHIPPED[name] / "model.safetensors").is_file()


def reference_checkpoint(name: str = REFERENCE) -> Path:
    """Find the folder of a built-in model's checkpoint; an untrained one is made on first use.

    Args:
        name: One of SHAPES.
    """
    if is_trained(name):
        return _SHIPPED[name]
    home = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(home) if home else Path.home() / ".cache") / "headhunt-vad"
    folder = cache / f"{name}-untrained-{__version__}-{_SEED}"
    if not (folder / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        _write_beside(folder, name)
    return folder


def write_untrained(folder: Path, seed: int = _SEED, name: str = REFERENCE) -> None:
    """Write a seeded, untrained checkpoint with the architecture of a built-in model.

    Args:
        folder: An existing folder.
        seed: Equal seeds give equal weights.
        name: One of SHAPES.
    """
    import torch
    from transformers import InternVLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    from models.reference.architecture import build_config, build_tokenizer, write_preprocessor

    tokenizer = build_tokenizer([])
    config = build_config(
        SHAPES[name],
        vocabulary=len(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = InternVLForConditionalGeneration(config)
        # transformers' small initial weights make every head an average over all tokens; larger ones let
        # heads differ, which is what there is to see in a network that has learned nothing.
        for part, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed_tokens" not in part:
                torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings, std=0.2)
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preprocessor(folder)


def _write_beside(folder: Path, name: str) -> None:
    """Build in a temporary folder and rename: another process may be doing the same."""
    work = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        write_untrained(work, name=name)
        try:
            work.replace(folder)
        except OSError:
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
