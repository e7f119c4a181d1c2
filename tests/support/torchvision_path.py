"""Lets transformers find torchvision's Python, with its compiled operators or without.

They only load beside a torch of their own build; the video processors, which are oracles here, need none of them.
transformers looks for torchvision once, when it is imported: so this comes before that, from conftest.py.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

#: Holds torchvision (`scripts/test` installs it there); empty where there is none.
FOLDER = os.environ.get("TORCHVISION_FOLDER", "")
# What is defined goes when its library does.
_kept: list[Any] = []


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing itself, but declares the operators that torchvision names while it is imported."""

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if name == "torchvision" and not _kept:
            import torch

            try:
                # Where they load, they declare themselves; twice would end the process.
                torch.ops.load_library(Path(FOLDER, "torchvision", "_C.so"))
            except OSError:
                library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _kept.append(library)


def extend_path() -> None:
    """Make torchvision importable, where it is not installed and TORCHVISION_FOLDER says where it is."""
    if FOLDER and FOLDER not in sys.path and importlib.util.find_spec("torchvision") is None:
        sys.path.append(FOLDER)
        sys.meta_path.insert(0, _Finder())
