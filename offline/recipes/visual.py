"""The yardstick of the visual tokens alone, by the vision graph of a finished bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from edge_runtime.bundle.reader import Bundle
from edge_runtime.inference.engines import open_engine
from export.publish import VISION
from offline.calibration.visual import TokensAlone
from offline.data.cache import EntryStore
from offline.data.units import UnitChoice
from offline.evaluation.run import Running
from offline.extraction.executors import Executor, LocalExecutor
from offline.extraction.extract import Extraction
from offline.extraction.visual import GraphTokens


@contextmanager
def tokens_of(
    bundle: Bundle, running: Running, store: EntryStore | None = None, executor: Executor | None = None
) -> Iterator[Callable[[], TokensAlone]]:
    """Give what opens a bundle's graphs for the yardstick, once and only if it is called, and close them behind it.

    Args:
        bundle: Its calibration units are those of the yardstick.
        running: How the judged videos are scored; the provider, the stride, and what becomes of unreadable videos.
        store: Keeps what was computed; None for nowhere.
        executor: Computes it where others find the store; None for this process.

    Raises:
        BundleRefused: A graph cannot be loaded.
        MissingExtra: What runs the provider is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        UsageError: The stride is none of the bundle's.
    """
    manifest = bundle.manifest
    hashes = [entry.sha256 for entry in manifest.files if entry.path in (VISION, f"{VISION}.data")]
    with ExitStack() as opened:

        @cache
        def tokens() -> TokensAlone:
            kept = store
            if kept is None:
                kept = EntryStore(Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="hh-tokens-"))))
            graphs = open_engine(bundle, running.provider)
            opened.callback(graphs.close)
            extraction = Extraction(
                GraphTokens(graphs, hashes),
                manifest.pixels,
                manifest.segment.striding(running.stride),
                kept,
                running.skip_unreadable,
            )
            # What was mixed was chosen by whose events have times: so it is again.
            unit: UnitChoice = "video" if manifest.scorer.unit == "video" else "auto"
            there = executor if executor is not None and store is not None else LocalExecutor()
            return TokensAlone(extraction, unit, executor=there)

        yield tokens
