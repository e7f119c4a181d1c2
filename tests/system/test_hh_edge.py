"""`hh-edge` as it is run: what comes out, on which stream, and with which exit code."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from edge_command import STOP_S, hh_edge, of_type, parsed, start, with_manifest
from rtsp import free_port

from edge_runtime.bundle.manifest import MANIFEST, seal
from edge_runtime.bundle.reader import Bundle
from edge_runtime.checks.doctor import identity_graph
from edge_runtime.checks.verify import verify
from edge_runtime.detector import Detector
from edge_runtime.errors import InferenceFailed

PIPE_SIZE = 4096


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    """The error, which is one line and the last one, without a traceback."""
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") or last.startswith("Error: ")
    return last


# ---- run, on files


def without_run(output: str) -> str:
    """The records behind the first one, which tells runs apart."""
    first, _, rest = output.partition("\n")
    assert json.loads(first)["type"] == "run"
    return rest


def test_a_file_run_twice_gives_the_same_bytes(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    by_pipe = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path)
    assert by_pipe.returncode == 0, by_pipe.stderr
    to_file = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, "--output", tmp_path / "out.jsonl")
    assert to_file.stdout == ""
    assert without_run((tmp_path / "out.jsonl").read_text()) == without_run(by_pipe.stdout)
    segments = of_type(parsed(by_pipe.stdout), "segment")
    assert [(item["start_frame"], item["end_frame"]) for item in segments] == [(0, 48), (48, 96), (96, 130)]
    assert {item["camera"] for item in segments} == {"clip"}
    with Detector(Bundle.open(bundle_dir), "cpu") as detector:
        bundle_id = detector.bundle.manifest.bundle_id
    assert all(item["id"].startswith(bundle_id[:8]) for item in of_type(parsed(by_pipe.stdout), "event"))


def test_a_name_for_the_camera_and_silence(bundle_dir: Path, clip_path: Path) -> None:
    done = hh_edge("run", "--bundle", bundle_dir, "--camera", f"gate={clip_path}", "--quiet", "--clock", "time")
    assert (done.returncode, done.stderr) == (0, "")
    (began, *records) = parsed(done.stdout)
    assert (began["type"], began["cameras"]) == ("run", ["gate"])
    assert {record["camera"] for record in records} == {"gate"}
    assert not any("time" in record for record in records)


def test_several_files_one_after_another(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    shutil.copy(clip_path, tmp_path / "second.mp4")
    done = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, "--camera", tmp_path / "second.mp4")
    assert done.returncode == 0
    assert [record["camera"] for record in of_type(parsed(done.stdout), "segment")] == ["clip"] * 3 + ["second"] * 3


def test_each_file_that_can_be_scored_is_scored(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    """An empty file among others: the others are scored, and the code does not depend on the order."""
    (tmp_path / "empty.mp4").touch()
    cameras = [f"a={clip_path}", tmp_path / "empty.mp4", f"b={clip_path}"]
    for order in (cameras, cameras[::-1]):
        done = hh_edge("run", "--bundle", bundle_dir, *(text for camera in order for text in ("--camera", camera)))
        assert done.returncode == 4
        assert "empty.mp4: the file is empty" in done.stderr
        assert {record["camera"] for record in of_type(parsed(done.stdout), "segment")} == {"a", "b"}


def test_a_dash_is_standard_output(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    plain = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, cwd=tmp_path)
    dash = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, "--output", "-", cwd=tmp_path)
    assert dash.returncode == 0
    assert without_run(dash.stdout) == without_run(plain.stdout) != ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("camera", "code", "words"),
    [
        ("no/such.mp4", 4, "no such file"),
        (os.devnull, 4, "not a plain file"),
        ("gate=", 2, "empty"),
        ("ftp://admin:s3cret@host/x", 2, "unknown kind"),
        ("admin:s3cret@10.0.0.7/stream", 2, "no URL either"),
    ],
)
def test_sources_that_are_none(bundle_dir: Path, camera: str, code: int, words: str) -> None:
    done = hh_edge("run", "--bundle", bundle_dir, "--camera", camera)
    assert done.returncode == code
    assert words in one_error(done)
    assert "s3cret" not in done.stdout + done.stderr
    assert done.stdout == ""


def test_a_file_without_video(bundle_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("no video at all")
    done = hh_edge("run", "--bundle", bundle_dir, "--camera", path)
    assert done.returncode == 4
    assert "notes.mp4" in one_error(done)


def test_a_camera_that_does_not_answer(bundle_dir: Path) -> None:
    url = f"rtsp://operator:s3cret@127.0.0.1:{free_port()}/stream"
    done = hh_edge("run", "--bundle", bundle_dir, "--camera", url, "--debug")
    assert done.returncode != 0
    assert "s3cret" not in done.stdout + done.stderr
    quiet = hh_edge("run", "--bundle", bundle_dir, "--camera", f"gate={url}")
    assert quiet.returncode == 4
    assert "camera gate" in one_error(quiet)
    assert "s3cret" not in quiet.stdout + quiet.stderr
    (_, record) = parsed(quiet.stdout)
    assert record["state"] == "offline"


def test_a_changed_bundle_is_refused(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(bundle_dir, changed)
    with (changed / "scorer.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    output = tmp_path / "out.jsonl"
    for arguments in (
        ("run", "--camera", clip_path, "--output", output, "--bundle"),
        ("verify",),
        ("inspect",),
        ("bench",),
    ):
        done = hh_edge(*arguments, changed)
        assert done.returncode == 3
        assert "scorer.onnx" in one_error(done)
    assert not output.exists()


def test_wrong_usage(bundle_dir: Path, clip_path: Path) -> None:
    for arguments in (
        ["run"],
        ["run", "--bundle", bundle_dir, "--camera", clip_path, "--provider", "abacus"],
        ["run", "--bundle", bundle_dir, "--camera", clip_path, "--threads", "0"],
        ["run", "--bundle", bundle_dir, "--camera", clip_path, "--reuse-unchanged", "-1"],
        ["run", "--bundle", bundle_dir, "--camera", clip_path, "--reuse-unchanged", "nan"],
        ["run", "--bundle", bundle_dir, "--camera", clip_path, "--camera", clip_path],
        ["run", "--bundle", bundle_dir, "--camera", clip_path, "--camera", "rtsp://h/"],
        ["fly"],
    ):
        done = hh_edge(*arguments)
        assert done.returncode == 2, arguments
        one_error(done)


def test_a_full_disk_and_an_output_that_cannot_be(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    for output, words in (
        ("/dev/full", "No space left"),
        (tmp_path, "directory"),
        (tmp_path / "no" / "x", "No such"),
    ):
        done = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, "--output", output)
        assert done.returncode == 1
        assert words in one_error(done)
    with Path("/dev/full").open("w") as full:
        done = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, stdout=full)
    assert done.returncode == 1
    assert "standard output" in one_error(done)


def test_a_reader_that_goes_away(bundle_dir: Path, clip_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, stdout=writer)
    os.close(writer)
    assert done.returncode == 1
    assert "reader has gone" in one_error(done)


@pytest.fixture(scope="module")
def quick_bundle(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A segment a frame, or nearly: many records from little footage."""
    target = tmp_path_factory.mktemp("quick") / "bundle"
    return with_manifest(bundle_dir, target, segment={"frames": 2})


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", 4000)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_while_a_file_runs(quick_bundle: Path, long_clip: Path, number: signal.Signals, code: int) -> None:
    child = start("run", "--bundle", quick_bundle, "--camera", long_clip, "--threads", 1)
    assert child.stdout is not None
    first = child.stdout.readline() + child.stdout.readline()
    child.send_signal(number)
    out, err = child.communicate(timeout=STOP_S)
    assert child.returncode == code, err
    records = parsed(first + out)
    segments = of_type(records, "segment")
    assert 0 < len(segments) < 2000
    assert [item["index"] for item in segments] == list(range(len(segments)))
    states = [item["state"] for item in of_type(records, "event")]
    assert states.count("new") == states.count("end")
    assert "Traceback" not in err


