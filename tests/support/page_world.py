"""A made-up site for the operator's page: cameras, a week of scores and events, pictures. Knows nothing of HTTP.

A stand-in: nothing is detected here. Scores are noise with bumps where the made-up events are.
"""

from __future__ import annotations

import io
import os
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Json = dict[str, Any]
STEP_S = 3.2
DAYS = 7
NAMES = (
    "Tor Süd", "Parkdeck 2", "Kasse", "Café Außenbereich", "Laderampe", "Straßenseite", "Øst indgang", "Treppe B",
    "Hof", "Flur 1. OG", "Aufzug", "Fahrradkeller",
)  # fmt: skip
SAID = (
    "Two people push each other beside the gate, a third one runs away.",
    "A person climbs over the fence on the left.",
    "Someone lies on the ground and does not get up.",
    "Smoke rises behind the parked van.",
    None,
    None,
    None,
)


def stamp(seconds: float) -> str:
    """UTC, RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """Back from `stamp`."""
    return datetime.fromisoformat(text).timestamp()


@dataclass
class Site:
    """Everything that the stand-in knows; tests change it as they like.

    Attributes:
        cameras: By name, as the API gives them.
        events: Newest first, as the API gives them.
        bumps: Where scores are high, by camera: from, to, how high.
    """

    camera_count: int = 12
    event_count: int = 300
    names: tuple[str, ...] = NAMES
    feedback: bool = True
    seed: int = 7
    cameras: dict[str, Json] = field(default_factory=dict)
    events: list[Json] = field(default_factory=list)
    bumps: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    marks: list[Json] = field(default_factory=list)
    scorers: list[Json] = field(default_factory=list)
    forgotten: list[Json] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started = time.time() - DAYS * 86400
        self.lock = threading.Lock()
        rng = np.random.default_rng(self.seed)
        names = [self.names[i] if i < len(self.names) else f"Camera {i + 1:02d}" for i in range(self.camera_count)]
        for name in names:
            self.cameras[name] = self.camera(name)
        if names:
            self._happen(rng, names)

    def camera(self, name: str, source: str | None = None) -> Json:
        """A camera that is watched."""
        alarm = {"threshold": 0.71, "by": "bundle", "min_duration": 0, "cooldown": 0}
        return {
            "name": name, "state": "online", "reason": None, "detail": "", "since": stamp(time.time() - 7200),
            "quality": [], "quality_since": {}, "paused": False, "added": source is not None, "fps": 25.0,
            "score": None, "open_event": None, "picture": True,
            "alarm": {**alarm, "budget_per_day": None, "missing_segments": 0},
        }  # fmt: skip

    def _happen(self, rng: np.random.Generator, names: list[str]) -> None:
        now = time.time()
        # Some cameras see more than others.
        weights = rng.exponential(size=len(names)) + 0.05
        who = rng.choice(len(names), self.event_count, p=weights / weights.sum())
        begun = np.sort(now - 90 - rng.random(self.event_count) * (DAYS * 86400 - 200))[::-1]
        for index, (camera, start) in enumerate(zip(who, begun, strict=True)):
            long = float(STEP_S * rng.integers(1, 9))
            peak = float(rng.uniform(0.72, 0.985))
            self.bumps.setdefault(names[camera], []).append((float(start), float(start) + long, peak))
            self.events.append(
                {
                    "id": f"0185d179-{index:06d}", "camera": names[camera], "start": stamp(start),
                    "end": stamp(start + long), "state": "ended", "seconds": long, "peak": round(peak, 4),
                    "mean": round(peak * 0.93, 4), "snapshot": True, "clip": index % 5 != 3, "seen": True,
                    "mark": None, "description": SAID[int(rng.integers(len(SAID)))], "p": 0.0025,
                }
            )  # fmt: skip

    def scores(self, camera: str, start: float, end: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """When segments began and their smoothed scores; the same for the same time, whoever asks."""
        at = np.arange(np.ceil(max(start, self.started) / STEP_S), np.floor(min(end, time.time()) / STEP_S)) * STEP_S
        shift = sum(camera.encode()) % 97
        noise = np.modf(np.abs(np.sin(at * 12.9898 + shift) * 43758.5453))[0]
        values = 0.2 + 0.07 * np.sin(at / 190 + shift) + 0.05 * np.sin(at / 23 + 2 * shift) + 0.09 * (noise - 0.5)
        for first, last, peak in self.bumps.get(camera, ()):
            if last + 20 < start or first - 20 > end:
                continue
            apart = np.maximum(np.maximum(first - at, at - last), 0)
            values = np.maximum(values, peak * np.exp(-((apart / 5) ** 2)) * (0.97 + 0.03 * noise))
        return at, np.clip(values, 0, 1)

    def binned(self, camera: str, start: float, end: float, points: int) -> Json:
        """The highest score of each bin that has one; null where a line breaks."""
        at, values = self.scores(camera, start, end)
        step = (end - start) / points
        found: list[list[float | None]] = []
        for index in np.unique(places := ((at - start) // step).astype(int)):
            begun = start + float(index) * step
            if found and begun - float(found[-1][0] or 0) > max(3 * STEP_S, 1.5 * step):
                found.append([float(found[-1][0] or 0) + step, None])
            found.append([begun, float(values[places == index].max())])
        return {"step_s": step, "scores": found}

    def alarms(self, camera: str, threshold: float, min_duration: float, days: float) -> list[Json]:
        """Stretches above a threshold."""
        at, values = self.scores(camera, time.time() - days * 86400, time.time())
        above = np.flatnonzero(np.diff(np.concatenate([[False], values > threshold, [False]]).astype(np.int8)))
        found = []
        for first, last in zip(above[::2], above[1::2], strict=True):
            start, end = float(at[first]), float(at[last - 1]) + STEP_S
            if end - start < min_duration:
                continue
            known = [
                one["id"]
                for one in self.events
                if one["camera"] == camera and abs(seconds_of(one["start"]) - start) < 15
            ]
            peak = float(values[first:last].max())
            found.append({"start": stamp(start), "end": stamp(end), "peak": peak, "event": next(iter(known), None)})
        return found[::-1]

    def mark(self, event: Json, verdict: str | None) -> None:
        """The operator's word on an event."""
        event["mark"] = verdict
        self.marks = [mark for mark in self.marks if mark["event"] != event["id"]]
        if verdict:
            self.add_mark(event["camera"], event["start"], event["end"], verdict, event["id"])

    def add_mark(self, camera: str, start: str, end: str, verdict: str, event: str | None = None) -> Json:
        """A mark of a stretch."""
        mark = {"id": f"m{time.time_ns()}", "verdict": verdict, "camera": camera, "start": start, "end": end}
        self.marks.append({**mark, "event": event, "at": stamp(time.time())})
        return self.marks[-1]

    def proposal(self) -> Json:
        """What agreeing to the marks would change: lower events of the cameras with false alarms would be gone."""
        wrong = {mark["camera"] for mark in self.marks if mark["verdict"] == "false_alarm"}
        gone = [one for one in self.events if one["camera"] in wrong and one["peak"] < 0.85][:40]
        keys = ("camera", "start", "end", "peak")
        false_alarms = sum(mark["verdict"] == "false_alarm" for mark in self.marks)
        return {
            "proposal": f"p{len(self.marks)}-{self.marks[-1]['id'] if self.marks else ''}", "marks": len(self.marks),
            "false_alarms": false_alarms, "days": 6.9, "wrong_before": false_alarms,
            "wrong_left_out": false_alarms // 4, "loss_before": 1.2, "loss_left_out": 0.4,
            "kept": len(self.events) - len(gone), "gone": [{key: one[key] for key in keys} for one in gone],
            "new": [], "replaces": len(self.scorers),
        }  # fmt: skip


