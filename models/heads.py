"""The address of an attention head. Knows two indices; nothing of models, features or scores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class HeadRef:
    """One attention head, addressed as in the MLLM: both counted from zero.

    Ordered by layer, then head, which is the order that breaks ties in the hunt.
    """

    layer: int
    head: int

    def __post_init__(self) -> None:
        if min(self.layer, self.head) < 0:
            raise ValueError(f"head indices start at 0, got layer {self.layer}, head {self.head}")
