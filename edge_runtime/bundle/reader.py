"""A bundle on disk, checked before anything in it is used: its files, their hashes, and what its graphs declare."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from edge_runtime.bundle.agreement import check_graphs
from edge_runtime.bundle.calibration import CALIBRATION, Calibration, read_calibration
from edge_runtime.bundle.external_data import external_locations
from edge_runtime.bundle.golden import GOLDEN, Golden, check_golden, read_golden
from edge_runtime.bundle.keys import PublicKey, trusted_keys
from edge_runtime.bundle.limits import check_operators, check_sizes
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest, check_path, read_manifest
from edge_runtime.bundle.onnx_header import GraphHeader, read_header
from edge_runtime.bundle.signature import BUNDLE, SIGNATURES_LIMIT, check
from edge_runtime.errors import BundleRefused
from edge_runtime.files import printable, sha256, shown_path

__all__ = ["GOLDEN", "Bundle", "Golden"]

_MANIFEST_LIMIT = 16 * 2**20
# A serialised protobuf message cannot be larger; weights beyond it lie in external data.
_ONNX_LIMIT = 2**31


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle. Made by `Bundle.open`, which checks every file.

    Attributes:
        path: Its folder.
        manifest: What it says about itself.
        signed_by: Of the keys that were trusted, those that signed it; empty where none was asked for.
    """

    path: Path
    manifest: Manifest
    signed_by: tuple[PublicKey, ...] = ()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        trusted_keys: Iterable[str | os.PathLike[str] | PublicKey] | None = None,
    ) -> Bundle:
        """Check a bundle without loading a graph.

        The folder holds exactly the files that the manifest lists, unchanged; no graph reads a file outside it, or
        holds more than operators that compute; the graphs take and give what the manifest implies, and so do the
        golden segments. With trusted keys one of them has signed the manifest, which is checked before anything of
        it is parsed.

        What this does not guard against: files that change after the check. Engines load graphs and weights by
        their paths, later. Whoever can write to the folder meanwhile can have something else loaded; so open a
        bundle in a folder that only this program can write, as `hh-edge run` does with a copy of its own
        (`edge_runtime.bundle.strongroom`).

        Args:
            path: The folder.
            trusted_keys: Public keys of which one must have signed: the line that `hh-offline keygen` prints, a file
                with such lines, or a `PublicKey`. None takes every bundle that is whole, whoever made it.

        Raises:
            BundleRefused: Something is not so; the message names the file and the reason.
            MissingExtra: Keys are given, and `cryptography` is not installed.
            UsageError: A key cannot be read, or none is given.
        """
        root = Path(path)
        if not os.path.isdir(root):  # Path.is_dir raises where a parent may not be entered
            raise BundleRefused(f"{shown_path(root)}: no such folder; a bundle is a folder with a {MANIFEST}")
        if not os.path.lexists(root / MANIFEST):
            raise BundleRefused(f"{shown_path(root)}: {MANIFEST} is missing, so this is no bundle; {_inside(root)}")
        data, _, signed_by = read_signed(root, trusted_keys)
        manifest = parse_checked(data, root)
        _check_listing(root, manifest.files)
        # Two at a time: the weights of the two graphs are nearly all there is to hash.
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(partial(_check_file, root), manifest.files):
                pass
        listed = {entry.path for entry in manifest.files}
        graphs = {*manifest.graphs.files, manifest.scorer.file}
        headers: dict[str, GraphHeader] = {}
        # What is opened as a graph is one, whatever it is called.
        for name in sorted(graphs | {name for name in listed if name.endswith(".onnx")}):
            data = read_regular(root / name, _ONNX_LIMIT)
            _check_locations(data, name, listed)
            check_operators(data, name)
            if name in graphs:
                headers[name] = _header(data, name)
        check_graphs(manifest, headers)
        if GOLDEN in listed:
            check_golden(root / GOLDEN, manifest)
        if CALIBRATION in listed:
            read_calibration(root / CALIBRATION, manifest.feature_size)
        return cls(root, manifest, signed_by)

    def file(self, name: str) -> Path:
        """Path of a listed file; KeyError for any other name."""
        if name not in {entry.path for entry in self.manifest.files}:
            raise KeyError(name)
        return self.path / name

    def graph_hashes(self) -> tuple[tuple[str, str], ...]:
        """Names and hashes of the graphs and the files that hold their weights: equal where bundles run the same.

        Raises:
            BundleRefused: A graph cannot be read.
        """
        names = set(self.manifest.graphs.files)
        for graph in self.manifest.graphs.files:
            folder = PurePosixPath(graph).parent
            held = external_locations(read_regular(self.path / graph, _ONNX_LIMIT))
            names |= {(folder / location).as_posix() for location in held}
        return tuple(sorted((entry.path, entry.sha256) for entry in self.manifest.files if entry.path in names))

    def golden(self) -> Golden:
        """The golden segments.

        Raises:
            BundleRefused: The bundle has none, or they cannot be read.
        """
        try:
            path = self.file(GOLDEN)
        except KeyError:
            raise BundleRefused(f"{GOLDEN}: is not in the bundle; build the bundle again") from None
        return read_golden(path, self.manifest)

    def calibration(self) -> Calibration:
        """What is known of the calibration set.

        Raises:
            BundleRefused: The bundle has none, being older than feedback, or it cannot be read.
        """
        try:
            path = self.file(CALIBRATION)
        except KeyError:
            raise BundleRefused(
                f"{CALIBRATION}: is not in the bundle, which an earlier version built; "
                "run hh-offline recalibrate or build it again"
            ) from None
        return read_calibration(path, self.manifest.feature_size)