def test_a_signal_while_nobody_reads_the_records(quick_bundle: Path, long_clip: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    child = start("run", "--bundle", quick_bundle, "--camera", long_clip, stdout=writer)
    os.close(writer)
    # Wait until the pipe is full, and with it the command stuck in a write.
    while int.from_bytes(fcntl.ioctl(reader, 0x541B, bytes(4)), sys.byteorder) < PIPE_SIZE - 400:  # FIONREAD
        assert child.poll() is None
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=STOP_S) == 130
    os.close(reader)
    child.communicate()


SLOW_SELF_TEST = """
import sys, time
from edge_runtime.inference.onnx_engine import OnnxEngine

def tokens(self, frames):
    print("testing", file=sys.stderr, flush=True)
    time.sleep(120)

OnnxEngine.tokens = tokens
from edge_runtime.cli import main
main()
"""


# Python cannot leave a graph that is running: the process ends after a while, and a SIGTERM is not told as done.
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_a_signal_while_the_bundle_is_tested(
    bundle_dir: Path, clip_path: Path, number: signal.Signals, code: int, provider: str, tmp_path: Path
) -> None:
    """A large model's golden segment takes long, in the self-test and while `auto` measures: nobody waits for it to
    be told that he stopped the command.
    """
    command = [sys.executable, "-c", SLOW_SELF_TEST, "run", "--bundle", str(bundle_dir), "--camera", str(clip_path)]
    command += ["--provider", provider]
    home = {"XDG_CACHE_HOME": str(tmp_path)}  # where nothing was measured yet
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | home
    ) as child:
        assert child.stderr is not None
        while "testing" not in (line := child.stderr.readline()):
            assert line
        child.send_signal(number)
        out, err = child.communicate(timeout=STOP_S)
    assert child.returncode == code, err
    assert out == ""
    assert "Traceback" not in err


