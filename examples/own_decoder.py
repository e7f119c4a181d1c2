"""Frames of your own decoder in, records out: one JSON object a line.

    python examples/own_decoder.py bundle/ clip.mp4

PyAV stands for your decoder. Scoring happens inside `push`, in the thread that calls it: a camera's decoder must not
wait for that (see callback.py and eight_streams.py); a file may.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, HeadHuntError


def decoded(path: str) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """A file's frames, blue-green-red, and their seconds."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            # BICUBIC as OpenCV and hh-edge convert: the pixels that the bundle was calibrated with.
            yield (
                frame.to_ndarray(format="bgr24", interpolation="BICUBIC").astype(np.uint8, copy=False),
                float(frame.time or 0.0),
            )


def main(bundle: str, path: str) -> int:
    """Score a file; returns how many segments were anomalous."""
    anomalous = 0
    with Detector(Bundle.open(bundle), provider="cpu") as detector:
        # "time" cuts by the seconds, for cameras; "frames" by counting, for files.
        stream = detector.stream("gate", locator="low_latency", clock="frames")
        for frame, seconds in decoded(path):
            for record in stream.push(frame, seconds):
                print(record.to_json())
                anomalous += record.to_dict().get("anomalous", False)
        for record in stream.flush():
            print(record.to_json())
            anomalous += record.to_dict().get("anomalous", False)
    return anomalous


if __name__ == "__main__":
    try:
        print(f"{main(*sys.argv[1:3])} anomalous segments", file=sys.stderr)
    except HeadHuntError as error:
        # One line that names the thing, the value and the way out.
        sys.exit(str(error))
