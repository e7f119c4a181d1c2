"""A model by name: a Hugging Face id, a local folder, or `reference`. Knows files; leaves modules to the family."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from edge_runtime.errors import CheckpointError, UsageError, first_line
from edge_runtime.files import sha256
from models.family import Mllm, SourceModel
from models.files import read_json
from models.prompts import PROMPTS

REFERENCE = "reference"
# Bytes of weights that take about two seconds to load.
_WORTH_A_BAR = 2**30
_WHAT_MATTERS = (".json", ".safetensors", ".jinja", ".model", ".txt")
_CARD = "README.md"


def load(name: str, device: str = "auto") -> Mllm:
    """Load a checkpoint in float32 and wrap it by its family.

    name: a Hugging Face id, a folder in that format, or `reference`. device: `auto`, `cpu` or `cuda`.
    Raises CheckpointError that names the folder and what is wrong with it; UsageError for an unknown device.
    """
    device = choose_device(device)
    folder, shown = locate(name)
    config = read_json(folder / "config.json")
    family = str(config.get("model_type"))
    if family != "internvl":
        raise CheckpointError(f"{shown}: model_type {family!r} is not supported; supported: internvl")
    mllm = _load_internvl(folder, shown, config)
    mllm.to(device)
    return mllm


def choose_device(device: str) -> str:
    """`auto` to `cuda` where there is one, else `cpu`. Raises UsageError."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}; choose from auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no CUDA device is available to torch; use --device cpu")
    return device


def locate(name: str) -> tuple[Path, str]:
    """The folder of a checkpoint, fetched from the Hugging Face hub where it is an id, and the name to show."""
    if name == REFERENCE:
        from models.reference import reference_checkpoint

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


def _load_internvl(folder: Path, shown: str, config: dict[str, Any]) -> Mllm:
    from transformers import AutoTokenizer, InternVLForConditionalGeneration
    from transformers.utils import logging as transformers_logging

    from models.families.internvl import InternVL

    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "tokenizer.model")):
        raise CheckpointError(f"{shown}: holds no tokenizer (tokenizer.json); copy the whole checkpoint")
    if not any(folder.glob("*.safetensors")):
        raise CheckpointError(f"{shown}: holds no weights (*.safetensors); copy the whole checkpoint")
    if sum(path.stat().st_size for path in folder.glob("*.safetensors")) < _WORTH_A_BAR:
        transformers_logging.disable_progress_bar()
    try:
        # Only local files: what is not in the folder must not be looked for elsewhere.
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, report = InternVLForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        reason = first_line(error)
        raise CheckpointError(f"{shown}: transformers cannot load it ({reason})") from error
    # transformers fills what is missing with random numbers and only warns.
    for kind in ("missing_keys", "mismatched_keys"):
        if report.get(kind):
            first = sorted(str(key) for key in report[kind])[0]
            raise CheckpointError(f"{shown}: {len(report[kind])} weights are {kind[:-5]} (first: {first})")
    for key, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise CheckpointError(
                f"{shown}: weight {key} holds values that are not finite; copy the checkpoint again"
            )
    weights = fingerprint(folder)
    source = SourceModel(
        name=shown if shown == REFERENCE or not os.path.isabs(shown) else folder.name,
        # A hub snapshot's folder is named by its commit.
        revision=folder.name if folder.parent.name == "snapshots" else f"sha256:{weights[:16]}",
        architecture=(config.get("architectures") or ["InternVLForConditionalGeneration"])[0],
        licence=_licence(folder),
    )
    try:
        mllm = InternVL(folder, model, tokenizer, source, weights)
        # A template that cannot be used must not come to light after the first video.
        mllm.layout(PROMPTS[0], mllm.frames_per_group)
    except (CheckpointError, ValueError) as error:
        raise CheckpointError(f"{shown}: {error}") from error
    return mllm


def _licence(folder: Path) -> str:
    """What the model card's header says; the card is not always there."""
    card = folder / _CARD
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:40]:
            if line.lower().startswith("license:"):
                return line.split(":", 1)[1].strip()
    return "unknown"
