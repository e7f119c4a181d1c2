"""A model behind an OpenAI-compatible server.

The API key lives in one header: no log line and no error shows it, nor a URL's query, where some keep theirs.
"""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx2
import numpy as np

from edge_runtime.errors import EndpointFailed, UsageError
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import SegmentSpec
from models.family import Answer
from models.prompts import Prompt

ATTEMPTS = 4
_FIRST_PAUSE_S = 1.0
# Longer than this a person would rather be told: what is described is kept, and the command can be run again.
_LONGEST_PAUSE_S = 60.0
# Servers scale larger pictures down, or charge and wait for them.
_LONGEST_SIDE = 768
_JPEG_QUALITY = 90
_SAID = 200


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and the environment variable it came from, which is the only one of the two to be shown."""

    variable: str
    value: str = field(repr=False)

    @classmethod
    def from_environment(cls, variable: str) -> ApiKey:
        """Read the key from an environment variable.

        Raises:
            UsageError: The variable is not set, or holds what no HTTP header can.
        """
        value = os.environ.get(variable, "").strip()
        if not value:
            raise UsageError(f"the environment variable {variable} is not set; put the API key into it")
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise UsageError(f"the environment variable {variable} holds no API key: a key is one printable word")
        return cls(variable, value)


@dataclass(frozen=True, slots=True)
class Server:
    """A model behind a server.

    Attributes:
        url: Up to and including the version, as `http://host:8000/v1`.
        model: The model's name there.
        max_tokens: The longest answer.
        key: The API key.
        timeout_s: For connecting, and for every pause of the server, in seconds.
    """

    url: str
    model: str
    max_tokens: int
    key: ApiKey | None = None
    timeout_s: float = 120.0


class Endpoint:
    """POST {url}/chat/completions, with patience for a server that is busy; a context manager.

    Args:
        server: Who is asked.
        say: Told of every repeated attempt.
        sleep: Waits between attempts.

    Raises:
        UsageError: The server's URL is none.
    """

    def __init__(
        self,
        server: Server,
        say: Callable[[str], None] = lambda text: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parsed = _parse(server.url)
        self._url = parsed.copy_with(path=parsed.path.rstrip("/") + "/chat/completions")
        self._shown = str(self._url.copy_with(query=None))
        self._model = server.model
        self._max_tokens = server.max_tokens
        self._key = server.key
        self._timeout_s = server.timeout_s
        self._say = say
        self._sleep = sleep
        # At level INFO it logs whole URLs.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        headers = {} if server.key is None else {"Authorization": f"Bearer {server.key.value}"}
        self._client = httpx2.Client(headers=headers, timeout=server.timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    @property
    def model(self) -> str:
        """The name that the server was asked for."""
        return self._model

    def take(self, picture: UInt8Array) -> UInt8Array:
        """Make the picture a JPEG, scaled down to 768 pixels on its longer side: uint8 (bytes,)."""
        import cv2

        height, width = picture.shape[:2]
        scale = _LONGEST_SIDE / max(height, width)
        if scale < 1:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        return np.asarray(encoded, dtype=np.uint8)

    def describe(self, taken: Sequence[UInt8Array], prompt: Prompt, segment: SegmentSpec) -> Answer:
        """Ask the server; greedy, as far as it can be asked to be.

        The frames are told as in the hunt: `Frame1: ` and its picture, and so on, then the question.

        Raises:
            EndpointFailed: It cannot be reached, refuses, or answers with something else.
        """
        content: list[dict[str, Any]] = []
        for number, jpeg in enumerate(taken, 1):
            data = base64.b64encode(jpeg.tobytes()).decode()
            content.append({"type": "text", "text": f"Frame{number}: "})
            content.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}})
        content.append({"type": "text", "text": prompt.text.strip()})
        return self._answer(
            self._post(
                {
                    "model": self._model,
                    "messages": [{"role": "user", "content": content}],
                    "max_tokens": self._max_tokens,
                    "temperature": 0,
                }
            )
        )

    def _post(self, body: dict[str, Any]) -> httpx2.Response:
        """The answer with status 200; tried again where that may help."""
        for attempt in range(1, ATTEMPTS + 1):
            pause_s = _FIRST_PAUSE_S * 2 ** (attempt - 1)
            try:
                response = self._client.post(self._url, json=body)
            except httpx2.TimeoutException:
                problem, way_out = f"no answer within {self._timeout_s:g} s", "give it longer with --timeout"
            except httpx2.RequestError as error:
                reason = self._clean(str(error)) or type(error).__name__
                problem, way_out = f"cannot be reached ({reason})", "is the server running, and is the URL right?"
            else:
                if response.status_code == 200:
                    return response
                if response.status_code != 429 and response.status_code < 500:
                    raise self._refused(response)
                problem = f"answered {response.status_code}{self._said(response)}"
                way_out = "the server is busy or broken, run this again later"
                asked_s = _retry_after_s(response.headers.get("retry-after"))
                if asked_s is not None and asked_s > _LONGEST_PAUSE_S:
                    raise EndpointFailed(
                        f"{self._shown}: {problem} and asks to wait {asked_s:.0f} s; run this again then"
                    )
                pause_s = pause_s if asked_s is None else asked_s
            if attempt < ATTEMPTS:
                self._say(f"{self._shown}: {problem}; trying again in {pause_s:g} s")
                self._sleep(pause_s)
        raise EndpointFailed(f"{self._shown}: {problem}, {ATTEMPTS} times; {way_out}")

    def _refused(self, response: httpx2.Response) -> EndpointFailed:
        status = response.status_code
        if status in (401, 403):
            if self._key is None:
                way_out = "it wants a key: name the environment variable that holds it with --api-key-env"
            else:
                way_out = f"it does not take the key in {self._key.variable}; put the right one there"
            return EndpointFailed(f"{self._shown}: answered {status}; {way_out}")
        if status in (404, 405) or 300 <= status < 400:
            way_out = "the endpoint's URL usually ends in /v1, and --model must name a model that it serves"
        elif status == 413:
            way_out = "ask with fewer --frames"
        else:
            way_out = "does its model take that many pictures? --frames asks with fewer"
        return EndpointFailed(f"{self._shown}: answered {status}{self._said(response)}; {way_out}")

    def _answer(self, response: httpx2.Response) -> Answer:
        try:
            document = response.json()
        except ValueError:
            raise EndpointFailed(
                f"{self._shown}: answered 200 with something that is no JSON; is it an OpenAI-compatible server, "
                "and does its URL end in /v1?"
            ) from None
        choices = document.get("choices") if isinstance(document, dict) else None
        if not isinstance(choices, list) or not choices:
            raise EndpointFailed(
                f"{self._shown}: answered 200 without any choice{self._said(response)}; "
                "is it an OpenAI-compatible server, and can its model see pictures?"
            )
        choice = choices[0] if isinstance(choices[0], dict) else {}
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        cut = choice.get("finish_reason") == "length"
        if cut and not text:
            raise EndpointFailed(
                f"{self._shown}: the answer was cut at {self._max_tokens} tokens before its first word; "
                "raise --max-tokens"
            )
        if not isinstance(text, str):
            raise EndpointFailed(f"{self._shown}: answered 200 with a choice that holds no text; try another --model")
        return Answer(text.strip(), cut)

    def _said(self, response: httpx2.Response) -> str:
        """What the server says went wrong, in brackets; nothing where it does not say it the usual way."""
        try:
            error = response.json()["error"]
            text = error["message"] if isinstance(error, dict) else error
        except (ValueError, TypeError, KeyError):
            return ""
        return f" ({self._clean(text)[:_SAID]})" if isinstance(text, str) else ""

    def _clean(self, text: str) -> str:
        """One line without the key: some servers repeat it."""
        if self._key is not None:
            text = text.replace(self._key.value, "***")
        return " ".join(text.split())


def _parse(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, UnicodeError):
        parsed = httpx2.URL("")
    if parsed.userinfo:
        raise UsageError("the endpoint's URL holds a user or password; leave them out, keys go by --api-key-env")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError("the endpoint is no http:// or https:// URL; write for instance http://host:8000/v1")
    return parsed.copy_with(fragment=None)


def _retry_after_s(header: str | None) -> float | None:
    """Seconds until another attempt is welcome (RFC 9110, 10.2.3: a number, or a date); None where not said."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
