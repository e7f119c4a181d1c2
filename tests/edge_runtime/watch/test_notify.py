"""A service manager is told what it asked for, and nothing holds up who tells it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.watch.notify import ServiceManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def heard(receiver: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(receiver.recv(100).decode())
        except BlockingIOError:
            return lines


def test_ready_once_and_then_pings_twice_as_often_as_asked(manager: socket.socket) -> None:
    now = [0.0]
    asked = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "10000000"}
    service = ServiceManager(asked, lambda: now[0])
    for _ in range(100):
        service.alive()
        now[0] += 0.2
    service.ending()
    service.ending()
    assert heard(manager) == ["READY=1", *["WATCHDOG=1"] * 3, "STOPPING=1"], "an end is told once"


def test_without_a_watchdog_there_are_no_pings(manager: socket.socket) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": manager.getsockname()})
    for _ in range(10):
        service.alive()
    assert heard(manager) == ["READY=1"]


@pytest.mark.parametrize("socket_name", ["", "/no/such/socket", "@no-such-name"])
def test_nobody_listens(socket_name: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": socket_name, "WATCHDOG_USEC": "no number"})
    service.alive()
    service.ending()


def test_an_abstract_name() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0headhunt-test")
        receiver.setblocking(False)
        ServiceManager({"NOTIFY_SOCKET": "@headhunt-test"}).alive()
        assert heard(receiver) == ["READY=1"]
