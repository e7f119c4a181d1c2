"""Files from a web server to the disk: resumed where they broke off, no larger than allowed, and never for ever."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime._version import __version__
from edge_runtime.bundle.manifest import FileEntry
from edge_runtime.errors import BundleRefused, OutputFailed, SourceUnavailable, UsageError, one_line
from edge_runtime.files import format_bytes, shown_path
from edge_runtime.fleet import s3
from edge_runtime.fleet.address import Address
from edge_runtime.outputs.http_client import tls_context

log = logging.getLogger(__name__)

_PIECE = 2**18
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
# Statuses after which the same request may be answered otherwise.
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class BrokenOff(SourceUnavailable):
    """A server did not answer, or not to the end; it may the next time.

    Attributes:
        after_s: For how long the server asks to be left alone.
    """

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long is waited for what.

    Attributes:
        connect_s: For a connection, in seconds.
        answer_s: For an answer's headers, all of them, connection included.
        window_s: A body has to bring `window_bytes` in each of these, or it counts as broken off.
        window_bytes: See `window_s`.
        waits_s: Before each further attempt at a file that broke off without a step ahead.
        step_bytes: What counts as a step ahead.
    """

    connect_s: float = 15.0
    answer_s: float = 30.0
    window_s: float = 30.0
    window_bytes: int = 16 * 1024
    waits_s: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0)
    step_bytes: int = 2**20


@dataclass(slots=True)
class Traffic:
    """What went over the network.

    Attributes:
        requests: Answered or not.
        bytes: Of bodies.
    """

    requests: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whose body is not read yet.

    Attributes:
        status: 200, 206, 304 or 416.
        headers: By name, in lower case.
        shown: Who gave it, for messages.
        response: Of http.client.
        patience: As of `Fetcher`.
    """

    status: int
    headers: Mapping[str, str]
    shown: str
    response: http.client.HTTPResponse
    patience: Patience

    @property
    def length(self) -> int | None:
        """Bytes of the body, as stated."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def pieces(self, limit: int) -> Iterator[bytes]:
        """The body.

        Args:
            limit: Bytes that it may have.

        Raises:
            BrokenOff: It ends early, or comes too slowly.
            BundleRefused: It has more.
        """
        patience, got, in_window, until_s = self.patience, 0, 0, time.monotonic() + self.patience.window_s
        while True:
            try:
                # One call of recv at most: a server that sends a byte at a time is noticed.
                piece = self.response.read1(_PIECE)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise BrokenOff(f"{self.shown}: broke off after {got} bytes ({one_line(error)})") from error
            if not piece:
                break
            got += len(piece)
            in_window += len(piece)
            if got > limit:
                raise BundleRefused(
                    f"{self.shown}: is longer than the {limit} bytes that it may have; publish it again"
                )
            yield piece
            if time.monotonic() >= until_s:
                if in_window < patience.window_bytes:
                    raise BrokenOff(
                        f"{self.shown}: too slow, {in_window} bytes in {patience.window_s:g} s; try it again later"
                    )
                in_window, until_s = 0, time.monotonic() + patience.window_s
        if self.length is not None and got < self.length:
            raise BrokenOff(f"{self.shown}: broke off after {got} of {self.length} bytes")


