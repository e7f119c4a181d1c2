"""The embedded reference model: the checkpoint that `--model reference` loads.

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

_SHIPPED = Path(__file__).parent / "checkpoint"
_SEED = 0


def is_trained() -> bool:
    """Whether trained weights are shipped with this installation."""
    return (_SHIPPED / "model.safetensors").is_file()


def reference_checkpoint() -> Path:
    """Find the folder of the reference checkpoint; an untrained one is made on first use."""
    if is_trained():
        return _SHIPPED
    home = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(home) if home else Path.home() / ".cache") / "headhunt-vad"
    folder = cache / f"reference-untrained-{__version__}-{_SEED}"
    if not (folder / "config.json").is_file():
        cache.mkdir(parents=True, exist_ok=True)
        _write_beside(folder)
    return folder


def write_untrained(folder: Path, seed: int = _SEED) -> None:
    """Write a seeded, untrained checkpoint of the reference architecture.

    Args:
        folder: An existing folder.
        seed: Equal seeds give equal weights.
    """
    import torch
    from transformers import InternVLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    from models.reference.architecture import build_config, build_tokenizer, write_preprocessor

    tokenizer = build_tokenizer([])
    config = build_config(
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
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed_tokens" not in name:
                torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        torch.nn.init.normal_(model.model.vision_tower.embeddings.position_embeddings, std=0.2)
    transformers_logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_preprocessor(folder)


def _write_beside(folder: Path) -> None:
    """Build in a temporary folder and rename: another process may be doing the same."""
    work = Path(tempfile.mkdtemp(prefix=folder.name, dir=folder.parent))
    try:
        write_untrained(work)
        try:
            work.replace(folder)
        except OSError:
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
