"""A connection on which nothing comes back is given up, and no other call notices."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_triton import FakeTriton, Proxy
from numpy.typing import NDArray
from served_run import wait_for

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import EngineUnreachable, ProviderUnavailable
from edge_runtime.inference import triton_connection
from edge_runtime.inference.triton_address import parse_address
from edge_runtime.inference.triton_connection import Connection, Link, ServerFailed, open_client
from edge_runtime.inference.triton_engine import TritonEngine
from edge_runtime.inference.triton_names import segment_model
from edge_runtime.inference.triton_replicas import Replicas

pytest.importorskip("tritonclient.grpc")


@pytest.fixture
def server(bundle: Bundle) -> Iterator[FakeTriton]:
    with FakeTriton(bundle) as fake:
        yield fake


def frames(bundle: Bundle, value: int) -> NDArray[np.uint8]:
    return np.full_like(bundle.golden().frames[:1], value)


def test_a_connection_that_swallows_everything_is_replaced(
    bundle: Bundle, server: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_connection, "_LEAST_S", 0.0)
    with Proxy(server.port) as proxy:
        engine = TritonEngine(bundle.manifest, f"triton://127.0.0.1:{proxy.port}?deadline_s=60")
        try:
            assert engine.features(frames(bundle, 7))[0, 0] == 7
            proxy.swallow()
            patient = engine._replicas._address
            engine._replicas._address = replace(patient, deadline_s=0.5)
            before = engine._replicas._replicas[0].connection._link
            for _ in range(2):
                assert engine._replicas._replicas[0].connection._link is before
                with pytest.raises(EngineUnreachable):
                    engine.features(frames(bundle, 8))
            assert proxy.connections == 1
            engine._replicas._address = patient
            assert engine.features(frames(bundle, 8))[0, 0] == 8
            assert proxy.connections == 2
            # The new one stays.
            for value in range(20):
                assert engine.features(frames(bundle, value))[0, 0] == value
            assert proxy.connections == 2
        finally:
            engine.close()


def test_calls_under_way_keep_their_connection(
    bundle: Bundle, server: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow answer comes, although others got none in their time and had the connection replaced meanwhile."""
    monkeypatch.setattr(triton_connection, "_LEAST_S", 0.0)
    server.held = {1: threading.Event(), 2: threading.Event()}
    engine = TritonEngine(bundle.manifest, f"triton://127.0.0.1:{server.port}?deadline_s=60")
    replicas = engine._replicas
    (replica,) = replicas._replicas
    assert replica.served is not None
    model = segment_model(replica.served.base, replica.served.version), 1
    answers: list[float] = []
    slow = threading.Thread(target=lambda: answers.append(float(engine.features(frames(bundle, 1))[0, 0])))
    slow.start()
    wait_for(lambda: server.calls == 1)
    before = replica.connection._link
    for _ in range(2):
        assert replica.connection._link is before
        given = engine._input("frames", frames(bundle, 2), "UINT8")
        with pytest.raises(ServerFailed, match="no answer in time"):
            replicas.infer(replica, model, given, "features", 0.3)
    assert replica.connection._link is not before
    assert before.calls == 1
    for one in server.held.values():
        one.set()
    slow.join(60)
    assert answers == [1.0]
    assert before.calls == 0
    with pytest.raises(ValueError, match="closed channel"):
        before.client.get_model_config("x")
    engine.close()


