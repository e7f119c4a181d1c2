"""The campaign's good pictures raise nothing and its bad ones are told; the whole of it is benchmarks/faults/."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.faults.places import HEIGHT, PLACES, WIDTH, Scene
from benchmarks.faults.quality import HOURS_S, broken, day


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_some_minutes_of_every_place(place):
    assert day(place, 0.05, 1) == []
    again = [Scene(place, 1).picture(HOURS_S[2]) for _ in range(2)]
    assert again[0].shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(*again)


def test_a_cover_and_a_freeze():
    assert broken(PLACES[0], HOURS_S[0], "black", None, 1).startswith("6.")
    assert broken(PLACES[0], HOURS_S[2], "frozen", None, 1).startswith("12.")
