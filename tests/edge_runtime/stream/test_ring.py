"""The ring of packets: bounded in bytes whatever comes, and what is read from it can be decoded."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.stream.packets import VideoFormat
from edge_runtime.stream.ring import PacketRing

H264 = VideoFormat("h264", Fraction(1, 90_000), 640, 480)


class Hands:
    s = 0.0

    def now_s(self) -> float:
        return self.s


def send(ring: PacketRing, hands: Hands, seconds: int, key_every: int = 5, size: int = 100) -> None:
    tap = ring.tap()
    tap.begin(H264)
    for number in range(seconds):
        tap.take(bytes(size), number % key_every == 0, number, number, False)
        hands.s += 1


ACTIONS = st.one_of(
    st.tuples(st.just("packet"), st.booleans(), st.integers(0, 3000)),
    st.tuples(st.just("connect")),
    st.tuples(st.just("end")),
    st.tuples(st.just("keep_from"), st.integers(-10, 0)),
    st.tuples(st.just("read"), st.integers(-20, 0)),
    st.tuples(st.just("take")),
    st.tuples(st.just("close")),
)


@given(st.lists(ACTIONS, max_size=80))
def test_bytes_are_bounded_and_readers_get_every_packet_in_order_or_learn_of_the_hole(
    actions: list[tuple[object, ...]],
) -> None:
    hands = Hands()
    ring = PacketRing(8000, hands.now_s)
    tap, opened = ring.tap(), False
    number = 0
    readers: list[tuple[object, list[int]]] = []
    for name, *values in actions:
        if name == "packet":
            hands.s += 1
            tap.take(number.to_bytes(4, "big") + bytes(int(values[1])), bool(values[0]), number, number, False)
            number += 1
        elif name == "connect":
            stale, tap, opened = tap, ring.tap(), True
            tap.begin(H264)
            stale.take(b"late", True, 0, 0, False)
            number += 1000
        elif name == "end":
            tap.end()
        elif name == "keep_from":
            ring.keep_from(hands.s + int(values[0]))
        elif name == "read" and (reader := ring.read(hands.s + int(values[0]), hands.s)) is not None:
            readers.append((reader, []))
        elif name == "take":
            for reader, got in readers:
                taken = reader.take(hands.s)  # type: ignore[attr-defined]
                if not got and taken:
                    assert taken[0].key
                got += [int.from_bytes(packet.data[:4], "big") for packet in taken]
        elif name == "close":
            while readers:
                readers.pop()[0].close()  # type: ignore[attr-defined]
        assert ring.size <= 8000
    assert opened or ring.size == 0
    for _, got in readers:
        assert got == list(range(got[0], got[0] + len(got))) if got else True


def test_what_nobody_needs_goes_by_whole_runs() -> None:
    hands = Hands()
    ring = PacketRing(10**6, hands.now_s)
    send(ring, hands, 30)
    ring.keep_from(17.0)
    reader = ring.read(0.0, 29.0)
    assert reader is not None
    assert (reader.start_s, len(reader.take(100.0))) == (15.0, 15)


def test_a_reader_holds_what_it_has_not_read_and_no_longer() -> None:
    hands = Hands()
    ring = PacketRing(10**6, hands.now_s)
    send(ring, hands, 30)
    reader = ring.read(7.0, 29.0)
    assert reader is not None
    ring.keep_from(29.0)
    full = ring.size
    assert [packet.arrival_s for packet in reader.take(12.0)] == [float(number) for number in range(5, 13)]
    assert reader.past
    reader.close()
    assert ring.size < full


def test_a_reader_that_is_too_slow_learns_that_packets_are_lost() -> None:
    hands = Hands()
    ring = PacketRing(4000, hands.now_s)
    send(ring, hands, 10)
    reader = ring.read(0.0, 9.0)
    assert reader is not None
    assert reader.take(2.0)
    send_more = 40
    tap_size = ring.size
    assert tap_size <= 4000
    send(ring, hands, send_more)
    assert reader.take(1000.0) == []
    assert reader.lost or reader.ended


def test_a_run_that_is_larger_than_all_is_kept_from_its_next_key_frame_on() -> None:
    hands = Hands()
    ring = PacketRing(2000, hands.now_s)
    tap = ring.tap()
    tap.begin(H264)
    tap.take(bytes(900), True, 0, 0, False)
    reader = ring.read(0.0, 0.0)
    assert reader is not None
    assert len(reader.take(1.0)) == 1
    tap.take(bytes(1500), False, 0, 0, False)
    assert ring.size == 0
    tap.take(bytes(10), False, 0, 0, False)
    tap.take(bytes(10), True, 0, 0, False)
    assert reader.take(10.0) == []
    assert reader.lost
    assert 0 < ring.size < 2000


def test_a_camera_that_has_gone_is_forgotten() -> None:
    hands = Hands()
    ring = PacketRing(10**6, hands.now_s)
    send(ring, hands, 10)
    ring.forget_before(5.0)
    assert ring.size > 0
    ring.forget_before(11.0)
    assert ring.size == 0
    assert ring.read(0.0, 20.0) is None
    assert ring.until(5.0) is None


def test_the_packets_of_a_picture_begin_with_a_key_frame_and_end_at_its_moment() -> None:
    hands = Hands()
    ring = PacketRing(10**6, hands.now_s)
    send(ring, hands, 30)
    found = ring.until(13.4)
    assert found is not None
    assert [packet.arrival_s for packet in found[1]] == [10.0, 11.0, 12.0, 13.0]
    first = ring.until(-5.0)
    assert first is not None
    assert [packet.arrival_s for packet in first[1]] == [0.0]


def test_a_ring_without_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no packet"):
        PacketRing(0, lambda: 0.0)
