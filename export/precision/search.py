"""Which products bear 8 bits: measured one by one, then tried together on the features that the scorer will see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass

#: How far 8 bits may move what one product gives, as `observe.noise` measures it; tried from the loosest to none.
LIMITS = (0.05, 0.02, 0.0)
# What 8 bits may take from the centred cosine of the features, or twice what bfloat16 takes, whichever is more.
_LOSS = 0.01
_TIMES = 2.0

#: Exports with these layers left in bfloat16; returns the centred cosine of the expert features to the model's.
Attempt = Callable[[frozenset[str]], float]


@dataclass(frozen=True, slots=True)
class Noise:
    """How far 8 bits move what each linear layer gives, by its weight's name in the model.

    Attributes:
        vision: Of the vision tower.
        language: Of the decoder.
    """

    vision: Mapping[str, float]
    language: Mapping[str, float]

    def kept(self, vision: float, language: float) -> frozenset[str]:
        """The layers beyond a limit for each graph."""
        beyond = {name for name, noise in self.vision.items() if not noise <= vision}
        return frozenset(beyond | {name for name, noise in self.language.items() if not noise <= language})


def search(noise: Noise, attempt: Attempt, say: Callable[[str], None]) -> frozenset[str]:
    """Leave in bfloat16 what does not bear 8 bits, as little as is needed.

    The decoder is given back first: an outlier in it ruins more than one in the tower, and most of the time is spent
    in the tower of the models for which time is short.

    Args:
        noise: What each layer bears by itself.
        attempt: Tries a choice.
        say: Told of every attempt.

    Returns:
        The layers that stay. The last attempt was with them.
    """
    everything = noise.kept(-1.0, -1.0)
    best = attempt(everything)
    floor = 1 - max(_LOSS, _TIMES * (1 - best))
    say(f"bfloat16 throughout: centred cosine {best:.4f}; int8 may go down to {floor:.4f}")
    tried: set[Set[str]] = set()
    for vision, language in limits():
        kept = noise.kept(vision, language)
        if kept in tried:
            continue
        tried.add(kept)
        found = attempt(kept)
        say(f"{len(everything) - len(kept)} of {len(everything)} products in int8: centred cosine {found:.4f}")
        # Written so that a NaN does not pass.
        if found >= floor:
            return kept
    # The last limits keep everything: there is nothing left to give back.
    return everything


def limits() -> Iterator[tuple[float, float]]:
    """Limits of the tower and the decoder in the order in which they are tried; the last one keeps everything."""
    for language in LIMITS:
        yield LIMITS[0], language
    for vision in LIMITS[1:]:
        yield vision, LIMITS[-1]
