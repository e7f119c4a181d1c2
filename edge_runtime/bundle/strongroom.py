"""Copies of bundles in a folder that only this program can write: what is verified there is loaded from there.

Engines take graphs by their paths, some time after the check. In the folder that a bundle comes in, others may change
a file in between; here nobody else can. A bundle is copied once, by its `bundle_id`.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle.keys import PublicKey, trusted_keys
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest
from edge_runtime.bundle.reader import Bundle, parse_checked, read_signed
from edge_runtime.errors import BundleRefused, HeadHuntError, OutputFailed, UsageError
from edge_runtime.files import format_bytes, free_space, shown_path, sync, write_into

log = logging.getLogger(__name__)

_COPYING = ".copying-"
_LOCK = ".lock"
_PIECE = 2**20
# Bundles that nobody uses any more stay for a way back, so many of them.
_KEPT = 2


@dataclass(slots=True)
class _Held:
    """A copy in use.

    Attributes:
        descriptor: Its folder, open and locked, so that no other program clears it away; None without locks.
        uses: How often it was opened and not released since.
    """

    descriptor: int | None
    uses: int


class Strongroom:
    """Verifies signed bundles in a folder of its own. Several programs of one user may share it.

    A copy stays while it is in use: from `open` to `release`, or to `close`, or to the end of the program.

    Args:
        folder: Where copies are kept; made where it is missing, with rights for its owner alone.
        trusted: Keys of which one must have signed, as of `Bundle.open`.

    Raises:
        UsageError: A key cannot be read, or none is given.
    """

    def __init__(self, folder: Path, trusted: Iterable[str | os.PathLike[str] | PublicKey]) -> None:
        self.folder = folder
        self.trusted = trusted_keys(trusted)
        self._held: dict[str, _Held] = {}
        self._counting = threading.Lock()

    def open(self, path: str | os.PathLike[str]) -> Bundle:
        """Copy a bundle, where it is not there yet, and open the copy.

        The signature is checked first, over the bytes that are then parsed and copied; a file's hash is checked while
        it is copied, and once more where it lies.

        Raises:
            BundleRefused: As of `Bundle.open`.
            OutputFailed: There is no room for the copy, or it cannot be written.
            UsageError: Others could write to the folder.
            MissingExtra: `cryptography` is not installed.
        """
        root = Path(path)
        data, signature, _ = read_signed(root, self.trusted)
        manifest = parse_checked(data, root)
        try:
            return self._open(root, manifest, data, signature)
        except OSError as error:
            raise OutputFailed(
                f"{shown_path(self.folder)}: a verified copy of the bundle cannot be kept there "
                f"({error.strerror or error}); free some space, or set STATE_DIRECTORY to another folder"
            ) from error

    def _open(self, root: Path, manifest: Manifest, data: bytes, signature: bytes) -> Bundle:
        self._make_own()
        with self._locked():
            self._clear_torn()
            target = self.folder / manifest.bundle_id
            bundle = self._kept(target, data, signature)
            if bundle is None:
                self._copy(root, target, manifest, data, signature)
                bundle = Bundle.open(target, self.trusted)
            if bundle.manifest.bundle_id != manifest.bundle_id:
                raise BundleRefused(f"{shown_path(root)}: changed while it was copied; try it again")
            self._hold(target)
            self._clear_unused()
        return bundle

    def release(self, bundle: Bundle) -> None:
        """Say that a bundle is not used any more, once for each time that `open` gave it. Any thread may call it.

        Of copies that nobody uses the newest stay, for a way back, and the others are removed. What cannot be removed
        now is when the next bundle comes.
        """
        with self._counting:
            held = self._held.get(bundle.path.name)
            if held is None or bundle.path.parent != self.folder:
                return
            held.uses -= 1
            if held.uses:
                return
            del self._held[bundle.path.name]
            _let_go(held)
        try:
            # What was used last is kept longest.
            os.utime(bundle.path)
            with self._locked():
                self._clear_unused()
        except OSError as error:
            log.warning("%s: old copies stay there for now (%s)", shown_path(self.folder), error.strerror or error)

    def close(self) -> None:
        """Let other programs clear away what this one used."""
        with self._counting:
            while self._held:
                _let_go(self._held.popitem()[1])

    def _make_own(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{shown_path(self.folder)}: is no folder; remove it, verified bundles are kept there")
        if os.name != "posix":
            return
        if status.st_uid != os.geteuid():
            raise UsageError(
                f"{shown_path(self.folder)}: belongs to another user, who could change what was verified; "
                "remove it, or run as that user"
            )
        self.folder.chmod(0o700)
        self._check_parents()

    def _check_parents(self) -> None:
        """Whoever can write to a folder above can put another one in the place of this."""
        for parent in Path(os.path.realpath(self.folder)).parents:
            mode = parent.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                raise UsageError(
                    f"{shown_path(parent)}: everybody can write there and so replace {shown_path(self.folder)}; run "
                    "chmod o-w on it, or set STATE_DIRECTORY to another folder"
                )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One program at a time."""
        descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(descriptor, shared=False)
            yield
        finally:
            os.close(descriptor)

    def _kept(self, target: Path, data: bytes, signature: bytes) -> Bundle | None:
        """The copy that is there already; None where there is none, or it is damaged."""
        if not target.is_dir():
            return None
        try:
            if (target / MANIFEST).read_bytes() == data:
                if not (target / SIGNATURE).is_file() or (target / SIGNATURE).read_bytes() != signature:
                    # Signed anew: keys change, the bundle stays.
                    work = Path(tempfile.mkdtemp(prefix=_COPYING, dir=self.folder))
                    write_into(target / SIGNATURE, signature, work / SIGNATURE)
                    work.rmdir()
                return Bundle.open(target, self.trusted)
        except (HeadHuntError, OSError) as error:
            log.warning("%s: the copy is damaged and made anew (%s)", shown_path(target), error)
        return None

    def _copy(self, root: Path, target: Path, manifest: Manifest, data: bytes, signature: bytes) -> None:
        needed = sum(entry.bytes for entry in manifest.files)
        self._remove(target)
        if needed > (free := free_space(target)):
            raise OutputFailed(
                f"{shown_path(self.folder)}: the verified copy of the bundle takes {format_bytes(needed)}, "
                f"{format_bytes(free)} are free; free some space, or set STATE_DIRECTORY to another disk"
            )
        work = Path(tempfile.mkdtemp(prefix=_COPYING, dir=self.folder))
        try:
            for entry in manifest.files:
                _copy_file(root, work, entry)
            for name, content in ((MANIFEST, data), (SIGNATURE, signature)):
                with (work / name).open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            sync(work)
            work.replace(target)
            sync(self.folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _hold(self, target: Path) -> None:
        descriptor = None
        if os.name == "posix":
            descriptor = os.open(target, os.O_RDONLY)
            _lock(descriptor, shared=True)
        with self._counting:
            before = self._held.get(target.name)
            self._held[target.name] = _Held(descriptor, 1 if before is None else before.uses + 1)
            if before is not None:
                # Of the same folder; or of the one that was there before it was made anew.
                _let_go(before)
        # What was used last is kept longest.
        os.utime(target)

    def _clear_torn(self) -> None:
        """Copies that were never finished: the lock is held, so that none is under way."""
        for left in self.folder.glob(f"{_COPYING}*"):
            shutil.rmtree(left, ignore_errors=True)

    def _clear_unused(self) -> None:
        """All but the newest of those that no program holds."""
        with contextlib.suppress(OSError):
            there = [one for one in self.folder.iterdir() if not one.name.startswith(".") and one.is_dir()]
            unused = sorted((one for one in there if not _is_held(one)), key=lambda one: one.stat().st_mtime_ns)
            for one in unused[:-_KEPT]:
                self._remove(one)

    def _remove(self, path: Path) -> None:
        """Away with a folder; out of its place first, so that half of one is never taken for a bundle."""
        if path.exists():
            aside = Path(tempfile.mkdtemp(prefix=_COPYING, dir=self.folder))
            path.replace(aside / "gone")
            shutil.rmtree(aside)


def _copy_file(root: Path, work: Path, entry: FileEntry) -> None:
    """Copy one file while its hash is checked; a link, a pipe, or one byte too many is refused."""
    target = work / entry.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    digest, left = hashlib.sha256(), entry.bytes
    try:
        source = os.open(root / entry.path, flags)
    except OSError as error:
        raise BundleRefused(
            f"{entry.path}: cannot be read ({error.strerror}); copy the bundle again with its files"
        ) from error
    with os.fdopen(source, "rb", buffering=0) as given, target.open("xb") as made:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise BundleRefused(f"{entry.path}: is not a regular file; copy the bundle again")
        while True:
            try:
                piece = given.read(_PIECE)
            except OSError as error:
                raise BundleRefused(f"{entry.path}: cannot be read ({error.strerror})") from error
            left -= len(piece)
            if not piece or left < 0:
                break
            digest.update(piece)
            made.write(piece)
        made.flush()
        os.fsync(made.fileno())
    if left or digest.hexdigest() != entry.sha256:
        raise BundleRefused(f"{entry.path}: size or sha256 differs from the manifest; copy the bundle again")


def _let_go(held: _Held) -> None:
    if held.descriptor is not None:
        os.close(held.descriptor)


def _lock(descriptor: int, *, shared: bool, wait: bool = True) -> bool:
    """Whether the lock is had; where there are none, it is."""
    try:
        import fcntl
    except ImportError:
        return True
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(folder: Path) -> bool:
    if os.name != "posix":
        return True
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return not _lock(descriptor, shared=False, wait=False)
    finally:
        os.close(descriptor)
