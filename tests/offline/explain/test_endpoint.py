"""The endpoint form against a real HTTP server: what it asks, what it forgives, what it says when it gives up.

The server is a small one of our own (see chat_server), because transformers' own needs torchvision, which has no
build for the CPU torch used here. The events' side of it, with the real reference model, is in test_explain.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from chat_server import ChatServer, Fault, chat_server

from edge_runtime.errors import EndpointFailed, UsageError
from edge_runtime.stream.segments import SegmentSpec
from models.family import Answer
from models.prompts import Prompt
from offline.explain.endpoint import ATTEMPTS, ApiKey, Endpoint, Server

SEGMENT = SegmentSpec(frames=48, sampled=2)
ASK = Prompt("question", "What happens in this video?")
KEY = ApiKey("SOME_KEY", "s3cret-key")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """Answers how many pictures it got."""

    def speak(request: dict[str, object]) -> dict[str, object]:
        count = str(request).count("data:image/jpeg")
        return {"choices": [{"message": {"content": f" {count} pictures\n"}, "finish_reason": "stop"}]}

    with chat_server(speak) as found:
        yield found


class Asker:
    """An endpoint that notes its pauses instead of taking them."""

    def __init__(self, url: str, key: ApiKey | None = None) -> None:
        self.pauses: list[float] = []
        self.told: list[str] = []
        self.endpoint = Endpoint(Server(url, "some-model", 50, key, 5.0), self.told.append, self.pauses.append)

    def __call__(self, pictures: int = 1, size: tuple[int, int] = (40, 60)) -> Answer:
        frames = [np.full((*size, 3), 50 + number, np.uint8) for number in range(pictures)]
        with self.endpoint as endpoint:
            return endpoint.describe([endpoint.take(frame) for frame in frames], ASK, SEGMENT)


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert KEY.value not in text
    return text


def test_frames_are_told_in_order_as_the_hunt_tells_them(server: ChatServer) -> None:
    assert Asker(server.url)(3) == Answer("3 pictures", False)
    (request,) = server.requests
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("some-model", 50, 0)
    (message,) = request["messages"]
    texts = [part["text"] for part in message["content"] if part["type"] == "text"]
    assert texts == ["Frame1: ", "Frame2: ", "Frame3: ", ASK.text]
    assert [part["type"] for part in message["content"]] == ["text", "image_url"] * 3 + ["text"]
    for number, picture in enumerate(server.pictures(0)):
        assert picture.shape == (40, 60, 3)
        assert np.abs(picture.astype(int) - 50 - number).max() <= 1
    assert server.authorizations == [None]


@pytest.mark.parametrize("size", [(1080, 1920), (3000, 2), (768, 768)])
def test_large_pictures_are_scaled_down_and_keep_their_shape(server: ChatServer, size: tuple[int, int]) -> None:
    Asker(server.url)(1, size)
    height, width = server.pictures(0)[0].shape[:2]
    assert max(height, width) == 768
    assert abs(height * size[1] - width * size[0]) <= max(size)


def test_url_keeps_its_query_and_takes_a_closing_slash(server: ChatServer) -> None:
    asker = Asker(server.url + "/?api-version=s3cret-key")
    assert asker().text == "1 pictures"
    server.faults = [Fault(400)]
    with pytest.raises(EndpointFailed, match=r"/v1/chat/completions: answered 400 \(it is broken\)") as error:
        Asker(server.url + "/?api-version=s3cret-key")()
    one_line(error)


def test_busy_server_is_asked_again_and_waited_for_as_it_says(server: ChatServer) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.faults = [Fault(500), Fault(429, headers={"retry-after": "7"}), Fault(503, headers={"retry-after": date})]
    asker = Asker(server.url)
    assert asker().text == "1 pictures"
    assert asker.pauses[:2] == [1.0, 7.0]
    assert 20 < asker.pauses[2] <= 30
    assert len(asker.told) == 3
    assert "answered 500 (it is broken)" in asker.told[0]


def test_patience_ends(server: ChatServer) -> None:
    server.faults = [Fault(502, b"<html>") for _ in range(ATTEMPTS + 1)]
    asker = Asker(server.url)
    with pytest.raises(EndpointFailed, match=f"answered 502, {ATTEMPTS} times; .* again later"):
        asker()
    assert len(server.faults) == 1
    assert asker.pauses == [1.0, 2.0, 4.0]


def test_server_that_asks_for_an_hour_is_not_waited_for(server: ChatServer) -> None:
    server.faults = [Fault(429, headers={"retry-after": "3600"})]
    asker = Asker(server.url)
    with pytest.raises(EndpointFailed, match=r"answered 429 .* wait 3600 s"):
        asker()
    assert asker.pauses == []


def test_the_key_is_sent_and_never_shown(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.key = KEY.value
    with pytest.raises(EndpointFailed, match=r"answered 401; .*--api-key-env") as error:
        Asker(server.url)()
    one_line(error)
    wrong = ApiKey("SOME_KEY", "wrong")
    with pytest.raises(EndpointFailed, match=r"answered 401; .* SOME_KEY") as error:
        Asker(server.url, wrong)()
    one_line(error)
    monkeypatch.setenv("SOME_KEY", f"{KEY.value}\n")
    key = ApiKey.from_environment("SOME_KEY")
    assert Asker(server.url, key)().text == "1 pictures"
    # A server that repeats the key in what it complains about.
    server.faults = [Fault(400, b'{"error": {"message": "no model for s3cret-key"}}')]
    with pytest.raises(EndpointFailed, match=r"no model for \*\*\*") as error:
        Asker(server.url, key)()
    one_line(error)
    assert KEY.value not in repr(key) + caplog.text


@pytest.mark.parametrize("value", [None, "", " \n", "two words", "schlüssel", "a\nb"])
def test_variable_without_a_key_is_refused(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UsageError, match="SOME_KEY") as error:
        ApiKey.from_environment("SOME_KEY")
    assert not value or value.strip() == "" or value not in str(error.value)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>garbage", "no JSON"),
        (200, b"\xff\xfe", "no JSON"),
        (200, b"[]", "without any choice"),
        (200, b'{"choices": []}', "without any choice"),
        (200, b'{"error": "model went away"}', r"without any choice \(model went away\)"),
        (200, b'{"choices": [7]}', "holds no text"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "holds no text"),
        (200, b'{"choices": [{"message": {"content": ""}, "finish_reason": "length"}]}', "--max-tokens"),
        (301, b"", "usually ends in /v1"),
        (404, b"{}", "usually ends in /v1"),
        (413, b"", "fewer --frames"),
        (422, b'{"error": {"message": "too\\nmany"}}', r"answered 422 \(too many\)"),
    ],
)
def test_what_is_no_answer_is_named(server: ChatServer, status: int, body: bytes, said: str) -> None:
    server.faults = [Fault(status, body)]
    asker = Asker(server.url)
    with pytest.raises(EndpointFailed, match=said) as error:
        asker()
    assert one_line(error).startswith(f"{server.url}/chat/completions: ")
    assert asker.pauses == []


def test_cut_answer_is_kept_and_marked(server: ChatServer) -> None:
    server.faults = [Fault(200, b'{"choices": [{"message": {"content": "A man"}, "finish_reason": "length"}]}')]
    assert Asker(server.url)() == Answer("A man", True)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    asker = Asker(f"http://127.0.0.1:{port}/v1", KEY)
    with pytest.raises(EndpointFailed, match=f"127.0.0.1:{port}.*cannot be reached .*running") as error:
        asker()
    one_line(error)
    assert len(asker.pauses) == ATTEMPTS - 1


def test_silent_server_is_not_waited_for_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        told: list[str] = []
        with (
            Endpoint(Server(url, "m", 5, timeout_s=0.05), told.append, lambda _: None) as endpoint,
            pytest.raises(EndpointFailed, match=r"no answer within 0.05 s, 4 times; .*--timeout"),
        ):
            endpoint.describe([endpoint.take(np.zeros((8, 8, 3), np.uint8))], ASK, SEGMENT)
        assert len(told) == ATTEMPTS - 1


@pytest.mark.parametrize(
    "url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://[::1/v1", "http://a:b@h"]
)
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError, match="endpoint") as error:
        Endpoint(Server(url, "m", 5))
    assert "a:b" not in str(error.value)
