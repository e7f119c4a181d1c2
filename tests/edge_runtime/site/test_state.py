"""What is known of a camera survives a restart, or is set aside with a word."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.site import state

PARTS = {"drift": {"blocks": np.array([7])}, "pvalues": {"tail": np.array([0.25, 0.5])}}


def same(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        (found[part][name] == array).all() for part in expected for name, array in expected[part].items()
    )


def test_what_was_written_is_read(tmp_path):
    path = state.state_path(tmp_path, "gate")
    state.write(path, state.pack("id", "gate", "full", PARTS))
    assert same(state.read(path, "id", "gate", "full"), PARTS)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_no_file_is_nothing(tmp_path, caplog):
    assert state.read(tmp_path / "none.npz", "id", "gate", "full") == {}
    assert not caplog.records


@pytest.mark.parametrize(("bundle_id", "camera"), [("other", "gate"), ("id", "yard")])
def test_what_is_of_another_bundle_or_camera_is_not_taken_over(tmp_path, bundle_id, camera, caplog):
    caplog.set_level("INFO")
    path = tmp_path / "state.npz"
    state.write(path, state.pack("id", "gate", "full", PARTS))
    assert state.read(path, bundle_id, camera, "full") == {}
    assert "begins anew" in caplog.text
    assert path.exists()


def test_other_scores_leave_what_is_known_of_the_pictures(tmp_path):
    path = tmp_path / "state.npz"
    state.write(path, state.pack("id", "gate", "full", PARTS))
    assert same(state.read(path, "id", "gate", "low_latency"), {"drift": PARTS["drift"]})


@given(st.data())
def test_no_changed_byte_goes_unnoticed_or_ends_the_run(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("state") / "state.npz"
    content = bytearray(state.pack("id", "gate", "full", PARTS))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    found = state.read(path, "id", "gate", "full")
    # Some bytes of a zip say nothing about its content, such as a member's date.
    assert found == {} or same(found, PARTS)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip", b"\0" * (state.MOST_BYTES + 1)])
def test_a_damaged_file_is_set_aside_and_told(tmp_path, content, caplog):
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    assert state.read(path, "id", "gate", "full") == {}
    assert not path.exists()
    assert (tmp_path / "state.npz.damaged").read_bytes() == content
    assert "gate" in caplog.text
    assert "learned anew" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()


def test_a_file_that_inflates_to_more_than_is_taken_is_not_inflated(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.npy", b"\0" * (state.MOST_BYTES + 1))
    path = tmp_path / "state.npz"
    path.write_bytes(content.getvalue())
    assert state.read(path, "id", "gate", "full") == {}
    assert (tmp_path / "state.npz.damaged").exists()


def test_a_folder_in_its_place_is_told_and_left(tmp_path, caplog):
    (tmp_path / "state.npz").mkdir()
    assert state.read(tmp_path / "state.npz", "id", "gate", "full") == {}
    assert "cannot be read" in caplog.text


def test_names_of_cameras_become_names_of_files(tmp_path):
    names = ["gate", "Gate", "../gate", "a/b", "tor\n", "\udcff", "", "x" * 5000]
    paths = {state.state_path(tmp_path, name) for name in names}
    assert len(paths) == len(names)
    assert all(path.parent == tmp_path and len(path.name) < 64 for path in paths)
