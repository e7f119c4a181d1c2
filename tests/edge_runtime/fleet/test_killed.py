"""A pull that dies before any one of its steps on the disk: a whole bundle is there, and the next pull goes on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from bucket import serving, signed_copy
from killed import dies_before
from resealed import edit

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import SIGNATURE
from edge_runtime.bundle.reader import Bundle
from edge_runtime.fleet.address import Address
from edge_runtime.fleet.depot import Depot
from edge_runtime.fleet.fetch import Fetcher, Patience
from edge_runtime.fleet.pull import Wish, pull
from export.signing import sign_bundle

BUILDER, STRANGER = PrivateKey.generate("builder"), PrivateKey.generate("stranger")


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("copied", [False, True], ids=["link", "folder"])
def test_a_pull_that_dies_while_it_renews_a_signature(bundle_dir: Path, tmp_path: Path, copied: bool) -> None:
    """A file of the bundle in use changes: it is the old or the new one at each moment, and nothing is beside it."""
    one = signed_copy(bundle_dir, tmp_path / "one", BUILDER, created="2026-12-01T00:00:00Z")
    both = Path(shutil.copytree(one, tmp_path / "both"))
    sign_bundle(both, STRANGER)
    old, new = ((folder / SIGNATURE).read_bytes() for folder in (one, both))
    turned = Wish(trusted=[STRANGER.public])
    with serving(tmp_path / "served") as bucket:
        fetcher = Fetcher(Address.parse(bucket.url), Patience(waits_s=()))
        step, killed, seen = 0, True, set()
        while killed:
            step += 1
            link = tmp_path / f"edge{step}" / "bundle"
            bucket.publish(one)
            if copied:
                shutil.copytree(one, link)
            pull(fetcher, Depot(link, [BUILDER.public]), Wish(trusted=[BUILDER.public]), lambda _: None)
            bucket.publish(both)
            depot = Depot(link, turned.trusted)
            killed = dies_before(step, lambda depot=depot: pull(fetcher, depot, turned, lambda _: None))
            assert Bundle.open(link, [BUILDER.public]), "both have signed"
            seen.add((link / SIGNATURE).read_bytes())
            assert not pull(fetcher, depot, turned, lambda _: None).changed
            assert Bundle.open(link, [STRANGER.public])
            assert link.is_symlink() != copied
            assert not (depot.folder / ".coming").exists()
            shutil.rmtree(link.parent)
    assert step > 4
    assert seen == {old, new}