def test_two_calls_at_once_get_their_own_answers(
    bundle: Bundle, server: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client stores each call in an attribute and reads it back: the other thread gets its turn in between."""
    from tritonclient.grpc import InferenceServerClient

    both = threading.Barrier(2)

    def store(client: Any, call: Any) -> None:
        client.__dict__["newest"] = call
        with suppress(threading.BrokenBarrierError):
            both.wait(0.5)

    kept = property(lambda client: client.__dict__["newest"], store)
    monkeypatch.setattr(InferenceServerClient, "_call_future", kept, raising=False)
    engine = TritonEngine(bundle.manifest, f"triton://127.0.0.1:{server.port}?deadline_s=30")
    answers: dict[int, float] = {}

    def ask(value: int) -> None:
        with suppress(EngineUnreachable):
            answers[value] = float(engine.features(frames(bundle, value))[0, 0])

    threads = [threading.Thread(target=ask, args=(value,)) for value in (3, 4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    engine.close()
    assert answers == {3: 3.0, 4: 4.0}


class Client:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def silent_call(connection: Connection, silent: bool = True) -> Link:
    with suppress(ServerFailed), connection.link() as link:
        raise ServerFailed("no", passing=True, silent=silent)
    return link


def test_only_silence_in_a_row_on_a_connection_that_had_its_time_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_connection, "_LEAST_S", 0.0)
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    connection = Connection("here", make)
    for _ in range(3):
        silent_call(connection)
        with connection.link():
            pass
        silent_call(connection)
        silent_call(connection, silent=False)  # an error is an answer
    assert len(made) == 1
    monkeypatch.setattr(triton_connection, "_LEAST_S", 60.0)
    for _ in range(5):
        silent_call(connection)
    assert len(made) == 1, "it may still be connecting"
    monkeypatch.setattr(triton_connection, "_LEAST_S", 0.0)
    with connection.link() as link:
        silent_call(connection)
        assert len(made) == 2
        assert made[0].closed == 0, "a call is under way"
        assert link.client is made[0]
    assert (made[0].closed, made[1].closed) == (1, 0)
    connection.close()
    assert made[1].closed == 1
    for _ in range(3):
        silent_call(connection)
    assert len(made) == 2, "one that was closed stays so"


def test_certificates_that_are_just_exchanged_are_read_with_the_next_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(triton_connection, "_LEAST_S", 0.0)
    authority = tmp_path / "ca.pem"
    authority.write_text("one")
    read: list[str] = []

    def make() -> Any:
        read.append(authority.read_text())
        return Client()

    connection = Connection("here:8001", make)
    authority.unlink()
    for _ in range(5):
        silent_call(connection)
    assert caplog.text.count("here:8001: no new connection can be made") == 1, "it may take a day"
    authority.write_text("two")
    silent_call(connection)
    assert read == ["one", "two"]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_that_cannot_be_read_leaves_no_client_half_made(tmp_path: Path) -> None:
    address = parse_address(f"triton+tls://127.0.0.1:1?ca={tmp_path / 'none'}")
    with pytest.raises(FileNotFoundError):
        open_client("127.0.0.1:1", address)
    gc.collect()
    with pytest.raises(ProviderUnavailable, match="none: the certificate or key cannot be read"):
        Replicas(address, "b" * 64)


def test_a_token_that_is_exchanged_is_sent_with_the_next_call(
    bundle: Bundle, server: FakeTriton, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, new = tmp_path / "token", tmp_path / "new"
    file.write_text("monday")
    server.token = "monday"
    address = f"triton://127.0.0.1:{server.port}?deadline_s=20&token_file={file}"
    engine = TritonEngine(bundle.manifest, address)
    try:
        assert engine.features(frames(bundle, 1))[0, 0] == 1
        new.write_text("tuesday")
        new.replace(file)
        server.token = "tuesday"
        assert engine.features(frames(bundle, 2))[0, 0] == 2
        assert not caplog.records, "no call was refused"
        # While it is written, or where it is not renewed in time.
        file.write_text("")
        for value in (3, 4):
            assert engine.features(frames(bundle, value))[0, 0] == value
        assert [record.message.rpartition("; ")[2] for record in caplog.records] == [
            "the one before is used until it can be"
        ]
        server.token = "wednesday"
        with pytest.raises(EngineUnreachable, match="has expired; give it a token that it takes") as refused:
            engine.features(frames(bundle, 5))
        assert "\n" not in str(refused.value)
        with pytest.raises(ProviderUnavailable, match="has expired"):
            TritonEngine(bundle.manifest, f"triton://127.0.0.1:{server.port}?deadline_s=20")
        file.write_text("wednesday")
        assert engine.features(frames(bundle, 6))[0, 0] == 6
    finally:
        engine.close()
