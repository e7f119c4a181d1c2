"""`hh-edge pull`: a signed bundle or site scorer from a web server or bucket."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli.options import DEBUG, PROVIDER, THREADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_runtime.bundle.keys import PublicKey
    from edge_runtime.fleet.fetch import Fetcher


class Duration(click.ParamType[float]):
    """A time such as `10m`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        from edge_runtime.fleet.rounds import parse_duration

        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command("pull")
@click.argument("url", required=False)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FOLDER",
    help="Where the bundle in use is found: what `hh-edge run --bundle` names. It becomes a link into FOLDER.pulled.",
)
@click.option(
    "--trusted-key",
    "trusted_keys",
    multiple=True,
    required=True,
    metavar="KEY",
    help="Take what is signed by this key: a .pub file of `hh-offline keygen`, or the line in it. Repeat it for "
    "several keys, of which one must have signed.",
)
@click.option(
    "--every",
    type=Duration(),
    metavar="DURATION",
    help="Go on and look again, every 10m, 6h or 1d on average; each wait is longer or shorter by up to a half, "
    "so that edges come one by one [default: once].",
)
@click.option("--scorer", is_flag=True, help="URL is the file of a site's scorer, for the bundle in FOLDER.")
@click.option(
    "--site",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="With --scorer: what the run calls site or feedback folder [default: FOLDER.site beside the bundle].",
)
@click.option("--allow-older", is_flag=True, help="Also take what was built before that in use.")
@click.option(
    "--retry",
    is_flag=True,
    help="Also take a bundle that failed its self-test here before, or that was gone back from; with --every, once.",
)
@click.option(
    "--back", is_flag=True, help="Go back to the bundle before, and do not take that in use again until --retry."
)
@click.option(
    "--endpoint", metavar="URL", help="S3 server of s3://bucket/key [default: $AWS_ENDPOINT_URL_S3, else Amazon's]."
)
@PROVIDER
@THREADS
@DEBUG
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr.")
def command(**given: Any) -> int:
    """Take a signed bundle from URL, try it here, and only then use it.

    URL is a folder on any static web server or bucket, with the files of a bundle as `hh-offline build` and
    `hh-offline sign` leave them: https://…, http://… or s3://bucket/folder.

    The signature is checked before anything is parsed. Files that are here already are not fetched, a download that
    broke off goes on where it was, and each file is hashed. The bundle's golden segments then have to give here what
    they gave on the builder's machine. Only then FOLDER leads to it, in one step: whatever happens in between, power
    failures too, a whole bundle is found there. A running `hh-edge run` on FOLDER takes it without losing a
    segment. The bundle before is kept: where that in use turns out to be damaged, pull goes back to it.

    Where nothing is new that costs one small request, which caches answer (ETag).

    \b
    Exit codes:
      0    a bundle is in use that is the newest there
      1    the work failed: a self-test, nothing to run it on for now, a full disk
      2    wrong usage, a missing extra, another pull is at work, or FOLDER is none of a bundle
      3    refused: not signed by a trusted key, not whole, older, or it failed here before
      4    the address could not be read
      130  interrupted

    \b
    Example:
      hh-edge pull https://cdn.example.com/gates --bundle bundle/ --trusted-key builder.key.pub
      hh-edge pull s3://models/gates --bundle bundle/ --trusted-key builder.key.pub --every 6h
      hh-edge pull https://cdn.example.com/yard.json --scorer --bundle bundle/ --trusted-key builder.key.pub
      hh-edge pull --back --bundle bundle/ --trusted-key builder.key.pub
    """
    from edge_runtime.bundle.keys import trusted_keys
    from edge_runtime.cli.console import start_logging
    from edge_runtime.cli.exit_codes import tell
    from edge_runtime.errors import UsageError
    from edge_runtime.files import shown_path
    from edge_runtime.fleet.address import Address
    from edge_runtime.fleet.depot import Depot
    from edge_runtime.fleet.fetch import Fetcher, describe
    from edge_runtime.fleet.pull import go_back
    from edge_runtime.fleet.rounds import rounds

    start_logging(given["quiet"], given["debug"])
    url: str | None = given["url"]
    bundle: Path = given["bundle"]
    keys = trusted_keys(given["trusted_keys"])
    if given["back"]:
        if url is not None or given["scorer"] or given["every"] is not None:
            raise UsageError("--back goes back by itself; leave URL, --scorer and --every out")
        depot = Depot(bundle, keys)
        tell(f"{shown_path(bundle)}: {go_back(depot)}")
        return 0
    if url is None:
        raise UsageError("URL: is missing; name the folder on a web server or bucket in which manifest.json lies")
    if given["site"] is not None and not given["scorer"]:
        raise UsageError("--site goes with --scorer; leave it out")
    fetcher = Fetcher(Address.parse(url, given["endpoint"]))
    step = _scorer_step(fetcher, keys, given) if given["scorer"] else _bundle_step(fetcher, keys, given)

    def once() -> None:
        fetcher.begin()
        told = step()
        tell(f"{shown_path(bundle)}: {told} ({describe(fetcher.traffic)})")

    with _ending_in_order():
        if given["every"] is None:
            once()
        else:
            rounds(once, given["every"])
    return 0


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let a service manager's or terminal's signal end the work as Ctrl-C does, and then the process as always.

    A self-test that it ends is none that took the process with it, of which a bundle has but a few.
    """
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Not where it is ignored, as behind nohup.
    taken = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
        if came:
            os.kill(os.getpid(), came[0])


def _tried_on(given: dict[str, Any]) -> str:
    from edge_runtime._version import __version__

    return f"{given['provider']}, {__version__}"


def _bundle_step(fetcher: Fetcher, keys: tuple[PublicKey, ...], given: dict[str, Any]) -> Callable[[], object]:
    from dataclasses import replace

    from edge_runtime.errors import InferenceFailed
    from edge_runtime.fleet.depot import Depot
    from edge_runtime.fleet.pull import NotTried, Wish, golden_try, pull, repair

    depot = Depot(given["bundle"], keys)
    wish = Wish(trusted=keys, allow_older=given["allow_older"], tried_on=_tried_on(given))
    attempt = golden_try(given["provider"], given["threads"])
    checked, retry = False, given["retry"]

    def step() -> object:
        nonlocal checked, retry
        # All files are hashed once; what is pulled later is hashed then.
        whole = checked or repair(depot)
        asked = replace(wish, anew=not whole, retry=retry)
        try:
            pulled = pull(fetcher, depot, asked, attempt)
        except (InferenceFailed, NotTried):
            # What an operator goes back from later is left alone.
            retry = False
            raise
        checked, retry = True, False
        return pulled

    return step


def _scorer_step(fetcher: Fetcher, keys: tuple[PublicKey, ...], given: dict[str, Any]) -> Callable[[], object]:
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.fleet.scorer import pull_scorer
    from edge_runtime.site.place import Site, site_folder

    etag = site_id = ""

    def step() -> object:
        nonlocal etag, site_id
        # Opened each time: another bundle may have come.
        bundle = Bundle.open(given["bundle"], keys)
        site = Site.of(bundle, given["site"] or site_folder(given["bundle"]))
        pulled = pull_scorer(
            fetcher,
            bundle,
            site,
            keys,
            allow_older=given["allow_older"],
            etag=etag if site.bundle_id == site_id else "",
        )
        etag, site_id = pulled.etag, site.bundle_id
        return pulled

    return step
