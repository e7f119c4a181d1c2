"""What a person sees while long work runs: steps and progress bars on stderr. Knows a terminal; does no work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

# progress(done, total) or progress(done, total, what is being done now)
Progress = Callable[..., None]


class Console:
    """Steps and bars; `quiet` says nothing. stdout stays free for results."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    @contextmanager
    def bar(self, title: str, unit: str = "it") -> Iterator[Progress]:
        """A progress bar; what it yields takes (done, total) or (done, total, what)."""
        with tqdm(desc=title, unit=unit, file=sys.stderr, disable=self.quiet, dynamic_ncols=True, leave=True) as bar:

            def progress(done: int, total: int, what: Any = "") -> None:
                bar.total = total
                bar.set_postfix_str(str(what)[-40:], refresh=False)
                bar.update(done - bar.n)

            yield progress
