"""`hh-edge` with trusted keys, as an operator runs it: what is refused, and from where the rest is loaded."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_command import hh_edge, of_type, parsed, start, with_manifest
from rtsp import free_port

from edge_runtime.bundle.keys import PrivateKey, write_key_pair
from edge_runtime.bundle.manifest import SIGNATURE
from export.signing import sign_bundle

LIMIT_S = 120.0
BUILDER, STRANGER = PrivateKey.generate("builder"), PrivateKey.generate("stranger")


@pytest.fixture
def signed(bundle_dir: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))
    sign_bundle(folder, BUILDER)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}


def refused(done: subprocess.CompletedProcess[str], code: int, words: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert words in line


def test_a_run_takes_what_is_signed_and_nothing_else(
    signed: Path, clip_path: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    public = write_key_pair(tmp_path / "b.key", BUILDER)
    run = ("run", "--bundle", signed, "--camera", clip_path, "--provider", "cpu")
    done = hh_edge(*run, "--trusted-key", public, env=environment)
    assert done.returncode == 0, done.stderr
    assert len(of_type(parsed(done.stdout), "segment")) == 3
    assert f"signed by {BUILDER.public.id} builder; loaded from {tmp_path}/state/bundles/" in done.stderr
    # Graphs are changed in the folder that others write to: the copy is loaded.
    (signed / "vision.onnx.data").write_bytes(b"")
    again = hh_edge(*run, "--trusted-key", STRANGER.public.line, "--trusted-key", public, env=environment)
    assert again.returncode == 0, again.stderr
    assert of_type(parsed(again.stdout), "segment") == of_type(parsed(done.stdout), "segment")

    refused(hh_edge(*run, "--trusted-key", STRANGER.public.line, env=environment), 3, "none of them is trusted")
    refused(hh_edge(*run, "--trusted-key", tmp_path / "none.pub", env=environment), 2, "none.pub: cannot be read")
    (signed / SIGNATURE).unlink()
    refused(hh_edge(*run, "--trusted-key", public, env=environment), 3, "bundle: is not signed")


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_verify_and_inspect_say_who_signed(signed: Path, command: str) -> None:
    done = hh_edge(command, signed, "--trusted-key", BUILDER.public.line)
    assert done.returncode == 0, done.stderr
    assert f"{BUILDER.public.id} builder" in done.stdout
    refused(hh_edge(command, signed, "--trusted-key", STRANGER.public.line), 3, "none of them is trusted")


def test_a_bundle_of_a_cameras_own_that_comes_while_the_run_lasts(
    signed: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Two are added: one whose bundle is signed, one whose bundle is another that was sealed by somebody else."""
    own = with_manifest(signed, tmp_path / "own", prompt={"name": "own"})
    (own / SIGNATURE).unlink()
    forged = shutil.copytree(own, tmp_path / "forged")
    sign_bundle(own, BUILDER)
    sign_bundle(forged, STRANGER)

    def cameras(*lines: str) -> str:
        return (
            f"version: 1\nbundle: {signed}\nprovider: cpu\ntrusted_keys: ['{BUILDER.public.line}']\ncameras:\n"
            f"  gate: {{source: 'rtsp://127.0.0.1:{free_port()}/s'}}\n"
        ) + "".join(f"  {line}\n" for line in lines)

    path = tmp_path / "cameras.yaml"
    path.write_text(cameras())
    done = hh_edge("run", "--config", path, "--check-config", env=environment)
    assert done.returncode == 0, done.stderr
    assert f"signed by      {BUILDER.public.id} builder" in done.stdout
    assert not (tmp_path / "state").exists(), "a check writes nothing"

    process = start("run", "--config", path, "--output", tmp_path / "records.jsonl", env=environment)
    told: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=lambda: told.extend(process.stderr or []))
    reader.start()
    try:
        wait(lambda: any("loaded from" in line for line in told) and (tmp_path / "records.jsonl").exists(), told)
        wait(lambda: '"camera":"gate"' in (tmp_path / "records.jsonl").read_text(), told)
        path.write_text(
            cameras(
                f"own: {{source: 'rtsp://127.0.0.1:{free_port()}/s', bundle: {own}}}",
                f"forged: {{source: 'rtsp://127.0.0.1:{free_port()}/s', bundle: {forged}}}",
            )
        )
        process.send_signal(signal.SIGHUP)
        wait(lambda: any("camera forged: cannot be watched" in line for line in told), told)
        wait(lambda: any(f"{own}: signed by {BUILDER.public.id}" in line for line in told), told)
        wait(lambda: '"camera":"own"' in (tmp_path / "records.jsonl").read_text(), told)
    finally:
        process.terminate()
        process.wait(LIMIT_S)
        reader.join(LIMIT_S)
    assert process.returncode == 0, told
    (line,) = [line for line in told if "camera forged: cannot be watched" in line]
    assert f"signed by {STRANGER.public.id}, and none of them is trusted here" in line
    assert '"camera":"forged"' not in (tmp_path / "records.jsonl").read_text()


def wait(done: Callable[[], bool], told: list[str]) -> None:
    end = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < end, told
        time.sleep(0.1)
