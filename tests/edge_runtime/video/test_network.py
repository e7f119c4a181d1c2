"""Network cameras through PyAV: why one cannot be opened, and that no camera waits for another."""

from __future__ import annotations

import contextlib
import logging
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_cameras import rtsp_answers, self_signed, tcp_server, unanswered, web_server
from recorder import Recorder
from rtsp import MjpegServer, RtspServer, free_port

from edge_runtime.errors import CameraUnavailable
from edge_runtime.records import CameraReason
from edge_runtime.stream.clock import RunClock
from edge_runtime.video import diagnosis
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.probe import probe
from edge_runtime.video.sources import parse_source

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n"
SOUND = f"{SDP}m=audio 0 RTP/AVP 0\r\na=control:track1\r\n"
UNKNOWN = f"{SDP}m=video 0 RTP/AVP 96\r\na=rtpmap:96 x-secret-codec/90000\r\na=control:track1\r\n"
SILENT = f"{SDP}m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"


def why(url: str, timeout_s: float = 2.0) -> tuple[str, str]:
    """Reason and detail of a camera that cannot be opened; the password is nowhere in what is said."""
    with pytest.raises(CameraUnavailable) as failed:
        probe(parse_source(f"gate={url}"), timeout_s)
    assert "s3cret" not in f"{failed.value} {failed.value.detail} {failed.value!r}"
    assert failed.value.__cause__ is None
    assert failed.value.detail in str(failed.value)
    return failed.value.reason, failed.value.detail


@pytest.fixture(scope="module")
def pages() -> Iterator[int]:
    with web_server() as port:
        yield port


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_nobody_listens(scheme: str) -> None:
    reason, detail = why(f"{scheme}://viewer:s3cret@127.0.0.1:{free_port()}/x")
    assert reason == "refused"
    assert "check the port" in detail


@pytest.mark.parametrize("scheme", ["rtsp", "http", "rtsps"])
def test_a_name_that_nobody_knows(scheme: str) -> None:
    reason, detail = why(f"{scheme}://viewer:s3cret@gate.invalid/x")
    assert reason == "dns"
    assert "gate.invalid" in detail


def test_a_name_server_that_is_silent_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    # The system's own look-up: a silent name server cannot be set up without changing this computer.
    monkeypatch.setattr(diagnosis.socket, "getaddrinfo", lambda *_, **__: released.wait(30))
    begun = time.monotonic()
    assert why("rtsp://gate.example/x", 1.0)[0] == "dns"
    assert time.monotonic() - begun < 3
    released.set()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse what a full queue cannot take")
@pytest.mark.parametrize("scheme", ["rtsp", "http", "https"])
def test_a_host_that_is_not_there(scheme: str) -> None:
    with unanswered() as port:
        assert why(f"{scheme}://viewer:s3cret@127.0.0.1:{port}/x", 0.5)[0] == "unreachable"


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_a_host_that_says_nothing(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reason, detail = why(f"{scheme}://viewer:s3cret@127.0.0.1:{server.getsockname()[1]}/x", 0.5)
    assert reason == "timeout"
    assert "no video within 0.5 s" in detail


def test_a_camera_that_stops_talking_after_it_was_asked_to_play() -> None:
    with rtsp_answers("200 OK", SILENT) as port:
        assert why(f"rtsp://127.0.0.1:{port}/x", 0.7)[0] == "timeout"


@pytest.mark.parametrize("login", ["viewer:s3cret@", ""])
def test_a_wrong_password(login: str, rtsp_server: Callable[..., RtspServer]) -> None:
    server = rtsp_server(login=("viewer", "right"), fps=30)
    assert probe(parse_source(server.url)) == (320, 240)
    assert why(f"rtsp://{login}127.0.0.1:{server.port}/stream")[0] == "unauthorized"


def test_a_path_that_the_camera_does_not_have(rtsp_server: Callable[..., RtspServer]) -> None:
    assert why(rtsp_server(fps=30).url + "s")[0] == "not_found"


@pytest.mark.parametrize(
    ("answer", "sdp", "reason"),
    [
        ("401 Unauthorized", "", "unauthorized"),
        ("403 Forbidden", "", "unauthorized"),
        ("404 Not Found", "", "not_found"),
        ("453 Not Enough Bandwidth", "", "refused"),
        ("503 Service Unavailable", "", "refused"),
        ("200 OK", SOUND, "no_video"),
        ("200 OK", UNKNOWN, "unsupported_codec"),
    ],
)
def test_what_an_rtsp_server_answers(answer: str, sdp: str, reason: CameraReason) -> None:
    with rtsp_answers(answer, sdp) as port:
        assert why(f"rtsp://viewer:s3cret@127.0.0.1:{port}/x")[0] == reason


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("401", "unauthorized"),
        ("403", "unauthorized"),
        ("404", "not_found"),
        ("503", "refused"),
        ("page", "no_video"),
        ("to?/page", "no_video"),
        ("to?/404", "not_found"),
    ],
)
def test_what_a_web_server_answers(path: str, reason: CameraReason, pages: int) -> None:
    assert why(f"http://viewer:s3cret@127.0.0.1:{pages}/{path}")[0] == reason


