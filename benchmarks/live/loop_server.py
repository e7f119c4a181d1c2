"""Many RTSP cameras in one process that encodes nothing; run by the system's python3, which has GStreamer's bindings.

    /usr/bin/python3 loop_server.py --file loop.h264 --fps 25 --cameras 16 [--udp]

Serves rtsp://127.0.0.1:PORT/0, /1, …: each sends the file's frames at their rate for ever, and begins at a keyframe
of its own. The file is H.264 in Annex B form with an access unit delimiter before every frame and parameter sets
before every keyframe (x264's `aud=1:repeat-headers=1`). Prints `ready PORT` once it listens.
"""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402  the versions must be chosen before

_DELIMITER = b"\0\0\0\1\x09"
_KEY_SLICE = 5
# What a client that does not read leaves waiting is thrown away beyond this.
_WAITING = 100


def frames_of(stream: bytes) -> list[bytes]:
    """The frames of a file, each from its delimiter on."""
    return [_DELIMITER + part for part in stream.split(_DELIMITER)[1:]]


def is_key(frame: bytes) -> bool:
    """Whether a frame holds a slice of a keyframe."""
    at = 0
    while (at := frame.find(b"\0\0\1", at) + 3) >= 3 and at < len(frame):
        if frame[at] & 0x1F == _KEY_SLICE:
            return True
    return False


class Sender:
    """Pushes the loop's frames into the pipelines of all cameras that are watched, each at its own moments.

    Args:
        frames: Of the loop.
        fps: Frames a second.
    """

    def __init__(self, frames: list[bytes], fps: int) -> None:
        self.frames = [Gst.Buffer.new_wrapped(frame) for frame in frames]
        self.keys = [place for place, frame in enumerate(frames) if is_key(frame)]
        self.period_s = 1 / fps
        self.lock = threading.Lock()
        # By its pipeline's source: the next frame's place and moment.
        self.next: dict[object, tuple[int, float]] = {}
        threading.Thread(target=self.send, daemon=True).start()

    def add(self, source: object, number: int) -> None:
        with self.lock:
            self.next.setdefault(source, (self.keys[number % len(self.keys)], time.monotonic()))

    def remove(self, source: object) -> None:
        with self.lock:
            self.next.pop(source, None)

    def send(self) -> None:
        while True:
            now_s = time.monotonic()
            with self.lock:
                due = [(source, *what) for source, what in self.next.items() if what[1] <= now_s]
                for source, place, moment_s in due:
                    # Moments that were missed are not made up for: a camera does not send faster after a pause.
                    self.next[source] = (place + 1) % len(self.frames), max(moment_s, now_s - 1) + self.period_s
            for source, place, _ in due:
                # The pipeline stamps what it takes: a copy of the buffer's head, not of its bytes.
                source.emit("push-buffer", self.frames[place].copy())
            # Cameras in step with each other are pushed together; others wait for at most this.
            time.sleep(0.004)


class Factory(GstRtspServer.RTSPMediaFactory):
    """One pipeline a camera, for all of its clients."""

    def __init__(self, sender: Sender, number: int, udp: bool) -> None:
        super().__init__()
        self.sender, self.number = sender, number
        self.set_shared(True)
        if udp:
            self.set_protocols(GstRtsp.RTSPLowerTrans.UDP)
        self.connect("media-configure", self.configured)

    def do_create_element(self, url: object) -> Gst.Element:
        caps = "video/x-h264,stream-format=byte-stream,alignment=au"
        source = f"appsrc name=source is-live=true format=time do-timestamp=true caps={caps}"
        source += f" max-buffers={_WAITING} leaky-type=downstream"
        return Gst.parse_launch(f"( {source} ! rtph264pay name=pay0 pt=96 config-interval=-1 )")

    def configured(self, _: object, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name("source")
        # It asks once it plays. What it was given before would get the stamp of a clock that is not set yet.
        source.connect("need-data", lambda *_: self.sender.add(source, self.number))
        media.connect("unprepared", lambda _: self.sender.remove(source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--fps", type=int, required=True)
    parser.add_argument("--cameras", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--udp", action="store_true", help="over UDP alone, not over TCP")
    options = parser.parse_args()

    Gst.init(None)
    sender = Sender(frames_of(options.file.read_bytes()), options.fps)
    if not sender.keys:
        raise SystemExit(f"{options.file}: no keyframe behind an access unit delimiter")
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    # Clients beyond this wait for one another.
    server.get_thread_pool().set_max_threads(4)
    points = server.get_mount_points()
    for number in range(options.cameras):
        points.add_factory(f"/{number}", Factory(sender, number, options.udp))
    if server.attach(None) == 0:
        raise SystemExit(f"cannot listen on port {options.port}")
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