class Pictures:
    """Small drawn scenes; frames of `HEADHUNT_FOOTAGE` where that is set."""

    def __init__(self) -> None:
        self._footage = [cv2.resize(frame, (640, 360)) for frame in self._read(os.environ.get("HEADHUNT_FOOTAGE"))]

    @staticmethod
    def _read(path: str | None) -> list[NDArray[np.uint8]]:
        if not path or not Path(path).is_file():
            return []
        with av.open(path) as container:
            frames = (frame.to_ndarray(format="bgr24") for frame in container.decode(video=0))
            return [frame for index, frame in zip(range(240), frames, strict=False) if index % 6 == 0]

    def frame(self, camera: str, at: float) -> NDArray[np.uint8]:
        """BGR, 360 x 640."""
        shift = sum(camera.encode())
        if self._footage:
            frame = self._footage[(int(at) + shift) % len(self._footage)]
            frame = cv2.flip(frame, 1) if shift % 2 else frame
            tint = np.array([1.0 - 0.25 * (shift % 3 == 0), 1.0, 1.0 - 0.25 * (shift % 5 == 0)]) * (
                0.7 + shift % 4 / 10
            )
            return np.clip(frame * tint, 0, 255).astype(np.uint8)
        frame = np.empty((360, 640, 3), np.uint8)
        frame[:] = np.linspace(40 + shift % 40, 110, 360)[:, None, None].astype(np.uint8)
        cv2.rectangle(frame, (0, 210), (640, 360), (70, 74, 70), -1)
        for lane in range(0, 640, 128):
            cv2.line(frame, (lane, 360), (320 + (lane - 320) // 4, 210), (120, 124, 120), 2)
        x = int((at * 40 + shift * 13) % 700) - 30
        cv2.ellipse(frame, (x, 250), (13, 40), 0, 0, 360, (60 + shift % 120, 90, 160), -1)
        cv2.circle(frame, (x, 200), 11, (150, 170, 200), -1)
        return frame

    def jpeg(self, camera: str, at: float) -> bytes:
        """The same, compressed."""
        return bytes(cv2.imencode(".jpg", self.frame(camera, at), [cv2.IMWRITE_JPEG_QUALITY, 80])[1])

    def sheet(self, camera: str, at: float) -> bytes:
        """Sixteen frames in four rows."""
        frames = [cv2.resize(self.frame(camera, at + i), (240, 135)) for i in range(16)]
        rows = [np.hstack(frames[i : i + 4]) for i in range(0, 16, 4)]
        return bytes(cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 80])[1])

    def clip(self, camera: str, at: float) -> bytes:
        """Two seconds of H.264."""
        target = io.BytesIO()
        with av.open(target, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for index in range(20):
                frame = av.VideoFrame.from_ndarray(self.frame(camera, at + index / 5), format="bgr24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return target.getvalue()
