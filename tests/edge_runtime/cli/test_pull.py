"""`hh-edge pull`, given as a command: what an operator's slips cost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket import Bucket, serving, signed_copy
from edge_command import hh_edge

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import SIGNATURE
from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.pull import _bundle_step
from edge_runtime.errors import BundleRefused
from edge_runtime.fleet.address import Address
from edge_runtime.fleet.depot import Depot
from edge_runtime.fleet.fetch import Fetcher
from edge_runtime.fleet.pull import go_back

BUILDER = PrivateKey.generate("builder")


@pytest.fixture
def bucket(tmp_path: Path, bundle_dir: Path) -> Iterator[Bucket]:
    with serving(tmp_path / "served") as served:
        served.publish(signed_copy(bundle_dir, tmp_path / "signed", BUILDER, created="2026-12-02T00:00:00Z"))
        yield served


def pull(*arguments: object, provider: str = "cpu") -> tuple[int, str, str]:
    """Exit code, what was said and what was complained about."""
    key = ("--trusted-key", BUILDER.public.line, "--provider", provider)
    done = hh_edge("pull", *arguments, *key, "--threads", "1", "--quiet")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_folder_that_holds_the_bundle_is_no_place_for_one(bucket: Bucket, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "notes.txt").write_text("somebody's")
    code, said, complaint = pull(bucket.url, "--bundle", models)
    assert (code, said) == (2, "")
    assert complaint.count("\n") == 1
    assert f"Name as --bundle where the bundle in use is to be found, as {models / 'bundle'}" in complaint
    assert (models / "notes.txt").read_text() == "somebody's"
    assert not models.with_name("models.pulled").exists()


def test_a_bundle_that_was_copied_there_without_a_signature_stays_beside_the_one_that_comes(
    bucket: Bucket, tmp_path: Path, bundle_dir: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "var").symlink_to("disk")
    place = tmp_path / "var/bundle"
    shutil.copytree(bundle_dir, place)
    (place / SIGNATURE).unlink(missing_ok=True)
    left = Bundle.open(place).manifest.bundle_id
    code, said, complaint = pull(bucket.url, "--bundle", place)
    assert code == 0, complaint
    assert "is in use now" in said
    assert f"it is kept as {place}.pulled{os.sep}{left}.before" in complaint
    assert Bundle.open(place, [BUILDER.public]).manifest.created == "2026-12-02T00:00:00Z"
    assert Bundle.open(Path(f"{place}.pulled") / f"{left}.before").manifest.bundle_id == left


def test_retry_holds_once_where_pulls_never_end(bucket: Bucket, tmp_path: Path, bundle_dir: Path) -> None:
    """Else an endless pull would undo whatever an operator goes back from later."""
    place, keys = tmp_path / "bundle", (BUILDER.public,)
    given = {"bundle": place, "allow_older": False, "retry": True, "provider": "cpu", "threads": 1}
    step = _bundle_step(Fetcher(Address.parse(bucket.url)), keys, given)
    step()
    bucket.publish(signed_copy(bundle_dir, tmp_path / "newer", BUILDER, created="2026-12-03T00:00:00Z"))
    step()
    go_back(Depot(place, keys))
    with pytest.raises(BundleRefused, match="an operator went back from it"):
        step()


def test_a_server_that_is_down_is_waited_for(bucket: Bucket, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient", reason="nothing asks a server: pip install tritonclient[grpc]")
    place = tmp_path / "bundle"
    for _ in range(2):
        code, said, complaint = pull(bucket.url, "--bundle", place, provider="triton://127.0.0.1:9?deadline_s=1")
        assert (code, said) == (1, "")
        assert "cannot be tried now: Triton server 127.0.0.1:9: " in complaint
        assert complaint.count("\n") == 1
    bucket.asked.clear()
    assert pull(bucket.url, "--bundle", place)[0] == 0
    assert len(bucket.asked) == 2


def test_whoever_goes_back_stays_there_whatever_the_pulls_are_told(
    bucket: Bucket, tmp_path: Path, bundle_dir: Path
) -> None:
    place = tmp_path / "bundle"
    assert pull(bucket.url, "--bundle", place)[0] == 0
    bucket.publish(signed_copy(bundle_dir, tmp_path / "newer", BUILDER, created="2026-12-03T00:00:00Z"))
    assert pull(bucket.url, "--bundle", place)[0] == 0
    # Nobody names the provider of the pulls for that.
    assert pull("--back", "--bundle", place, provider="auto")[0] == 0
    code, _, complaint = pull(bucket.url, "--bundle", place)
    assert code == 3
    assert "an operator went back from it" in complaint
    assert Bundle.open(place).manifest.created == "2026-12-02T00:00:00Z"
    assert pull(bucket.url, "--bundle", place, "--retry")[0] == 0
    assert Bundle.open(place).manifest.created == "2026-12-03T00:00:00Z"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs signals")
def test_a_service_that_is_stopped_during_a_self_test_does_not_use_them_up(bucket: Bucket, tmp_path: Path) -> None:
    """As often as it is: the bundle is no reason for that."""
    place = tmp_path / "edge" / "bundle"
    slow = (
        "import signal, time; from edge_runtime.fleet import pull; from edge_runtime.cli import main\n"
        # Whoever runs the tests behind nohup has it ignored, as the command itself respects.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "pull.golden_try = lambda *_: lambda _: (print('testing', flush=True), time.sleep(60))\n"
        "main()"
    )
    words = ("pull", bucket.url, "--bundle", str(place), "--trusted-key", BUILDER.public.line)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
        with subprocess.Popen([sys.executable, "-c", slow, *words], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "testing\n"
            child.send_signal(number)
            assert child.wait(30) == -number, "it ends as its parent expects"
    code, said, complaint = pull(bucket.url, "--bundle", place)
    assert (code, complaint) == (0, "")
    assert "is in use now" in said
