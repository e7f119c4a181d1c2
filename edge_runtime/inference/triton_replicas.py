"""Servers of which any can answer: connections, what each serves, deadlines, and whose turn it is after a failure."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from edge_runtime.errors import (
    EngineUnreachable,
    InferenceFailed,
    OutOfMemory,
    ProviderUnavailable,
    UsageError,
    first_line,
)
from edge_runtime.files import printable
from edge_runtime.inference.engine import is_out_of_memory
from edge_runtime.inference.triton_address import TOKEN_VARIABLE, TritonAddress
from edge_runtime.inference.triton_connection import (
    Connection,
    NotServed,
    ServerFailed,
    load_tritonclient,
    open_client,
)
from edge_runtime.inference.triton_names import (
    BUNDLE_PARAMETER,
    LOSS_PARAMETER,
    QUALITY_PARAMETER,
    base_name,
    jpeg_model,
    language_model,
    segment_model,
)

log = logging.getLogger(__name__)

# Seconds until a server that failed is asked again: doubled with each failure, up to the longest.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0
# Seconds, on average, until a client draws anew which of several servers it asks first.
_DRAW_S = 300.0
# What asking a server for what it serves may take: nothing is computed for it.
_CHECK_S = 2.0
# The same when the engine opens: the first connection takes longer.
_OPEN_S = 5.0
# How much longer than its deadline a call is waited for: gRPC ends it by itself.
_GRACE_S = 0.5
# Answers that another try may change; the others say that the request or the model is wrong.
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "ABORTED")
# Of those, what says that nothing came from the server at all.
_SILENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
# What says that the token is not taken.
_REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")


@dataclass(frozen=True, slots=True)
class Served:
    """What a server has of a bundle.

    Attributes:
        base: What the models' names begin with.
        version: Of its models.
        most: How many segments one call may have.
        quality: Of the JPEG that it was measured with; None where frames travel as they are.
        loss: What that did to the golden features, as a share of their scale.
    """

    base: str
    version: int
    most: int
    quality: int | None = None
    loss: float = 0.0


@dataclass(slots=True, eq=False)
class Replica:
    """One server.

    Attributes:
        place: HOST:PORT.
        connection: To it.
        served: What it serves; None until it was asked, and again after it failed.
        failures: How often it failed since it last answered.
        due_s: When it may be asked again, on the monotonic clock.
    """

    place: str
    connection: Connection
    served: Served | None = None
    failures: int = 0
    due_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Replicas:
    """All servers of an address; any thread may call.

    Args:
        address: Where they are.
        bundle_id: Of the bundle that they must serve.

    Raises:
        MissingExtra: tritonclient is not installed.
        UsageError: A token cannot be read.
        ProviderUnavailable: A certificate cannot be read.
    """

    def __init__(self, address: TritonAddress, bundle_id: str) -> None:
        self._triton = load_tritonclient()
        self._address = address
        self._bundle_id = bundle_id
        self._base = address.name or base_name(bundle_id)
        self._headers = address.headers()
        self._token_told = False
        self._over = threading.Event()
        self._running: set[Any] = set()
        self._changing = threading.Lock()
        try:
            self._replicas = [
                Replica(place, Connection(place, partial(open_client, place, address))) for place in address.replicas
            ]
        except OSError as error:
            raise ProviderUnavailable(
                f"{printable(str(error.filename))}: the certificate or key cannot be read ({error.strerror})"
            ) from error
        self._preferred, self._drawn_until_s = 0, 0.0

    def open(self) -> list[Served]:
        """Ask every server what it serves; returns what those said that answer.

        Raises:
            ProviderUnavailable: None answers, or one serves something else; the message says what to do.
        """
        found: list[Served] = []
        failures: list[ServerFailed] = []
        for replica in self._replicas:
            try:
                found.append(self._check(replica, min(self._address.deadline_s, _OPEN_S)))
            except ServerFailed as error:
                if not error.passing:
                    raise ProviderUnavailable(str(error)) from error
                failures.append(error)
                self._failed(replica)
        if not found:
            raise ProviderUnavailable(
                f"{failures[0]}; look at the address and the server, or choose another --provider"
            ) from failures[0]
        for one in failures:
            log.warning("%s; the other servers are asked meanwhile", one)
        return found

    def deadline_s(self) -> float:
        """When a call that begins now has to end, on the monotonic clock."""
        return time.monotonic() + self._address.deadline_s

    def call(self, ask: Callable[[Replica, Served, float], Any], end_s: float) -> Any:
        """Have one of the servers answer in time.

        A server that fails is left alone for a while, longer each time, and the next one is asked. A call that begins
        while all have failed asks each once, so that what cannot be scored is known soon.

        Args:
            ask: Sends a request to a server, and waits so many seconds for its answer.
            end_s: When this has to end, on the monotonic clock.

        Raises:
            EngineUnreachable: None answers, or those that do have nothing of the bundle.
            InferenceFailed: One answers, and says that it cannot; or the engine was abandoned.
        """
        once = all(replica.failures for replica in self._replicas)
        asked: set[str] = set()
        final: ServerFailed | None = None
        latest: ServerFailed | None = None
        while True:
            self.raise_if_over()
            others = [replica for replica in self._in_turn() if not (once and replica.place in asked)]
            replica = min(others, key=lambda one: max(one.due_s, time.monotonic()), default=None)
            now_s = time.monotonic()
            if replica is None or max(replica.due_s, now_s) >= end_s:
                raise self._unreachable(latest) from latest
            if replica.due_s > now_s:
                self._over.wait(replica.due_s - now_s)
                continue
            asked.add(replica.place)
            left_s = end_s - now_s
            # One that hangs must not use up what another could answer in.
            allowed_s = left_s if len(others) == 1 else left_s / 2
            try:
                served = replica.served or self._check(replica, min(allowed_s, _CHECK_S))
                answer = ask(replica, served, max(allowed_s - (time.monotonic() - now_s), 0.001))
            except ServerFailed as error:
                self.raise_if_over()
                latest = error
                if error.passing and not replica.failures:
                    log.warning("%s; it is tried again", error)
                self._failed(replica)
                if error.passing:
                    continue
                # It would say the same again: nothing is gained by waiting for it.
                replica.due_s, replica.failures = 0.0, 0
                final = error
                rest = [one for one in self._replicas if one.place not in asked]
                if not rest:
                    kind = OutOfMemory if is_out_of_memory(final) else InferenceFailed
                    raise (EngineUnreachable if isinstance(final, NotServed) else kind)(str(final)) from final
                once = True
                continue
            if replica.failures:
                log.warning("Triton server %s answers again", replica.place)
            replica.failures, replica.due_s = 0, 0.0
            return answer

    def infer(self, replica: Replica, model: tuple[str, int], given: Any, output: str, allowed_s: float) -> Any:
        """One request to one server.

        Args:
            replica: The server.
            model: Name and version.
            given: Its one input, tritonclient's.
            output: The name of what is wanted.
            allowed_s: Seconds until it counts as failed.

        Returns:
            The array; None where it did not come.

        Raises:
            ServerFailed: It did not answer in time, or with an error.
        """
        answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        headers = self._headers_now()
        with replica.connection.link() as link:
            try:
                with link.sending:
                    context = link.client.async_infer(
                        model[0],
                        [given],
                        lambda result, error: answers.put((result, error)),
                        model_version=str(model[1]),
                        outputs=[self._triton.InferRequestedOutput(output)],
                        client_timeout=allowed_s,
                        headers=headers,
                    )
            except Exception as error:
                raise self._server_failed(replica, error) from error
            with self._changing:
                self._running.add(context)
            try:
                if self._over.is_set():
                    context.cancel()
                result, failure = answers.get(timeout=allowed_s + _GRACE_S)
            except queue.Empty:
                context.cancel()
                raise ServerFailed(
                    f"Triton server {replica.place} does not answer", passing=True, silent=True
                ) from None
            finally:
                with self._changing:
                    self._running.discard(context)
            if failure is not None:
                raise self._server_failed(replica, failure)
        try:
            return result.as_numpy(output)
        except Exception as unreadable:
            raise ServerFailed(
                f"Triton server {replica.place}: its answer cannot be read ({printable(first_line(unreadable))})",
                passing=False,
            ) from unreadable

    def abandon(self) -> None:
        """End all calls, now and later."""
        self._over.set()
        with self._changing:
            running = list(self._running)
        for context in running:
            context.cancel()

    def close(self) -> None:
        """End all calls and connections."""
        self.abandon()
        for replica in self._replicas:
            replica.connection.close()

    def raise_if_over(self) -> None:
        """Raise InferenceFailed where the engine was abandoned."""
        if self._over.is_set():
            raise InferenceFailed("the run was abandoned")

    def _in_turn(self) -> list[Replica]:
        if (now_s := time.monotonic()) >= self._drawn_until_s:
            # Many processes with the same address do not all ask the first; nor for ever the one that was the last
            # to be started again, to which all have come by then.
            self._preferred = random.randrange(len(self._replicas))  # noqa: S311  no secret
            self._drawn_until_s = now_s + _DRAW_S * random.uniform(0.5, 1.5)  # noqa: S311  no secret
        first = self._preferred
        return [*self._replicas[first:], *self._replicas[:first]]

    def _failed(self, replica: Replica) -> None:
        with replica.lock:
            wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(replica.failures, 10))
            # Many clients of one server do not all come back at the same moment.
            replica.due_s = time.monotonic() + wait_s * random.uniform(0.75, 1.25)  # noqa: S311  no secret
            replica.failures += 1
            # It may come back with something else.
            replica.served = None
        # Not all of its clients go to the same other one.
        others = [place for place, one in enumerate(self._replicas) if one is not replica]
        self._preferred = random.choice(others or [0])  # noqa: S311  no secret

    def _check(self, replica: Replica, allowed_s: float) -> Served:
        """Ask a server what it serves; raises ServerFailed where that is not this bundle."""
        end_s = time.monotonic() + allowed_s
        base = self._base
        configuration = self._configuration(replica, language_model(base), end_s)
        version = self._version(replica, configuration)
        wants_jpeg = self._address.wire == "jpeg"
        ensemble = jpeg_model(base, version) if wants_jpeg else segment_model(base, version)
        configuration = self._configuration(replica, ensemble, end_s)
        quality, loss = None, 0.0
        if wants_jpeg:
            told = _parameters(configuration)
            try:
                quality, loss = int(told[QUALITY_PARAMETER]), float(told[LOSS_PARAMETER])
            except (KeyError, ValueError):
                raise ServerFailed(
                    f"Triton server {replica.place}: {ensemble} does not say what JPEG does; write its "
                    "repository again with `hh-offline triton --jpeg`",
                    passing=False,
                ) from None
        most = _number(configuration.get("max_batch_size"))
        replica.served = Served(base, version, max(1, most), quality, loss)
        return replica.served

    def _headers_now(self) -> dict[str, str] | None:
        """What a call carries: tokens in files are exchanged while a run lasts, before the old ones are refused."""
        try:
            self._headers, self._token_told = self._address.headers(), False
        except UsageError as error:
            if not self._token_told:
                self._token_told = True
                log.warning("%s; the one before is used until it can be", error)
        return self._headers or None

    def _configuration(self, replica: Replica, model: str, end_s: float) -> Mapping[str, Any]:
        left_s = max(end_s - time.monotonic(), 0.001)
        with replica.connection.link() as link:
            try:
                answer = link.client.get_model_config(
                    model, as_json=True, client_timeout=left_s, headers=self._headers_now()
                )
                configuration: Mapping[str, Any] = answer["config"]
            except Exception as error:
                failed = self._server_failed(replica, error)
                if _status(error) in ("NOT_FOUND", "INVALID_ARGUMENT") or "unknown model" in str(error):
                    raise NotServed(
                        f"Triton server {replica.place} has no model {model}; write it into its repository with "
                        "`hh-offline triton`, or name another one behind the address"
                    ) from error
                raise failed from error
        return configuration

    def _version(self, replica: Replica, configuration: Mapping[str, Any]) -> int:
        prefix = BUNDLE_PARAMETER.format(version="")
        versions = {
            int(key.removeprefix(prefix)): value
            for key, value in _parameters(configuration).items()
            if key.startswith(prefix) and key.removeprefix(prefix).isdecimal()
        }
        # The largest of a bundle that has several: the number that no other bundle has, not one that was counted.
        there = {versions[version]: version for version in sorted(versions)}
        if self._bundle_id not in there:
            others = ", ".join(printable(one[:12]) for one in there) or "none that says so"
            raise NotServed(
                f"Triton server {replica.place} serves another bundle as {self._base}: {others}, not "
                f"{self._bundle_id[:12]}; write this one into its repository with `hh-offline triton`"
            )
        return there[self._bundle_id]

    def _server_failed(self, replica: Replica, error: Exception) -> ServerFailed:
        status = _status(error)
        message = getattr(error, "message", None)
        text = printable(first_line(Exception(message() if callable(message) else str(error))))
        if status == "DEADLINE_EXCEEDED":
            text = "no answer in time"
        if status == "NOT_FOUND":
            return NotServed(f"Triton server {replica.place}: {text}")
        if status in _REFUSED:
            return NotServed(
                f"Triton server {replica.place}: {text}; give it a token that it takes (token_file, {TOKEN_VARIABLE})"
            )
        return ServerFailed(f"Triton server {replica.place}: {text}", status in _PASSING, status in _SILENT)

    def _unreachable(self, latest: ServerFailed | None) -> EngineUnreachable:
        if latest is not None:
            return EngineUnreachable(str(latest))
        return EngineUnreachable(f"no Triton server answers ({', '.join(self._address.replicas)})")


def _status(error: Exception) -> str:
    status = getattr(error, "status", None)
    return str(status() if callable(status) else "").removeprefix("StatusCode.")


def _parameters(configuration: Mapping[str, Any]) -> dict[str, str]:
    found = configuration.get("parameters", {})
    return {str(key): str(value.get("string_value", "")) for key, value in found.items() if isinstance(value, dict)}


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
