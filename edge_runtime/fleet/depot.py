"""The bundle that an edge uses, and the one before it: folders that are never written to once they have a name.

`bundle` is a link to `bundle.pulled/<bundle_id>`. An exchange renames another link over it, so that at every moment
there is a whole bundle at `bundle`, wherever the power fails. What is under way lies in `bundle.pulled/.coming`.

What somebody else put at `bundle` is exchanged for the link only where it is a bundle, and moved to `bundle.pulled`.
Only what has a bundle's id there as its name is ever removed: versions that were brought, or found whole and signed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import itertools
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from edge_runtime.bundle.keys import PublicKey
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest
from edge_runtime.bundle.reader import Bundle, parse_checked, read_signed
from edge_runtime.errors import BundleRefused, Conflict, HeadHuntError, OutputFailed, UsageError, one_line
from edge_runtime.files import make_folder, sha256, shown_path, sync, write_into, write_private

log = logging.getLogger(__name__)

_ID = re.compile("[0-9a-f]{64}")
_COMING, _PARTS, _LOCK, _STATE = ".coming", "parts", ".lock", "state.json"
# Of renameat2: both names change places.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is not taken here.

    Attributes:
        reason: Why, in one line.
        on: Provider and version of the program on which its self-test failed: it may pass on others. Empty where an
            operator went back from it, which holds for all of them.
    """

    reason: str
    on: str = ""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered from one pull to the next. Losing it costs requests, and the way back.

    Attributes:
        source: Hash of the address: it may hold secrets.
        etag: Of the newest manifest there.
        bundle_id: Of that manifest.
        previous: Name of the folder with what was used before; empty where there is none.
        failed: Bundles that are not taken, by their ids.
        tries: How often a self-test was begun and has not ended, by bundle.
    """

    source: str = ""
    etag: str = ""
    bundle_id: str = ""
    previous: str = ""
    failed: dict[str, Failed] = {}
    tries: dict[str, int] = {}


class Depot:
    """The folder of an edge's bundles.

    Args:
        link: Where the bundle in use is found, as `hh-edge run --bundle` takes it.
        trusted: Keys of which one must have signed.

    Raises:
        UsageError: It is the root of the file system.
    """

    def __init__(self, link: Path, trusted: Sequence[PublicKey]) -> None:
        # Not os.path.abspath: behind a link, `..` leads elsewhere than the words say.
        self.link = Path(os.path.realpath(link) if link.name in ("", "..") else link.absolute())
        self.trusted = tuple(trusted)
        if not self.link.name:
            raise UsageError(f"{shown_path(self.link)}: is no place for a bundle; name a folder in it as --bundle")
        self.folder = self.link.with_name(f"{self.link.name}.pulled")
        self._coming = self.folder / _COMING

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One pull at a time.

        Raises:
            Conflict: Another one is at work.
            OutputFailed: The folder cannot be written.
            UsageError: As of `require_place`; nothing was written then.
        """
        self.require_place()
        make_folder(self.folder)
        try:
            descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            with contextlib.suppress(ImportError):
                import fcntl

                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise Conflict(f"{shown_path(self.link)}: another hh-edge pull is at work; wait for it") from None
            yield
        finally:
            os.close(descriptor)

    # ---- what is there

    def require_place(self) -> None:
        """Look whether a link may take the place of what is there.

        Raises:
            UsageError: Something is there that is no bundle.
        """
        if self.is_vacant() or self._leads_here() or (self.link.is_dir() and self.manifest() is not None):
            return
        kind = "leads" if self.link.is_symlink() else "is"
        what = "a folder that is not empty, and no bundle" if self.link.is_dir() else "no folder"
        raise UsageError(
            f"{shown_path(self.link)}: {kind} {'to ' if kind == 'leads' else ''}{what}; it stays as it is. Name as "
            f"--bundle where the bundle in use is to be found, as {shown_path(self.link / 'bundle')}"
        )

    def is_vacant(self) -> bool:
        """Whether nothing is there, or an empty folder."""
        if not os.path.lexists(self.link):
            return True
        try:
            return not self.link.is_symlink() and not any(self.link.iterdir())
        except OSError:
            return False

    def name_before(self) -> str:
        """What the bundle in use is called in the folder as soon as another one is used.

        Returns:
            Its id; for a folder that somebody copied there and that is damaged, or not signed by a trusted key, a
            name that is never cleared. Empty where nothing is used, or a link leads to somewhere else.
        """
        if self.link.is_symlink():
            return os.path.basename(os.path.realpath(self.link)) if self._leads_here() and self.link.is_dir() else ""
        if self.is_vacant() or (manifest := self.manifest()) is None:
            return ""
        name = manifest.bundle_id
        with contextlib.suppress(BundleRefused):
            self.check()
            return name
        aside = (f"{name}.before{number or ''}" for number in itertools.count())
        return next(filter(self._is_free, aside))

    def _leads_here(self) -> bool:
        """Whether there is a link into the folder, though what it leads to may be gone."""
        target = os.path.realpath(self.link)
        return self.link.is_symlink() and os.path.dirname(target) == os.path.realpath(self.folder)

    def _is_torn(self, path: Path) -> bool:
        """Whether something is a link that was made here, and is not in its place: of a pull that died."""
        return path.is_symlink() and os.readlink(path).startswith(f"{self.folder.name}{os.sep}")

    def _is_free(self, name: str) -> bool:
        return not os.path.lexists(self.folder / name) or self._is_torn(self.folder / name)

    def manifest(self) -> Manifest | None:
        """That of the bundle in use, of whoever; None where none can be read. Its files are not looked at."""
        with contextlib.suppress(HeadHuntError, OSError):
            return parse_checked(read_signed(self.link, None)[0], self.link)
        return None

    def is_trusted(self) -> bool:
        """Whether a trusted key has signed the bundle in use. Its files are not looked at."""
        with contextlib.suppress(HeadHuntError, OSError):
            read_signed(self.link, self.trusted)
            return True
        return False

    def check(self) -> Bundle:
        """The bundle in use, with every file hashed.

        Raises:
            HeadHuntError: As of `Bundle.open`.
        """
        return Bundle.open(self.link, self.trusted)

    def read_state(self) -> State:
        """What is remembered; nothing, where it cannot be read."""
        with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
            return msgspec.json.decode((self.folder / _STATE).read_bytes(), type=State)
        return State()

    def write_state(self, state: State) -> None:
        """Remember.

        Raises:
            OutputFailed: It cannot be written.
        """
        write_private(self.folder / _STATE, msgspec.json.encode(state))

    # ---- what comes

    def part(self, entry: FileEntry) -> Path:
        """Where a file is downloaded to: named by its content, so that whatever asks for it goes on with it."""
        folder = self._coming / _PARTS
        make_folder(folder)
        return folder / entry.sha256

    def staged(self, manifest: Manifest) -> Path:
        """Where a bundle is put together; what an earlier pull has done there stays, and nothing of other bundles."""
        target = self._coming / manifest.bundle_id
        wanted = {entry.sha256 for entry in manifest.files}
        with contextlib.suppress(FileNotFoundError):
            for other in self._coming.iterdir():
                if other.name not in (target.name, _PARTS):
                    shutil.rmtree(other, ignore_errors=True)
            for part in (self._coming / _PARTS).iterdir():
                if part.name not in wanted:
                    part.unlink()
        make_folder(target)
        return target

    def known(self, entry: FileEntry) -> Path | None:
        """A file of a bundle that is here with the very content; it is hashed."""
        for place in (self.link, *self._versions()):
            with contextlib.suppress(OSError, HeadHuntError):
                for there in parse_checked(read_signed(place, None)[0], place).files:
                    path = place / there.path
                    if (
                        (there.sha256, there.bytes) == (entry.sha256, entry.bytes)
                        and path.stat().st_size == entry.bytes
                        and not path.is_symlink()
                        and sha256(path) == entry.sha256
                    ):
                        return path
        return None

    def adopt(self, known: Path, target: Path) -> None:
        """Take a file that is here already: by a second name where the disk can do that, else as a copy.

        Raises:
            OutputFailed: It cannot be written.
        """
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(known, target)
            except OSError:
                copy = self._coming / _PARTS / f"copy-{secrets.token_hex(6)}"
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(known, copy)
                sync(copy)
                copy.replace(target)
        except OSError as error:
            raise self._unwritable(error) from error

    def place(self, part: Path, target: Path) -> None:
        """Give a file that is whole its name.

        Raises:
            OutputFailed: It cannot be written.
        """
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
        except OSError as error:
            raise self._unwritable(error) from error

    def discard(self, staged: Path) -> None:
        """Throw away what was put together."""
        shutil.rmtree(staged, ignore_errors=True)

    def kept(self, manifest: Manifest) -> Path | None:
        """The folder of a bundle that was used before and is whole."""
        place = self.folder / manifest.bundle_id
        with contextlib.suppress(HeadHuntError, OSError):
            if Bundle.open(place, self.trusted).manifest == manifest:
                return place
        return None

    def keep(self, staged: Path) -> Path:
        """Give a bundle that was put together its place.

        Raises:
            OutputFailed: It cannot be written.
        """
        target = self.folder / staged.name
        try:
            for folder, _, _ in os.walk(staged):
                sync(Path(folder))
            self._remove(target)
            staged.replace(target)
            sync(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error
        return target

    def use(self, version: Path, before: str) -> None:
        """Let the link lead to a bundle, in one step.

        Args:
            version: The bundle's folder.
            before: What `name_before` says: a folder that somebody copied there is moved to this name.

        Raises:
            UsageError: A folder is there, and cannot change places with a link here; or as of `require_place`.
            OutputFailed: It cannot be written.
        """
        self.require_place()
        target = os.path.join(self.folder.name, version.name)
        copied = not self.link.is_symlink() and not self.is_vacant()
        temporary = self.link.with_name(f".{self.link.name}.{secrets.token_hex(6)}")
        if copied:
            # Made where the folder is to go: the two change places.
            temporary = self.folder / before
        try:
            if self._is_torn(temporary):
                temporary.unlink()
            elif copied:
                # A version of ours with this very content: the copy, which is whole, is going to be it.
                self._remove(temporary)
            temporary.symlink_to(target, target_is_directory=True)
            try:
                if copied:
                    exchange(temporary, self.link)
                else:
                    if self.link.is_dir() and not self.link.is_symlink():
                        self.link.rmdir()  # which is empty
                    temporary.replace(self.link)
                sync(self.link.parent)
                sync(self.folder)
            finally:
                if temporary.is_symlink():
                    temporary.unlink()
        except OSError as error:
            raise self._unwritable(error) from error
        if copied and _ID.fullmatch(before) is None:
            log.warning(
                "%s: was damaged, or not signed by a trusted key; it is kept as %s, remove it when nobody needs it",
                shown_path(self.link),
                shown_path(temporary),
            )

    def renew_signature(self, signature: bytes) -> bool:
        """Let the bundle in use have another signature; returns whether it has not had it.

        Raises:
            OutputFailed: It cannot be written.
        """
        path = self.link / SIGNATURE
        try:
            if path.is_file() and path.read_bytes() == signature:
                return False
            self._coming.mkdir(exist_ok=True)
            # Beside it, a file that is in no manifest would be left by a pull that dies: the bundle would be refused.
            write_into(path, signature, self._coming / f"{SIGNATURE}-{secrets.token_hex(6)}")
        except OSError as error:
            raise self._unwritable(error) from error
        return True

    def before(self, previous: str) -> Bundle:
        """The bundle before, with every file hashed.

        Raises:
            BundleRefused: There is none, or it is not whole.
        """
        if not previous:
            raise BundleRefused(f"{shown_path(self.link)}: there is no bundle before this one to go back to")
        return Bundle.open(self.folder / previous, self.trusted)

    def go_back(self, previous: str) -> Bundle:
        """Use the bundle before again.

        Raises:
            BundleRefused: As of `before`.
            OutputFailed: It cannot be written.
        """
        bundle = self.before(previous)
        self.use(bundle.path, self.name_before())
        return bundle

    def clear(self, *keep: str) -> None:
        """Remove what is neither in use nor to be kept; every bundle stays where none can be told to be in use."""
        with contextlib.suppress(OSError):
            for version in self._versions():
                # The same folder has many paths: any folder above may be a link.
                if (
                    _ID.fullmatch(version.name)
                    and version.name not in keep
                    and not os.path.samefile(self.link, version)
                ):
                    self._remove(version)
        shutil.rmtree(self._coming, ignore_errors=True)
        with contextlib.suppress(OSError):
            beside = self.link.parent.glob(f".{glob.escape(self.link.name)}.*")
            for left in filter(self._is_torn, [*self.folder.iterdir(), *beside]):
                left.unlink()

    def _versions(self) -> list[Path]:
        """All bundles in the folder, those that were set aside as well."""
        with contextlib.suppress(OSError):
            return sorted(one for one in self.folder.iterdir() if not one.name.startswith(".") and one.is_dir())
        return []

    def _remove(self, version: Path) -> None:
        """Away with a folder; out of its place first, so that half of one never has its name."""
        if version.exists():
            aside = self._coming / f"gone-{secrets.token_hex(6)}"
            aside.parent.mkdir(exist_ok=True)
            version.replace(aside)
            shutil.rmtree(aside, ignore_errors=True)

    def _unwritable(self, error: OSError) -> OutputFailed:
        return OutputFailed(
            f"{shown_path(self.folder)}: cannot be written ({error.strerror or one_line(error)}); free some space or "
            "give this user rights on it; the bundle in use stays"
        )


def exchange(one: Path, other: Path) -> None:
    """Let two names change places in one step.

    Raises:
        UsageError: This system cannot do that.
        OSError: It fails.
    """
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    rename = getattr(library, "renameat2", None)
    code = errno.ENOSYS
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        raise UsageError(
            f"{shown_path(other)}: is a folder, and this system cannot exchange it for a link in one step; name "
            "another place as --bundle, or move the folder away first"
        )
    raise OSError(code, os.strerror(code))


def write_seals(folder: Path, data: bytes, signature: bytes) -> None:
    """Write a bundle's manifest and signature, durably.

    Raises:
        OSError: They cannot be written.
    """
    for name, content in ((SIGNATURE, signature), (MANIFEST, data)):
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
