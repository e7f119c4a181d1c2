"""The `explain` command: every ended event goes back through a whole MLLM, to a sentence.

Each line that it writes is the event's record as it stood, and behind it what was said, by whom, and how it was
asked. The same event is not asked about twice in the same way: a run that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only
from edge_runtime.records import EventRecord, Record
from edge_runtime.stream.segments import MOST_FRAMES, SegmentSpec
from edge_runtime.strict_json import parse_object
from models.prompts import Prompt
from models.sweep import require_whole
from offline.console import Console
from offline.explain.describer import Describer, LocalModel
from offline.explain.ended_events import EndedEvent, read_events
from offline.explain.endpoint import ApiKey, Endpoint, Server
from offline.explain.footage import Footage, footage_of
from offline.extraction.model import ModelUse, load_model

# A neutral sentence, which the reference model was trained on too.
QUESTION = "What happens in this video?"
FRAMES = 16
MAX_TOKENS = 128
TIMEOUT_S = 120.0

_LINE_BEGINS = b'{"type":"event",'


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """What `explain` was asked to do.

    Attributes:
        records: What `hh-edge run` wrote.
        model: A checkpoint, or with an endpoint the name of a model there.
        endpoint: The URL of an OpenAI-compatible server.
        api_key_env: The environment variable with the server's API key.
        videos: The footage, `[CAMERA=]PATH` each.
        frames: How many pictures of an event are shown.
        question: What is asked.
        max_tokens: The longest answer.
        timeout_s: For the server, in seconds.
        output: The file to append to; None for standard output.
        use: How a local model is run.
    """

    records: Path
    model: str
    endpoint: str | None = None
    api_key_env: str | None = None
    videos: tuple[str, ...] = ()
    frames: int = FRAMES
    question: str = QUESTION
    max_tokens: int = MAX_TOKENS
    timeout_s: float = TIMEOUT_S
    output: Path | None = None
    use: ModelUse = field(default_factory=ModelUse)

    def __post_init__(self) -> None:
        if min(self.frames, self.max_tokens) < 1:
            raise UsageError(
                f"--frames and --max-tokens start at 1, got {self.frames} and {self.max_tokens}; choose larger ones"
            )
        if not (isfinite(self.timeout_s) and self.timeout_s > 0):
            raise UsageError(f"--timeout is a number of seconds above 0, got {self.timeout_s:g}")
        if not self.question.strip():
            raise UsageError("the question is empty; leave --question out to ask what happens")
        if not self.model:
            raise UsageError("--model is empty; name a model")
        if self.api_key_env is not None and self.endpoint is None:
            raise UsageError("--api-key-env is for a server; name it with --endpoint")
        if self.output is not None and _same_file(self.output, self.records):
            raise UsageError(f"{self.output}: is the file of the records; choose another --output")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a question was put: together with the event, what decides whether it was asked before.

    Attributes:
        model: Who answers.
        question: What is asked.
        sampled: How many pictures are shown.
        max_tokens: The longest answer.
    """

    model: str
    question: str
    sampled: int
    max_tokens: int

    def to_dict(self) -> dict[str, Any]:
        """Give it as it stands in a line of the output."""
        return asdict(self)


class DescribedEvent(Record, frozen=True, tag="event"):
    """An event's record, with what a model says about it.

    Attributes:
        event: The event.
        description: What the model says.
        cut: Whether the limit on its length ended the answer.
        asked: How it was asked.
    """

    type: ClassVar[str] = EventRecord.type
    event: EndedEvent
    description: str
    cut: bool
    asked: Asked

    def to_dict(self) -> dict[str, Any]:
        """Give the event's own keys first, as they stood."""
        said = {"description": self.description, "cut": self.cut}
        return {"type": self.type} | self.event.record | said | self.asked.to_dict()


