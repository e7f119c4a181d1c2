"""A signal is a request that is met in time, whatever the main thread is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edge_runtime.watch.stopping import StopRequest

# A main thread that no Python code can interrupt: it reads a pipe into which nothing is written. Descriptor
# reads are begun again after a signal, as writes to a full pipe are.
STUCK = """
import os, sys
from edge_runtime.watch.stopping import StopRequest
def hurry():
    print("hurry", flush=True)
    os.write(writer, b"x" if sys.argv[1] == "yields" else b"")
reader, writer = os.pipe()
with StopRequest(hurry, hurry_s=0.2, limit_s=0.6) as stop:
    print("ready", flush=True)
    os.read(reader, 1)
    print("orderly", stop.is_set(), flush=True)
sys.exit(stop.exit_code)
"""


def stuck(how: str) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", STUCK, how], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_the_flag_the_code_and_the_old_handlers(number: signal.Signals, code: int) -> None:
    before = [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)]
    seen = threading.Event()
    with StopRequest(lambda: None) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        while not stop.is_set():
            seen.wait(0.01)
    assert stop.exit_code == code
    assert [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)] == before


def test_without_a_signal_nothing_is_asked_for() -> None:
    with StopRequest(lambda: None) as stop:
        pass
    assert not stop.is_set()
    assert stop.exit_code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_stuck_main_thread_is_hurried(number: signal.Signals, code: int) -> None:
    child = stuck("yields")
    child.send_signal(number)
    out, _ = child.communicate(timeout=30)
    assert out == "hurry\norderly True\n"
    assert child.returncode == code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
def test_a_main_thread_that_never_yields_is_given_up(number: signal.Signals, code: int) -> None:
    child = stuck("never")
    child.send_signal(number)
    out, _ = child.communicate(timeout=30)
    assert out == "hurry\n"
    assert child.returncode == code


def test_a_second_signal_ends_at_once() -> None:
    child = stuck("never")
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=30)
    assert "orderly" not in out
    assert child.returncode in (130, 1)  # whichever of two pending signals the system delivered first


def test_a_hangup_stops_nothing_and_puts_off_no_deadline() -> None:
    """Signals that ask for something else, one after another, while the main thread is stuck."""
    script = STUCK.replace("limit_s=0.6)", "limit_s=0.6, hangup=lambda: None)")
    child = subprocess.Popen([sys.executable, "-c", script, "never"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    while child.poll() is None and time.monotonic() - begun < 20:
        child.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    assert child.stdout.read() == "hurry\n"
    assert child.wait() == 1
    assert time.monotonic() - begun < 10


def test_a_hangup_is_told_and_the_old_handler_comes_back() -> None:
    before, told = signal.getsignal(signal.SIGHUP), threading.Event()
    with StopRequest(lambda: None, hangup=told.set) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert told.wait(10)
        assert not stop.is_set()
    assert signal.getsignal(signal.SIGHUP) == before


def test_who_wants_to_know_is_told_of_the_first_signal_while_the_main_thread_is_stuck() -> None:
    script = STUCK.replace("limit_s=0.6)", "limit_s=0.6, requested=lambda: print('requested', flush=True))")
    child = subprocess.Popen([sys.executable, "-c", script, "never"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=30)
    assert out == "requested\nhurry\n"
