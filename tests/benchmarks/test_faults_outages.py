"""What campaigns of outages count is what there is: missing, twice, out of order; every line of a file."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.faults.configured import Follower
from benchmarks.faults.site import Comparison, Record
from edge_runtime.outputs.rotation import Rotation


def records(numbers: list[int]) -> list[Record]:
    return [{"type": "event", "id": str(number)} for number in numbers]


@given(st.integers(0, 20), st.data())
def test_a_comparison_counts_what_was_done(count: int, data: st.DataObject) -> None:
    wanted = list(range(count))
    lost = data.draw(st.sets(st.sampled_from(wanted))) if wanted else set()
    arrived = [number for number in wanted if number not in lost]
    again = data.draw(st.lists(st.sampled_from(arrived), max_size=5)) if arrived else []
    # What comes a second time later is not out of order, and neither is what nobody asked for.
    found = Comparison.of(records(wanted), records([*arrived, *again, 1000]))
    assert found.missing == records(sorted(lost))
    assert (found.wanted, found.twice, found.disordered) == (count, len(again), 0)


def test_a_comparison_sees_what_is_out_of_order() -> None:
    assert Comparison.of(records([1, 2, 3, 4]), records([1, 3, 2, 4])).disordered == 1
    assert Comparison.of(records([1, 2, 3, 4]), records([4, 1, 2, 3])).disordered == 3


def test_every_line_is_read_once_while_a_file_begins_anew(tmp_path: Path) -> None:
    path, rotation, seen = tmp_path / "records", Rotation(most_bytes=1), list[bytes]()
    follower = Follower(path)
    assert follower.lines() == []
    path.touch()
    assert follower.lines() == []
    for number in range(30):
        with path.open("ab") as file:
            file.write(b"%d\nhalf" % number)
            file.flush()
            if number % 2:
                seen += follower.lines()
            # It is taken back.
            file.truncate(file.tell() - 4)
        if number % 3 == 0:
            rotation.make_way(path)
        if number % 5 == 0:
            seen += follower.lines()
    seen += follower.lines()
    follower.close()
    assert seen == [b"%d" % number for number in range(30)]
