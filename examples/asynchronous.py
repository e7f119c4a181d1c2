"""An async form: records as an async iterator, and an event loop that goes on while the model computes.

python examples/asynchronous.py bundle/ clip.mp4 [clip.mp4 …]
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, Record, Stream


async def frames_of(path: str) -> AsyncIterator[tuple[NDArray[np.uint8], float]]:
    """Your decoder's frames; here a file's, read outside the loop as well."""
    capture = cv2.VideoCapture(path)
    fps, number = capture.get(cv2.CAP_PROP_FPS) or 25.0, 0
    while (read := await asyncio.to_thread(capture.read))[0]:
        yield read[1].astype(np.uint8, copy=False), number / fps
        number += 1


async def records(
    stream: Stream, frames: AsyncIterator[tuple[NDArray[np.uint8], float]], pool: ThreadPoolExecutor
) -> AsyncIterator[Record]:
    """What becomes final. `await` is the back-pressure: no frame is asked for while one is being scored."""
    loop = asyncio.get_running_loop()
    async for frame, seconds in frames:
        for record in await loop.run_in_executor(pool, stream.push, frame, seconds):
            yield record
    for record in await loop.run_in_executor(pool, stream.flush):
        yield record


async def watch(detector: Detector, path: str, pool: ThreadPoolExecutor) -> None:
    """One file to its end."""
    async for record in records(detector.stream(path, clock="frames"), frames_of(path), pool):
        print(record.to_json())


async def longest_pause(step_s: float = 0.005) -> float:
    """Until it is cancelled: the longest time for which the loop came to nothing, in seconds."""
    loop, longest = asyncio.get_running_loop(), 0.0
    while True:
        before = loop.time()
        try:
            await asyncio.sleep(step_s)
        except asyncio.CancelledError:
            return longest
        longest = max(longest, loop.time() - before - step_s)


async def main(bundle: str, *paths: str) -> None:
    """All files at once. Opening takes long, too: outside the loop."""
    detector = await asyncio.to_thread(lambda: Detector(Bundle.open(bundle), provider="cpu"))
    pause = asyncio.create_task(longest_pause())
    # A stream belongs to one thread at a time; which one does not matter. More threads than cores gain nothing.
    with detector, ThreadPoolExecutor(2) as pool:
        await asyncio.gather(*(watch(detector, path, pool) for path in paths))
    pause.cancel()
    print(f"the loop stood still for {1000 * await pause:.0f} ms at most", file=sys.stderr)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
