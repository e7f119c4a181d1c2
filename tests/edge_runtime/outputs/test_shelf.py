"""The folder of clips: never more bytes than it may hold, the oldest go first, and strangers' files stay."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filmed import RUN
from hypothesis import example, given
from hypothesis import strategies as st

from edge_runtime.outputs.shelf import NoRoom, Shelf, ShelfFile, camera_folder

DAY = "2026-01-31"
LIMIT = 1000
AGE_S = 100.0


class Clock:
    def __init__(self) -> None:
        self.s = 1_770_000_000.0

    def now(self) -> float:
        return self.s


def lying(folder: Path) -> dict[str, int]:
    """All files below a folder, and what each holds."""
    return {str(path.relative_to(folder)): path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()}


def shelf_of(folder: Path, clock: Clock | None = None, limit: int = LIMIT) -> Shelf:
    return Shelf(folder, limit, AGE_S, now=(clock or Clock()).now)


def keep(shelf: Shelf, number: int, size: int, camera: str = "gate", suffix: str = "mp4") -> Path:
    file = shelf.new_file(camera, f"{RUN}-{camera}-{number}", DAY, suffix)
    file.write(bytes(size))
    return file.finish()


class Oracle:
    """What should lie in the folder, said in the plainest way."""

    def __init__(self) -> None:
        self.events: dict[int, dict[str, int]] = {}
        self.stamps: dict[int, float] = {}
        self.writing: dict[int, int] = {}

    def used(self) -> int:
        return sum(sum(sizes.values()) for sizes in self.events.values())

    def delete_oldest(self) -> bool:
        finished = [(self.stamps[number], f"{RUN}-gate-{number}", number) for number in self.events]
        finished = [one for one in finished if not self.writing.get(one[2])]
        if not finished:
            return False
        del self.events[min(finished)[2]]
        return True

    def names(self) -> dict[str, int]:
        return {
            f"gate/{DAY}/{RUN}-gate-{number}.{suffix}": size
            for number, sizes in self.events.items()
            for suffix, size in sizes.items()
        }


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.integers(0, 5), st.sampled_from(["mp4", "jpg", "seen.jpg"])),
        st.tuples(st.just("write"), st.integers(0, 9), st.integers(1, 600)),
        st.tuples(st.just("finish"), st.integers(0, 9)),
        st.tuples(st.just("discard"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.integers(1, 60)),
        st.tuples(st.just("sweep")),
        st.tuples(st.just("again")),
    ),
    max_size=60,
)


@given(STEPS)
@example(
    [("new", 0, "mp4"), ("finish", 0), ("new", 0, "jpg"), ("discard", 0), ("wait", 38), ("wait", 60), ("sweep",)]
)
def test_the_folder_is_what_an_oracle_says_and_never_more_than_it_may_be(steps: list[tuple[object, ...]]) -> None:
    with TemporaryDirectory() as temporary:
        folder, clock, oracle = Path(temporary), Clock(), Oracle()
        shelf = shelf_of(folder, clock)
        open_files: list[tuple[int, str, ShelfFile]] = []
        for name, *values in steps:
            clock.s += 0.5
            if name == "new":
                number, suffix = int(values[0]), str(values[1])  # type: ignore[call-overload]
                sizes = oracle.events.get(number, {})
                if f"{suffix}.part" in sizes or (suffix == "mp4" and "mp4" in sizes):
                    with pytest.raises(FileExistsError):
                        shelf.new_file("gate", f"{RUN}-gate-{number}", DAY, suffix)
                    continue
                open_files.append((number, suffix, shelf.new_file("gate", f"{RUN}-gate-{number}", DAY, suffix)))
                if number not in oracle.events:
                    oracle.stamps[number] = clock.s
                oracle.events.setdefault(number, {})[f"{suffix}.part"] = 0
                oracle.writing[number] = oracle.writing.get(number, 0) + 1
            elif name in ("write", "finish", "discard") and open_files:
                number, suffix, file = open_files[int(values[0]) % len(open_files)]  # type: ignore[call-overload]
                part = f"{suffix}.part"
                if name == "write":
                    size = int(values[1])  # type: ignore[call-overload]
                    fits = True
                    while fits and oracle.used() + size > LIMIT:
                        fits = oracle.delete_oldest()
                    if fits:
                        file.write(bytes(size))
                        oracle.events[number][part] += size
                    else:
                        with pytest.raises(NoRoom):
                            file.write(bytes(size))
                else:
                    open_files.remove((number, suffix, file))
                    oracle.writing[number] -= 1
                    size = oracle.events[number].pop(part)
                    if name == "finish":
                        file.finish()
                        oracle.stamps[number] = clock.s
                        oracle.events[number][suffix] = size
                    else:
                        file.discard()
                        if not oracle.events[number] and not oracle.writing[number]:
                            del oracle.events[number]
            elif name == "wait":
                clock.s += float(values[0])  # type: ignore[arg-type]
            elif name == "sweep":
                shelf.sweep()
                for number in list(oracle.events):
                    if not oracle.writing.get(number) and oracle.stamps[number] < clock.s - AGE_S:
                        del oracle.events[number]
            elif name == "again" and not open_files:
                # Another run finds the folder as this one left it.
                shelf.close()
                shelf = shelf_of(folder, clock)
                shelf.open()
                for number in list(oracle.events):
                    if oracle.stamps[number] < clock.s - AGE_S:
                        del oracle.events[number]
            assert lying(folder) == oracle.names()
            assert shelf.used == oracle.used() <= LIMIT
        for _, _, file in open_files:
            file.discard()
        shelf.close()


@pytest.mark.parametrize(
    ("camera", "folder"),
    [("gate", "gate"), (".", "%2E"), ("..", "%2E%2E"), ("a/../b", "a%2F..%2Fb"), ("[::1]", "%5B%3A%3A1%5D")],
)
def test_no_name_of_a_camera_leads_out_of_the_folder(tmp_path: Path, camera: str, folder: str) -> None:
    assert camera_folder(camera) == folder
    path = keep(shelf_of(tmp_path / "clips"), 3, 10, camera)
    assert path.parent == tmp_path / "clips" / folder / DAY
    assert [item.name for item in tmp_path.iterdir()] == ["clips"]
    # It is known again.
    again = shelf_of(tmp_path / "clips")
    again.sweep()
    assert again.used == 10


@pytest.mark.parametrize(
    "event", ["../../../etc/passwd", f"{RUN}-gate", f"{RUN}-yard-3", "", f"{RUN}-gate-3/../x", "holiday"]
)
def test_what_is_no_event_of_the_camera_gets_no_file(tmp_path: Path, event: str) -> None:
    with pytest.raises(ValueError, match="is no event of camera gate"):
        shelf_of(tmp_path).new_file("gate", event, DAY, "mp4")
    assert lying(tmp_path) == {}


def test_strangers_files_and_links_are_neither_counted_nor_touched(tmp_path: Path) -> None:
    folder, outside = tmp_path / "clips", tmp_path / "outside"
    outside.mkdir()
    shelf = shelf_of(folder)
    first = keep(shelf, 1, 400)
    for name in ("holiday.mp4", "notes.txt", f"{RUN}-yard-1.mp4", f"{RUN}-gate-1.mkv", f".{RUN}-gate-1.mp4"):
        (first.parent / name).write_bytes(bytes(5000))
    (folder / "readme.mp4").write_bytes(bytes(5000))
    ours = outside / f"{RUN}-gate-7.mp4"
    ours.write_bytes(bytes(5000))
    (first.parent / ours.name).symlink_to(ours)
    (folder / "yard").symlink_to(outside)
    (folder / "gate" / "2020-01-01").symlink_to(outside)
    before = lying(tmp_path)
    shelf.sweep()
    assert shelf.used == 400
    keep(shelf, 2, 900)
    after = lying(tmp_path)
    assert before.keys() - after.keys() == {str(first.relative_to(tmp_path))}
    with pytest.raises(FileExistsError):
        shelf.new_file("gate", f"{RUN}-gate-7", DAY, "mp4")
    with pytest.raises(OSError, match="is no folder"):
        shelf.new_file("yard", f"{RUN}-yard-7", DAY, "mp4")
    assert lying(outside) == {ours.name: 5000}


def test_another_events_file_is_never_written_over(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path)
    file = shelf.new_file("gate", f"{RUN}-gate-1", DAY, "mp4")
    file.write(b"new")
    file.path.write_bytes(b"somebody was faster")
    with pytest.raises(FileExistsError):
        file.finish()
    assert file.path.read_bytes() == b"somebody was faster"


def test_what_a_killed_run_left_is_mended_or_deleted(tmp_path: Path) -> None:
    def left(number: int, suffix: str, data: bytes) -> Path:
        path = tmp_path / "gate" / DAY / f"{RUN}-gate-{number}.{suffix}.part"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    good, bad, picture = left(1, "mp4", b"good"), left(2, "mp4", b"bad"), left(3, "jpg", b"good")
    sheet = left(3, "seen.jpg", b"good")
    stranger = left(4, "avi", b"good")
    shelf = Shelf(tmp_path, LIMIT, 1e12, lambda path: path.read_bytes() == b"good")
    shelf.open()
    assert good.with_suffix("").read_bytes() == b"good"
    assert not good.exists()
    assert not bad.exists()
    assert not picture.exists()
    assert not sheet.exists()
    assert stranger.exists()
    assert shelf.used == 4


def test_a_folder_that_holds_more_than_it_may_is_brought_to_that_at_the_start(tmp_path: Path) -> None:
    clock = Clock()
    shelf = shelf_of(tmp_path, clock)
    for number in range(5):
        clock.s += 1
        keep(shelf, number, 200)
    shelf.close()
    smaller = shelf_of(tmp_path, clock, 500)
    smaller.open()
    assert smaller.used == 400
    assert [name[-5] for name in sorted(lying(tmp_path))] == ["3", "4"]


def test_a_second_run_is_refused_the_folder_until_the_first_has_ended(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first, second = shelf_of(tmp_path), shelf_of(tmp_path)
    first.open()
    with pytest.raises(OSError, match="another run writes its clips there"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_room_that_others_made_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.outputs.shelf._RESCAN_S", 0.0)
    shelf = shelf_of(tmp_path)
    writing = shelf.new_file("gate", f"{RUN}-gate-1", DAY, "mp4")
    writing.write(bytes(500))
    other = shelf.new_file("gate", f"{RUN}-gate-2", DAY, "mp4")
    other.write(bytes(400))
    other.finish()
    kept = shelf.new_file("gate", f"{RUN}-gate-2", DAY, "jpg")
    (tmp_path / "gate" / DAY / f"{RUN}-gate-2.mp4").unlink()
    kept.write(bytes(450))
    assert shelf.used == 950
    for file in (writing, kept):
        file.discard()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_made_is_an_error_that_can_be_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        shelf_of(tmp_path / "clips").open()
