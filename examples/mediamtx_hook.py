"""MediaMTX tells of its streams: each that is ready becomes a camera of a running hh-edge, and leaves it again.

    hh-edge run --config cameras.json --watch        # once; cameras.json: {"version": 1, "bundle": "bundle"}

mediamtx.yml (pathDefaults holds for all paths; a single path takes the same keys):

    pathDefaults:
      runOnReady: python /opt/examples/mediamtx_hook.py /opt/cameras.json
      runOnReadyRestart: yes

MediaMTX starts the command when a path has a stream and sets MTX_PATH and RTSP_PORT; it ends it with SIGINT when the
stream is gone. One process of a few MB waits for each stream; all are scored by the one hh-edge.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from camera_list import Cameras, camera_name, change


def main(file: str) -> None:
    """Add the camera, wait until MediaMTX says that it is gone, take it out."""
    path, port = os.environ["MTX_PATH"], os.environ.get("RTSP_PORT", "8554")
    name, source = camera_name(path), f"rtsp://127.0.0.1:{port}/{path}"
    ends = {signal.SIGINT, signal.SIGTERM}
    # Before the camera is added: a signal that comes at once must not leave it behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)

    def added(cameras: Cameras) -> Cameras:
        return {**cameras, name: {**cameras.get(name, {}), "source": source}}

    def removed(cameras: Cameras) -> Cameras:
        return {other: said for other, said in cameras.items() if other != name}

    change(Path(file), added)
    signal.sigwait(ends)
    change(Path(file), removed)


if __name__ == "__main__":
    main(sys.argv[1])
