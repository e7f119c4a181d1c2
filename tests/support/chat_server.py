"""An OpenAI-compatible chat server on localhost with a real model behind it, and the faults of real servers.

Why not transformers' own server: its picture processors need torchvision, which has no build for the CPU torch
that these tests run with. So this one speaks the same HTTP: it decodes the JPEGs of the request, and the model
that the project loads says what it sees.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np

from edge_runtime.stream.pixels import UInt8Array, prepare
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.prompts import Prompt


@dataclass
class Fault:
    """What is answered instead of a completion."""

    status: int
    body: bytes = b'{"error": {"message": "it is broken"}}'
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class ChatServer:
    """What was asked, and what is to be answered. faults: used up one a request, then the model speaks."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    key: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)

    def pictures(self, request: int) -> list[UInt8Array]:
        """The decoded pictures of one request, BGR."""
        return decoded(self.requests[request])


def decoded(request: dict[str, Any]) -> list[UInt8Array]:
    """The JPEGs of a request's message as pictures."""
    (message,) = request["messages"]
    pictures = []
    for part in message["content"]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/jpeg;base64"
            picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
            assert picture is not None
            pictures.append(np.asarray(picture, dtype=np.uint8))
    return pictures


def completion(mllm: Mllm, request: dict[str, Any]) -> dict[str, Any]:
    """What the model says about a request, as such a server words it."""
    pictures = np.stack([prepare(picture, mllm.pixels) for picture in decoded(request)])
    question = request["messages"][0]["content"][-1]["text"]
    segment = SegmentSpec(frames=len(pictures), sampled=len(pictures))
    answer = mllm.describe(pictures, Prompt("question", question), segment, request["max_tokens"])
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": "length" if answer.cut else "stop"}
    return {"id": "1", "object": "chat.completion", "model": request["model"], "choices": [choice]}


@contextmanager
def chat_server(speak: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[ChatServer]:
    """Serve /v1/chat/completions on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            state.authorizations.append(self.headers["authorization"])
            if self.path.partition("?")[0] != "/v1/chat/completions":
                self._say(Fault(404))
            elif state.key is not None and self.headers["authorization"] != f"Bearer {state.key}":
                self._say(Fault(401, json.dumps({"error": {"message": f"bad key {state.key}"}}).encode()))
            elif state.faults:
                self._say(state.faults.pop(0))
            else:
                state.requests.append(json.loads(body))
                self._say(Fault(200, json.dumps(speak(state.requests[-1])).encode()))

        def _say(self, answer: Fault) -> None:
            self.send_response(answer.status)
            for name, value in {"content-length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = ChatServer(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
