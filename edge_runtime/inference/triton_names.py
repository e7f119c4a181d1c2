"""What the models of a bundle are called in a Triton model repository, and what their configurations say of it."""

from __future__ import annotations

#: How many characters of a bundle_id make a name.
ID_LENGTH = 12
#: Parameter of every configuration: which bundle a version is of, by the version.
BUNDLE_PARAMETER = "bundle_id_{version}"
#: Parameter of the ensembles that take JPEG, of which each version has its own: the quality that was measured.
QUALITY_PARAMETER = "jpeg_quality"
#: The same of what it did to the golden features, as a share of their scale.
LOSS_PARAMETER = "jpeg_loss"


def base_name(bundle_id: str) -> str:
    """What names of a bundle's models begin with, where nobody chose another."""
    return f"hh_{bundle_id[:ID_LENGTH]}"


def version_of(bundle_id: str) -> int:
    """The version of a bundle's models under a name that other bundles may have as well.

    No two bundles have the same one, so that a client never gets another bundle's answer: from a server that was
    replaced between two calls, or from another one behind the same address.
    """
    return int(bundle_id[:ID_LENGTH], 16)


def vision_model(base: str) -> str:
    """Takes `frames` uint8 [b, f, H, W, 3], f a multiple of g, gives `tokens` [b, f/g·T, D]."""
    return f"{base}_vision"


def language_model(base: str) -> str:
    """Takes `tokens` [b, n·T, D], gives `features` float32 [b, K·d]."""
    return f"{base}_language"


def scorer_model(base: str) -> str:
    """Takes `features` float32 [b, K·d], gives `probabilities` float32 [b, 2]."""
    return f"{base}_scorer"


def decode_model(base: str) -> str:
    """Takes `jpeg` uint8 [b, f, L], a file each with zeros behind it, gives `frames` uint8 [b, f, H, W, 3]."""
    return f"{base}_decode"


def segment_model(base: str, version: int) -> str:
    """The ensemble of one version: takes `frames`, gives `features`.

    An ensemble names the versions of its steps in its configuration, which all its own versions share: so each
    version of the others has an ensemble of its own.
    """
    return f"{base}_segment_v{version}"


def score_model(base: str, version: int) -> str:
    """The same up to `probabilities`, for clients that have no scorer of their own."""
    return f"{base}_score_v{version}"


def jpeg_model(base: str, version: int) -> str:
    """Takes `jpeg`, gives `features`."""
    return f"{base}_jpeg_v{version}"


def jpeg_tokens_model(base: str, version: int) -> str:
    """Takes `jpeg`, gives `tokens`."""
    return f"{base}_jpeg_tokens_v{version}"
