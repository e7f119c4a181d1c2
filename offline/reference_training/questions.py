"""What the reference model is asked about a clip, and what it is to answer.

All answers describe: who is there, what they do, which way, where, in which order. None says whether something is
normal. Facts come in random order, so any of them may be the first word of an answer: at the last position of the
prompt the model has to have everything ready that happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from offline.reference_training.pool import ACTIONS, COLORS, OBJECTS, PERSON_ACTIONS, PLACES, VEHICLE_ACTIONS
from offline.scenes import LAYOUTS, TIMES, WEATHERS, SceneFacts, TrackFacts

NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "many")
DIRECTIONS: Final = ("left", "right", "towards", "away", "still")
_FLIPPED: Final = {"left": "right", "right": "left"}
_MOVING: Final = frozenset(
    {"walking", "running", "fleeing", "chasing", "cycling", "playing", "driving", "crashing", "rolling"}
)
VEHICLES: Final = ("car", "van")

CONTEXTS: Final = (
    "You watch a surveillance camera.",
    "These frames come from a surveillance camera.",
    "This video comes from a street camera.",
    "Look at how the people and vehicles in this video behave.",
    "Compare the first frames with the last ones.",
    "Note who is there, how they move, what touches what.",
    "Shadows, weather, changing light and busy traffic do not matter.",
    "Consider the whole video, from the first frame to the last.",
    "A security guard looks at this place.",
    "Watch the people, the vehicles and the things that stand around.",
)
DESCRIBE: Final = (
    "Describe the video.",
    "What happens in this video?",
    "What does the video show?",
    "Say what the people and vehicles do.",
    "What is going on here?",
    "Which actions are to be seen?",
    "Considering all that, what happens in this video?",
    "List what is happening in the video.",
)
DOING: Final = ("What are the people doing?", "What do the people do?", "Which actions of people does it show?")
TRAFFIC: Final = ("What are the vehicles doing?", "What do the cars and vans do?")
IS_ANYBODY: Final = (
    "Is anybody {action} ? Answer yes or no.",
    "Does the video show a person {action} ? Answer yes or no.",
    "Answer yes if somebody is {action} , otherwise no.",
    "Is a person {action} in this video?",
)
IS_VEHICLE: Final = ("Is a vehicle {action} ? Answer yes or no.", "Does the video show a car or van {action} ?")
IS_THERE: Final = (
    "Is there a {kind} ? Answer yes or no.",
    "Does the video show a {kind} ?",
    "Is a {kind} to be seen in this video? Answer yes or no.",
)
LEFT_BEHIND: Final = ("Was a bag abandoned ? Answer yes or no.", "Does a bag stand there without its owner?")
HOW_MANY: Final = ("How many people are there?", "How many persons does the video show?")
HOW_MANY_DO: Final = ("How many people are {action} ?", "How many persons are {action} in this video?")
WHO: Final = ("What does the person in {color} do?", "What is the person in {color} doing, from first to last?")
WHICH_WAY: Final = ("Which way does the person in {color} go?", "Where does the person in {color} move to?")
WHICH_WAY_VEHICLE: Final = ("Which way does the {color} {kind} drive?", "Where does the {color} {kind} move to?")
WHERE: Final = ("Where is the person in {color} ?", "On what does the person in {color} stand or move?")
PLACE: Final = ("What place is it?", "Describe the place, the time and the weather.")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question with its answer.

    Attributes:
        topic: What accuracies are grouped by, such as `yes/no` or `count`.
        question: What is asked.
        answer: The right answer.
        subject: The action or kind of object that is asked for, where there is one.
    """

    topic: str
    question: str
    answer: str
    subject: str = ""


def number_word(count: int) -> str:
    """Write a number from 0 to 5 as a word; more is `many`."""
    return NUMBERS[min(count, len(NUMBERS) - 1)]


def all_texts() -> list[str]:
    """List texts with every word that a question or an answer can hold, for the tokenizer."""
    templates = [
        *CONTEXTS, *DESCRIBE, *DOING, *TRAFFIC, *IS_ANYBODY, *IS_VEHICLE, *IS_THERE, *LEFT_BEHIND, *HOW_MANY,
        *HOW_MANY_DO, *WHO, *WHICH_WAY, *WHICH_WAY_VEHICLE, *WHERE, *PLACE,
    ]  # fmt: skip
    blanks = [text.replace("{", "").replace("}", "") for text in templates]
    conditions = [name.replace("_", " ") for name in (*LAYOUTS, *TIMES, *WEATHERS)]
    words = [*ACTIONS, *OBJECTS, *PLACES, *COLORS, *NUMBERS, *DIRECTIONS, *conditions]
    return [*blanks, *words, "yes", "no", "nothing", "nobody", "people", "then", "and", ":", ";"]


