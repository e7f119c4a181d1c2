"""Video files against PyAV as the oracle, and files that are damaged in known ways."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import SourceUnavailable, UsageError, VideoUnreadable
from edge_runtime.video.file import VideoFile

WIDTH, HEIGHT, FRAMES, FPS = 64, 48, 60, 12


def picture(index: int) -> NDArray[np.uint8]:
    """A picture that can be told from its neighbours after compression: its grey is its number."""
    return np.full((HEIGHT, WIDTH, 3), (index * 37) % 200 + 20, np.uint8)


def write(path: Path, times: Iterable[int] = range(FRAMES), rate: int = FPS, codec: str = "libx264") -> Path:
    """One frame per entry of `times`, which count in 1/rate seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(index), format="bgr24")
            frame.pts, frame.time_base = time, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return write(folder / "whole.mp4")


@pytest.fixture(scope="module")
def oracle(whole: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(whole)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def same(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    """Equal but for the rounding of two colour conversions; neighbours differ by 37."""
    return left.shape == right.shape and int(np.abs(left.astype(int) - right).max()) <= 4


def test_every_frame_in_order_at_its_time(whole: Path, oracle: list[NDArray[np.uint8]]) -> None:
    with VideoFile(whole) as video:
        assert (video.fps, video.frame_count_hint, video.size) == (FPS, FRAMES, (WIDTH, HEIGHT))
        assert video.complete is None
        seen = [(frame.index, frame.seconds, frame.retrieve()) for frame in video.frames()]
        assert video.complete is True
        video.check_complete()
        assert video.count_frames() == len(oracle) == FRAMES
    assert [index for index, _, _ in seen] == list(range(FRAMES))
    assert [seconds for _, seconds, _ in seen] == [index / FPS for index in range(FRAMES)]
    assert all(same(got, expected) for (_, _, got), expected in zip(seen, oracle, strict=True))


@pytest.mark.parametrize("name", ["x.mkv", "x.avi", "x.ts", "x.mov", "x.flv", "x.mpg", "x.h264"])
def test_every_container_gives_the_same_count(folder: Path, name: str) -> None:
    codec = {"x.avi": "mpeg4", "x.mpg": "mpeg2video"}.get(name, "libx264")
    # MPEG-2 knows a few rates only.
    path = write(folder / name, rate=25 if name == "x.mpg" else FPS, codec=codec)
    with VideoFile(path) as video:
        assert video.count_frames() == FRAMES
        video.check_complete()


def test_a_picture_is_gone_with_the_next_frame(whole: Path) -> None:
    with VideoFile(whole) as video:
        frames = video.frames()
        first = next(frames)
        kept = first.retrieve()
        copy = kept.copy()
        next(frames)
        with pytest.raises(RuntimeError, match="frame 0 is gone"):
            first.retrieve()
        assert np.array_equal(kept, copy)  # what was retrieved stays


def test_stop_ends_early_and_says_nothing_of_the_rest(whole: Path) -> None:
    with VideoFile(whole) as video:
        assert [frame.index for frame in video.frames(stop=7)] == list(range(7))
        assert video.complete is None
        assert list(video.frames(stop=0)) == []


def test_two_readings_at_once_do_not_mix(whole: Path, oracle: list[NDArray[np.uint8]]) -> None:
    with VideoFile(whole) as video:
        for left, right in zip(video.frames(), video.frames(stop=9), strict=False):
            assert same(left.retrieve(), oracle[left.index])
            assert same(right.retrieve(), oracle[right.index])


@pytest.mark.parametrize("indices", [[0], [FRAMES - 1], [5, 3, 5, 40, 0], [], [7, 7, 7]])
def test_frames_are_read_again_by_index(whole: Path, oracle: list[NDArray[np.uint8]], indices: list[int]) -> None:
    with VideoFile(whole) as video:
        read = video.read_frames(indices)
        assert len(read) == len(indices)
        assert all(same(got, oracle[index]) for got, index in zip(read, indices, strict=True))
        again = video.read_again(indices)
    assert again.keys() == set(indices)
    assert all(same(got, oracle[index]) for index, got in again.items())


def test_indices_outside_the_file(whole: Path) -> None:
    with VideoFile(whole) as video:
        assert video.read_again([2, FRAMES, 10**6]).keys() == {2}
        with pytest.raises(VideoUnreadable, match=f"frame {FRAMES} cannot be decoded"):
            video.read_frames([2, FRAMES])
        with pytest.raises(ValueError, match="start at 0"):
            video.read_again([-1])


def test_a_closed_file_reads_nothing(whole: Path) -> None:
    with VideoFile(whole) as video:
        frames = video.frames()
        frame = next(frames)
        assert frame.index == 0
    with pytest.raises(ValueError, match="closed"):
        next(frames)
    with pytest.raises(ValueError, match="closed"):
        video.count_frames()
    assert video.complete is None


@pytest.mark.parametrize("name", ["cut.mkv", "cut.avi", "cut.mp4", "cut.mov"])
def test_a_truncated_file_is_told_by_its_own_promise(folder: Path, name: str) -> None:
    path = folder / name
    if path.suffix in (".mp4", ".mov"):
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(FRAMES):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="bgr24")))
            container.mux(stream.encode())
    else:
        write(path, codec="mpeg4")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with VideoFile(path) as video:
        decoded = len(list(video.frames()))
        assert 0 < decoded < FRAMES
        assert video.complete is False
        with pytest.raises(VideoUnreadable, match=f"{name}: .*{decoded} of {FRAMES} frames"):
            video.check_complete()


