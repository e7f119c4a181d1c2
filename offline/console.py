"""What a person sees while long work runs: lines and progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

from edge_runtime.files import printable


class Progress(Protocol):
    """Told of long work, again and again, how far it is."""

    def __call__(self, done: int, total: int, what: object = "", /) -> None:
        """Take a step.

        Args:
            done: How much of the work is done.
            total: How much there is.
            what: What is being done now.
        """


class Console:
    """Steps and bars of a command; stdout stays free for its results.

    Attributes:
        quiet: Whether nothing is shown.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """Show one line. What is not printable in it (files' names may hold anything) is escaped."""
        if not self.quiet:
            tqdm.write(printable(text), file=sys.stderr)

    @contextmanager
    def bar(self, title: str, unit: str = "it") -> Iterator[Progress]:
        """Show a progress bar as long as the context lasts.

        Args:
            title: What is done.
            unit: What is counted.

        Yields:
            What moves the bar.
        """
        with tqdm(desc=title, unit=unit, file=sys.stderr, disable=self.quiet, dynamic_ncols=True, leave=True) as bar:

            def progress(done: int, total: int, what: object = "", /) -> None:
                bar.total = total
                bar.set_postfix_str(printable(str(what))[-40:], refresh=False)
                bar.update(done - bar.n)

            yield progress
