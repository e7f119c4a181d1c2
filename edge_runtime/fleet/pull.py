"""One pull: a signed bundle from an address to an edge, tried on its golden segments before it is used."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from edge_runtime._version import __version__
from edge_runtime.bundle.keys import PublicKey
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, FileEntry, Manifest
from edge_runtime.bundle.reader import Bundle, parse_checked
from edge_runtime.bundle.signature import BUNDLE, SIGNATURES_LIMIT, check
from edge_runtime.checks.verify import verify
from edge_runtime.detector import Detector
from edge_runtime.errors import (
    BundleRefused,
    EngineUnreachable,
    HeadHuntError,
    InferenceFailed,
    OutOfMemory,
    OutputFailed,
    ProviderUnavailable,
    UsageError,
    one_line,
)
from edge_runtime.files import format_bytes, free_space, printable, shown_path
from edge_runtime.fleet.depot import Depot, Failed, State, write_seals
from edge_runtime.fleet.fetch import Fetcher

log = logging.getLogger(__name__)

_MANIFEST_LIMIT = 16 * 2**20
# A self-test that takes the process with it (memory, a driver) is not begun for ever.
_MOST_TRIES = 3
_REMEMBERED = 20
_WENT_BACK = "an operator went back from it"
# Beside the files themselves.
_SPARE = 2**20

# What says something of the moment, the machine or a server, and nothing of the bundle.
_PASSING = (ProviderUnavailable, EngineUnreachable, OutOfMemory, OutputFailed, MemoryError, OSError)


class NotTried(HeadHuntError):
    """A bundle could not be tried now, through no fault of its own. It is tried again by the next pull."""


#: Tries a bundle on this machine. Raises HeadHuntError where it does not compute what its builder's machine did.
Try = Callable[[Bundle], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What an operator wants of a pull.

    Attributes:
        trusted: Keys of which one must have signed.
        allow_older: Whether a bundle may come that was built before the one in use.
        retry: Whether one that failed here before, or that an operator went back from, is tried again.
        anew: Whether the bundle in use is damaged, and fetched again.
        tried_on: Provider and version, which a failure is remembered for.
    """

    trusted: Sequence[PublicKey]
    allow_older: bool = False
    retry: bool = False
    anew: bool = False
    tried_on: str = field(default=__version__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull came to.

    Attributes:
        bundle_id: Of the bundle in use now.
        changed: Whether it was exchanged.
        created: When it was built.
        fetched: Bytes of its files that came over the network.
        reused: Bytes that were here already.
    """

    bundle_id: str
    changed: bool
    created: str
    fetched: int = 0
    reused: int = 0

    def __str__(self) -> str:
        """For people."""
        if not self.changed:
            return f"nothing new; {self.bundle_id[:8]} of {self.created} is in use"
        return (
            f"{self.bundle_id[:8]} of {self.created} is in use now; {format_bytes(self.fetched)} fetched, "
            f"{format_bytes(self.reused)} were here"
        )


def golden_try(provider: str, threads: int | None) -> Try:
    """Runs all golden segments, as `hh-edge verify` does."""

    def attempt(bundle: Bundle) -> None:
        with Detector(bundle, provider, threads, self_test=False) as detector:
            found = verify(detector)
        for difference in found.differences:
            if not difference.passed:
                raise InferenceFailed(
                    f"the {difference.stage} of its golden segments differ from the builder's by "
                    f"{difference.relative:.3g} of their scale on {found.provider}, allowed are "
                    f"{difference.tolerance:g}"
                )

    return attempt


def pull(fetcher: Fetcher, depot: Depot, wish: Wish, attempt: Try) -> Pulled:
    """Bring the bundle in use up to that of an address. Whatever happens, the one in use is whole or stays as it was.

    Args:
        fetcher: Of the address.
        depot: Where the bundles lie.
        wish: What is wanted.
        attempt: Tries a bundle before it is used.

    Raises:
        SourceUnavailable: Something there cannot be had now; what came is kept, and the next pull goes on with it.
        BundleRefused: What is there is not signed by a trusted key, not whole, older, or failed here before.
        InferenceFailed: It fails its self-test.
        NotTried: It cannot be tried now: a server is down, there is no memory. What came is kept.
        OutputFailed: It cannot be written.
        Conflict: Another pull is at work.
        UsageError: What is there is no bundle, and stays.
    """
    with depot.locked():
        return _Pull(fetcher, depot, wish, attempt).run()


def repair(depot: Depot) -> bool:
    """Check every file of the bundle in use, and go back to the one before where it is damaged.

    Returns:
        Whether there is a whole one in use now, or none at all; False asks for `Wish.anew`.

    Raises:
        Conflict: A pull is at work.
        OutputFailed: It cannot be written.
        UsageError: What is there is no bundle, and stays.
    """
    with depot.locked():
        if depot.is_vacant():
            return True
        try:
            depot.check()
        except BundleRefused as error:
            log.error("%s: %s", shown_path(depot.link), one_line(error))
            state = depot.read_state()
            try:
                bundle = depot.go_back(state.previous)
            except BundleRefused:
                return False
            log.warning("%s: went back to %s", shown_path(depot.link), bundle.manifest.bundle_id[:8])
            depot.write_state(msgspec.structs.replace(state, etag="", previous=""))
        return True


def go_back(depot: Depot) -> Pulled:
    """Use the bundle before again, and take the one in use no more, until `Wish.retry`.

    Raises:
        BundleRefused: There is none.
        HeadHuntError: As of `Depot.go_back`.
    """
    with depot.locked():
        state, left = depot.read_state(), depot.manifest()
        bundle = depot.before(state.previous)
        name = depot.name_before() if left is None else left.bundle_id
        if name and name != bundle.manifest.bundle_id:
            # First of all: who goes back and dies must not find it in use again.
            state = _remembering(state, name, Failed(reason=_WENT_BACK))
            depot.write_state(state)
        depot.go_back(state.previous)
        depot.write_state(msgspec.structs.replace(state, previous=""))
        return Pulled(bundle_id=bundle.manifest.bundle_id, changed=True, created=bundle.manifest.created)


class _Pull:
    """The steps of one pull."""

    def __init__(self, fetcher: Fetcher, depot: Depot, wish: Wish, attempt: Try) -> None:
        self.fetcher, self.depot, self.wish, self.attempt = fetcher, depot, wish, attempt
        self.state = depot.read_state()
        self.now = None if wish.anew else depot.manifest()
        self.fetched = self.reused = 0

    def run(self) -> Pulled:
        source = hashlib.sha256(self.fetcher.address.url.encode()).hexdigest()
        newest = self.state.source == source and self.state.bundle_id
        is_known = newest and (
            (self._is_used(newest) and self.depot.is_trusted()) or self._failed(newest) is not None
        )
        data, etag = self.fetcher.read(MANIFEST, _MANIFEST_LIMIT, etag=self.state.etag if is_known else "")
        if data is None:
            self._refuse_failed(str(newest))
            return self._unchanged()
        signature, _ = self.fetcher.read(
            SIGNATURE, SIGNATURES_LIMIT, seal=hashlib.sha256(data).hexdigest() if data else ""
        )
        shown = self.fetcher.address.file(SIGNATURE).shown
        # Before anything of it is parsed.
        check(self.wish.trusted, BUNDLE, data, signature or b"", shown)
        manifest = parse_checked(data, Path(self.fetcher.address.path.rstrip("/").rpartition("/")[2] or "bundle"))
        self._remember(msgspec.structs.replace(self.state, source=source, etag=etag, bundle_id=manifest.bundle_id))
        if self.wish.retry:
            self._forgive(manifest.bundle_id)
        if self._is_used(manifest.bundle_id):
            self._renew_signature(signature or b"")
            return self._unchanged()
        self._refuse_failed(manifest.bundle_id)
        self._refuse_older(manifest)
        place = self.depot.kept(manifest)
        if place is None:
            place = self._put_together(manifest, data, signature or b"")
        self._try(place, manifest)
        self._exchange(place, manifest)
        return Pulled(
            bundle_id=manifest.bundle_id,
            changed=True,
            created=manifest.created,
            fetched=self.fetched,
            reused=self.reused,
        )

    def _is_used(self, bundle_id: str) -> bool:
        return self.now is not None and self.now.bundle_id == bundle_id

    def _unchanged(self) -> Pulled:
        assert self.now is not None
        # Left by a pull that died behind its exchange.
        self._clear(self.state.previous)
        return Pulled(bundle_id=self.now.bundle_id, changed=False, created=self.now.created)

    def _remember(self, state: State) -> None:
        if state != self.state:
            self.depot.write_state(state)
            self.state = state

    def _renew_signature(self, signature: bytes) -> None:
        """The same bundle, signed by others too: keys change, bundles stay."""
        if self.depot.renew_signature(signature):
            log.info("%s: has another signature now", shown_path(self.depot.link))

    # ---- what is not taken

    def _failed(self, bundle_id: str) -> str | None:
        """Why a bundle is not tried again."""
        if self.wish.retry:
            return None
        failed = self.state.failed.get(bundle_id)
        if failed is not None and (_is_operators(failed) or failed.on == self.wish.tried_on):
            return failed.reason
        if self.state.tries.get(bundle_id, 0) >= _MOST_TRIES:
            return f"its self-test was begun {_MOST_TRIES} times and never ended"
        return None

    def _forgive(self, bundle_id: str) -> None:
        """Hold nothing against a bundle any more: who asks for it may have to wait, and then need not ask again."""
        failed = {name: one for name, one in self.state.failed.items() if name != bundle_id}
        self._remember(msgspec.structs.replace(self.state, failed=failed))
        self._ended(bundle_id)

    def _refuse_failed(self, bundle_id: str) -> None:
        if (reason := self._failed(bundle_id)) is not None:
            raise BundleRefused(
                f"{self.fetcher.address.shown}: {bundle_id[:8]} failed here before ({printable(reason)}) and is not "
                f"tried again{self._stays()}; publish another one, or try it again with --retry"
            )

    def _refuse_older(self, manifest: Manifest) -> None:
        if self.now is None or self.wish.allow_older:
            return
        if _moment(manifest) < _moment(self.now):
            raise BundleRefused(
                f"{self.fetcher.address.shown}: {manifest.bundle_id[:8]} was built "
                f"{printable(manifest.created)}, before the one in use ({printable(self.now.created)}); "
                "--allow-older takes it all the same"
            )

    def _stays(self) -> str:
        return "" if self.now is None else f"; {self.now.bundle_id[:8]} stays in use"

    # ---- what is

    def _put_together(self, manifest: Manifest, data: bytes, signature: bytes) -> Path:
        """All files of a bundle, here or fetched, each hashed; then the whole as any bundle is opened."""
        staged = self.depot.staged(manifest)
        missing: list[FileEntry] = []
        for entry in manifest.files:
            target = staged / entry.path
            if target.is_file() and target.stat().st_size == entry.bytes:
                continue  # of a pull that was interrupted; hashed below with all others
            if (known := self.depot.known(entry)) is not None:
                self.depot.adopt(known, target)
                self.reused += entry.bytes
            else:
                missing.append(entry)
        self._require_space(missing)
        for entry in missing:
            part, before = self.depot.part(entry), self.fetcher.traffic.bytes
            self.fetcher.download(entry, part)
            self.fetched += self.fetcher.traffic.bytes - before
            self.depot.place(part, staged / entry.path)
        try:
            write_seals(staged, data, signature)
        except OSError as error:
            raise OutputFailed(
                f"{shown_path(staged)}: cannot be written ({error.strerror}); free some space"
            ) from error
        try:
            return Bundle.open(staged, self.wish.trusted).path
        except BundleRefused:
            # Whatever it is, the next pull begins anew.
            self.depot.discard(staged)
            raise

    def _require_space(self, missing: Sequence[FileEntry]) -> None:
        parts = [self.depot.part(entry) for entry in missing]
        have = sum(part.stat().st_size for part in parts if part.is_file())
        needed = sum(entry.bytes for entry in missing) - have + _SPARE
        if missing and needed > (free := free_space(self.depot.folder)):
            raise OutputFailed(
                f"{shown_path(self.depot.folder)}: {format_bytes(needed)} are to come, {format_bytes(free)} are "
                "free; free some space; the bundle in use stays"
            )

    def _try(self, place: Path, manifest: Manifest) -> None:
        name = manifest.bundle_id
        begun = {**self.state.tries, name: self.state.tries.get(name, 0) + 1}
        self._remember(msgspec.structs.replace(self.state, tries=begun))
        try:
            self.attempt(Bundle.open(place, self.wish.trusted))
        except (UsageError, KeyboardInterrupt):
            # A missing extra, say: nothing is known of the bundle.
            self._ended(name)
            raise
        except _PASSING as error:
            self._ended(name)
            raise NotTried(
                f"{self.fetcher.address.shown}: {name[:8]} cannot be tried now: {one_line(error)}; it is kept for "
                f"the next pull{self._stays()}"
            ) from error
        except HeadHuntError as error:
            self._remember(_remembering(self.state, name, Failed(reason=one_line(error), on=self.wish.tried_on)))
            self._ended(name)
            self.depot.clear(self.state.previous)
            raise InferenceFailed(
                f"{self.fetcher.address.shown}: {name[:8]} fails its self-test: {one_line(error)}{self._stays()}"
            ) from error
        self._ended(name)

    def _ended(self, name: str) -> None:
        tries = {other: count for other, count in self.state.tries.items() if other != name}
        self._remember(msgspec.structs.replace(self.state, tries=tries))

    def _exchange(self, place: Path, manifest: Manifest) -> None:
        before, earlier = self.depot.name_before(), self.state.previous
        if place.parent != self.depot.folder:
            place = self.depot.keep(place)
        if before == place.name:  # damaged, and just brought anew
            before = ""
        self._remember(msgspec.structs.replace(self.state, previous=before))
        self.depot.use(place, before)
        try:
            # What will be loaded from now on, by the way that it will be.
            self.depot.check()
        except BundleRefused as error:
            told = "check the disk"
            with contextlib.suppress(BundleRefused):
                back = self.depot.go_back(before)
                told = f"went back to {back.manifest.bundle_id[:8]}, {told}"
                self._remember(msgspec.structs.replace(self.state, previous=earlier))
            raise BundleRefused(f"{one_line(error)}; {told}") from error
        self._forgive(manifest.bundle_id)
        self._clear(before)

    def _clear(self, before: str) -> None:
        """Remove what nobody needs, and look whether the bundle in use is still found."""
        self.depot.clear(before)
        if not self.depot.is_trusted():
            raise BundleRefused(
                f"{shown_path(self.depot.link)}: leads to no bundle any more; look after the disk and pull again"
            )


def _remembering(state: State, bundle_id: str, failed: Failed) -> State:
    """A state with one more failure; the oldest are forgotten, but for what an operator decided."""
    failures = {**{name: one for name, one in state.failed.items() if name != bundle_id}, bundle_id: failed}
    newest = list(failures)[-_REMEMBERED:]
    kept = {name: one for name, one in failures.items() if name in newest or _is_operators(one)}
    return msgspec.structs.replace(state, failed=kept)


def _is_operators(failed: Failed) -> bool:
    """Whether an operator went back; earlier versions wrote down on what."""
    return not failed.on or failed.reason == _WENT_BACK


def _moment(manifest: Manifest) -> float:
    """When a bundle was built; one that does not say is the oldest."""
    try:
        made = datetime.fromisoformat(manifest.created)
    except ValueError:
        return float("-inf")
    return made.timestamp() if made.tzinfo is not None else float("-inf")