@dataclass(slots=True)
class Fetcher:
    """Asks one address for files.

    Attributes:
        address: Where they lie.
        patience: How long is waited.
        traffic: Counts.
        chance: Gives numbers in [0, 1): waits are longer by up to a half of them.
    """

    address: Address
    patience: Patience = field(default_factory=Patience)
    traffic: Traffic = field(default_factory=Traffic)
    chance: Callable[[], float] = random.random
    _sign: s3.Sign | None = field(init=False, default=None)
    _tls: ssl.SSLContext | None = field(init=False, default=None)

    #: Whether it is known for this round what signs.
    _looked: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        with contextlib.suppress(SourceUnavailable):  # told by the first round
            self._sign = s3.signer(self.address)
            self._looked = True

    def begin(self) -> None:
        """Begin a round: count anew, and look again for keys where there were none, or they were refused.

        Raises:
            SourceUnavailable: Keys cannot be had now.
        """
        self.traffic.requests = self.traffic.bytes = 0
        if not self._looked:
            try:
                self._sign = s3.signer(self.address)
            except UsageError as error:
                # It was in order at the start, so that it may be again.
                raise SourceUnavailable(one_line(error)) from error
        self._looked = self._sign is not None

    @contextlib.contextmanager
    def get(self, address: Address, offset: int = 0, etag: str = "") -> Iterator[Answer]:
        """Ask for a file, across redirects.

        Args:
            address: Of the file.
            offset: Its first bytes, as many as these, are there already.
            etag: Its content under this name is there already: 304 is answered if it is still the same.

        Raises:
            BrokenOff: No answer, or one that asks to come again.
            SourceUnavailable: Another answer than 200, 206, 304 and 416.
        """
        headers = {"user-agent": f"headhunt-edge/{__version__}", "accept-encoding": "identity"}
        if offset:
            headers["range"] = f"bytes={offset}-"
        if etag:
            headers["if-none-match"] = etag
        for _ in range(_MOST_REDIRECTS + 1):
            connection, answer = self._ask(address, headers)
            try:
                if answer.status in {200, 206, 304, 416}:
                    yield answer
                    return
                if answer.status not in _REDIRECTS:
                    raise self._refusal(answer)
                address = self._followed(address, answer)
            finally:
                connection.close()
        raise SourceUnavailable(
            f"{self.address.shown}: redirects more than {_MOST_REDIRECTS} times; name the address that it leads to"
        )

    def read(self, name: str, limit: int, *, seal: str = "", etag: str = "") -> tuple[bytes | None, str]:
        """A small file as a whole, and its ETag; None where it is still the one of `etag`.

        Raises:
            HeadHuntError: As of `get` and `Answer.pieces`.
        """
        for wait_s in (*self.patience.waits_s[:1], None):
            try:
                with self.get(self.address.file(name, seal) if name else self.address, etag=etag) as answer:
                    if answer.status == 304 and etag:
                        return None, etag
                    if answer.status != 200:
                        raise self._refusal(answer)
                    data = b"".join(answer.pieces(limit))
                    self.traffic.bytes += len(data)
                    return data, answer.headers.get("etag", "")
            except BrokenOff as error:
                if wait_s is None:
                    raise
                log.info("%s; it is tried again", one_line(error))
                time.sleep(wait_s * (1 + self.chance() / 2))
        raise AssertionError("the last attempt returns or raises")

    def download(self, entry: FileEntry, part: Path) -> None:
        """Get a file of a bundle, or the rest of it.

        Args:
            entry: What it has to be.
            part: Where it goes; what is there of it is its beginning. Whole and on the disk when this returns.

        Raises:
            BundleRefused: The server has another file.
            SourceUnavailable: It cannot be had now; what came stays in `part`.
            OutputFailed: It cannot be written.
        """
        attempt = 0
        while True:
            begun = _size(part)
            try:
                resumed = self._continue(entry, part)
            except BrokenOff as error:
                if _size(part) - begun >= self.patience.step_bytes:
                    attempt = 0
                if attempt >= len(self.patience.waits_s):
                    raise
                wait_s = max(self.patience.waits_s[attempt], min(error.after_s, 60.0))
                attempt += 1
                log.warning("%s; it is tried again in about %.0f s", one_line(error), wait_s)
                time.sleep(wait_s * (1 + self.chance() / 4))
                continue
            if resumed is None:
                return
            part.unlink(missing_ok=True)
            if not resumed:
                raise BundleRefused(
                    f"{self.address.shown}: {entry.path}: sha256 differs from the manifest; publish it again, files "
                    "first and the manifest last, or wait until the cache has the new one"
                )
            log.warning("%s: what was there of it does not fit; it is fetched anew", entry.path)

    def _continue(self, entry: FileEntry, part: Path) -> bool | None:
        """One request for what is missing. None: it is whole; else wrong, and whether it was put together."""
        have = _size(part)
        if have > entry.bytes:
            part.unlink()
            have = 0
        resumed, digest = have > 0, hashlib.sha256()
        try:
            if have < entry.bytes or not part.exists():
                with self.get(self.address.file(entry.path, entry.sha256), offset=have) as answer:
                    have = self._checked(answer, entry, have)
                    resumed = have > 0
                    with part.open("ab" if have else "wb") as file:
                        for piece in answer.pieces(entry.bytes - have):
                            file.write(piece)
                            self.traffic.bytes += len(piece)
                        file.flush()
                        os.fsync(file.fileno())
            with part.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError as error:
            raise OutputFailed(
                f"{shown_path(part)}: cannot be written ({error.strerror or error}); free some space. "
                "What is there of it is kept"
            ) from error
        if (size := _size(part)) < entry.bytes:
            raise BrokenOff(f"{self.address.shown}: {entry.path}: broke off after {size} of {entry.bytes} bytes")
        return None if digest.hexdigest() == entry.sha256 else resumed

    def _checked(self, answer: Answer, entry: FileEntry, have: int) -> int:
        """From which byte on an answer goes; one that can be no part of the file is refused."""
        if answer.status == 416:
            # It has fewer bytes than there are here.
            return self._mismatch(entry, answer.headers.get("content-range", "other").rpartition("/")[2])
        if answer.status == 206:
            found = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if found is None or int(found[1]) != have:
                raise SourceUnavailable(f"{answer.shown}: answers with another part than was asked for; {_ASK}")
            if int(found[3]) != entry.bytes:
                return self._mismatch(entry, found[3])
            return have
        if answer.status != 200:
            raise self._refusal(answer)
        if answer.length is not None and answer.length != entry.bytes:
            return self._mismatch(entry, str(answer.length))
        return 0

    def _mismatch(self, entry: FileEntry, size: str) -> int:
        raise BundleRefused(
            f"{self.address.shown}: {entry.path}: has {size[:20]} bytes there, the manifest says {entry.bytes}; "
            "publish it again, files first and the manifest last"
        )

    def _ask(self, address: Address, headers: Mapping[str, str]) -> tuple[http.client.HTTPConnection, Answer]:
        sent = dict(headers)
        if address.authorization:
            sent["authorization"] = address.authorization
        if self._sign is not None and address.region:
            sent = self._sign(address, sent)
        connection = self._connection(address)
        self.traffic.requests += 1
        try:
            with _deadline(connection, self.patience.answer_s) as late:
                connection.connect()
                if late.is_set():  # before there was a connection that could be cut
                    raise TimeoutError("no connection")
                connection.request("GET", address.target, headers=sent)
                response = connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            why = getattr(error, "verify_message", None) or one_line(error)
            raise SourceUnavailable(
                f"{address.shown}: its certificate is not trusted ({why}); set SSL_CERT_FILE to "
                "a file with who signed it"
            ) from error
        # A connection that the deadline has closed may fail with anything.
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            connection.close()
            raise BrokenOff(f"{address.shown}: does not answer ({one_line(error)}); check the address") from error
        received = {name.lower(): value for name, value in response.getheaders()}
        return connection, Answer(response.status, received, address.shown, response, self.patience)

    def _connection(self, address: Address) -> http.client.HTTPConnection:
        wait_s = min(self.patience.connect_s, self.patience.window_s)
        if address.scheme == "http":
            return http.client.HTTPConnection(address.host, address.port, timeout=wait_s)
        self._tls = self._tls or tls_context()
        return http.client.HTTPSConnection(address.host, address.port, timeout=wait_s, context=self._tls)

    def _followed(self, address: Address, answer: Answer) -> Address:
        try:
            return address.redirected(answer.headers.get("location", ""))
        except ValueError as error:
            raise SourceUnavailable(f"{address.shown}: {error}; name the address that it leads to") from None

    def _refusal(self, answer: Answer) -> SourceUnavailable:
        status = answer.status
        if status in _LATER:
            after = answer.headers.get("retry-after", "")
            after_s = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
            return BrokenOff(f"{answer.shown}: answers {status}; try it again later", after_s)
        if status in {401, 403}:
            # Keys that were exchanged for others: the next round finds these.
            self._looked = False
            advice = s3.ADVICE if self.address.region and self._sign is None else "check rights, password and address"
        elif status in {404, 410}:
            advice = "name the folder in which manifest.json and manifest.sig lie"
        else:
            advice = _ASK
        return SourceUnavailable(f"{answer.shown}: answers {status}; {advice}")


_ASK = "ask whoever runs the server"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _deadline(connection: http.client.HTTPConnection, seconds: float) -> Iterator[threading.Event]:
    """Cut a connection whose answer's headers do not end in time, though each byte of them may come in time."""
    cut = threading.Event()

    def hang_up() -> None:
        cut.set()
        if (opened := connection.sock) is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which would unwrap it under the hands of who reads.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    late = f"no answer within {seconds:g} s"
    try:
        yield cut
    except Exception as error:
        if cut.is_set():
            raise TimeoutError(late) from error
        raise
    finally:
        timer.cancel()
    if cut.is_set():
        # Headers that were cut off are read as if they had ended there.
        raise TimeoutError(late)


def describe(traffic: Traffic) -> str:
    """What went over the network, for people."""
    return f"{traffic.requests} requests, {format_bytes(traffic.bytes)}"