# ---- the other commands


def test_inspect_tells_what_is_in_a_bundle(bundle_dir: Path) -> None:
    document = json.loads(hh_edge("inspect", bundle_dir, "--json").stdout)
    manifest = json.loads((bundle_dir / MANIFEST).read_text())
    assert document["bundle_id"] == manifest["bundle_id"]
    assert document["bytes_on_disk"] == sum(path.stat().st_size for path in bundle_dir.iterdir())
    duration_s = manifest["segment"]["frames"] / manifest["segment"]["fps"]
    for name, locator in manifest["locators"].items():
        assert document["latency_s"][name] == pytest.approx(locator["lookahead"] * duration_s)
    text = hh_edge("inspect", bundle_dir)
    assert text.returncode == 0
    for expert in manifest["experts"]:
        assert f"({expert['layer']}, {expert['head']})" in text.stdout


def test_verify_measures_what_the_builder_did(bundle_dir: Path) -> None:
    done = hh_edge("verify", bundle_dir, "--provider", "cpu", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["passed"] is True
    for stage in ("tokens", "features", "probabilities"):
        assert 0 <= document[stage]["relative"] <= document[stage]["tolerance"] == 1e-3


def test_verify_fails_where_other_values_come_out(bundle_dir: Path, tmp_path: Path) -> None:
    """The bundle of another machine, as it would be: everything is in order but the numbers."""
    golden = dict(np.load(bundle_dir / "golden.npz"))
    golden["features"] = golden["features"] * 1.01
    shutil.copytree(bundle_dir, tmp_path / "other")
    np.savez(tmp_path / "other" / "golden.npz", **golden)
    data = (tmp_path / "other" / "golden.npz").read_bytes()
    document = json.loads((bundle_dir / MANIFEST).read_text())
    for entry in document["files"]:
        if entry["path"] == "golden.npz":
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (tmp_path / "other" / MANIFEST).write_bytes(seal(document))
    done = hh_edge("verify", tmp_path / "other", "--provider", "cpu")
    assert done.returncode == 1
    assert "features       DIFFER" in done.stdout
    assert "tokens         ok" in done.stdout
    with pytest.raises(InferenceFailed, match="self-test: the features"):
        Detector(Bundle.open(tmp_path / "other"), "cpu")
    with Detector(Bundle.open(tmp_path / "other"), "cpu", self_test=False) as detector:
        by_stage = {item.stage: item for item in verify(detector).differences}
    assert by_stage["features"].relative == pytest.approx(0.01 / 1.01, rel=0.01)
    assert [name for name, item in by_stage.items() if not item.passed] == ["features"]


def test_bench_adds_up(bundle_dir: Path) -> None:
    done = hh_edge("bench", bundle_dir, "--seconds", "0.5", "--cameras", "2", "--json")
    assert done.returncode == 0, done.stderr
    speed = json.loads(done.stdout)
    assert speed["segments"] >= 3
    assert speed["live_cameras"] == pytest.approx(speed["segments_per_s"] * speed["segment_s"])
    assert speed["load"] == pytest.approx(2 / speed["live_cameras"])
    p50 = {stage["stage"]: stage["p50_ms"] for stage in speed["stages"]}
    assert list(p50) == ["pixels", "vision", "language", "scorer", "segment"]
    assert all(0 < value < p50["segment"] for stage, value in p50.items() if stage != "segment")
    assert speed["peak_memory_mib"] > 20


def test_doctor_tries_what_it_lists() -> None:
    done = hh_edge("doctor", "--json")
    assert done.returncode == 0, done.stderr
    findings = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert findings["provider cpu"] | {"advice": ""} == {
        "level": "ok",
        "subject": "provider cpu",
        "found": "loads and runs",
        "advice": "",
    }
    assert "FFmpeg" in findings["video"]["found"]


def test_the_doctors_graph_is_a_graph() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(identity_graph())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Identity"]


@pytest.mark.parametrize("command", ["run", "inspect", "verify", "bench", "doctor"])
def test_every_help_has_an_example(command: str) -> None:
    done = hh_edge(command, "--help")
    assert done.returncode == 0
    assert "Example:" in done.stdout
    assert f"hh-edge {command}" in done.stdout


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom edge_runtime.cli import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('cv2', 'onnxruntime', 'torch') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "Watch cameras" in done.stdout
    assert done.stderr.strip() == "[]"
