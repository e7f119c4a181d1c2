"""Finds out why a network camera cannot be opened: what FFmpeg says, and where it does not say, what sockets say."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from urllib.parse import SplitResult, urlsplit

from edge_runtime.video.connection import Fault
from edge_runtime.video.sources import Source

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
# A name server that does not answer is asked twice within this time; FFmpeg would wait for it without an end.
_RESOLVE_S = 6.0
# After FFmpeg has failed: a camera in the local network answers within milliseconds.
_ASK_S = 1.0
# Longer than all that is asked before and after FFmpeg's own attempt.
ASKING_S = _RESOLVE_S + 2 * _ASK_S
# Where distributions keep what they trust, for a Python that was built for another one.
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def ca_file() -> str | None:
    """The file of certificates that this computer trusts (SSL_CERT_FILE, else the system's), if there is one."""
    candidates = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_CA_FILES)
    return next((path for path in candidates if path and os.path.isfile(path)), None)


def resolve(source: Source, timeout_s: float) -> None:
    """Look up the name in a camera's URL, within a time limit that the system's own look-up does not have.

    Raises:
        Fault: The name is not known, or no name server answered.
    """
    parts = urlsplit(source.target)
    host = parts.hostname or ""
    found: list[BaseException | None] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            found.append(None)
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=look_up, name=f"resolve-{source.name}", daemon=True)
    thread.start()
    # A second longer than an attempt: systems ask their second name server after five.
    thread.join(min(timeout_s + _ASK_S, _RESOLVE_S))
    if not found:
        raise Fault("dns", f"no name server answers for {host}; check the network, or write the camera's IP address")
    if found[0] is not None:
        raise Fault("dns", f"the name {host} is not known; check its spelling, or write the camera's IP address")


def why_not_open(source: Source, error: BaseException, waited_s: float, timeout_s: float) -> Fault:
    """Say why `av.open` failed.

    Args:
        source: The camera.
        error: What `av.open` raised. Its text is not used: it holds the password.
        waited_s: How long it took.
        timeout_s: Its limit.
    """
    return _said(error) or _asked(source, waited_s >= 0.9 * timeout_s, timeout_s)


def _said(error: BaseException) -> Fault | None:
    """What FFmpeg's error alone tells."""
    import av

    if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
        return Fault("unauthorized", "it refuses this user and password; correct them in the source")
    if isinstance(error, av.error.HTTPNotFoundError):
        return Fault("not_found", "it has no stream at this path; look the path up in the camera's manual")
    if isinstance(error, av.error.HTTPServerError | av.error.HTTPClientError):
        answer = str(error.strerror)
        return Fault("refused", f"it refuses the request ({answer}); it may serve too many viewers, or be starting")
    if isinstance(error, av.error.DecoderNotFoundError | av.error.PatchWelcomeError):
        return Fault(
            "unsupported_codec", "its video is in no format that can be decoded; set it to H.264, H.265 or MJPEG"
        )
    return None


def _asked(source: Source, late: bool, timeout_s: float) -> Fault:
    """What sockets tell: whether the host is there, whether it is trusted, and else that it sends no video."""
    parts = urlsplit(source.target)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    too_late = Fault(
        "timeout", f"{host} is there, but sends no video within {timeout_s:g} s; check the camera and its load"
    )
    try:
        with socket.create_connection((host, port), _ASK_S) as plain:
            if parts.scheme in ("https", "rtsps") and (fault := _distrusted(plain, parts)) is not None:
                return fault
    except ConnectionRefusedError:
        return Fault(
            "refused", f"{host} refuses connections to port {port}; check the port and the camera's settings"
        )
    except OSError:
        return Fault(
            "unreachable", f"{host} does not answer on port {port}; check the camera's power, cable and address"
        )
    if late:
        return too_late
    return Fault("no_video", "it answers, but not with video; check that the URL is the one of its stream")


def _distrusted(plain: socket.socket, parts: SplitResult) -> Fault | None:
    try:
        with ssl.create_default_context(cafile=ca_file()).wrap_socket(plain, server_hostname=parts.hostname):
            return None
    except ssl.SSLCertVerificationError as error:
        return Fault(
            "tls",
            f"its certificate is not trusted ({error.verify_message}); add its authority to this computer's, or name "
            "a file with it in SSL_CERT_FILE",
        )
    except ssl.SSLError:
        return Fault("tls", f"no encrypted connection on this port; check the port, or write {_plain(parts)}://")
    except OSError:
        return None


def _plain(parts: SplitResult) -> str:
    return parts.scheme.removesuffix("s")
