"""Signs finished bundles: `manifest.sig` beside the manifest, the one file that the manifest does not list."""

from __future__ import annotations

import os
from pathlib import Path

from edge_runtime.bundle.keys import PrivateKey, PublicKey, read_private, write_key_pair
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE
from edge_runtime.bundle.reader import Bundle, parse_checked, read_regular, read_signed
from edge_runtime.bundle.signature import BUNDLE, SIGNATURES_LIMIT, check, claimed, sign
from edge_runtime.errors import BundleRefused, UsageError
from edge_runtime.files import make_folder, shown_path, write_atomic


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
