"""The address of an attention head."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class HeadRef:
    """One attention head, addressed as in the MLLM: both counted from zero.

    Ordered by layer, then head, which is the order that breaks ties in the hunt.

    Attributes:
        layer: The decoder layer, from the lowest.
        head: The query head within it.
    """

    layer: int
    head: int

    def __post_init__(self) -> None:
        if min(self.layer, self.head) < 0:
            raise ValueError(f"head indices start at 0, got layer {self.layer}, head {self.head}")