def explain(options: ExplainOptions, console: Console) -> None:
    """Describe every ended event in words, to a file or standard output, in the order of the records.

    Events of a camera that never ended are counted and left out. What was described before an error is kept.

    Raises:
        DatasetError: The records are none.
        UsageError: The footage of an event is not known.
        SourceUnavailable: The footage cannot be read.
        EndpointFailed: The server does not answer as it should.
        OutputFailed: The output cannot be written.
    """
    log = read_events(options.records)
    if log.unended:
        console.say(f"{options.records}: {log.unended} events have not ended (yet) and are left out")
    if not log.ended:
        console.say(f"{options.records}: holds no event that has ended; there is nothing to explain")
        return
    # All of this before a model is loaded, which may take minutes.
    paths = footage_of(options.videos, [one.event for one in log.ended])
    described = set() if options.output is None else _described(options.output)
    with _describer(options, console) as describer, Footage(paths) as footage, _lines(options.output) as lines:
        asked = Asked(describer.model, options.question.strip(), options.frames, options.max_tokens)
        open_ = [one for one in log.ended if _key(one.record | asked.to_dict()) not in described]
        if before := len(log.ended) - len(open_):
            console.say(f"{before} of {len(log.ended)} events were described before")
        prompt, cut = Prompt("question", options.question), 0
        with console.bar("Explaining", "event") as progress:
            for number, one in enumerate(open_):
                progress(number, len(open_), one.event.id)
                pictures = footage.sampled(one.event, options.frames, describer.take)
                answer = describer.describe(pictures, prompt, _segment(one.event, options.frames))
                lines.write(DescribedEvent(one, answer.text, answer.cut, asked))
                cut += answer.cut
            progress(len(open_), len(open_))
    if cut:
        console.say(f"{cut} answers were cut at {options.max_tokens} tokens; --max-tokens allows longer ones")


def _segment(event: EventRecord, sampled: int) -> SegmentSpec:
    """An event as a segment: some models are told the times of the frames."""
    frames = min(max(1, event.end_frame - event.start_frame), MOST_FRAMES)
    fps = frames / max(event.end_s - event.start_s, 1e-3)
    return SegmentSpec(frames=frames, sampled=sampled, fps=min(max(fps, 1e-3), 1e3))


@contextlib.contextmanager
def _describer(options: ExplainOptions, console: Console) -> Iterator[Describer]:
    if options.endpoint is None:
        mllm = load_model(options.model, options.use, console)
        require_whole(mllm.source.name, mllm.weights.whole_size, options.use.memory_bytes)
        yield LocalModel(mllm, options.max_tokens)
        return
    key = None if options.api_key_env is None else ApiKey.from_environment(options.api_key_env)
    server = Server(options.endpoint, options.model, options.max_tokens, key, options.timeout_s)
    with Endpoint(server, console.say) as endpoint:
        yield endpoint


@contextlib.contextmanager
def _lines(output: Path | None) -> Iterator[JsonLines]:
    with stdout_for_records_only() if output is None else JsonLines.to_file(output) as lines:
        yield lines


def _same_file(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def _key(line: dict[str, Any]) -> tuple[object, ...]:
    """Of a line of the output: the event, and how it was asked about."""
    names = ("id", "camera", "start_frame", "end_frame", "model", "question", "sampled", "max_tokens")
    return tuple(line[name] for name in names)


def _described(output: Path) -> set[tuple[object, ...]]:
    """What the output of an earlier run holds; a half line at its end is dropped from the file.

    Raises UsageError for a file that `explain` did not write: nothing may be cut off or added there.
    """
    if not output.is_file():
        return set()
    try:
        content = output.read_bytes()
    except OSError as error:
        raise OutputFailed(f"{output}: cannot be read ({error.strerror}); choose another --output") from error
    *whole, rest = content.split(b"\n")
    keys = set()
    for number, line in enumerate(whole, 1):
        try:
            document = parse_object(line)
            if not isinstance(document["description"], str):
                raise ValueError("a description is a text")  # noqa: TRY004, TRY301 - one way out for all of them
            keys.add(_key(document))
        except (ValueError, KeyError, TypeError):
            raise UsageError(
                f"{output}: line {number} is no description that explain wrote; choose another --output"
            ) from None
    if rest:
        if not (rest.startswith(_LINE_BEGINS) or _LINE_BEGINS.startswith(rest)):
            raise UsageError(f"{output}: is no file that explain wrote; choose another --output")
        try:
            os.truncate(output, len(content) - len(rest))
        except OSError as error:
            raise OutputFailed(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
    return keys
