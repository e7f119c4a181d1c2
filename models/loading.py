"""A model by name: a Hugging Face id, a local folder, or a built-in model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from edge_runtime.errors import CheckpointError, UsageError, first_line
from edge_runtime.files import sha256
from edge_runtime.stream.segments import SegmentSpec
from models.families.registry import Family, family_of
from models.family import Mllm, SourceModel
from models.files import read_json
from models.precision import check_dtype, choose_dtype
from models.prompts import PROMPTS
from models.reference import reference_checkpoint
from models.reference.architecture import LICENCE, SHAPES
from models.transformers_mllm import Checkpoint, TransformersMllm
from models.weights import Weights, weight_files

_WHAT_MATTERS = (".json", ".safetensors", ".jinja", ".model", ".txt")
_CARD = "README.md"


def load(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    system_message: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Mllm:
    """Open a checkpoint and wrap it by its family.

    The family and the decoder are looked up by name before any weight is looked at. Weights are read where they are
    needed; here they are only checked, a piece at a time.

    Args:
        name: A Hugging Face id, a folder in that format, `reference` or `reference-large`.
        device: `auto`, `cpu` or `cuda`.
        dtype: What the model computes in: `float32`, `bfloat16`, `float16`, or `auto` for the checkpoint's own where
            the device multiplies it, else float32.
        system_message: What stands before the user's part of the sequence: a text, `none`, `model` for the one that
            the family's makers use, or None for what the chat template does.
        progress: Told how many bytes of the files are checked, and how many there are: each is read twice.

    Raises:
        CheckpointError: It names the folder and what is wrong with it.
        UsageError: The device is unknown or not there, or does not have the number format.
    """
    device = choose_device(device)
    check_dtype(dtype, device)
    folder, shown = locate(name)
    config = read_json(folder / "config.json")
    with _named(shown):
        family = family_of(config)
        family.check_decoder(config)
        _check_files(folder, family)
        files = weight_files(folder)
        adapter = family.load_adapter()
        model, tokenizer = _build_by_transformers(folder, adapter, family.load_model_class())
        weights = Weights(files, model, torch.float32, device)
        weights.convert(choose_dtype(dtype, device, weights.stored_dtype))
        total = 2 * sum(file.stat().st_size for file in files)
        count = _counted(total, progress)
        weights.check_finite(count)
        content = fingerprint(folder, count)
        count(total)
        source = SourceModel(
            name=shown if shown in SHAPES or not os.path.isabs(shown) else folder.name,
            # A hub snapshot's folder is named by its commit.
            revision=folder.name if folder.parent.name == "snapshots" else f"sha256:{content[:16]}",
            architecture=(config.get("architectures") or [type(model).__name__])[0],
            licence=LICENCE if shown in SHAPES else _licence(folder),
        )
        mllm = adapter(Checkpoint(folder, model, weights, tokenizer, source, content, system_message))
        mllm.to(device)
        # A template that cannot be used must not come to light after the first video.
        mllm.write(PROMPTS[0], SegmentSpec(sampled=mllm.frames_per_group))
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
    if name in SHAPES:
        return reference_checkpoint(name), name
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


def fingerprint(folder: Path, progress: Callable[[int], None] | None = None) -> str:
    """sha256 over the content of every file that can change what the model computes.

    Args:
        folder: The checkpoint.
        progress: Told of every file's bytes.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _WHAT_MATTERS:
            digest.update(f"{path.name} {sha256(path)}\n".encode())
            if progress is not None:
                progress(path.stat().st_size)
    return digest.hexdigest()


def _counted(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None]:
    """Add up steps, up to the total: headers and small files are no weights."""
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done = min(total, done + count)
        if progress is not None:
            progress(done, total)

    return step


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


def _build_by_transformers(folder: Path, adapter: type[TransformersMllm], model_class: Any) -> tuple[Any, Any]:
    """The model without memory for its weights, and the tokenizer, from files of the folder alone."""
    from accelerate import init_empty_weights
    from transformers import AutoTokenizer, GenerationConfig

    try:
        # Only local files: what is not in the folder must not be looked for elsewhere.
        config = model_class.config_class.from_pretrained(folder, local_files_only=True)
        adapter.check_config(config)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Buffers, such as rotary frequencies, are computed from the config and really there.
        with init_empty_weights(include_buffers=False):
            model = model_class._from_config(config, dtype=torch.float32, attn_implementation="sdpa")
        if (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"transformers cannot load it ({first_line(error)})") from error
    return model, tokenizer


def _licence(folder: Path) -> str:
    """What the model card's header says; the card is not always there."""
    card = folder / _CARD
    said: dict[str, str] = {}
    if card.is_file():
        for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
            key, _, value = line.partition(":")
            if key.lower() in ("license", "license_name") and value.strip():
                said.setdefault(key.lower(), value.strip().strip("\"'"))
    licence = said.get("license", "unknown")
    # A maker's own licence has its name in a second line.
    return said.get("license_name", licence) if licence.lower() == "other" else licence
