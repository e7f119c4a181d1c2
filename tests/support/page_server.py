"""A stand-in for `hh-edge run --http`, for tests of the operator's page: its API over a made-up site (page_world.py).

No camera and no model run here, so that a test can say what happens and when; whether the real server speaks the same
is for the tests of `edge_runtime.server`. `python tests/support/page_server.py` serves it, to look at the page.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from page_world import DAYS, Json, Pictures, Site, seconds_of, stamp
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).resolve().parents[2] / "edge_runtime" / "server" / "dashboard"
CSP = "default-src 'self'; img-src 'self' blob: data:; style-src 'self'"


@dataclass
class Standing:
    """What a test can hold on to.

    Attributes:
        tokens: Token to role; empty is loopback, where everybody acts.
        asked: Method and path of all requests so far, newest last.
        failing: Method and path of requests that get this status and sentence instead.
        under_way: How many pictures are being answered now, and at most were.
    """

    site: Site
    tokens: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    failing: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    under_way: int = 0
    most_under_way: int = 0
    picture_s: float = 0.0
    listeners: list[asyncio.Queue[str]] = field(default_factory=list)
    closing: bool = False
    loop: asyncio.AbstractEventLoop | None = None

    def tell(self, kind: str, value: Json) -> None:
        """Send to all who listen."""
        line = f"event: {kind}\ndata: {json.dumps(value)}\n\n"
        if self.loop is not None and self.loop.is_running():
            for queue in list(self.listeners):
                self.loop.call_soon_threadsafe(queue.put_nowait, line)

    def change(self, name: str, **values: object) -> None:
        """A camera is otherwise now."""
        self.site.cameras[name].update(values)
        self.tell("camera", self.site.cameras[name])

    def begin_event(self, name: str, peak: float = 0.93) -> Json:
        """An alarm that goes on."""
        event = {
            "id": f"live-{time.time_ns()}", "camera": name, "start": stamp(time.time()), "end": None, "state": "open",
            "seconds": 3.2, "peak": peak, "mean": peak - 0.04, "snapshot": True, "clip": False, "seen": False,
            "mark": None, "description": None,
        }  # fmt: skip
        self.site.events.insert(0, event)
        self.site.bumps.setdefault(name, []).append((time.time() - 3, time.time() + 30, peak))
        self.site.cameras[name]["open_event"] = event["id"]
        self.tell("event", event)
        return event

    def update_event(self, event: Json, peak: float) -> None:
        """It goes on, as each segment of it tells."""
        event.update(seconds=time.time() - seconds_of(event["start"]), peak=peak)
        self.tell("event", event)

    def end_event(self, event: Json) -> None:
        """It is over."""
        now = time.time()
        event.update(state="ended", end=stamp(now), seconds=now - seconds_of(event["start"]), clip=True, seen=True)
        self.site.cameras[event["camera"]]["open_event"] = None
        self.tell("event", event)

    def score_all(self) -> None:
        """A new score of every camera that is watched."""
        for camera in list(self.site.cameras.values()):
            if camera["state"] != "online" or camera["paused"]:
                continue
            _, values = self.site.scores(camera["name"], time.time() - 10, time.time())
            value = float(values[-1]) if len(values) else 0.2
            high = value > camera["alarm"]["threshold"]
            score = {"time": stamp(time.time()), "score": value, "smoothed": value, "anomalous": high}
            camera["score"] = {**score, "p": 0.0025 if value > 0.6 else 0.3}
            self.tell("score", {"camera": camera["name"], **score})


def application(own: Standing) -> Starlette:
    """The API of the contract over a made-up site."""
    site, pictures, clips = own.site, Pictures(), Path(tempfile.mkdtemp(prefix="page-"))

    def role(request: Request) -> str | None:
        if not own.tokens:
            return "act"
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = base64.urlsafe_b64decode(request.cookies.get("hh_session", "")).decode()
        return own.tokens.get(given or cookie)

    def camera_of(request: Request) -> Json:
        if (found := site.cameras.get(request.path_params["name"])) is None:
            raise HTTPException(404, "there is no such camera")
        return found

    def event_of(request: Request) -> Json:
        if (found := next((one for one in site.events if one["id"] == request.path_params["id"]), None)) is None:
            raise HTTPException(404, "there is no such event")
        return found

    async def session(request: Request) -> Response:
        if request.method == "POST":
            token = (await request.json()).get("token", "")
            if token not in own.tokens:
                raise HTTPException(401, "this token is not known")
            answer = JSONResponse({"role": own.tokens[token]})
            kept = base64.urlsafe_b64encode(token.encode()).decode()
            answer.set_cookie("hh_session", kept, httponly=True, samesite="strict")
            return answer
        answer = JSONResponse({"role": role(request), "needs_token": bool(own.tokens)})
        if request.method == "DELETE":
            answer.delete_cookie("hh_session")
        return answer

    async def run(request: Request) -> Json:
        return {
            "run": "01", "started": stamp(site.started), "time": stamp(time.time()), "version": "0.1.0",
            "bundle_id": "0185d179bcf76ed8", "role": role(request), "clips": True, "feedback": site.feedback,
            "days_of_scores": DAYS,
        }  # fmt: skip

    async def cameras(request: Request) -> Json:
        if request.method == "POST":
            told = await request.json()
            if told["name"] in site.cameras:
                raise HTTPException(409, f"there is a camera {told['name']} already; take another name")
            site.cameras[told["name"]] = site.camera(told["name"], told["source"])
            return site.cameras[told["name"]]
        return {"cameras": list(site.cameras.values())}

    async def camera(request: Request) -> Json:
        found = camera_of(request)
        if request.method == "DELETE":
            if not found["added"]:
                raise HTTPException(409, "it stands in the configuration; take it out there")
            del site.cameras[found["name"]]
        return found

    async def pause(request: Request) -> Json:
        own.change(camera_of(request)["name"], paused=request.url.path.endswith("/pause"))
        return camera_of(request)

    async def picture(request: Request) -> Response:
        name = camera_of(request)["name"]
        own.under_way += 1
        own.most_under_way = max(own.most_under_way, own.under_way)
        await asyncio.sleep(own.picture_s)
        own.under_way -= 1
        return Response(pictures.jpeg(name, time.time()), media_type="image/jpeg")

    async def scores(request: Request) -> Json:
        query = request.query_params
        start, end = seconds_of(query["from"]), seconds_of(query["to"])
        return site.binned(camera_of(request)["name"], start, end, int(query.get("points", 600)))

    async def alarm(request: Request) -> Json:
        found = camera_of(request)["alarm"]
        if request.method == "PUT":
            told = await request.json()
            if not 0 < told.get("threshold", 0.5) < 1:
                raise HTTPException(400, "threshold: a number between 0 and 1 is needed")
            found.update(told, budget_per_day=told.get("budget_per_day"), missing_segments=0, by="page")
            if found["budget_per_day"] is not None:
                found.update(by="budget", missing_segments=3410)
        elif request.method == "DELETE":
            found.update(threshold=0.71, by="bundle", min_duration=0, cooldown=0, budget_per_day=None)
        return found

    async def attempt(request: Request) -> Json:
        found, query, days = camera_of(request), request.query_params, 6.9
        now = site.alarms(found["name"], found["alarm"]["threshold"], found["alarm"]["min_duration"], days)
        then = site.alarms(found["name"], float(query["threshold"]), float(query.get("min_duration", 0)), days)
        have, would = ({one["event"] or one["start"] for one in all_} for all_ in (now, then))
        told = [{"alarms": len(all_), "per_day": len(all_) / days} for all_ in (now, then)]
        gone = [one for one in now if (one["event"] or one["start"]) not in would]
        new = [one for one in then if (one["event"] or one["start"]) not in have]
        return {"days": days, "now": told[0], "then": told[1], "gone": gone[:200], "new": new[:200]}

    async def events(request: Request) -> Json:
        query = request.query_params
        mark = query.get("mark")
        found = [
            one for one in site.events
            if query.get("camera") in (None, one["camera"]) and query.get("state") in (None, one["state"])
            and one["peak"] >= float(query.get("min_peak", 0)) and (mark is None or (one["mark"] or "none") == mark)
            and ("from" not in query or seconds_of(one["start"]) >= seconds_of(query["from"]))
            and ("to" not in query or seconds_of(one["start"]) < seconds_of(query["to"]))
        ]  # fmt: skip
        first = int(query.get("after", 0))
        limit = int(query.get("limit", 50))
        return {
            "events": found[first : first + limit],
            "next": str(first + limit) if first + limit < len(found) else None,
        }

    async def event(request: Request) -> Json:
        return event_of(request)

    async def of_event(request: Request) -> Response:
        one, kind = event_of(request), request.path_params["kind"]
        at = seconds_of(one["start"])
        if kind == "clip":
            path = clips / "clip.mp4"
            if not path.exists():
                path.write_bytes(pictures.clip(one["camera"], at))
            return FileResponse(path, media_type="video/mp4")
        made = pictures.sheet if kind == "seen" else pictures.jpeg
        return Response(made(one["camera"], at), media_type="image/jpeg")

    async def describe(request: Request) -> Json:
        one = event_of(request)
        one["description"] = (await request.json())["text"] or None
        return one

    async def judge(request: Request) -> Json:
        one = event_of(request)
        site.mark(one, (await request.json())["verdict"])
        return one

    async def feedback(request: Request) -> Json:
        latest = site.scorers[-1] if site.scorers else None
        return {"marks": site.marks[::-1], "scorer": latest, "can_undo": bool(site.scorers)}

    async def missed(request: Request) -> Json:
        told = await request.json()
        return site.add_mark(told["camera"], told["start"], told["end"], "missed")

    async def unmark(request: Request) -> Json:
        mark = next((one for one in site.marks if one["id"] == request.path_params["id"]), None)
        if mark is None:
            raise HTTPException(404, "there is no such mark")
        site.marks.remove(mark)
        for one in site.events:
            one["mark"] = None if one["id"] == mark["event"] else one["mark"]
        return {"marks": site.marks}

    async def proposal(request: Request) -> Json:
        return site.proposal()

    async def accept(request: Request) -> Json:
        if (await request.json())["proposal"] != site.proposal()["proposal"]:
            raise HTTPException(409, "marks were made since; look at what would change again")
        site.scorers.append(
            {"number": len(site.scorers) + 1, "accepted": stamp(time.time()), "marks": len(site.marks)}
        )
        return site.scorers[-1]

    async def undo(request: Request) -> Json:
        site.scorers.pop()
        return {"scorer": site.scorers[-1] if site.scorers else None}

    async def forget(request: Request) -> Json:
        told = await request.json()
        site.forgotten.append(told)
        site.events[:] = [
            one for one in site.events if (one["camera"], one["start"]) != (told["camera"], told["start"])
        ]
        return {"events": 1}

    async def live(request: Request) -> Response:
        queue: asyncio.Queue[str] = asyncio.Queue()
        own.loop = asyncio.get_running_loop()
        own.listeners.append(queue)

        async def lines() -> AsyncIterator[str]:
            try:
                yield ": here\n\n"
                while not own.closing:
                    with contextlib.suppress(TimeoutError):
                        yield await asyncio.wait_for(queue.get(), 0.2)
            finally:
                own.listeners.remove(queue)

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def health(request: Request) -> Json:
        return {"status": "ok"}

    def guarded(handle: Callable[[Request], object], status: int = 200) -> Callable[[Request], object]:
        async def answer(request: Request) -> Response:
            own.asked.append((request.method, request.url.path))
            who = role(request)
            if who is None and request.url.path not in ("/api/session", "/healthz"):
                return JSONResponse({"error": "sign in with a token"}, 401)
            if request.method != "GET" and who != "act" and request.url.path != "/api/session":
                return JSONResponse({"error": "this token may only look; take one that acts"}, 403)
            if (fault := own.failing.get((request.method, request.url.path))) is not None:
                return JSONResponse({"error": fault[1]}, fault[0])
            try:
                made = await handle(request)  # type: ignore[misc]
            except HTTPException as problem:
                return JSONResponse({"error": problem.detail}, problem.status_code)
            return (
                made
                if isinstance(made, Response)
                else JSONResponse(made, 201 if request.method == "POST" and status == 201 else 200)
            )

        return answer

    one = "/api/cameras/{name}"
    table: list[tuple[str, str, Callable[[Request], object]]] = [
        ("GET", "/healthz", health), ("GET POST DELETE", "/api/session", session), ("GET", "/api/run", run),
        ("GET POST", "/api/cameras", cameras), ("GET DELETE", one, camera), ("POST", one + "/pause", pause),
        ("POST", one + "/resume", pause), ("GET", one + "/picture", picture), ("GET", one + "/scores", scores),
        ("GET PUT DELETE", one + "/alarm", alarm), ("GET", one + "/alarm/try", attempt),
        ("GET", "/api/events", events), ("GET", "/api/events/{id}", event),
        ("PUT", "/api/events/{id}/description", describe),
        ("POST", "/api/events/{id}/feedback", judge), ("GET", "/api/events/{id}/{kind}", of_event),
        ("GET", "/api/feedback", feedback), ("POST", "/api/feedback/missed", missed),
        ("DELETE", "/api/feedback/marks/{id}", unmark), ("GET", "/api/feedback/proposal", proposal),
        ("POST", "/api/feedback/accept", accept), ("POST", "/api/feedback/undo", undo),
        ("POST", "/api/forget", forget), ("GET", "/api/live", live),
    ]  # fmt: skip
    routes = [Route(path, guarded(handle), methods=methods.split()) for methods, path, handle in table]
    made = Starlette(routes=[*routes, Route("/", page)])
    made.mount("/static", StaticFiles(directory=PAGE))
    made.add_middleware(Guarded)
    return made


class Guarded:
    """The headers of the real server: a page that breaks its own policy does not work here either."""

    def __init__(self, app: object) -> None:
        self.app = GZipMiddleware(app, minimum_size=800)  # type: ignore[arg-type]

    async def __call__(self, scope: Json, receive: object, send: Callable[[Json], object]) -> None:
        async def adding(message: Json) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", CSP.encode())]
            await send(message)  # type: ignore[misc]

        await self.app(scope, receive, adding)  # type: ignore[arg-type]


@contextlib.contextmanager
def page_server(own: Standing, port: int = 0, every_s: float = 1.0) -> Iterator[str]:
    """Serve on localhost until the block ends; gives the address. Scores come every so many seconds; 0 is never."""
    listener = socket.create_server(("127.0.0.1", port))
    own.closing = False
    server = uvicorn.Server(uvicorn.Config(application(own), log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(every_s):
            own.score_all()

    ticking = threading.Thread(target=tick, daemon=True)
    if every_s:
        ticking.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        stop.set()
        own.closing = True
        server.should_exit = True
        thread.join(10)
        listener.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=12)
    parser.add_argument("--events", type=int, default=300)
    parser.add_argument("--port", type=int, default=8480)
    parser.add_argument("--token", action="append", default=[], help="ROLE=TOKEN")
    words = parser.parse_args()
    tokens = {token: kind for kind, token in (word.split("=", 1) for word in words.token)}
    with page_server(Standing(Site(words.cameras, words.events), tokens), words.port) as address:
        print(address, flush=True)
        threading.Event().wait()
