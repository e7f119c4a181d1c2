"""Detectors of several bundles, which share their graphs where only scorer and locators differ."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.files import FileStamp, file_stamp
from edge_runtime.inference.engine import Engine

log = logging.getLogger(__name__)


class Detectors:
    """Opens each bundle once, and closes all; a context manager.

    Bundles that `hh-offline recalibrate` made of one another hold the same graphs: those are loaded once, and
    segments of their cameras can be scored in one call.

    Args:
        load: Makes the detector of a bundle, with an engine that is there already or its own (None); without a
            self-test, during which `abandon` would not reach it.
        self_test: Whether each runs one golden segment, once, before it is handed out.
        open_bundle: Checks the bundle in a folder.
    """

    def __init__(
        self,
        load: Callable[[Bundle, Engine | None], Detector],
        *,
        self_test: bool = False,
        open_bundle: Callable[[Path], Bundle] = Bundle.open,
    ) -> None:
        self._load = load
        self._open_bundle = open_bundle
        self._self_test = self_test
        self._opened: dict[str, Detector] = {}
        self._places: dict[tuple[Path, FileStamp], Detector] = {}
        self._engines: dict[tuple[tuple[str, str], ...], Engine] = {}
        # Those that were opened, and those whose graphs others use.
        self._all: list[Detector] = []
        self._lock = threading.Lock()

    def open(self, bundle: Bundle) -> Detector:
        """The detector of a bundle. Any thread may call it.

        Raises:
            HeadHuntError: Whatever loading or testing it raises.
        """
        with self._lock:
            if (known := self._opened.get(bundle.manifest.bundle_id)) is not None:
                return known
            graphs = bundle.graph_hashes()
            shared = self._engines.get(graphs)
            detector = self._load(bundle, shared)
            self._all.append(detector)
            if shared is not None:
                log.info("%s: has the graphs of a bundle that is loaded already, and shares them", bundle.path.name)
            elif detector.engine is not None:
                self._engines[graphs] = detector.engine
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

        Graphs that it shares with another one stay until that one is retired, too.
        """
        with self._lock:
            self._drop(detector)

    def _drop(self, detector: Detector) -> None:
        self._opened = {name: one for name, one in self._opened.items() if one is not detector}
        self._places = {place: one for place, one in self._places.items() if one is not detector}
        used = {id(one.engine) for one in self._opened.values()}
        for one in [one for one in self._all if one not in self._opened.values()]:
            if id(one.engine) not in used:
                self._engines = {name: engine for name, engine in self._engines.items() if engine is not one.engine}
                self._all.remove(one)
                one.close()

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
        while self._all:
            self._all.pop().close()
