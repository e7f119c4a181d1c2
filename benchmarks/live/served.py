"""Cameras that cost little: loops of H.264 that were encoded before, served by one process, and ports that hang."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.errors import HeadHuntError

_SERVER = Path(__file__).with_name("loop_server.py")
_SYSTEM_PYTHON = "/usr/bin/python3"
_READY_S = 30.0


def loop(work: Path, footage: Path, size: tuple[int, int], fps: int, seconds: int, kbits: int = 2000) -> Path:
    """A file for `LoopServer`, encoded where it is not there yet: as cameras do, a keyframe a second, no B-frames.

    Footage of another rate runs faster or slower: copies to fill it up would cost nothing to decode.
    Some grain is put on it, as sensors have it.

    Args:
        work: The work folder.
        footage: A video.
        size: Width and height.
        fps: Frames a second.
        seconds: How long it lasts; shorter footage is repeated.
        kbits: At most so many a second.

    Raises:
        HeadHuntError: It could not be encoded.
    """
    if shutil.which("ffmpeg") is None:
        raise HeadHuntError("no ffmpeg, which encodes the cameras' loops; install it")
    # Footage is told apart by its path alone: it is not expected to change.
    digest = hashlib.sha256(str(footage.resolve()).encode()).hexdigest()[:8]
    path = work / f"loop-{digest}-{size[0]}x{size[1]}-{fps}fps-{seconds}s-{kbits}k.h264"
    if path.is_file():
        return path
    work.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    picture = f"setpts=N/{fps}/TB,scale={size[0]}:{size[1]},noise=alls=4:allf=t,format=yuv420p"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", str(footage), "-an"]
    command += ["-vf", picture, "-r", str(fps), "-frames:v", str(seconds * fps)]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-bf", "0", "-g", str(fps)]
    command += ["-sc_threshold", "0", "-crf", "23", "-maxrate", f"{kbits}k", "-bufsize", f"{kbits}k"]
    command += ["-x264-params", "aud=1:repeat-headers=1", "-f", "h264", str(part)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise HeadHuntError(f"{footage.name}: cannot be encoded ({last[0]}); give another --footage")
    os.replace(part, path)
    return path


class LoopServer:
    """Many cameras in one child process; a context manager.

    Args:
        file: What `loop` made.
        fps: Its frames a second.
        cameras: How many.
        udp: Whether they send over UDP, and not over TCP.

    Raises:
        HeadHuntError: It did not start.
    """

    def __init__(self, file: Path, fps: int, cameras: int, udp: bool = False) -> None:
        words = [_SYSTEM_PYTHON, str(_SERVER), "--file", str(file), "--fps", str(fps), "--cameras", str(cameras)]
        self.process = subprocess.Popen(
            words + ["--udp"] * udp, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _READY_S)
        said = self.process.stdout.readline().split() if ready else []
        if said[:1] != ["ready"]:
            self.close()
            raise HeadHuntError(
                "the RTSP server did not start; apt install gir1.2-gst-rtsp-server-1.0 python3-gi "
                "gstreamer1.0-plugins-{base,good}"
            )
        self.port = int(said[1])
        self._cameras = cameras

    @property
    def urls(self) -> list[str]:
        """Of all cameras."""
        return [f"rtsp://127.0.0.1:{self.port}/{number}" for number in range(self._cameras)]

    def close(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def hanging(count: int) -> Iterator[list[str]]:
    """URLs of cameras whose connections are made and never answered."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        yield [f"rtsp://127.0.0.1:{server.getsockname()[1]}/x" for server in servers]