def test_a_variable_rate_is_no_damage(folder: Path) -> None:
    # Matroska promises a duration, so that OpenCV's count is duration times the nominal rate: far too many.
    path = write(folder / "variable.mkv", times=[index * (1 if index < 30 else 4) for index in range(FRAMES)])
    with VideoFile(path) as video:
        assert video.frame_count_hint is not None
        assert video.frame_count_hint > 2 * FRAMES
        assert video.count_frames() == FRAMES
        video.check_complete()


def test_a_rate_that_no_camera_has(folder: Path) -> None:
    path = write(folder / "lies.mp4", rate=5000)
    with VideoFile(path) as video:
        assert video.fps is None
        assert [frame.seconds for frame in video.frames(stop=3, fallback_fps=10)] == [0.0, 0.1, 0.2]
        with pytest.raises(VideoUnreadable, match="no usable frame rate"):
            video.frames()
        with pytest.raises(UsageError, match="positive"):
            video.frames(fallback_fps=0)
        assert video.count_frames() == FRAMES


def test_a_rotated_file_is_turned_everywhere(folder: Path, whole: Path) -> None:
    data = bytearray(whole.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, HEIGHT << 16, 0, 1 << 30)
    path = folder / "rotated.mp4"
    path.write_bytes(data)
    with VideoFile(path) as video:
        assert video.size == (HEIGHT, WIDTH)
        assert video.read_frames([0])[0].shape == (WIDTH, HEIGHT, 3)
        assert {frame.retrieve().shape for frame in video.frames()} == {(WIDTH, HEIGHT, 3)}


def test_files_without_video(folder: Path, whole: Path) -> None:
    sound = folder / "sound.wav"
    with wave.open(str(sound), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(16000))
    text = folder / "notes.mp4"
    text.write_text("not a video\n" * 100)
    headless = folder / "headless.mp4"  # its index is at the end, which is missing
    headless.write_bytes(whole.read_bytes()[:2000])
    for path in (sound, text, headless):
        with pytest.raises(VideoUnreadable, match=f"{path.name}: .* (decode|decoded)") as refused:
            VideoFile(path)
        assert "\n" not in str(refused.value)


def test_a_video_of_which_no_frame_decodes(folder: Path) -> None:
    path = write(folder / "zeroed.avi", codec="mpeg4")
    data = bytearray(path.read_bytes())
    # Zero the payload of every picture, and leave the container alone.
    at = data.index(b"movi")
    while (at := data.find(b"00dc", at)) >= 0 and data[at - 4 : at] != b"idx1":
        size = struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + size > len(data) or data.find(b"idx1") < at:
            break
        data[at + 8 : at + 8 + size] = bytes(size)
        at += 8 + size
    path.write_bytes(data)
    with pytest.raises(VideoUnreadable, match=r"zeroed\.avi"):
        VideoFile(path)


def test_files_that_are_not_there(folder: Path) -> None:
    empty = folder / "empty.mp4"
    empty.touch()
    for path, reason in ((folder / "none.mp4", "no such file"), (folder, "is a folder"), (empty, "is empty")):
        with pytest.raises(SourceUnavailable, match=reason) as refused:
            VideoFile(path)
        assert not isinstance(refused.value, VideoUnreadable)


def test_a_name_that_looks_like_a_protocol(folder: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("cam:1.mp4").write_bytes(whole.read_bytes())
    with VideoFile("cam:1.mp4") as video:
        assert video.count_frames() == FRAMES


def test_the_decoder_keeps_quiet_and_the_environment_stays(folder: Path, whole: Path) -> None:
    broken = folder / "noisy.mp4"
    data = bytearray(whole.read_bytes())
    start = data.index(b"mdat") + 1200
    data[start : start + 600] = bytes(600)
    broken.write_bytes(data)
    program = (
        "import os, sys\n"
        "from edge_runtime.video.file import VideoFile\n"
        "assert 'cv2' not in sys.modules\n"
        "VideoFile(sys.argv[1]).count_frames()\n"
        "try: VideoFile(sys.argv[2])\n"
        "except Exception: pass\n"
        "assert os.environ.get('OPENCV_FFMPEG_LOGLEVEL') == (sys.argv[3:] or [None])[0]\n"
    )
    command = [sys.executable, "-c", program, str(broken), __file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # Whoever asks for the decoder's words gets them; this also shows that there was something to silence.
    environment = os.environ | {"OPENCV_FFMPEG_LOGLEVEL": "16"}
    done = subprocess.run([*command, "16"], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0
    assert "NAL" in done.stdout + done.stderr
