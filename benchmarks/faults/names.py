"""A name server of its own for one process and its children, which can be told to stop answering.

The process runs in a mount namespace in which /etc/resolv.conf names this server. That needs Linux, root (for port 53
and the namespace) and `unshare`.
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Answer = Literal["address", "silence", "unknown"]

# Of the addresses of the loopback one that no system takes for a name server of its own.
_SERVER = "127.0.0.153"
_ADDRESS = "127.0.0.1"
_PORT = 53
_A, _UNKNOWN = 1, 3


def missing() -> str | None:
    """Why there can be no name server here, or None."""
    if shutil.which("unshare") is None:
        return "no unshare (util-linux)"
    if subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0:
        return "no mount namespace, which needs root"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trying:
            trying.bind((_SERVER, _PORT))
    except OSError as error:
        return f"port {_PORT} of {_SERVER} cannot be had ({error.strerror})"
    return None


class NameServer:
    """Answers every name with 127.0.0.1, until it is told otherwise; a context manager.

    Args:
        folder: Where the file lies that takes the place of /etc/resolv.conf.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "resolv.conf"
        self._file.write_text(f"nameserver {_SERVER}\n")
        self._answers: dict[str, Answer] = {}
        self._ending = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_SERVER, _PORT))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def prefix(self) -> list[str]:
        """The words before a command that is to ask this server."""
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self._file)]

    def answer(self, name: str, answer: Answer) -> None:
        """Answer a name so from now on: with the address, not at all, or that there is no such name."""
        self._answers[name] = answer

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(512)
            if self._ending.is_set():
                return
            if (answer := self._answered(query)) is not None:
                self._socket.sendto(answer, client)

    def _answered(self, query: bytes) -> bytes | None:
        """The answer to a question (RFC 1035, 4.1), None where it gets none."""
        labels, at = [], 12
        while (length := query[at]) > 0:
            labels.append(query[at + 1 : at + 1 + length].decode())
            at += 1 + length
        question = query[12 : at + 5]
        (kind,) = struct.unpack("!H", question[-4:-2])
        answer = self._answers.get(".".join(labels).lower(), "address")
        if answer == "silence":
            return None
        address = answer == "address" and kind == _A
        flags = 0x8580 | (_UNKNOWN if answer == "unknown" else 0)
        head = query[:2] + struct.pack("!5H", flags, 1, int(address), 0, 0)
        if not address:
            return head + question
        # The name again as a pointer to the question; an address of class IN that nobody is to keep.
        return head + question + struct.pack("!3HIH", 0xC00C, _A, 1, 0, 4) + socket.inet_aton(_ADDRESS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread that waits for a datagram is not woken by close.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            self._ending.set()
            waking.sendto(b"", (_SERVER, _PORT))
        self._thread.join()
        self._socket.close()
