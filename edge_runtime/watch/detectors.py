"""Detectors of several bundles, which share their graphs where only scorer and locators differ."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.files import FileStamp, file_stamp
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.providers import find_provider

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Graphs:
    """Graphs that are loaded.

    Attributes:
        hashes: Of their files.
        engine: What runs them.
        owned: Whether it is closed when nobody uses it any more.
        bundle: Whose files they were loaded from; an engine may still read there.
        users: Detectors that use them.
    """

    hashes: tuple[tuple[str, str], ...]
    engine: Engine
    owned: bool
    bundle: Bundle
    users: list[Detector] = field(default_factory=list)


class Detectors:
    """Opens each bundle once, and closes all; a context manager.

    Bundles that `hh-offline recalibrate` made of one another hold the same graphs: those are loaded once, and
    segments of their cameras can be scored in one call. Not so on a server: what it has of each bundle is its own
    matter, so each is asked for by its id.

    Args:
        load: Makes the detector of a bundle, with an engine that is there already or its own (None); without a
            self-test, during which `abandon` would not reach it.
        self_test: Whether each runs one golden segment, once, before it is handed out.
        open_bundle: Checks the bundle in a folder.
        release: Told of each bundle that is not used any more while the others are; at the end nobody is told.
    """

    def __init__(
        self,
        load: Callable[[Bundle, Engine | None], Detector],
        *,
        self_test: bool = False,
        open_bundle: Callable[[Path], Bundle] = Bundle.open,
        release: Callable[[Bundle], None] = lambda bundle: None,
    ) -> None:
        self._load = load
        self._open_bundle, self._release = open_bundle, release
        self._self_test = self_test
        self._opened: dict[str, Detector] = {}
        self._places: dict[tuple[Path, FileStamp], Detector] = {}
        self._graphs: list[_Graphs] = []
        self._lock = threading.Lock()

    def open(self, bundle: Bundle) -> Detector:
        """The detector of a bundle, which is released when that is retired. Any thread may call it.

        Raises:
            HeadHuntError: Whatever loading or testing it raises.
        """
        with self._lock:
            if (known := self._opened.get(bundle.manifest.bundle_id)) is not None:
                if known.bundle is not bundle:
                    self._release(bundle)
                return known
            hashes = bundle.graph_hashes()
            graphs = next((one for one in self._graphs if one.hashes == hashes and not _remote(one.engine)), None)
            try:
                detector = self._load(bundle, None if graphs is None else graphs.engine)
            except BaseException:
                self._release(bundle)
                raise
            if graphs is not None:
                log.info("%s: has the graphs of a bundle that is loaded already, and shares them", bundle.path.name)
            else:
                assert detector.engine is not None, "it was just opened"
                graphs = _Graphs(hashes, detector.engine, detector.owns_engine, bundle)
                # Others may come to use it.
                detector.owns_engine = False
                self._graphs.append(graphs)
            graphs.users.append(detector)
            self._opened[bundle.manifest.bundle_id] = detector
            if self._self_test:
                try:
                    detector.self_test()
                except BaseException:
                    self._drop(detector)
                    raise
            return detector

    def retire(self, detector: Detector) -> None:
        """Close a detector that nothing is scored with any more. Any thread may call it.

        Graphs that it shares with another one stay until that one is retired, too, and so does the bundle that they
        were loaded from.
        """
        with self._lock:
            self._drop(detector)

    def _drop(self, detector: Detector) -> None:
        self._opened = {name: one for name, one in self._opened.items() if one is not detector}
        self._places = {place: one for place, one in self._places.items() if one is not detector}
        detector.close()
        for graphs in [one for one in self._graphs if detector in one.users]:
            graphs.users.remove(detector)
            if detector.bundle is not graphs.bundle:
                self._release(detector.bundle)
            if not graphs.users:
                self._graphs.remove(graphs)
                self._close(graphs)
                self._release(graphs.bundle)

    @staticmethod
    def _close(graphs: _Graphs) -> None:
        if graphs.owned:
            graphs.engine.close()

    def open_at(self, path: Path) -> Detector:
        """The detector of the bundle in a folder. Any thread may call it.

        Its files are hashed the first time, and again when its manifest was written anew.

        Raises:
            HeadHuntError: As of `open`, and what opening the bundle raises.
        """
        stamp = file_stamp(path / MANIFEST)
        if stamp is not None and (known := self._places.get((path, stamp))) is not None:
            return known
        detector = self.open(self._open_bundle(path))
        # As it was before it was read: one that was written meanwhile is read again the next time.
        if stamp is not None:
            self._places[path, stamp] = detector
        return detector

    def abandon(self) -> None:
        """As of `Detector`, of all."""
        for detector in list(self._opened.values()):
            detector.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not by `retire`: a bundle that is still being loaded holds the lock.
        while self._opened:
            self._opened.popitem()[1].close()
        while self._graphs:
            self._close(self._graphs.pop())


def _remote(engine: Engine) -> bool:
    """Whether a server runs the graphs, which knows bundles by their ids."""
    try:
        return find_provider(engine.provider).remote
    except UsageError:  # an engine of the caller's own
        return False
