"""Damage and forge signed bundles at random, and open each: none that differs may be accepted.

    python -m benchmarks.faults.bundles --bundle bundle/ --count 10000

A copy of a bundle is signed with a key. Each time one thing is done to it: a bit of some file is flipped, a file is
cut, emptied, filled, removed, put in another's place, or another is added; the manifest says something else, and is
hashed and sealed anew as by somebody who knows the format; the signature is that of another bundle, another key,
another purpose, several, none, or JSON that two parsers read differently. Then it is opened with the key as the only
trusted one, without a key, and (one time in ten) by way of a folder of its own, as `hh-edge run` does. What is
accepted with the key must be the very bundle that was signed, and whatever is refused must be refused in one line.
Prints what was not so and exits with 1, else one line of counts.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, bundle_id
from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.signature import BUNDLE, scorer_purpose, sign
from edge_runtime.bundle.strongroom import Strongroom
from edge_runtime.errors import BundleRefused
from edge_runtime.files import sha256

# What JSON is filled with.
_ODD = (None, True, -1, 0, 1e308, 2**64, 10**400, "", "x" * 70_000, "\0", "\ud800", [], {}, [[]], {"a": {}}, "../x")


class Forger:
    """One signed bundle, and what can be done to it.

    Args:
        bundle: Any bundle; it is copied.
        work: An empty folder.
    """

    def __init__(self, bundle: Path, work: Path) -> None:
        self.folder = work / "bundle"
        shutil.copytree(bundle, self.folder)
        (self.folder / SIGNATURE).unlink(missing_ok=True)
        self.key, self.stranger = PrivateKey.generate("builder"), PrivateKey.generate("builder")
        self.manifest = (self.folder / MANIFEST).read_bytes()
        self.signature = sign(self.key, BUNDLE, self.manifest)
        (self.folder / SIGNATURE).write_text(self.signature)
        self.content = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        self.room = Strongroom(work / "room", [self.key.public])
        self.ways: dict[str, Callable[[random.Random], object]] = {
            "flip a bit": self._flip,
            "cut a file": self._cut,
            "lengthen a file": self._lengthen,
            "fill a file": self._fill,
            "swap two files": self._swap,
            "remove a file": self._remove,
            "add a file": self._add,
            "link a file": self._link,
            "edit the manifest": self._edit,
            "edit the manifest's text": self._edit_text,
            "alter a file and seal anew": self._alter,
            "alter, seal and sign as a stranger": self._alter_and_sign,
            "sign as a stranger": self._sign_as_stranger,
            "sign something else": self._sign_else,
            "mix signatures": self._mix,
            "edit the signature": self._edit_signature,
            "edit the signature's text": self._edit_signature_text,
        }

    def tried(self, way: str, rng: random.Random, kept: bool = False) -> tuple[str, list[str]]:
        """Do one thing, open what comes of it, and undo it.

        Args:
            way: One of `ways`.
            rng: Decides how.
            kept: Whether it is opened by way of a folder of its own, too.

        Returns:
            `refused`, or `same` where it was accepted and is what was signed; and what should not have been.
        """
        self.ways[way](rng)
        try:
            return self._opened(kept)
        finally:
            self._undo()

    def _opened(self, kept: bool) -> tuple[str, list[str]]:
        found: list[str] = []
        accepted = self._accepted("with the key", lambda: Bundle.open(self.folder, [self.key.public]), found)
        self._accepted("without a key", lambda: Bundle.open(self.folder), found)
        if kept:
            copied = self._accepted("in its own folder", lambda: self.room.open(self.folder), found)
            if copied and not self._is_same(next(self.room.folder.glob("[0-9a-f]*"))):
                found.append("the copy is another bundle than was signed")
        if accepted and not self._is_same(self.folder):
            found.append("accepted, and not what was signed")
        return ("same" if accepted else "refused"), found

    @staticmethod
    def _accepted(how: str, opened: Callable[[], object], found: list[str]) -> bool:
        try:
            opened()
        except BundleRefused as error:
            if not str(error).isprintable():
                found.append(f"{how}: not one printable line: {error}")
            return False
        except Exception as error:  # noqa: BLE001 - what is looked for
            found.append(f"{how}: {type(error).__name__}: {error}")
            return False
        return True

    def _is_same(self, folder: Path) -> bool:
        """All but the signature, which may be written in other ways."""
        there = {path.name: path for path in folder.iterdir()}
        return there.keys() == self.content.keys() and all(
            path.read_bytes() == self.content[name] for name, path in there.items() if name != SIGNATURE
        )

    def _undo(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in self.content:
                path.unlink()
        for name, content in self.content.items():
            path = self.folder / name
            # By its size first: it may say that it has gigabytes.
            whole = path.is_file() and not path.is_symlink() and path.stat().st_size == len(content)
            if not whole or path.read_bytes() != content:
                path.unlink(missing_ok=True)
                path.write_bytes(content)

    # ---- files

    def _any(self, rng: random.Random) -> Path:
        return self.folder / rng.choice(sorted(self.content))

    def _flip(self, rng: random.Random) -> None:
        path = self._any(rng)
        with path.open("r+b") as file:
            at = rng.randrange(path.stat().st_size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << rng.randrange(8)]))

    def _cut(self, rng: random.Random) -> None:
        path = self._any(rng)
        os.truncate(path, rng.choice((0, 1, path.stat().st_size - 1, rng.randrange(path.stat().st_size))))

    def _lengthen(self, rng: random.Random) -> None:
        path = self._any(rng)
        with path.open("ab") as file:
            file.write(rng.choice((b"\0", b"\n", b" ", rng.randbytes(100), path.read_bytes()[:100_000])))

    def _fill(self, rng: random.Random) -> None:
        # Holes take no space on the disk: a file that says it is huge.
        path = self._any(rng)
        if rng.random() < 0.5:
            os.truncate(path, rng.choice((2**20, 2**26 + 1, 2**33)))
        else:
            path.write_bytes(rng.choice((b"\0", b"{", b"[", b'"', rng.randbytes(7))) * rng.randrange(1, 20_000))

    def _swap(self, rng: random.Random) -> None:
        one, other = (self.folder / name for name in rng.sample(sorted(self.content), 2))
        one.rename(self.folder / "aside")
        other.rename(one)
        (self.folder / "aside").rename(other)

    def _remove(self, rng: random.Random) -> None:
        path = self._any(rng)
        path.unlink()
        if rng.random() < 0.3:
            path.mkdir()

    def _add(self, rng: random.Random) -> None:
        name = rng.choice(("extra.onnx", "manifest.json.bak", "manifest.sig2", "..x", "\n", "a" * 200))
        (self.folder / name).write_bytes(rng.randbytes(rng.randrange(100)))

    def _link(self, rng: random.Random) -> None:
        path = self._any(rng)
        path.unlink()
        path.symlink_to(rng.choice(("/etc/passwd", "/dev/zero", "nowhere", self.folder.parent / "room", path.name)))

    # ---- the manifest

    def _edit(self, rng: random.Random) -> None:
        document = json.loads(self.manifest)
        for _ in range(rng.randint(1, 3)):
            _change(document, rng)
        self._write(document, rng.random() < 0.7)

    def _edit_text(self, rng: random.Random) -> None:
        (self.folder / MANIFEST).write_bytes(_retold(self.manifest, rng))

    def _alter(self, rng: random.Random) -> None:
        """What the attack does that hashes alone do not see: other weights, with hashes to match."""
        document = json.loads(self.manifest)
        names = [entry["path"] for entry in document["files"]]
        path = self.folder / rng.choice(names)
        content = bytearray(path.read_bytes())
        for _ in range(rng.choice((1, 8, 1000))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        for entry in document["files"]:
            if entry["path"] == path.name:
                entry |= {"sha256": sha256(path), "bytes": path.stat().st_size}
        self._write(document, sealed=True)

    def _write(self, document: Any, sealed: bool) -> None:
        if sealed and isinstance(document, dict):
            with contextlib.suppress(ValueError, RecursionError):
                document["bundle_id"] = bundle_id(document)
        (self.folder / MANIFEST).write_bytes(json.dumps(document).encode("utf-8", "surrogatepass"))

    def _alter_and_sign(self, rng: random.Random) -> None:
        self._alter(rng)
        data = (self.folder / MANIFEST).read_bytes()
        text = sign(self.stranger, BUNDLE, data, self.signature if rng.random() < 0.5 else None)
        (self.folder / SIGNATURE).write_text(self._renamed(text, rng))

    # ---- the signature

    def _renamed(self, text: str, rng: random.Random) -> str:
        """Sometimes in the name of the key that is trusted: whose id it says proves nothing."""
        if rng.random() < 0.5 or self.key.public.id in text:
            return text
        return text.replace(self.stranger.public.id, self.key.public.id)

    def _sign_as_stranger(self, rng: random.Random) -> None:
        (self.folder / SIGNATURE).write_text(self._renamed(sign(self.stranger, BUNDLE, self.manifest), rng))

    def _sign_else(self, rng: random.Random) -> None:
        """The trusted key's own signature, of another bundle or for another purpose."""
        document = json.loads(self.manifest)
        other = self.manifest.replace(b'"created": "2', b'"created": "3', 1)
        purpose, data = rng.choice(
            (
                (BUNDLE, other if other != self.manifest else self.manifest + b" "),
                (BUNDLE, self.manifest.rstrip()),
                (BUNDLE, b""),
                (scorer_purpose(document["bundle_id"]), self.manifest),
                ("bundle", b"-manifest\0" + self.manifest),
            )
        )
        (self.folder / SIGNATURE).write_text(sign(self.key, purpose, data))

    def _mix(self, rng: random.Random) -> None:
        """Others' signatures beside the good one, or in its place."""
        document = json.loads(self.signature)
        good = document["signatures"][0]
        others = [{"key": rng.randbytes(8).hex(), "signature": _base64(rng.randbytes(64))} for _ in range(3)]
        forged = {"key": good["key"], "signature": _base64(rng.randbytes(64))}
        weak = {"key": good["key"], "signature": _base64(bytes([1]) + bytes(63))}
        document["signatures"] = rng.choice(
            ([], others, [*others, good], [good, *others * 30], [good, good], [forged, good], [good, forged], [weak])
        )
        (self.folder / SIGNATURE).write_text(json.dumps(document))

    def _edit_signature(self, rng: random.Random) -> None:
        document = json.loads(self.signature)
        for _ in range(rng.randint(1, 3)):
            _change(document, rng)
        (self.folder / SIGNATURE).write_bytes(json.dumps(document).encode("utf-8", "surrogatepass"))

    def _edit_signature_text(self, rng: random.Random) -> None:
        (self.folder / SIGNATURE).write_bytes(_retold(self.signature.encode(), rng))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _change(document: Any, rng: random.Random) -> None:
    """Change one place of a document, whatever it holds."""
    at = document
    while isinstance(at, dict | list) and at:
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        inner = at[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            at = inner
            continue
        way = rng.randrange(4)
        if way == 0:
            del at[key]
        elif way == 1 and isinstance(at, dict):
            at[f"{key}_"] = inner
        elif way == 2 and isinstance(inner, int | float) and not isinstance(inner, bool):
            at[key] = inner + rng.choice((-1, 1, 1000, 10**9))
        else:
            at[key] = copy.deepcopy(rng.choice(_ODD))
        return


def _retold(data: bytes, rng: random.Random) -> bytes:
    """The same document in other bytes, or nearly: what lenient parsers take for the same."""
    lines = data.splitlines(keepends=True)
    line = rng.randrange(len(lines))
    ways: list[Callable[[], bytes]] = [
        lambda: b"\xef\xbb\xbf" + data,
        lambda: data + rng.choice((b"\n", b" ", b"\0", b"{}", data)),
        lambda: b" " + data,
        lambda: data.replace(b"\n", b"\r\n"),
        lambda: json.dumps(json.loads(data)).encode(),
        lambda: json.dumps(json.loads(data), sort_keys=True, indent=1).encode(),
        # One key twice: the first or the last counts, as the parser likes.
        lambda: b"".join([*lines[: line + 1], *lines[line:]]),
        lambda: data.replace(b"{", b'{"version": 1, "bundle_id": "x", ', 1),
        lambda: data.replace(b"{", b'{"a":' * rng.choice((2, 2000, 100_000)) + b"{", 1),
        lambda: data.replace(b": ", rng.choice((b":", b"= ", b": +", b": NaN, ", b": 1e999, ")), 1),
        lambda: data.decode().encode(rng.choice(("utf-16", "utf-32", "utf-16-le"))),
        lambda: data.replace(b"e", b"\\u0065", 1),
    ]
    return rng.choice(ways)()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, counts, bad, begun = random.Random(given.seed), Counter[str](), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as work:
        forger = Forger(given.bundle, Path(work))
        ways = sorted(forger.ways)
        for number in range(given.count):
            way = ways[number % len(ways)]
            outcome, found = forger.tried(way, rng, kept=number // len(ways) % 10 == 0)
            counts[outcome] += 1
            counts[f"{way}, {outcome}"] += 1
            if found:
                bad += 1
                print(f"--- {number}, {way}: {found}", flush=True)
    for way in ways:
        print(f"{way:<36} {counts[f'{way}, refused']:6} refused, {counts[f'{way}, same']:6} accepted and the same")
    print(
        f"{given.count} bundles and signatures, seed {given.seed}: {counts['refused']} were refused in one line, "
        f"{counts['same']} were accepted and are what was signed, {bad} were not as they should be; "
        f"{time.monotonic() - begun:.0f} s"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
