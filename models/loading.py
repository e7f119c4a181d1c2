"""A model by name: a Hugging Face id, a local folder, or `reference`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edge_runtime.errors import CheckpointError, UsageError, first_line
from edge_runtime.files import sha256
from models.families.registry import Family, family_of
from models.family import Mllm, SourceModel
from models.files import read_json
from models.prompts import PROMPTS
from models.reference import reference_checkpoint
from models.transformers_mllm import Checkpoint, TransformersMllm

REFERENCE = "reference"
# Bytes of weights that take about two seconds to load.
_WORTH_A_BAR = 2**30
_WHAT_MATTERS = (".json", ".safetensors", ".jinja", ".model", ".txt")
_CARD = "README.md"


def load(name: str, device: str = "auto") -> Mllm:
    """Load a checkpoint in float32 and wrap it by its family.

    The family and the decoder are looked up by name before any weight is read.

    Args:
        name: A Hugging Face id, a folder in that format, or `reference`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        CheckpointError: It names the folder and what is wrong with it.
        UsageError: The device is unknown or not there.
    """
    device = choose_device(device)
    folder, shown = locate(name)
    config = read_json(folder / "config.json")
    with _named(shown):
        family = family_of(config)
        family.check_decoder(config)
        _check_files(folder, family)
        adapter = family.load_adapter()
        model, tokenizer = _load_by_transformers(folder, adapter, family.load_model_class())
        _check_weights(model)
        weights = fingerprint(folder)
        source = SourceModel(
            name=shown if shown == REFERENCE or not os.path.isabs(shown) else folder.name,
            # A hub snapshot's folder is named by its commit.
            revision=folder.name if folder.parent.name == "snapshots" else f"sha256:{weights[:16]}",
            architecture=(config.get("architectures") or [type(model).__name__])[0],
            licence=_licence(folder),
        )
        mllm = adapter(Checkpoint(folder, model, tokenizer, source, weights))
        # A template that cannot be used must not come to light after the first video.
        mllm.layout(PROMPTS[0], mllm.frames_per_group)
    mllm.to(device)
    return mllm


def choose_device(device: str) -> str:
    """Turn `auto` into `cuda` where there is one, else `cpu`.

    Raises:
        UsageError: The device is unknown, or not there.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}; choose from auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available to torch; use --device cpu")
    return device


def locate(name: str) -> tuple[Path, str]:
    """Find a checkpoint, and fetch it from the Hugging Face hub where `name` is an id.

    Returns:
        Its folder, and the name to show.

    Raises:
        CheckpointError: There is no such folder, and the hub does not have it or cannot be reached.
    """
    if name == REFERENCE:
        return reference_checkpoint(), REFERENCE
    folder = Path(name)
    # An empty name is the working folder to Path, and a forgotten variable to a shell.
    if name and folder.is_dir():
        return folder, name
    if not name or folder.exists() or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise CheckpointError(
            f"{name or repr(name)}: no such folder; give a folder with a config.json or a Hugging Face id"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*(f"*{ending}" for ending in _WHAT_MATTERS), _CARD]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns)), name
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = first_line(error)
        raise CheckpointError(f"{name}: neither a folder here nor to be had from the hub ({reason})") from error


def fingerprint(folder: Path) -> str:
    """sha256 over the content of every file that can change what the model computes."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _WHAT_MATTERS:
            digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


@contextmanager
def _named(shown: str) -> Iterator[None]:
    """Put the checkpoint's name before what is wrong with it."""
    try:
        yield
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f"{shown}: {error}") from error


def _check_files(folder: Path, family: Family) -> None:
    """Say what is missing before transformers says it in its own words."""
    if not any((folder / name).is_file() for name in family.tokenizers):
        raise CheckpointError(f"holds no tokenizer ({family.tokenizers[0]}); copy the whole checkpoint")
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError("holds no weights (*.safetensors); copy the whole checkpoint")


def _load_by_transformers(folder: Path, adapter: type[TransformersMllm], model_class: Any) -> tuple[Any, Any]:
    """The model in float32 and the tokenizer, from files of the folder alone."""
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    if sum(path.stat().st_size for path in folder.glob("*.safetensors")) < _WORTH_A_BAR:
        transformers_logging.disable_progress_bar()
    try:
        adapter.check_config(model_class.config_class.from_pretrained(folder, local_files_only=True))
        # Only local files: what is not in the folder must not be looked for elsewhere.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = model_class.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True, output_loading_info=True
        )
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"transformers cannot load it ({first_line(error)})") from error
    # transformers fills what is missing with random numbers and only warns.
    for kind in ("missing_keys", "mismatched_keys"):
        if report.get(kind):
            first = sorted(str(key) for key in report[kind])[0]
            raise CheckpointError(f"{len(report[kind])} weights are {kind[:-5]} (first: {first})")
    return model, tokenizer


def _check_weights(model: Any) -> None:
    for key, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"weight {key} holds values that are not finite; copy the checkpoint again")


def _licence(folder: Path) -> str:
    """What the model card's header says; the card is not always there."""
    card = folder / _CARD
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
            if line.lower().startswith("license:"):
                return line.split(":", 1)[1].strip()
    return "unknown"
