"""What a broker was told of is known in the next run, whatever a camera is called and a disk has done to it."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.outputs.mqtt_published import Published
from edge_runtime.outputs.notes import Notes
from edge_runtime.outputs.spool import Spool

# Names of files may hold anything, half surrogates too.
NAMES = st.text(st.characters(codec=None), min_size=1, max_size=20)


@given(st.dictionaries(NAMES, st.booleans(), max_size=5), NAMES)
def test_names_come_back_as_they_are(cameras: dict[str, bool], gone: str) -> None:
    notes: dict[str, str] = {}
    for name, described in cameras.items():
        Published(notes).add(name, described=described)
    Published(notes).remove(gone)
    cameras.pop(gone, None)
    after = Published(notes)
    assert {name: after.is_described(name) for name in after.names} == cameras
    # A database takes them.
    for key in notes:
        key.encode()


def test_they_survive_a_restart_and_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        Published(Notes(spool, "broker")).add("b\udcffad", described=True)
        spool.note("broker", "not json", "")
        spool.note("broker", "[1]", "")
        spool.note("other", '"yard"', "")
    with Spool(tmp_path / "spool") as spool:
        after = Published(Notes(spool, "broker"))
        assert after.names == ["b\udcffad"]
        # Home Assistant was told, also if it is told no more.
        after.add("b\udcffad", described=False)
        assert after.is_described("b\udcffad")
