"""A pull over a real server on localhost: what is taken and what is not; a whole bundle is there whatever fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from bad_cameras import self_signed
from bucket import Bucket, serving, signed_copy, spoiled_copy

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import SIGNATURE
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import (
    BundleRefused,
    Conflict,
    EngineUnreachable,
    HeadHuntError,
    InferenceFailed,
    OutOfMemory,
    OutputFailed,
    ProviderUnavailable,
    SourceUnavailable,
    UsageError,
)
from edge_runtime.fleet import depot as depot_module
from edge_runtime.fleet.address import Address
from edge_runtime.fleet.depot import Depot, Failed
from edge_runtime.fleet.fetch import Fetcher, Patience
from edge_runtime.fleet.pull import NotTried, Pulled, Wish, _remembering, go_back, golden_try, pull, repair
from export.signing import sign_bundle

BUILDER, STRANGER = PrivateKey.generate("builder"), PrivateKey.generate("stranger")
FIRST, SECOND, THIRD = "2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z", "2026-12-03T00:00:00Z"
# A busy machine gets all the time that it needs; QUICK is for servers that shall be found too slow.
PATIENT = Patience(waits_s=(0.05, 0.05), step_bytes=2**16)
QUICK = Patience(connect_s=2.0, answer_s=1.0, window_s=0.5, waits_s=(0.05, 0.05), step_bytes=2**16)


@pytest.fixture(scope="module")
def one(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signed_copy(bundle_dir, tmp_path_factory.mktemp("one") / "gates", BUILDER, created=FIRST)


@pytest.fixture(scope="module")
def two(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Newer, and with another file: the weights of the vision graph are the same."""
    folder = tmp_path_factory.mktemp("two") / "gates"
    shutil.copytree(one, folder)
    (folder / "report.html").write_text("<p>another one</p>" * 10_000)
    (folder / SIGNATURE).unlink()
    return signed_copy(_resealed(folder, created=SECOND), tmp_path_factory.mktemp("signed") / "gates", BUILDER)


@pytest.fixture(scope="module")
def spoiled(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return spoiled_copy(one, tmp_path_factory.mktemp("spoiled") / "gates", BUILDER, THIRD)


def _resealed(folder: Path, **values: object) -> Path:
    from resealed import edit

    edit(folder, lambda document: document.update(values))
    return folder


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Bucket]:
    with serving(tmp_path / "served") as served:
        yield served


@pytest.fixture
def depot(tmp_path: Path) -> Depot:
    return Depot(tmp_path / "edge" / "bundle", [BUILDER.public])


def fetch(bucket: Bucket, depot: Depot, attempt: Callable[[Bundle], None] = lambda _: None, **wish: bool) -> Pulled:
    bucket.asked.clear()
    patience = QUICK if bucket.drip_s else PATIENT
    return pull(Fetcher(Address.parse(bucket.url), patience), depot, Wish(trusted=[BUILDER.public], **wish), attempt)


def used(depot: Depot) -> str:
    """The bundle in use, with every file checked."""
    return Bundle.open(depot.link, [BUILDER.public]).manifest.bundle_id


def id_of(path: Path) -> str:
    return Bundle.open(path).manifest.bundle_id


def asked(bucket: Bucket) -> list[str]:
    return [path.rpartition("/")[2] for path, _, _ in bucket.asked]


def test_a_bundle_comes_whole_and_nothing_new_costs_one_request(
    bucket: Bucket, depot: Depot, one: Path, two: Path
) -> None:
    bucket.publish(one)
    came = fetch(bucket, depot, golden_try("cpu", 1))
    assert came.changed
    assert used(depot) == came.bundle_id == id_of(one)
    assert not fetch(bucket, depot).changed
    assert bucket.asked == [("/fleet/gates/manifest.json", "", 304)]

    bucket.publish(two)
    newer = fetch(bucket, depot)
    assert used(depot) == newer.bundle_id == id_of(two)
    assert asked(bucket) == ["manifest.json", SIGNATURE, "report.html"], "what is here is not fetched"
    assert newer.fetched == (two / "report.html").stat().st_size
    assert (depot.folder / came.bundle_id).is_dir(), "the one before is kept"


