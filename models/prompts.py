"""The phrasings of the task: five of our own, from coarse to detailed, or a file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.strict_json import parse_json


@dataclass(frozen=True, slots=True)
class Prompt:
    """One phrasing of the task.

    Attributes:
        name: Short, of letters, digits, - and _; it goes into file names and tables.
        text: The question, as it stands behind the frames.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"a prompt's name holds letters, digits, - and _, got {self.name!r}")
        if not self.text.strip():
            raise ValueError(f"prompt {self.name!r} has no text")


PROMPTS: tuple[Prompt, ...] = (
    Prompt("coarse", "Is anything unusual happening in this video? Answer yes or no."),
    Prompt(
        "safety",
        "These frames come from a surveillance camera. Does the video show an event that a security guard "
        "should look at? Answer yes or no.",
    ),
    Prompt(
        "contrast",
        "Look at how the people and vehicles in this video behave. Is it everyday life, or does something "
        "happen that breaks the routine of the place? Answer yes if something breaks it, otherwise no.",
    ),
    Prompt(
        "kinds",
        "Does this video show an anomaly such as a fight, a fall, a fire, a traffic accident, a theft, people "
        "running away in panic, vandalism or an abandoned object? Answer yes or no.",
    ),
    Prompt(
        "detailed",
        "You watch a surveillance camera. Compare the first frames with the last ones. Note who is there, how "
        "they move, what touches what, and whether a person is hurt, attacked or fleeing, whether something "
        "burns, breaks, collides or was left behind. Shadows, weather, changing light and busy traffic are "
        "normal. Considering all that, is there an anomaly in this video? Answer yes or no.",
    ),
)


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read prompts from a JSON file.

    Args:
        path: An object {name: text}, or a list of texts, which are then called prompt1, prompt2, …

    Raises:
        UsageError: The file cannot be read or holds something else.
    """
    try:
        document = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as JSON ({error}); give an object of names and texts") from error
    if isinstance(document, list):
        document = {f"prompt{number}": text for number, text in enumerate(document, 1)}
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{path}: holds no prompts; give an object of names and texts")
    try:
        return tuple(Prompt(str(name), text) for name, text in document.items())
    except (ValueError, AttributeError) as error:
        raise UsageError(f"{path}: {error}") from error
