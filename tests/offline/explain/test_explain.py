"""Events to sentences, with the real reference model, here and behind HTTP; and everything that is not right.

The server is a small one of our own with that model behind it, because transformers' own needs torchvision, which
has no build for the CPU torch used here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chat_server import ChatServer, Fault, chat_server, completion
from checkpoints import Shape, write_checkpoint
from clips import write_clip
from oracle import seeing, some_frames

from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import UsageError
from edge_runtime.records import CameraRecord, Record, SegmentRecord
from edge_runtime.stream.events import EventGrouper
from edge_runtime.stream.pixels import prepare
from edge_runtime.stream.segments import sample_indices
from edge_runtime.video.file import VideoFile
from models.families.internvl import InternVL
from models.loading import load
from models.prompts import Prompt
from offline.cli import cli
from offline.explain import endpoint
from offline.explain.explain import QUESTION
from offline.reference_training.questions import DESCRIBE

FRAMES = 8
ASK = Prompt("question", QUESTION)


@pytest.fixture(scope="module")
def reference() -> InternVL:
    found = load("reference", "cpu")
    assert isinstance(found, InternVL)
    return found


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("footage")
    return {
        "gate": write_clip(folder / "gate.mp4", 130, (48, 96), seed=1),
        "back yard": write_clip(folder / "back yard.mp4", 100, (0, 48), seed=2),
    }


def records_of(camera: str, decisions: Sequence[bool], frames: int, fps: float = 15.0) -> list[Record]:
    """Segments with these decisions and the events that the edge's own grouper makes of them."""
    grouper, records = EventGrouper(camera, "5f0c1a7e"), []
    for index, anomalous in enumerate(decisions):
        start, end = index * 48, min(index * 48 + 48, frames)
        score = 0.9 if anomalous else 0.1
        segment = SegmentRecord(camera, index, start, end, start / fps, end / fps, score, score, anomalous)
        records += [segment, *grouper.push(segment)]
    return records + list(grouper.close())


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Three ended events of two cameras, among other records."""
    path = tmp_path / "events.jsonl"
    said: list[Record] = [CameraRecord("gate", "online", "frames arrive")]
    said += records_of("gate", [True, False, True], 130) + records_of("back yard", [False, True, True], 100)
    path.write_text("".join(record.to_json() + "\n" for record in said))
    return path


def ended(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["type"] == "event" and line["state"] == "end"]


def explain(
    capfd: pytest.CaptureFixture[str], records: Path, videos: dict[str, Path], *more: object
) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, the lines of stdout and stderr of the command, with few short answers."""
    given = [text for name, path in videos.items() for text in ("--video", f"{name}={path}")]
    settings = ["--frames", FRAMES, "--max-tokens", 24]
    if "--model" not in more:
        settings += ["--model", "reference", "--device", "cpu"]
    code = run_command(cli, [str(one) for one in ("explain", records, *given, *settings, *more)])
    out, err = capfd.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def error_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


@torch.inference_mode()
def greedy(mllm: InternVL, frames: np.ndarray[Any, Any], prompt: Prompt, tokens: int) -> list[int]:
    """The longest way round: the whole sequence through the plain model again for every token."""
    inputs = mllm.plain_inputs(frames[None], prompt, seeing(len(frames)))
    found: list[int] = []
    while len(found) < tokens:
        logits = mllm.plain(**inputs, use_cache=False).logits[0, -1]
        found.append(int(logits.argmax()))
        if found[-1] == mllm.tokenizer.eos_token_id:
            break
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[found[-1]]])], dim=1)
    return found


@pytest.mark.parametrize("tokens", [4, 24])
def test_description_is_the_likeliest_token_every_time(reference: InternVL, tokens: int) -> None:
    frames = some_frames(1, 3, reference.pixels.size)[0]
    wanted = greedy(reference, frames, ASK, tokens)
    answer = reference.describe(frames, ASK, seeing(len(frames)), tokens)
    assert answer.text == reference.tokenizer.decode(wanted, skip_special_tokens=True).strip()
    assert answer.cut == (wanted[-1] != reference.tokenizer.eos_token_id)


