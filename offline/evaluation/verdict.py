"""What the language model is worth: its heads against the visual tokens that it was given, in a sentence.

A gap between hunted and random heads proves little: a scorer on the tokens themselves may do as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offline.evaluation.bootstrap import Interval

TOKENS_MEAN = "visual tokens alone, mean"
TOKENS_SPREAD = "visual tokens alone, mean and spread"

#: What is fitted on a segment's visual tokens, and what each is.
TOKENS_ALONE = {
    TOKENS_MEAN: "the mean of a segment's visual tokens before the language model, logistic regression fitted as "
    "the scorer is; what the method adds to it is the language model's",
    TOKENS_SPREAD: "the same with the tokens' standard deviation beside their mean",
}


@dataclass(frozen=True, slots=True)
class Rival:
    """What the method is compared with.

    Attributes:
        auc: Its frame AUC; None where undefined.
        minus: Interval of the method's AUC minus this one, over paired draws of the videos; None where there is none.
    """

    auc: float | None
    minus: Interval | None = None


def language_verdict(method: float | None, rivals: Mapping[str, Rival]) -> str | None:
    """Say what the language model adds to the visual tokens.

    Args:
        method: The method's frame AUC.
        rivals: By name; of the `TOKENS_ALONE` among them the one with the higher AUC counts.

    Returns:
        One sentence; None where an AUC is undefined, or no row of the visual tokens is there.
    """
    known = [(of.auc, of.minus) for name, of in rivals.items() if name in TOKENS_ALONE and of.auc is not None]
    if method is None or not known:
        return None
    auc, minus = max(known, key=lambda one: one[0])
    if method <= auc:
        # Not above is not yet below.
        surely = minus is not None and minus.high <= 0
        begun = (
            "The language model adds nothing on these data"
            if surely
            else "Nothing shows that the language model adds"
        )
        rest = "" if surely else " anything on these data"
        return f"{begun}{rest}: visual tokens alone reach AUC {auc:.3f}, the method {method:.3f}."
    if minus is None:
        return (
            f"The method (AUC {method:.3f}) and the visual tokens alone ({auc:.3f}) cannot be told apart on these "
            "data: there are too few videos for an interval."
        )
    shown = f"{method - auc:.3f} [{minus.low:.3f}, {minus.high:.3f}]"
    if minus.low <= 0:
        return (
            f"The method (AUC {method:.3f}) and the visual tokens alone ({auc:.3f}) cannot be told apart on these "
            f"data: the difference is {shown}."
        )
    return f"The language model adds {shown} AUC over the visual tokens alone."
