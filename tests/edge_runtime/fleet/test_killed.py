"""A pull that dies before any one of its steps on the disk: a whole bundle is there, and the next pull goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bucket import serving, signed_copy
from resealed import edit

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import SIGNATURE
from edge_runtime.bundle.reader import Bundle
from edge_runtime.fleet.address import Address
from edge_runtime.fleet.depot import Depot
from edge_runtime.fleet.fetch import Fetcher, Patience
from edge_runtime.fleet.pull import Wish, pull
from export.signing import sign_bundle

BUILDER = PrivateKey.generate("builder")
STEPS = ("replace", "rename", "link", "symlink", "unlink", "rmdir", "mkdir", "fsync")
KILLED = 9


def dies_before(step: int, work: Callable[[], object]) -> bool:
    """Do something in a child that ends, as by SIGKILL, before its n-th step; whether it did not get to the end."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os._exit(KILLED)
                return real(*arguments, **named)

            return call

        code = 1
        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("copied", [False, True], ids=["link", "folder"])
def test_a_pull_that_dies_before_any_step(bundle_dir: Path, tmp_path: Path, copied: bool) -> None:
    one = signed_copy(bundle_dir, tmp_path / "one", BUILDER, created="2026-12-01T00:00:00Z")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    (two / SIGNATURE).unlink()
    for name in ("report.html", "growing.onnx.data"):
        with (two / name).open("ab") as file:
            file.write(b" ")
    edit(two, lambda document: document.update(created="2026-12-02T00:00:00Z"))
    sign_bundle(two, BUILDER)
    old, new = (Bundle.open(path).manifest.bundle_id for path in (one, two))
    wish, trusted = Wish(trusted=[BUILDER.public]), [BUILDER.public]
    with serving(tmp_path / "served") as bucket:
        fetcher = Fetcher(Address.parse(bucket.url), Patience(waits_s=()))

        first = Depot(tmp_path / "first" / "bundle", trusted)
        if copied:
            first.link.parent.mkdir()
            shutil.copytree(one, first.link)
        else:
            bucket.publish(one)
            pull(fetcher, first, wish, lambda _: None)
        bucket.publish(two)

        # Every step of one, every third of the other: what differs is the exchange alone.
        step, stride, seen = 0, 3 if copied else 1, set()
        while True:
            step += stride
            place = tmp_path / f"edge{step}"
            # No file is written into: names are enough.
            shutil.copytree(first.link.parent, place, symlinks=True, copy_function=os.link)
            depot = Depot(place / "bundle", trusted)
            killed = dies_before(step, lambda depot=depot: pull(fetcher, depot, wish, lambda _: None))
            used = Bundle.open(depot.link, trusted).manifest.bundle_id
            assert used in {old, new}
            seen.add(used)
            pull(fetcher, depot, wish, lambda _: None)
            assert Bundle.open(depot.link, trusted).manifest.bundle_id == new
            assert not (depot.folder / ".coming").exists() or not list((depot.folder / ".coming").iterdir())
            # Nothing is left that is not needed, and the way back stays.
            assert {path.name for path in place.iterdir()} == {"bundle", "bundle.pulled"}
            assert {path.name for path in depot.folder.iterdir() if path.is_dir()} <= {old, new, ".coming"}
            assert depot.read_state().previous == old
            assert Bundle.open(depot.folder / old, trusted).manifest.bundle_id == old
            if not killed:
                break
            shutil.rmtree(depot.folder.parent)
    assert step > 20
    assert seen == {old, new}
