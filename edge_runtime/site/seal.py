"""Who may have written a site's scorer: this device alone, by its key.

Without the package `cryptography` nothing can be signed or checked; then scorers are written and taken unsigned. A
run that trusts keys for its bundles has the package, so it never takes an unsigned one.
"""

from __future__ import annotations

import json
import logging
import threading
from importlib.util import find_spec
from pathlib import Path

from edge_runtime.bundle.keys import PrivateKey, device_key
from edge_runtime.bundle.signature import Signed, scorer_purpose
from edge_runtime.errors import BundleRefused
from edge_runtime.files import printable, state_folder
from edge_runtime.strict_json import parse_object

log = logging.getLogger(__name__)

_UNSIGNED = "headhunt-unsigned"
_UNDO = "hh-edge feedback --undo goes back to the bundle's own"


class Seal:
    """Signs payloads with the device's key, and opens what it signed. Any thread may call anything.

    Args:
        state: Where the device's key lies; by default in the state folder. It is made with the first payload.
        signs: Whether there is a signature; by default where `cryptography` is installed.
    """

    def __init__(self, state: Path | None = None, *, signs: bool | None = None) -> None:
        self._state = state
        self._signs = find_spec("cryptography") is not None if signs is None else signs
        self._lock = threading.Lock()
        self._key: PrivateKey | None = None
        self._told = False

    def close(self, bundle_id: str, payload: str) -> bytes:
        """The content of a file that holds a payload for one bundle, and no other.

        Raises:
            UsageError: The device's key is there and cannot be used.
            OutputFailed: There is none, and it cannot be written.
        """
        if self._signs:
            return Signed.seal(self._device(), scorer_purpose(bundle_id), payload.encode()).encode()
        self._tell("is not signed")
        return (json.dumps({"format": _UNSIGNED, "version": 1, "payload": payload}) + "\n").encode()

    def open(self, bundle_id: str, content: bytes, what: str) -> bytes:
        """The payload of such a file. Nothing of it is parsed before its signature was checked.

        Args:
            bundle_id: What it has to be for.
            content: Of the file.
            what: What the file is called in messages.

        Raises:
            BundleRefused: This device did not sign it, or not for this bundle, or it was changed since.
            MissingExtra: It is signed, and `cryptography` is not installed.
            UsageError: As of `close`.
            OutputFailed: As of `close`.
        """
        payload = self._unsigned(content, what)
        if payload is None:
            try:
                return Signed.open([self._device().public], scorer_purpose(bundle_id), content, what).payload
            except BundleRefused as error:
                raise BundleRefused(
                    f"{error}; accept one on this device, as the user of the run, or {_UNDO}"
                ) from error
        if self._signs:
            raise BundleRefused(
                f"{what}: is not signed with this device's key; accept a scorer on this device, or {_UNDO}"
            )
        self._tell("cannot be checked")
        return payload

    def _unsigned(self, content: bytes, what: str) -> bytes | None:
        """The payload of a file that says itself that it is not signed; None of any other."""
        try:
            document = parse_object(content)
        except ValueError as error:
            raise BundleRefused(f"{what}: is no scorer of a site ({printable(str(error))}); {_UNDO}") from error
        if document.get("format") != _UNSIGNED:
            return None
        if document.keys() != {"format", "version", "payload"} or document["version"] != 1:
            raise BundleRefused(f"{what}: is no scorer of a site that this headhunt-edge reads; {_UNDO}")
        return str(document["payload"]).encode()

    def _device(self) -> PrivateKey:
        with self._lock:
            if self._key is None:
                self._key = device_key(state_folder() if self._state is None else self._state)
            return self._key

    def _tell(self, why: str) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            log.warning(
                "the site's scorer %s: whoever can write the file can change it; "
                'run: pip install "headhunt-edge[sign]", and accept it again',
                why,
            )