def test_a_bundle_comes_over_https_from_whom_the_system_trusts(
    depot: Depot, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path)
    with serving(tmp_path / "served", certificate=certificate) as bucket:
        bucket.publish(one)
        assert bucket.url.startswith("https://")
        with pytest.raises(SourceUnavailable, match=r"its certificate is not trusted \(self-signed certificate\)"):
            fetch(bucket, depot)
        assert not bucket.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        # The first file breaks off: it goes on where it was.
        bucket.cut["vision.onnx.data"] = (1000, 1)
        fetch(bucket, depot)
        assert used(depot) == id_of(one)
        assert ("bytes=1000-", 206) in [(part, status) for _, part, status in bucket.asked]


@pytest.mark.parametrize("place", ["lnk/bundle", "lnk/../real/bundle", "lnk/deep/../bundle"])
def test_a_folder_above_may_be_a_link(
    bucket: Bucket, one: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A data disk that is linked into /var, or systemd's StateDirectory of a dynamic user."""
    (tmp_path / "disk/real/deep").mkdir(parents=True)
    (tmp_path / "lnk").symlink_to("disk/real")
    monkeypatch.chdir(tmp_path)
    depot = Depot(Path(place), [BUILDER.public])
    for published in (one, two):
        bucket.publish(published)
        fetch(bucket, depot)
        assert used(depot) == id_of(published)
        assert not fetch(bucket, depot).changed
        # Where a run of the same words finds it.
        assert Bundle.open(place).manifest.bundle_id == id_of(published)
    assert (depot.folder / id_of(one)).is_dir(), "the one before is kept"
    assert go_back(depot).bundle_id == id_of(one)
    with pytest.raises(BundleRefused, match="went back"):
        fetch(bucket, depot)
    assert used(depot) == id_of(one)


def test_a_link_that_leads_nowhere_after_all_is_told(
    bucket: Bucket, depot: Depot, one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever took it away: the pull does not say that it is in use."""
    for published in (one, two):
        bucket.publish(published)
        fetch(bucket, depot)
    bucket.publish(one)
    real = depot.clear

    def clear(*keep: str) -> None:
        real(*keep)
        shutil.rmtree(depot.link.resolve())

    monkeypatch.setattr(depot, "clear", clear)
    with pytest.raises(BundleRefused, match="leads to no bundle any more"):
        fetch(bucket, depot, allow_older=True)
    monkeypatch.undo()
    # What could still be used is not cleared away as well.
    depot.clear()
    assert (depot.folder / id_of(two)).is_dir()


def test_only_what_a_trusted_key_has_signed_is_parsed(
    bucket: Bucket, depot: Depot, one: Path, tmp_path: Path
) -> None:
    bucket.publish(one)
    fetch(bucket, depot)
    forged = signed_copy(one, tmp_path / "forged", STRANGER, created=SECOND)
    (forged / SIGNATURE).unlink()
    bucket.publish(forged)
    with pytest.raises(SourceUnavailable, match=r"manifest\.sig: answers 404"):
        fetch(bucket, depot)
    bucket.publish(signed_copy(one, tmp_path / "strange", STRANGER, created=THIRD))
    (bucket.folder / SIGNATURE).write_bytes((one / SIGNATURE).read_bytes())
    with pytest.raises(BundleRefused, match="signature of key"):
        fetch(bucket, depot)
    (bucket.folder / "manifest.json").write_bytes(b'{"no": "JSON of ours')
    with pytest.raises(BundleRefused, match="signature of key"):
        fetch(bucket, depot)
    assert used(depot) == id_of(one)


def test_an_older_bundle_comes_only_where_it_is_asked_for(bucket: Bucket, depot: Depot, one: Path, two: Path) -> None:
    bucket.publish(two)
    fetch(bucket, depot)
    bucket.publish(one)
    with pytest.raises(BundleRefused, match=rf"built {FIRST}, before the one in use \({SECOND}\)"):
        fetch(bucket, depot)
    assert used(depot) == id_of(two)
    fetch(bucket, depot, allow_older=True)
    assert used(depot) == id_of(one)


def test_one_that_fails_its_self_test_never_comes_into_use_and_is_not_tried_for_ever(
    bucket: Bucket, depot: Depot, one: Path, two: Path, spoiled: Path
) -> None:
    bucket.publish(one)
    fetch(bucket, depot)
    bucket.publish(spoiled)
    with pytest.raises(InferenceFailed, match=f"fails its self-test: the features .* {id_of(one)[:8]} stays in use"):
        fetch(bucket, depot, golden_try("cpu", 1))
    assert used(depot) == id_of(one)
    with pytest.raises(BundleRefused, match="failed here before"):
        fetch(bucket, depot, golden_try("cpu", 1))
    assert bucket.asked == [("/fleet/gates/manifest.json", "", 304)]
    # On a machine that was repaired it may pass.
    assert fetch(bucket, depot, retry=True).changed
    assert used(depot) == id_of(spoiled)


def raising(error: BaseException) -> Callable[[Bundle], None]:
    """A self-test that ends so."""

    def attempt(_: Bundle) -> None:
        raise error

    return attempt


@pytest.mark.parametrize(
    "trouble",
    [
        ProviderUnavailable("no Triton server answers"),
        EngineUnreachable("no Triton server answers"),
        OutOfMemory("the graphs failed: Failed to allocate memory"),
        MemoryError(),
        OutputFailed("the disk is full"),
        OSError(errno.EMFILE, "Too many open files"),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
def test_trouble_that_passes_is_not_held_against_a_bundle(
    bucket: Bucket, depot: Depot, one: Path, two: Path, trouble: Exception
) -> None:
    bucket.publish(one)
    fetch(bucket, depot)
    bucket.publish(two)
    for attempt in range(5):  # more often than a self-test may be begun that never ends
        words = f"{id_of(two)[:8]} cannot be tried now: .*; it is kept for the next pull; {id_of(one)[:8]} stays"
        with pytest.raises(NotTried, match=words) as told:
            fetch(bucket, depot, raising(trouble))
        assert "\n" not in str(told.value)
        assert used(depot) == id_of(one)
        assert asked(bucket) == ["manifest.json", SIGNATURE, "report.html"][: 2 if attempt else 3]
    assert fetch(bucket, depot, golden_try("cpu", 1)).changed
    assert asked(bucket) == ["manifest.json", SIGNATURE]
    assert used(depot) == id_of(two)


@pytest.mark.parametrize("fault", [InferenceFailed("a graph failed"), BundleRefused("a graph cannot be loaded")])
def test_a_fault_of_the_bundle_is_held_against_it(bucket: Bucket, depot: Depot, one: Path, fault: Exception) -> None:
    bucket.publish(one)
    with pytest.raises(InferenceFailed, match=f"fails its self-test: {fault}"):
        fetch(bucket, depot, raising(fault))
    with pytest.raises(BundleRefused, match="failed here before"):
        fetch(bucket, depot)
    assert not (depot.folder / ".coming").exists()


def test_who_interrupts_self_tests_does_not_use_them_up(bucket: Bucket, depot: Depot, one: Path) -> None:
    bucket.publish(one)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            fetch(bucket, depot, raising(KeyboardInterrupt()))
    assert fetch(bucket, depot).changed


def test_a_self_test_that_takes_the_process_with_it_is_not_begun_for_ever(
    bucket: Bucket, depot: Depot, one: Path
) -> None:
    class Killed(BaseException):
        """As a segmentation fault: nothing behind it is done."""

    def dies(_: Bundle) -> None:
        raise Killed

    bucket.publish(one)
    for _ in range(3):
        with pytest.raises(Killed):
            fetch(bucket, depot, dies)
    with pytest.raises(BundleRefused, match="begun 3 times and never ended"):
        fetch(bucket, depot, dies)


def test_a_damaged_bundle_is_left_for_the_one_before_and_fetched_again(
    bucket: Bucket, depot: Depot, one: Path, two: Path
) -> None:
    for published in (one, two):
        bucket.publish(published)
        fetch(bucket, depot)
    assert repair(depot)
    assert used(depot) == id_of(two)
    # In this version alone: other files are the same on the disk in both.
    (depot.link / "report.html").write_text("torn")
    assert repair(depot)
    assert used(depot) == id_of(one), "went back"
    assert fetch(bucket, depot).changed
    assert used(depot) == id_of(two)


def test_a_damaged_bundle_with_none_before_it_is_fetched_again(bucket: Bucket, depot: Depot, one: Path) -> None:
    assert repair(depot), "nothing is there yet"
    bucket.publish(one)
    fetch(bucket, depot)
    (depot.link / "report.html").unlink()
    assert not repair(depot)
    fetch(bucket, depot, anew=True)
    assert used(depot) == id_of(one)
    assert asked(bucket) == ["manifest.json", SIGNATURE, "report.html"]


def test_an_operator_goes_back_and_stays_there(bucket: Bucket, depot: Depot, one: Path, two: Path) -> None:
    with pytest.raises(BundleRefused, match="no bundle before"):
        go_back(depot)
    for published in (one, two):
        bucket.publish(published)
        fetch(bucket, depot)
    go_back(depot)
    assert used(depot) == id_of(one)
    # Whatever it is tried with, and however many bundles fail after it.
    wish = Wish(trusted=[BUILDER.public], tried_on="another provider and version")
    state = depot.read_state()
    for number in range(30):
        state = _remembering(state, f"{number:064x}", Failed(reason="failed", on="cpu, 1"))
    assert len(state.failed) == 21
    depot.write_state(state)
    for asking in (Wish(trusted=[BUILDER.public]), wish):
        with pytest.raises(BundleRefused, match="an operator went back from it"):
            pull(Fetcher(Address.parse(bucket.url), PATIENT), depot, asking, lambda _: None)
    assert used(depot) == id_of(one)
    # Asked for again, it need not be asked for twice where it cannot be tried for the moment.
    with pytest.raises(NotTried):
        fetch(bucket, depot, raising(ProviderUnavailable("not now")), retry=True)
    assert fetch(bucket, depot).changed
    assert used(depot) == id_of(two)


def test_what_an_earlier_version_remembered_is_read(bucket: Bucket, depot: Depot, one: Path, two: Path) -> None:
    for published in (one, two):
        bucket.publish(published)
        fetch(bucket, depot)
    go_back(depot)
    written = {
        "source": "",
        "etag": "",
        "bundle_id": "",
        "previous": "",
        "failed": {id_of(two): {"reason": "an operator went back from it", "on": "auto, 0.1.0"}},
        "tries": {"a": 1},
    }
    (depot.folder / "state.json").write_text(json.dumps(written))
    with pytest.raises(BundleRefused, match="an operator went back from it"):
        fetch(bucket, depot)
    assert depot.read_state().tries == {"a": 1}
    # A self-test that failed says nothing of another version.
    written["failed"] = {id_of(two): {"reason": "the features differ", "on": "auto, 0.1.0"}}
    (depot.folder / "state.json").write_text(json.dumps(written))
    assert fetch(bucket, depot).changed


def test_going_back_is_decided_before_it_is_done(
    bucket: Bucket, depot: Depot, one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for published in (one, two):
        bucket.publish(published)
        fetch(bucket, depot)

    def full(*_: object) -> None:
        raise OutputFailed("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(depot, "write_state", full)
        with pytest.raises(OutputFailed):
            go_back(depot)
    assert used(depot) == id_of(two), "else the next pull would take it again"
    go_back(depot)
    assert used(depot) == id_of(one)


def test_a_folder_that_was_copied_there_becomes_a_link_in_one_step(
    bucket: Bucket, depot: Depot, one: Path, two: Path
) -> None:
    shutil.copytree(one, depot.link)
    bucket.publish(two)
    came = fetch(bucket, depot)
    assert asked(bucket)[2:] == ["report.html"]
    assert used(depot) == came.bundle_id
    assert go_back(depot).bundle_id == id_of(one)
    assert used(depot) == id_of(one)


def _file(place: Path, one: Path) -> None:
    place.write_text("somebody's")


def _folder(place: Path, one: Path) -> None:
    (place / "deep").mkdir(parents=True)
    (place / "deep/notes").write_text("somebody's")


def _folder_of_bundles(place: Path, one: Path) -> None:
    shutil.copytree(one, place / "bundle")


def _no_manifest(place: Path, one: Path) -> None:
    shutil.copytree(one, place)
    (place / "manifest.json").write_text("{}")


def _link_to_a_folder(place: Path, one: Path) -> None:
    _folder(place.with_name("elsewhere"), one)
    place.symlink_to("elsewhere")


def _link_to_nowhere(place: Path, one: Path) -> None:
    place.symlink_to("not mounted")


def everything(folder: Path) -> dict[str, object]:
    """All that lies in a folder, by its path."""
    return {
        path.relative_to(folder).as_posix(): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize(
    "put", [_file, _folder, _folder_of_bundles, _no_manifest, _link_to_a_folder, _link_to_nowhere]
)
def test_what_is_no_bundle_is_left_alone(
    bucket: Bucket, depot: Depot, one: Path, put: Callable[[Path, Path], None]
) -> None:
    """`--bundle /var/lib/hh-edge/models` is easily written for `…/models/bundle`."""
    bucket.publish(one)
    depot.link.parent.mkdir()
    put(depot.link, one)
    before = everything(depot.link.parent)
    attempts: list[Callable[[], object]] = [
        lambda: repair(depot),
        lambda: fetch(bucket, depot),
        lambda: fetch(bucket, depot, anew=True),
        lambda: go_back(depot),
    ]
    for attempt in attempts:
        with pytest.raises(UsageError, match=r"bundle: .* it stays as it is\. Name as --bundle .*/bundle$"):
            attempt()
    assert everything(depot.link.parent) == before
    assert not bucket.asked


def _unsigned(place: Path) -> None:
    (place / SIGNATURE).unlink()


def _of_a_stranger(place: Path) -> None:
    _unsigned(place)
    sign_bundle(place, STRANGER)


def _with_notes(place: Path) -> None:
    (place / "notes.txt").write_text("somebody's")


def _torn(place: Path) -> None:
    (place / "language.onnx.data").write_bytes(b"")


@pytest.mark.parametrize("same", [True, False], ids=["the same one comes", "another one comes"])
@pytest.mark.parametrize("harm", [_unsigned, _of_a_stranger, _with_notes, _torn])
def test_a_bundle_that_was_copied_there_and_is_not_taken_is_kept_for_good(
    bucket: Bucket, depot: Depot, one: Path, two: Path, harm: Callable[[Path], None], same: bool
) -> None:
    shutil.copytree(one, depot.link)
    harm(depot.link)
    copied = everything(depot.link)
    bucket.publish(one if same else two)
    assert not repair(depot)
    came = fetch(bucket, depot, anew=True)
    assert used(depot) == came.bundle_id == id_of(one if same else two)
    aside = depot.folder / f"{id_of(one)}.before"
    assert everything(aside) == copied
    # However many come after it.
    for published in (one, two) if not same else (two, one):
        bucket.publish(published)
        assert fetch(bucket, depot, allow_older=True).changed
    assert everything(aside) == copied
    # Another one is no reason to remove the first.
    depot.link.unlink()
    shutil.copytree(aside, depot.link)
    bucket.publish(two)
    fetch(bucket, depot, anew=True)
    assert everything(aside) == everything(depot.folder / f"{id_of(one)}.before1") == copied
    assert used(depot) == id_of(two)


def test_a_copy_of_a_version_takes_its_place(bucket: Bucket, depot: Depot, one: Path, two: Path) -> None:
    """Somebody copies the bundle in use over the link, as with `cp -r`; nothing is there twice for that."""
    bucket.publish(one)
    fetch(bucket, depot)
    for _ in range(2):
        depot.link.unlink()
        shutil.copytree(one, depot.link)
        bucket.publish(two)
        fetch(bucket, depot, retry=True)
        assert used(depot) == id_of(two)
        assert {path.name for path in depot.folder.iterdir() if path.is_dir()} == {id_of(one), id_of(two)}
        assert go_back(depot).bundle_id == id_of(one) == used(depot)
    with pytest.raises(UsageError, match=r"^/: is no place for a bundle"):
        Depot(Path("/"), [BUILDER.public])


def test_an_empty_folder_is_a_place_for_a_bundle(
    bucket: Bucket, depot: Depot, one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.link.mkdir(parents=True)
    bucket.publish(one)
    # Nothing has to be exchanged there, which not every system can.
    monkeypatch.setattr(depot_module.ctypes, "CDLL", lambda *_, **__: object())
    assert repair(depot)
    fetch(bucket, depot)
    assert used(depot) == id_of(one)
    assert depot.link.is_symlink()


def test_a_system_that_cannot_exchange_leaves_the_folder_alone(
    bucket: Bucket, depot: Depot, one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(one, depot.link)
    bucket.publish(two)
    monkeypatch.setattr(depot_module.ctypes, "CDLL", lambda *_, **__: object())
    with pytest.raises(UsageError, match="cannot exchange it for a link"):
        fetch(bucket, depot)
    assert used(depot) == id_of(one)
    assert not depot.link.is_symlink()
    assert sorted(path.name for path in depot.link.parent.iterdir()) == ["bundle", "bundle.pulled"]


def test_another_signature_comes_without_a_bundle(bucket: Bucket, depot: Depot, one: Path, tmp_path: Path) -> None:
    """Keys change: both sign, boxes trust the new one, the old one goes."""
    bucket.publish(one)
    fetch(bucket, depot)
    both = Path(shutil.copytree(one, tmp_path / "both"))
    sign_bundle(both, STRANGER)
    bucket.publish(both)
    turned = Depot(depot.link, [STRANGER.public])
    wish = Wish(trusted=[STRANGER.public])
    assert not pull(Fetcher(Address.parse(bucket.url), PATIENT), turned, wish, lambda _: None).changed
    assert Bundle.open(depot.link, [STRANGER.public]).manifest.bundle_id == id_of(one)


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (lambda bucket: bucket.status.update({"manifest.json": 403}), SourceUnavailable, "answers 403; check rights"),
        (lambda bucket: bucket.status.update({"language.onnx": 404}), SourceUnavailable, "answers 404"),
        (lambda bucket: bucket.status.update({"language.onnx": 503}), SourceUnavailable, "answers 503; try it again"),
        (
            lambda bucket: bucket.redirect.update({"vision.onnx": "/x/vision.onnx"}),
            SourceUnavailable,
            "redirects more",
        ),
        (lambda bucket: bucket.redirect.update({"vision.onnx": "file:///x"}), SourceUnavailable, "is no address"),
        (lambda bucket: bucket.endless.add("manifest.json"), BundleRefused, "longer than the 16777216 bytes"),
        (lambda bucket: bucket.endless.add("vision.onnx"), BundleRefused, "longer than the [0-9]+ bytes"),
        (lambda bucket: bucket.cut.update({"vision.onnx": (100, 99)}), SourceUnavailable, "broke off after"),
        (lambda bucket: bucket.drip_s.update({"header": 0.01}), SourceUnavailable, "no answer within 1 s"),
        (lambda bucket: bucket.drip_s.update({"body": 0.001}), SourceUnavailable, "too slow"),
        (lambda bucket: _flip(bucket.folder / "vision.onnx.data"), BundleRefused, "vision.onnx.data: sha256 differs"),
        (lambda bucket: _halve(bucket.folder / "vision.onnx.data"), BundleRefused, "has [0-9]+ bytes there"),
    ],
)
def test_whatever_a_server_does_the_bundle_in_use_stays_and_a_good_day_ends_it(
    bucket: Bucket,
    depot: Depot,
    one: Path,
    two: Path,
    fault: Callable[[Bucket], None],
    error: type[HeadHuntError],
    words: str,
) -> None:
    bucket.publish(one)
    fetch(bucket, depot)
    bucket.publish(two)
    other = Depot(depot.link.with_name("other"), [BUILDER.public])
    shutil.copytree(one, other.link)
    # What is damaged where it lies has to be fetched.
    for name in ("vision.onnx", "vision.onnx.data", "language.onnx"):
        _flip(other.link / name)
    fault(bucket)
    with pytest.raises(error, match=words) as raised:
        fetch(bucket, other)
    assert "\n" not in str(raised.value)
    assert not other.link.is_symlink(), "stays as it was"
    bucket.heal()
    bucket.publish(two)
    fetch(bucket, other)
    assert used(other) == id_of(two)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_goes_on_where_it_was(
    bucket: Bucket, depot: Depot, one: Path, ranges: bool
) -> None:
    bucket.publish(one)
    bucket.ranges = ranges
    size = (one / "language.onnx.data").stat().st_size
    bucket.cut["language.onnx.data"] = (size // 3, 2)
    came = fetch(bucket, depot)
    assert used(depot) == id_of(one)
    asks = [(asked, status) for path, asked, status in bucket.asked if path.endswith("language.onnx.data")]
    if ranges:
        assert asks == [("", 200), (f"bytes={size // 3}-", 206), (f"bytes={size // 3 * 2}-", 206)]
        assert came.fetched == sum(entry.bytes for entry in Bundle.open(one).manifest.files)
    else:
        assert [status for _, status in asks] == [200, 200, 200]


def test_the_next_pull_goes_on_where_the_last_one_broke_off(bucket: Bucket, depot: Depot, one: Path) -> None:
    bucket.publish(one)
    size = (one / "language.onnx.data").stat().st_size
    bucket.cut["language.onnx.data"] = (size // 2, 1)
    fetcher = Fetcher(Address.parse(bucket.url), Patience(waits_s=()))
    with pytest.raises(SourceUnavailable, match="broke off"):
        pull(fetcher, depot, Wish(trusted=[BUILDER.public]), lambda _: None)
    assert not depot.link.exists()
    fetch(bucket, depot)
    assert ("/fleet/gates/language.onnx.data", f"bytes={size // 2}-", 206) in bucket.asked
    assert not any("golden.npz" in path for path, _, _ in bucket.asked), "files that were whole are not fetched again"
    # What a power failure leaves of a part need not be its beginning.
    spoilt = Depot(depot.link.with_name("spoilt"), [BUILDER.public])
    bucket.cut["language.onnx.data"] = (size // 2, 1)
    with pytest.raises(SourceUnavailable, match="broke off"):
        pull(fetcher, spoilt, Wish(trusted=[BUILDER.public]), lambda _: None)
    for part in (spoilt.folder / ".coming" / "parts").iterdir():
        part.write_bytes(bytes(part.stat().st_size))
    fetch(bucket, spoilt)
    assert used(spoilt) == id_of(one)


def test_a_full_disk_is_told_and_harms_nothing(
    bucket: Bucket, depot: Depot, one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.publish(one)
    fetch(bucket, depot)
    bucket.publish(two)
    with monkeypatch.context() as patched:
        patched.setattr("edge_runtime.fleet.pull.free_space", lambda _: 1000)
        with pytest.raises(OutputFailed, match=r"are to come, 1\.0 KiB are free"):
            fetch(bucket, depot)
    with monkeypatch.context() as patched:

        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr("edge_runtime.fleet.fetch.os.fsync", full)
        with pytest.raises(OutputFailed, match="No space left on device"):
            fetch(bucket, depot)
    assert used(depot) == id_of(one)
    fetch(bucket, depot)
    assert used(depot) == id_of(two)


def test_one_pull_at_a_time(bucket: Bucket, depot: Depot, one: Path) -> None:
    bucket.publish(one)
    with depot.locked(), pytest.raises(Conflict, match="another hh-edge pull is at work"):
        fetch(bucket, depot)
    fetch(bucket, depot)


def test_a_state_that_cannot_be_read_costs_requests_alone(bucket: Bucket, depot: Depot, one: Path) -> None:
    bucket.publish(one)
    fetch(bucket, depot)
    for nonsense in (b"", b"[1]", b"\xff", b'{"tries": 3}'):
        (depot.folder / "state.json").write_bytes(nonsense)
        assert not fetch(bucket, depot).changed
        assert asked(bucket) == ["manifest.json", SIGNATURE]
    with suppress(FileNotFoundError):
        (depot.folder / "state.json").unlink()
    assert not fetch(bucket, depot).changed
