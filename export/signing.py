"""Signs finished bundles (`manifest.sig`, the one file that the manifest does not list) and scorers of sites."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import msgspec
import numpy as np

from edge_runtime.bundle.keys import PrivateKey, PublicKey, read_private, write_key_pair
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE
from edge_runtime.bundle.reader import Bundle, parse_checked, read_regular, read_signed
from edge_runtime.bundle.signature import (
    BUNDLE,
    SIGNATURES_LIMIT,
    Signed,
    check,
    claimed,
    scorer_purpose,
    sign,
)
from edge_runtime.errors import BundleRefused, UsageError, one_line
from edge_runtime.files import make_folder, printable, shown_path, write_atomic
from edge_runtime.site.learned import Learned
from edge_runtime.strict_json import parse_object

_SCORER_LIMIT = 2**22


def make_key(path: Path, comment: str = "") -> PublicKey:
    """Make a key pair: the private half at `path`, the public half beside it.

    Args:
        path: Nothing may be there; missing folders are made.
        comment: Whose key it is, up to 200 printable characters.

    Raises:
        UsageError: Something is there already, or the comment is no line of text.
        OutputFailed: The files cannot be written.
        MissingExtra: `cryptography` is not installed.
    """
    try:
        key = PrivateKey.generate(comment)
    except ValueError as error:
        raise UsageError(f"{shown_path(path)}: {error}") from None
    make_folder(path.parent)
    write_key_pair(path, key)
    return key.public


def sign_bundle(path: Path, key: Path | PrivateKey) -> list[str]:
    """Check a bundle and sign it.

    Args:
        path: The bundle's folder. Signatures of other keys that are there stay.
        key: The private key, or the file with it.

    Returns:
        Ids of the keys whose signatures are there now.

    Raises:
        BundleRefused: The bundle is not whole, or holds a `manifest.sig` that is no file of signatures.
        UsageError: The key cannot be read.
        OutputFailed: The signature cannot be written.
        MissingExtra: `cryptography` is not installed.
    """
    private = read_private(key) if isinstance(key, Path) else key
    bundle = Bundle.open(path)
    data, _, _ = read_signed(path, None)
    # What is signed is what was checked, also where somebody writes into the folder meanwhile.
    if parse_checked(data, path) != bundle.manifest:
        raise BundleRefused(f"{shown_path(path)}: {MANIFEST} changed while it was read; sign it again")
    target = path / SIGNATURE
    others = read_regular(target, SIGNATURES_LIMIT) if os.path.lexists(target) else None
    text = sign(private, BUNDLE, data, others)
    check([private.public], BUNDLE, data, text)
    write_atomic(target, text.encode())
    return claimed(text)


def sign_scorer(path: Path, bundle: Path, key: Path | PrivateKey, output: Path) -> str:
    """Sign a site's scorer for other devices: those that trust the key take it with `hh-edge pull --scorer`.

    A device signs what was agreed to on it with a key of its own, which no other one knows. Who signs here answers
    for the scorer: it is compared with its bundle, and nothing is known of where the file comes from.

    Args:
        path: `scorer-….json` of a site.
        bundle: The bundle that it is for.
        key: The private key, or the file with it.
        output: The file to publish.

    Returns:
        Id of the key.

    Raises:
        BundleRefused: It is no scorer of a site, or another bundle's.
        UsageError: The key cannot be read.
        OutputFailed: The file cannot be written.
        MissingExtra: `cryptography` is not installed.
    """
    private = read_private(key) if isinstance(key, Path) else key
    opened, shown = Bundle.open(bundle), shown_path(path)
    bundle_id = opened.manifest.bundle_id
    payload = _payload(read_regular(path, _SCORER_LIMIT), shown)
    try:
        learned = msgspec.convert(parse_object(payload), Learned)
    except ValueError as error:
        raise BundleRefused(f"{shown}: is no scorer of a site ({one_line(error)}); copy it again") from None
    if learned.bundle_id != bundle_id:
        raise BundleRefused(
            f"{shown}: is a scorer for the bundle {printable(learned.bundle_id[:8])}, not for {bundle_id[:8]}; "
            "name the bundle that it was taught with"
        )
    if len(learned.weights) != opened.manifest.feature_size + 1 or not np.isfinite(learned.weights).all():
        raise BundleRefused(f"{shown}: its weights are not those of this bundle; copy it again")
    write_atomic(output, Signed.seal(private, scorer_purpose(bundle_id), payload).encode())
    return private.public.id


def _payload(content: bytes, shown: str) -> bytes:
    """What a site's file holds, whoever signed it."""
    try:
        document = parse_object(content)
        text = msgspec.convert(document["payload"], str)
        return text.encode() if "signatures" not in document else base64.b64decode(text, validate=True)
    except (ValueError, KeyError) as error:
        raise BundleRefused(f"{shown}: is no scorer of a site ({one_line(error)}); copy it again") from None