def read_signed(
    root: Path, trusted: Iterable[str | os.PathLike[str] | PublicKey] | None
) -> tuple[bytes, bytes, tuple[PublicKey, ...]]:
    """The bytes of a bundle's manifest, unparsed, those of its signature, and who signed exactly these.

    Args:
        root: The bundle's folder.
        trusted: As of `Bundle.open`; where it is None, no signature is read.

    Raises:
        BundleRefused: It cannot be read, is not signed, or by none of them.
        MissingExtra: Keys are given, and `cryptography` is not installed.
        UsageError: A key cannot be read, or none is given.
    """
    keys = None if trusted is None else trusted_keys(trusted)
    data = read_regular(root / MANIFEST, _MANIFEST_LIMIT)
    if keys is None:
        return data, b"", ()
    if not os.path.lexists(root / SIGNATURE):
        raise BundleRefused(
            f"{printable(root.name)}: is not signed, and only bundles that are signed by a trusted key are taken; "
            "have whoever built it run hh-offline sign"
        )
    signature = read_regular(root / SIGNATURE, SIGNATURES_LIMIT)
    return data, signature, check(keys, BUNDLE, data, signature, f"{printable(root.name)}/{SIGNATURE}")


def parse_checked(data: bytes, root: Path) -> Manifest:
    """A manifest whose numbers are plausible, from its bytes.

    Raises:
        BundleRefused: As of `read_manifest` and `check_sizes`.
    """
    manifest = read_manifest(data, f"{printable(root.name)}/{MANIFEST}")
    check_sizes(manifest)
    return manifest


def _inside(root: Path) -> str:
    """What to do about a folder that is no bundle: one that holds bundles is easily given instead."""
    with contextlib.suppress(OSError):
        if found := sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}")):
            return f"give the bundle in it, as {shown_path(root / found[0])}"
    return "give the folder that holds it, or copy the bundle again"


def _check_listing(root: Path, files: list[FileEntry]) -> None:
    listed = {entry.path for entry in files}
    parents = {parent.as_posix() for name in listed for parent in PurePosixPath(name).parents}
    found = set()
    for folder, folders, names in os.walk(root, onerror=_refuse_unreadable):
        for name in [*folders, *names]:
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                raise BundleRefused(
                    f"{printable(relative)}: is a symbolic link; copy the bundle again with its files"
                )
            if name in names or relative not in parents:
                found.add(relative)
    for missing in sorted(listed - found):
        raise BundleRefused(f"{missing}: is missing; copy the bundle again")
    for extra in sorted(found - listed - {MANIFEST, SIGNATURE}):
        raise BundleRefused(f"{printable(extra)}: is not listed in {MANIFEST}; remove it or copy the bundle again")


def _check_file(root: Path, entry: FileEntry) -> None:
    path = root / entry.path
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleRefused(f"{entry.path}: is not a regular file; copy the bundle again")
        if status.st_size != entry.bytes:
            raise BundleRefused(
                f"{entry.path}: has {status.st_size} bytes, the manifest says {entry.bytes}; copy the bundle again"
            )
        if sha256(path) != entry.sha256:
            raise BundleRefused(f"{entry.path}: sha256 differs from the manifest; copy the bundle again")
    except OSError as error:
        raise BundleRefused(f"{entry.path}: cannot be read ({error.strerror})") from error


def _check_locations(data: bytes, name: str, listed: set[str]) -> None:
    try:
        locations = external_locations(data)
    except ValueError as error:
        raise BundleRefused(f"{name}: is not an ONNX file ({error}); build the bundle again") from error
    for location in sorted(locations):
        try:
            check_path(location)
        except ValueError as error:
            raise BundleRefused(f"{name}: external data {error}; do not use this bundle") from error
        # ONNX Runtime looks beside the graph.
        if (PurePosixPath(name).parent / location).as_posix() not in listed:
            raise BundleRefused(f"{name}: external data {location!r} is not a file of the bundle")


def _header(data: bytes, name: str) -> GraphHeader:
    try:
        return read_header(data)
    except ValueError as error:
        raise BundleRefused(f"{name}: cannot be used ({error}); build the bundle again") from error


def _refuse_unreadable(error: OSError) -> None:
    raise BundleRefused(f"{shown_path(error.filename)}: cannot be read ({error.strerror})") from error


def read_regular(path: Path, limit: int) -> bytes:
    """A file that is no link, no pipe, and not larger than so many bytes.

    Raises:
        BundleRefused: It is, or cannot be read.
    """
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleRefused(f"{path.name}: is not a regular file; copy the bundle again")
        if status.st_size > limit:
            raise BundleRefused(f"{path.name}: has {status.st_size} bytes, more than the {limit} allowed")
        return path.read_bytes()
    except FileNotFoundError:
        raise BundleRefused(f"{path.name}: is missing; copy the bundle again") from None
    except OSError as error:
        raise BundleRefused(f"{path.name}: cannot be read ({error.strerror})") from error
