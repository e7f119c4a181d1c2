"""The entry store: found by content, whole or not there, whatever happened to the disk."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import OutputFailed
from offline.data.cache import EntryStore, content_key

ENTRY = {"spans": np.array([[0, 48], [48, 61]]), "features": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def test_what_was_put_is_got(tmp_path: Path) -> None:
    store = EntryStore(tmp_path / "deep" / "store")
    assert store.get("a") is None
    store.put("a", ENTRY)
    found = store.get("a")
    assert found is not None
    assert same(found, ENTRY)
    assert [path.name for path in store.folder.iterdir()] == ["a.npz"]


def test_an_entry_with_any_byte_changed_is_computed_again_or_unharmed(tmp_path: Path) -> None:
    store = EntryStore(tmp_path)
    store.put("a", ENTRY)
    content = (tmp_path / "a.npz").read_bytes()
    lost = 0
    for place in range(len(content)):
        for flip in (0x01, 0x80):
            damaged = bytearray(content)
            damaged[place] ^= flip
            (tmp_path / "a.npz").write_bytes(damaged)
            found = store.get("a")
            lost += found is None
            assert found is None or same(found, ENTRY), (place, flip)
    assert lost > len(content) / 4  # names, headers and data are covered; a zip's dates and fillers are not


@settings(max_examples=60, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_an_entry_cut_short_is_none(keep: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = EntryStore(tmp_path_factory.mktemp("store"))
    store.put("a", ENTRY)
    path = store.folder / "a.npz"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert store.get("a") is None


@pytest.mark.parametrize("content", [b"", b"\x00" * 512, b"PK\x03\x04", b"\x80\x04\x95", b"hello"])
def test_rubbish_in_the_place_of_an_entry_is_none_and_then_replaced(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    store = EntryStore(tmp_path)
    assert store.get("a") is None
    store.put("a", ENTRY)
    assert same(store.get("a") or {}, ENTRY)


def test_no_pickle_is_ever_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", spans=np.array([{"an": "object"}], dtype=object))
    assert EntryStore(tmp_path).get("a") is None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputFailed, match="file"):
        EntryStore(tmp_path / "file" / "store")


def test_a_full_disk_is_one_line_and_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EntryStore(tmp_path)
    store.put("old", ENTRY)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputFailed, match="No space left on device") as caught:
        store.put("new", ENTRY)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old.npz"]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(one=PLAIN, other=PLAIN)
def test_keys_are_equal_exactly_where_the_parts_are(one: object, other: object) -> None:
    equal = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (content_key(part=one) == content_key(part=other)) == equal
    assert content_key(a=1, part=one) == content_key(part=one, a=1)
    assert len(content_key(part=one)) == 32


def test_keys_are_the_same_in_another_process() -> None:
    code = "from offline.data.cache import content_key; print(content_key(b=[1, 'é'], a={'y': 2.5, 'x': None}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == content_key(a={"x": None, "y": 2.5}, b=[1, "é"])
