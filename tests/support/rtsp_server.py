"""An RTSP camera for tests, run by the system's python3 (the one that has GStreamer's bindings).

    /usr/bin/python3 rtsp_server.py --port 8554 --size 320x240 --fps 10 [--codec mjpeg] [--file street.mp4 --loop]

Serves rtsp://127.0.0.1:PORT/stream. Prints `ready PORT` once it listens; --port 0 chooses a free one.
"""

from __future__ import annotations

import argparse
import subprocess

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402  the versions must be chosen before the import


class Factory(GstRtspServer.RTSPMediaFactory):
    """One pipeline per client, so that every connection sees a file from its beginning, or one for all of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.options = options
        self.set_shared(options.shared)

    def do_create_element(self, url: object) -> Gst.Element:
        return Gst.parse_launch(f"( {self.picture()} ! {self.encoding()} )")

    def picture(self) -> str:
        width, height, fps = *self.options.size, self.options.fps
        raw = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
        if self.options.file is None:
            return f"videotestsrc is-live=true pattern={self.options.pattern} ! {raw}"
        # Debian's GStreamer has no H.264 decoder without gst-libav, so that ffmpeg decodes. It ends on the
        # broken pipe when the pipeline or this process goes.
        command = ["ffmpeg", "-v", "error", "-nostdin"]
        command += ["-stream_loop", "-1"] if self.options.loop else []
        command += ["-i", self.options.file, "-an", "-vf", f"fps={fps},scale={width}:{height}"]
        command += ["-pix_fmt", "yuv420p", "-f", "rawvideo", "-"]
        decoder = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert decoder.stdout is not None
        self.decoder = decoder  # keeps the pipe open
        return (
            f"fdsrc fd={decoder.stdout.fileno()} blocksize={width * height * 3 // 2} "
            f"! rawvideoparse format=i420 width={width} height={height} framerate={fps}/1 ! clocksync"
        )

    def encoding(self) -> str:
        if self.options.codec == "mjpeg":
            return "jpegenc ! rtpjpegpay name=pay0 pt=26"
        key = max(1, self.options.fps // 2)
        return (
            f"x264enc tune=zerolatency speed-preset=ultrafast bitrate=1000 key-int-max={key} "
            "! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=1"
        )


def protect(server: GstRtspServer.RTSPServer, factory: Factory, user: str, password: str) -> None:
    """Ask for a user and password before the stream is described."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    rights = "viewer, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.from_string(rights)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(320, 240))
    parser.add_argument("--fps", type=int, default=10)
    parser.add_argument("--codec", choices=("h264", "mjpeg"), default="h264")
    parser.add_argument("--pattern", default="ball", help="of videotestsrc; `ball` and `snow` move")
    parser.add_argument("--file", help="footage instead of a pattern")
    parser.add_argument("--loop", action="store_true", help="start the file again at its end")
    parser.add_argument("--shared", action="store_true", help="all clients see the same frames, as of a camera")
    parser.add_argument("--user")
    parser.add_argument("--password")
    options = parser.parse_args()

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    factory = Factory(options)
    if options.user is not None:
        protect(server, factory, options.user, options.password)
    server.get_mount_points().add_factory("/stream", factory)
    if server.attach(None) == 0:
        raise SystemExit(f"cannot listen on port {options.port}")
    print("ready", server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
