"""A gRPC server that speaks as much of Triton's protocol as the edge does, and a TCP proxy that forgets connections.

    with FakeTriton(bundle) as server, Proxy(server.port) as proxy: ... proxy.swallow()

Features of a segment are all its first pixel's first value, so that each answer tells whose it is.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent import futures
from typing import Any

import numpy as np

from edge_runtime.bundle.reader import Bundle


class FakeTriton:
    """Serves one bundle on a free port; a context manager.

    Attributes:
        held: What an answer waits for, by the value that it is of.
        calls: How many inferences were asked for.
        token: What every call has to carry as a bearer's; None where nothing is asked for.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.held: dict[int, threading.Event] = {}
        self.calls = 0
        self.token: str | None = None
        self._server: Any = None
        self.port = 0

    def model_config(self, request: Any) -> Any:
        from tritonclient.grpc import service_pb2

        answer = service_pb2.ModelConfigResponse()
        answer.config.name = request.name
        answer.config.max_batch_size = 4
        answer.config.parameters["bundle_id_1"].string_value = self.bundle.manifest.bundle_id
        return answer

    def infer(self, request: Any) -> Any:
        from tritonclient.grpc import service_pb2

        self.calls += 1
        (given,) = request.inputs
        frames = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(given.shape)
        firsts = frames.reshape(len(frames), -1)[:, 0]
        for one in {int(first) for first in firsts} & self.held.keys():
            self.held[one].wait(60)
        features = np.repeat(firsts[:, None].astype(np.float32), self.bundle.manifest.feature_size, axis=1)
        answer = service_pb2.ModelInferResponse(raw_output_contents=[features.tobytes()])
        answer.outputs.add(name="features", datatype="FP32", shape=features.shape)
        return answer

    def __enter__(self) -> FakeTriton:
        import grpc
        from tritonclient.grpc import service_pb2_grpc

        fake = self

        def check(context: Any) -> None:
            carried = dict(context.invocation_metadata()).get("authorization")
            if fake.token is not None and carried != f"Bearer {fake.token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token has expired")

        class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
            def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802  the protocol's name
                check(context)
                return fake.model_config(request)

            def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802  the protocol's name
                check(context)
                return fake.infer(request)

        self._server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 2**31 - 1)]
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(), self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


class Proxy:
    """Hands bytes on to a port of this machine; a context manager.

    Attributes:
        port: Where it listens.
        connections: How many were made to it.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._swallowed = 0
        self._sockets: list[socket.socket] = []

    def swallow(self) -> None:
        """From now on nothing comes through on connections that are there; they stay open, and new ones work."""
        self._swallowed = self.connections

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self.connections += 1
            self._sockets += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other, self.connections), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if number > self._swallowed:
                    target.sendall(data)
            if number > self._swallowed:
                target.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in accept is not woken by close alone.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for one in (self._listener, *self._sockets):
            one.close()
