"""A real FTP server on loopback (pyftpdlib), over a folder on the disk."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "camera", "secret"


@dataclass(frozen=True)
class Ftp:
    """Where it is: for anybody to read, for USER to write.

    Attributes:
        address: Host and port.
        folder: What it shows.
    """

    address: str
    folder: Path


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[Ftp]:
    """A server with an empty folder."""
    pytest.importorskip("pyftpdlib", reason="no FTP server: pip install pyftpdlib")
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer

    folder = tmp_path / "ftp"
    folder.mkdir()
    authorizer = DummyAuthorizer()
    authorizer.add_anonymous(str(folder))
    authorizer.add_user(USER, PASSWORD, str(folder), perm="elradfmwMT")
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "auth_failed_timeout": 0})
    server = FTPServer(("127.0.0.1", 0), handler)
    stopping = threading.Event()

    def serve() -> None:
        # The thread that polls closes, too: closed by another one, the next poll would find its descriptor gone.
        while not stopping.is_set():
            server.serve_forever(timeout=0.05, blocking=False, handle_exit=False)
        server.close_all()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield Ftp(f"127.0.0.1:{server.address[1]}", folder)
    stopping.set()
    thread.join(10)