class Asker:
    """Draws questions about clips, so that what is asked tells nothing about the answer.

    Yes/no questions ask for what is there with weight 1 / p and for what is not with weight 1 / (1 - p), p being its
    share of the clips. So for every action half of the answers are yes, and rare actions are asked about as often as
    common ones.

    Args:
        prevalence: p by the names of `present_names`.
    """

    def __init__(self, prevalence: dict[str, float]) -> None:
        self._prevalence = {name: min(max(share, 0.004), 0.996) for name, share in prevalence.items()}

    def ask(self, facts: SceneFacts, rng: np.random.Generator, *, flipped: bool, count: int) -> list[Exchange]:
        """Ask about one clip: for a description first, then questions of all sorts.

        Args:
            facts: What is to be seen in the clip.
            rng: What questions are drawn from.
            flipped: The clip is shown as its mirror image.
            count: How many exchanges to draw.
        """
        exchanges = [self.describe(facts, rng, flipped=flipped)]
        while len(exchanges) < count:
            draw = rng.random()
            one: Exchange | None
            if draw < 0.42:
                one = self.yes_no(facts, rng)
            elif draw < 0.54:
                one = self.doing(facts, rng)
            elif draw < 0.66:
                one = self.counting(facts, rng)
            elif draw < 0.93:
                one = self.one_of_them(facts, rng, flipped=flipped)
            else:
                one = self.place(facts, rng)
            if one is not None:
                exchanges.append(one)
        return exchanges

    def describe(self, facts: SceneFacts, rng: np.random.Generator, *, flipped: bool) -> Exchange:
        """Ask for a description: up to five facts in random order, the action first, then who and which way."""
        phrases = []
        for action, tracks in _by_action(facts).items():
            group = [track.kind for track in tracks]
            kinds = sorted(set(group))
            who = " and ".join(
                f"{number_word(group.count(kind))} {_plural(kind, group.count(kind))}" for kind in kinds
            )
            ways = sorted({_way(track, flipped) for track in tracks if action in _MOVING} - {"still"})
            phrases.append(f"{action} : {who} {' and '.join(ways)}".strip())
        rng.shuffle(phrases)
        return Exchange("describe", _pick(DESCRIBE, rng), " ; ".join(phrases[:5]) or "nothing")

    def yes_no(self, facts: SceneFacts, rng: np.random.Generator) -> Exchange:
        """Ask whether an action or a kind of object is to be seen."""
        asked = [*PERSON_ACTIONS, *(f"vehicle {action}" for action in VEHICLE_ACTIONS), *OBJECTS, "abandoned"]
        present = present_names(facts)
        weights = np.array(
            [1 / self._share(name) if name in present else 1 / (1 - self._share(name)) for name in asked]
        )
        # What is seen in next to no clip would otherwise be asked about wherever it is.
        weights = np.minimum(weights, 60.0)
        name = asked[int(rng.choice(len(asked), p=weights / weights.sum()))]
        answer = "yes" if name in present else "no"
        if name == "abandoned":
            return Exchange("yes/no", _pick(LEFT_BEHIND, rng), answer, name)
        if name.startswith("vehicle "):
            action = name.removeprefix("vehicle ")
            return Exchange("yes/no", _pick(IS_VEHICLE, rng).format(action=action), answer, name)
        if name in OBJECTS:
            return Exchange("yes/no", _pick(IS_THERE, rng).format(kind=name), answer, name)
        return Exchange("yes/no", _pick(IS_ANYBODY, rng).format(action=name), answer, name)

    def doing(self, facts: SceneFacts, rng: np.random.Generator) -> Exchange:
        """Ask for up to six actions of people, or of vehicles, in random order."""
        people = rng.random() < 0.7
        kinds = ("person",) if people else VEHICLES
        actions = sorted({action for track in facts.tracks if track.kind in kinds for action in track.actions})
        rng.shuffle(actions)
        return Exchange("doing", _pick(DOING if people else TRAFFIC, rng), " ; ".join(actions[:6]) or "nothing")

    def counting(self, facts: SceneFacts, rng: np.random.Generator) -> Exchange:
        """Ask how many people there are, or do something."""
        if rng.random() < 0.4:
            return Exchange("count", _pick(HOW_MANY, rng), number_word(facts.counts.get("person", 0)))
        done = sorted({action for kind, action in facts.actions if kind == "person"})
        action = _pick(done, rng) if done and rng.random() < 0.75 else _pick(PERSON_ACTIONS, rng)
        answer = number_word(facts.actions.get(("person", action), 0))
        return Exchange("count", _pick(HOW_MANY_DO, rng).format(action=action), answer, action)

    def one_of_them(self, facts: SceneFacts, rng: np.random.Generator, *, flipped: bool) -> Exchange | None:
        """Ask what one person does, in order, which way one goes, or where one is.

        Returns:
            None where nobody can be told apart by kind and colour.
        """
        single = [track for track in facts.tracks if track.frames >= 4 and _unique(track, facts.tracks)]
        if not single:
            return None
        # Someone who does a rare thing, or several, is asked about more often.
        weights = np.array([max(1 / self._share(action) for action in track.actions) ** 0.5 for track in single])
        track = single[int(rng.choice(len(single), p=weights / weights.sum()))]
        if track.kind != "person":
            question = _pick(WHICH_WAY_VEHICLE, rng).format(color=track.color, kind=track.kind)
            return Exchange("which way", question, _way(track, flipped))
        draw = rng.random()
        if draw < 0.6:
            question = _pick(WHO, rng).format(color=track.color)
            return Exchange("what one does", question, " then ".join(track.actions[:4]))
        if draw < 0.9:
            return Exchange("which way", _pick(WHICH_WAY, rng).format(color=track.color), _way(track, flipped))
        return Exchange("where", _pick(WHERE, rng).format(color=track.color), " then ".join(track.places[:3]))

    def place(self, facts: SceneFacts, rng: np.random.Generator) -> Exchange:
        """Ask for the place, the time of day and the weather."""
        told = facts.conditions
        answer = f"{told.layout.replace('_', ' ')} ; {told.time_of_day} ; {told.weather}"
        return Exchange("place", _pick(PLACE, rng), answer)

    def _share(self, name: str) -> float:
        return self._prevalence.get(name, 0.004)