def test_something_else_listens_there() -> None:
    with tcp_server(lambda client: client.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")) as port:
        assert why(f"rtsp://127.0.0.1:{port}/x")[0] == "no_video"
        assert why(f"http://127.0.0.1:{port}/x")[0] == "no_video"


def test_a_redirect_is_followed(mjpeg_server: Callable[..., MjpegServer], pages: int) -> None:
    server = mjpeg_server(size=(160, 120), fps=20)
    assert probe(parse_source(f"http://127.0.0.1:{pages}/to?{server.url}")) == (160, 120)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_a_certificate_that_nobody_signed_until_it_is_named(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path)
    with web_server((certificate, key)) as port:
        reason, detail = why(f"{scheme}://viewer:s3cret@127.0.0.1:{port}/404")
        assert reason == "tls"
        assert "SSL_CERT_FILE" in detail
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        # What answers is trusted now; to RTSP it has nothing to say.
        assert why(f"{scheme}://viewer:s3cret@127.0.0.1:{port}/404")[0] != "tls"


def test_an_encrypted_scheme_to_a_port_that_is_not(pages: int) -> None:
    reason, detail = why(f"https://127.0.0.1:{pages}/page")
    assert reason == "tls"
    assert "http://" in detail


def test_nothing_of_what_goes_wrong_is_logged_with_the_password(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], pages: int
) -> None:
    caplog.set_level(logging.DEBUG, logger="edge_runtime")
    for url in (f"http://viewer:s3cret@127.0.0.1:{pages}/401", f"rtsp://viewer:s3cret@127.0.0.1:{pages}/x"):
        why(url)
    assert "s3cret" not in caplog.text + "".join(capfd.readouterr())


def test_good_cameras_open_at_once_beside_hanging_ones(rtsp_server: Callable[..., RtspServer]) -> None:
    good = [rtsp_server(fps=15) for _ in range(4)]
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(4)]
        urls = [f"rtsp://127.0.0.1:{port}/x" for port in hanging] + [server.url for server in good]
        recorders = [Recorder() for _ in urls]
        clock = RunClock()
        cameras = [
            LiveCamera(parse_source(f"c{i}={url}"), recorder, clock)
            for i, (url, recorder) in enumerate(zip(urls, recorders, strict=True))
        ]
        for live in cameras:
            stack.callback(live.stop, 0.0)
            live.start()
        for recorder in recorders[4:]:
            recorder.wait_state("online")
            assert recorder.states[0][2] < 3
        for recorder in recorders[:4]:
            recorder.wait_state("offline")
            assert recorder.reasons == ["timeout"]
            assert 4.5 < recorder.states[0][2] < 8
