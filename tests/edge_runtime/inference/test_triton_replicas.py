"""What servers say while a run lasts, told apart: nothing of the bundle is there, no memory, a graph that fails."""

from __future__ import annotations

import pytest

from edge_runtime.errors import EngineUnreachable, InferenceFailed, OutOfMemory
from edge_runtime.inference.triton_address import parse_address
from edge_runtime.inference.triton_connection import Connection
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
    replicas = Replicas(parse_address("triton://10.0.0.5:8001?deadline_s=0.3"), "b" * 64)
    replica = replicas._replicas[0]
    replica.connection, replica.served = Connection(replica.place, lambda: Saying(status, text)), served

    def ask(to: Replica, there: Served, allowed_s: float) -> object:
        return replicas.infer(to, (there.base, 1), None, "features", allowed_s)

    with pytest.raises(InferenceFailed) as told:
        replicas.call(ask, replicas.deadline_s())
    assert type(told.value) is expected
    replicas.close()