def present_names(facts: SceneFacts) -> frozenset[str]:
    """Name what is to be seen: actions of people, `vehicle …` actions, kinds of objects, `abandoned`."""
    names = {kind for kind, _ in facts.actions}
    for kind, action in facts.actions:
        if kind == "person":
            names.add(action)
        elif kind in VEHICLES:
            names.add(f"vehicle {action}")
        elif action == "abandoned":
            names.add(action)
    return frozenset(names)


def with_context(question: str, rng: np.random.Generator, vocabulary: Sequence[str]) -> str:
    """Put sentences before a question, and now and then words at random: a question is found among other words.

    Args:
        question: The question.
        rng: What is drawn from.
        vocabulary: Words to draw at random.

    Returns:
        In two of five cases the question alone.
    """
    draw = rng.random()
    if draw < 0.4:
        return question
    count = int(rng.integers(1, 4))
    sentences = [CONTEXTS[int(i)] for i in rng.permutation(len(CONTEXTS))[:count]]
    if draw > 0.75:
        noise = " ".join(vocabulary[int(i)] for i in rng.integers(0, len(vocabulary), int(rng.integers(2, 14))))
        sentences.insert(int(rng.integers(0, count + 1)), noise)
    return " ".join([*sentences, question])


def _by_action(facts: SceneFacts) -> dict[str, list[TrackFacts]]:
    groups: dict[str, list[TrackFacts]] = {}
    for track in facts.tracks:
        for action in track.actions:
            groups.setdefault(action, []).append(track)
    return groups


def _unique(track: TrackFacts, tracks: Sequence[TrackFacts]) -> bool:
    """Whether kind and colour name one object, and it is a person or a vehicle."""
    if track.kind not in ("person", *VEHICLES) or track.color not in COLORS:
        return False
    return sum(other.kind == track.kind and other.color == track.color for other in tracks) == 1


def _way(track: TrackFacts, flipped: bool) -> str:
    return _FLIPPED.get(track.direction, track.direction) if flipped else track.direction


def _plural(kind: str, count: int) -> str:
    return "people" if kind == "person" and count != 1 else kind


def _pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]
