"""What servers say while a run lasts, told apart: nothing of the bundle is there, no memory, a graph that fails."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from edge_runtime.errors import EngineUnreachable, InferenceFailed, OutOfMemory
from edge_runtime.inference import triton_replicas
from edge_runtime.inference.triton_address import parse_address
from edge_runtime.inference.triton_connection import Connection, ServerFailed
from edge_runtime.inference.triton_names import version_of
from edge_runtime.inference.triton_replicas import Replica, Replicas, Served

tritonclient = pytest.importorskip("tritonclient.grpc", reason="nothing asks a server")


class Saying:
    """A client of a server that refuses everything."""

    def __init__(self, status: str, text: str) -> None:
        from tritonclient.utils import InferenceServerException

        self.error = InferenceServerException(text, f"StatusCode.{status}")

    def get_model_config(self, *_: object, **__: object) -> None:
        raise self.error

    def async_infer(self, *_: object, **__: object) -> None:
        raise self.error

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("served", "status", "text", "expected"),
    [
        (None, "NOT_FOUND", "Request for unknown model: 'x' is not found", EngineUnreachable),
        (Served("x", 1, 8), "NOT_FOUND", "Request for unknown model: 'x' is not found", EngineUnreachable),
        (Served("x", 1, 8), "UNAVAILABLE", "failed to connect", EngineUnreachable),
        (Served("x", 1, 8), "INTERNAL", "onnx runtime error 1: Failed to allocate memory for", OutOfMemory),
        (Served("x", 1, 8), "INTERNAL", "onnx runtime error 6: no such kernel", InferenceFailed),
    ],
)
def test_what_a_server_says(served: Served | None, status: str, text: str, expected: type[Exception]) -> None:
    replicas = Replicas(parse_address("triton://10.0.0.5:8001?deadline_s=60"), "b" * 64)
    replica = replicas._replicas[0]
    # One that failed is asked once.
    replica.failures = 1
    replica.connection, replica.served = Connection(replica.place, lambda: Saying(status, text)), served

    def ask(to: Replica, there: Served, allowed_s: float) -> object:
        return replicas.infer(to, (there.base, 1), None, "features", allowed_s)

    with pytest.raises(InferenceFailed) as told:
        replicas.call(ask, replicas.deadline_s())
    assert type(told.value) is expected
    replicas.close()


def test_the_clients_of_a_server_that_was_started_again_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers are updated one after the other: in the end not all clients ask the one that was updated last."""
    moment = 0.0
    monkeypatch.setattr(triton_replicas, "time", SimpleNamespace(monotonic=lambda: moment))
    monkeypatch.setattr(triton_replicas, "random", random.Random(3))
    address = parse_address("triton://a:1,b:1,c:1?deadline_s=60")
    down, answered = "", list[str]()

    def ask(to: Replica, _: Served, __: float) -> None:
        if to.place == down:
            raise ServerFailed("it is being updated", passing=True)
        answered.append(to.place)

    def call_all() -> list[str]:
        answered.clear()
        for one in clients:
            for replica in one._replicas:
                replica.served = Served("x", 1, 8)
            one.call(ask, one.deadline_s())
        return answered

    clients = [Replicas(address, "b" * 64) for _ in range(60)]
    first = call_all()
    assert set(first) == {"a:1", "b:1", "c:1"}
    before = list(first)
    for down in ("a:1", "b:1", "c:1"):
        moment += 10.0
        now = list(call_all())
        moved = {place for place, was in zip(now, before, strict=True) if was == down}
        assert len(moved) == 2, "not all of its clients go to the same other one"
        before = now
    down = ""
    assert "c:1" not in call_all(), "for a while they stay"
    moment += 600.0
    assert set(call_all()) == {"a:1", "b:1", "c:1"}
    for one in clients:
        one.close()


@pytest.mark.parametrize("order", [1, -1])
def test_of_a_bundle_that_was_written_twice_the_version_of_its_own_is_asked_for(order: int) -> None:
    """It is the first of its name from when versions were counted, and stands beside that by its id."""
    own = version_of("b" * 64)
    told = {"bundle_id_1": "b" * 64, "bundle_id_2": "c" * 64, f"bundle_id_{own}": "b" * 64}
    parameters = {key: {"string_value": value} for key, value in list(told.items())[::order]}
    replicas = Replicas(parse_address("triton://10.0.0.5:8001/gate"), "b" * 64)
    assert replicas._version(replicas._replicas[0], {"parameters": parameters}) == own
    replicas.close()
