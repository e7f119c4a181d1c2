"""The streams of go2rtc as cameras of a running hh-edge.

    hh-edge run --config cameras.json --watch        # once; cameras.json: {"version": 1, "bundle": "bundle"}
    python examples/go2rtc_hook.py cameras.json [http://127.0.0.1:1984] [rtsp://127.0.0.1:8554]

go2rtc has no hook for a stream that comes or goes, so its list is asked for every few seconds (GET /api/streams, an
object by name). hh-edge then reads rtsp://…:8554/NAME, where go2rtc serves every stream: the camera itself is
connected to once, whoever watches. Only names are read of the list: its addresses hold the cameras' passwords.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

from camera_list import Cameras, camera_name, change

EVERY_S = 5.0


def names_of(api: str) -> list[str]:
    """The streams that go2rtc has now.

    Raises:
        OSError: It does not answer.
        ValueError: It answers no JSON.
    """
    with urllib.request.urlopen(f"{api}/api/streams", timeout=5) as answer:
        listed = json.load(answer)
    return sorted(listed)


def mirror(file: Path, api: str, rtsp: str) -> bool:
    """Make the cameras that come from go2rtc those that it has; others stay. Returns whether anything changed."""
    sources = {camera_name(name): f"{rtsp}/{quote(name)}" for name in names_of(api)}

    def edit(cameras: Cameras) -> Cameras:
        others = {
            name: said
            for name, said in cameras.items()
            if not str(said.get("source", "")).startswith(f"{rtsp}/") or name in sources
        }
        return others | {name: {**cameras.get(name, {}), "source": source} for name, source in sources.items()}

    return change(file, edit)


def main(file: str, api: str = "http://127.0.0.1:1984", rtsp: str = "rtsp://127.0.0.1:8554") -> None:
    """Follow go2rtc for ever. While it does not answer, the cameras stay: hh-edge tries them again by itself."""
    while True:
        try:
            if mirror(Path(file), api, rtsp):
                print(f"{file}: changed", file=sys.stderr, flush=True)
        except (OSError, ValueError) as error:
            print(f"{api}: {error}", file=sys.stderr, flush=True)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