def test_what_a_checkpoint_prefers_in_generating_changes_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, Shape(family="qwen3", kv_heads=1, head_dim=12), seed=3)
    (folder / "generation_config.json").write_text(
        json.dumps({"repetition_penalty": 5.0, "do_sample": True, "temperature": 3.0, "eos_token_id": [3]})
    )
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, InternVL)
    frames = some_frames(1, 2, mllm.pixels.size)[0]
    wanted = greedy(mllm, frames, ASK, 12)
    # Something is repeated, or the penalty would not show.
    assert len(set(wanted)) < len(wanted)
    assert (
        mllm.describe(frames, ASK, seeing(len(frames)), 12).text
        == mllm.tokenizer.decode(wanted, skip_special_tokens=True).strip()
    )


def test_more_frames_than_positions_are_refused(reference: InternVL) -> None:
    with pytest.raises(UsageError, match=r"of the model.s 2048 positions"):
        reference.describe(some_frames(1, 90, reference.pixels.size)[0], ASK, seeing(90), 200)


def test_default_question_is_one_that_the_reference_model_was_trained_on() -> None:
    assert QUESTION in DESCRIBE


def test_every_ended_event_gets_what_the_model_says_of_its_frames(
    reference: InternVL, records: Path, footage: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    code, lines, err = explain(capfd, records, footage)
    assert code == 0, err
    events = ended(records)
    assert [(event["camera"], event["start_frame"], event["end_frame"]) for event in events] == [
        ("gate", 0, 48),
        ("gate", 96, 130),
        ("back yard", 48, 100),
    ]
    assert len(lines) == len(events)
    for line, event in zip(lines, events, strict=True):
        assert line.items() >= event.items()
        assert list(line)[: len(event)] == list(event)
        indices = event["start_frame"] + sample_indices(event["end_frame"] - event["start_frame"], FRAMES)
        with VideoFile(footage[event["camera"]]) as video:
            pictures = video.read_frames(indices.tolist())
        shown = np.stack([prepare(one, reference.pixels) for one in pictures])
        answer = reference.describe(shown, ASK, seeing(len(shown)), 24)
        assert (line["description"], line["cut"]) == (answer.text, answer.cut)
        assert line["description"]
        assert line["model"] == f"reference@{reference.source.revision}"
        assert (line["question"], line["sampled"], line["max_tokens"]) == (QUESTION, FRAMES, 24)


def test_stopped_anywhere_it_goes_on_where_it_was(
    records: Path, footage: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "said.jsonl"
    assert explain(capfd, records, footage, "--output", output)[0] == 0
    whole = output.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in (3, first - 1, first + 40, len(whole)):
        output.write_bytes(whole[:cut])
        code, lines, err = explain(capfd, records, footage, "--output", output)
        assert (code, lines) == (0, []), err
        assert output.read_bytes() == whole
        before = whole[:cut].count(b"\n")
        assert ("described before" in err) == (before > 0)
        assert before == 0 or f"{before} of 3 events" in err


def test_what_is_described_is_not_asked_again_but_another_question_is(
    records: Path,
    footage: dict[str, Path],
    tmp_path: Path,
    chat: ChatServer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "said.jsonl"
    asked = ("--model", "m", "--endpoint", chat.url, "--output", output)
    for question, wanted in ((QUESTION, 3), (QUESTION, 3), ("What does the video show?", 6)):
        code, _, err = explain(capfd, records, footage, *asked, "--question", question)
        assert code == 0, err
        assert len(chat.requests) == wanted
    assert [json.loads(line)["question"] == QUESTION for line in output.read_text().splitlines()] == [True] * 3 + [
        False
    ] * 3


@pytest.fixture
def chat(reference: InternVL, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """The reference model behind HTTP."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(endpoint, "_FIRST_PAUSE_S", 0.01)
    with chat_server(lambda request: completion(reference, request)) as found:
        yield found


def test_endpoint_is_shown_the_same_frames_and_its_words_are_kept(
    reference: InternVL,
    records: Path,
    footage: dict[str, Path],
    chat: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CHAT_KEY", "s3cret-key")
    chat.key = "s3cret-key"
    chat.faults = [Fault(500), Fault(500)]
    code, lines, err = explain(
        capfd, records, footage, "--model", "tiny", "--endpoint", chat.url, "--api-key-env", "CHAT_KEY"
    )
    assert code == 0, err
    assert err.count("answered 500 (it is broken); trying again") == 2
    assert "s3cret-key" not in err + json.dumps(lines)
    assert len(lines) == len(chat.requests) == 3
    for number, (line, event) in enumerate(zip(lines, ended(records), strict=True)):
        assert line.items() >= event.items()
        assert line["model"] == "tiny"
        said = completion(reference, chat.requests[number])["choices"][0]
        assert line["description"] == said["message"]["content"]
        assert line["cut"] == (said["finish_reason"] == "length")
        indices = event["start_frame"] + sample_indices(event["end_frame"] - event["start_frame"], FRAMES)
        with VideoFile(footage[event["camera"]]) as video:
            wanted = video.read_frames(indices.tolist())
        found = chat.pictures(number)
        assert len(found) == FRAMES
        for one, other in zip(found, wanted, strict=True):
            # JPEG costs a little; the next frame, with the disc one pixel on, is not what could be confused.
            assert np.abs(one.astype(int) - other).mean() < 6


def test_endpoint_that_breaks_off_keeps_what_was_said(
    records: Path, footage: dict[str, Path], tmp_path: Path, chat: ChatServer, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "said.jsonl"
    asked = ("--model", "tiny", "--endpoint", chat.url, "--output", output)
    chat.key = "other"
    code, _, err = explain(capfd, records, footage, *asked)
    assert (code, output.read_bytes()) == (1, b"")
    assert "--api-key-env" in error_line(err)
    chat.key = None
    assert explain(capfd, records, footage, *asked)[0] == 0
    whole = output.read_bytes()
    first = whole.index(b"\n") + 1
    output.write_bytes(whole[: first + 9])
    chat.faults = [Fault(200, b"garbage")]
    code, _, err = explain(capfd, records, footage, *asked)
    assert code == 1
    assert "no JSON" in error_line(err)
    assert output.read_bytes() == whole[:first]


def test_event_that_is_recorded_twice_is_described_once(
    records: Path, footage: dict[str, Path], chat: ChatServer, capfd: pytest.CaptureFixture[str]
) -> None:
    records.write_bytes(records.read_bytes() * 2)
    code, lines, err = explain(capfd, records, footage, "--model", "m", "--endpoint", chat.url)
    assert code == 0, err
    assert len(lines) == len(chat.requests) == 3


def test_earlier_event_after_a_later_one_begins_the_video_anew(
    records: Path, footage: dict[str, Path], chat: ChatServer, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ("--model", "m", "--endpoint", chat.url)
    forwards = explain(capfd, records, footage, *asked)[1]
    records.write_text("".join(json.dumps(event) + "\n" for event in ended(records)[::-1]))
    code, backwards, err = explain(capfd, records, footage, *asked)
    assert code == 0, err
    assert backwards == forwards[::-1]


@pytest.mark.parametrize("content", ["", '{"type":"gap","camera":"gate"}\n', "open", "open, half"])
def test_nothing_to_explain_is_said_and_no_error(
    content: str, records: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if content.startswith("open"):
        lines = [line for line in records.read_text().splitlines(True) if '"state":"end"' not in line]
        content = "".join(lines) + ('{"type":"ev' if "half" in content else "")
    records.write_text(content)
    output = tmp_path / "said.jsonl"
    code, lines_out, err = explain(capfd, records, {}, "--output", output)
    assert (code, lines_out, output.exists()) == (0, [], False), err
    assert "nothing to explain" in err
    assert ("3 events have not ended" in err) == ('"event"' in content)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3 is no record"),
        ("[]", "line 3 is no record (list"),
        ('{"type":"event","peak":NaN}', "line 3 is no record (NaN"),
        ('{"type":"event","state":"end"}', "line 3 is no event"),
        ("frames 5 to 5", "line 3: event 5f0c1a7e-gate-0 covers frames 5 to 5"),
    ],
)
def test_damaged_records_are_named(
    line: str, said: str, records: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if line.startswith("frames"):
        line = json.dumps(ended(records)[0] | {"start_frame": 5, "end_frame": 5})
    lines = records.read_text().splitlines()
    records.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n")
    code, _, err = explain(capfd, records, {})
    assert code == 1
    assert said in error_line(err)


def test_footage_that_is_missing_short_or_ambiguous_is_named(
    records: Path, footage: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = {"gate": footage["gate"]}
    code, _, err = explain(capfd, records, other)
    assert code == 2
    assert "event 5f0c1a7e-back yard-1: " in error_line(err)
    assert "--video back yard=PATH" in err
    code, _, err = explain(capfd, records, footage | {"gate": tmp_path / "gone.mp4"})
    assert code == 4
    assert "gone.mp4: no such file" in error_line(err)
    code, _, err = explain(capfd, records, other, "--video", footage["gate"])
    assert code == 2
    assert "camera gate has two videos" in error_line(err)
    code, _, err = explain(capfd, records, other, "--video", "rtsp://user:s3cret@host/stream")
    assert code == 2
    assert "as a file" in error_line(err)
    assert "s3cret" not in err


def test_video_that_ends_before_the_event_is_another_recording(
    records: Path, footage: dict[str, Path], tmp_path: Path, chat: ChatServer, capfd: pytest.CaptureFixture[str]
) -> None:
    short = write_clip(tmp_path / "short.mp4", 129)
    output = tmp_path / "said.jsonl"
    code, _, err = explain(
        capfd, records, footage | {"gate": short}, "--model", "m", "--endpoint", chat.url, "--output", output
    )
    assert code == 1
    assert "event 5f0c1a7e-gate-2: covers frames 96 to 130 of camera gate" in error_line(err)
    assert "short.mp4 has 129" in err
    assert [json.loads(line)["id"] for line in output.read_text().splitlines()] == ["5f0c1a7e-gate-0"]


def test_footage_of_another_rate_is_warned_about(
    records: Path, footage: dict[str, Path], tmp_path: Path, chat: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    faster = write_clip(tmp_path / "gate.mp4", 200, fps=30.0)
    records.write_text(json.dumps(ended(records)[1]) + "\n")
    arguments = ["explain", str(records), "--video", str(faster), "--model", "m", "--endpoint", chat.url]
    assert run_command(cli, [*arguments, "--quiet"]) == 0
    assert "begins at 6.4 s, but frame 96" in caplog.text
    caplog.clear()
    assert run_command(cli, [*arguments[:3], str(footage["gate"]), *arguments[4:], "--quiet"]) == 0
    assert caplog.text == ""


def test_file_that_explain_did_not_write_is_left_alone(
    records: Path, footage: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    for content in (b"precious", b"precious\n", b'{"type":"event","id":"a"}\n', records.read_bytes()):
        foreign.write_bytes(content)
        code, _, err = explain(capfd, records, footage, "--output", foreign)
        assert code == 2
        assert "choose another --output" in error_line(err)
        assert foreign.read_bytes() == content
    before = records.read_bytes()
    code, _, err = explain(capfd, records, footage, "--output", records)
    assert code == 2
    assert records.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--frames", "0"], 2, "--frames"),
        (["--max-tokens", "0"], 2, "--max-tokens"),
        (["--timeout", "nan"], 2, "--timeout"),
        (["--question", " "], 2, "question"),
        (["--api-key-env", "KEY"], 2, "--endpoint"),
        (["--endpoint", "host:80", "--model", "m"], 2, "http://host:8000/v1"),
        (["--model", "no/such/model/here"], 1, "no/such/model/here"),
        (["--output", "no/such/folder/said.jsonl"], 1, "no/such/folder"),
    ],
)
def test_bad_arguments_get_one_line(
    arguments: list[str],
    code: int,
    said: str,
    records: Path,
    footage: dict[str, Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    got, _, err = explain(capfd, records, footage, *arguments)
    assert got == code, err
    assert said in error_line(err)


def test_records_that_are_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "nowhere.jsonl", tmp_path):
        code, _, err = explain(capfd, path, {})
        assert code == 1
        assert str(path) in error_line(err)
