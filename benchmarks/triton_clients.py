"""A bundle on a real Triton server on this machine: the same records, through a kill as well; and what clients get.

    python -m benchmarks.triton_clients --bundle bundle --footage street.avi --output benchmarks/triton_clients.txt

The server is the one of the wheel nvidia-pytriton, its models run ONNX Runtime in the Python backend. It shares the
processors with its clients here, so these figures are of one machine that does both; what a network adds is not in
them, but the bytes on it are.

1. `hh-edge run` scores the footage here, then by way of the server: records are compared.
2. Four processes score it at once, several times over; the server is killed and started again in between. Every score
   is compared, gaps are counted, and whether the last files are whole again.
3. 1, 2, 4 and 8 processes ask for segments as fast as they are answered: segments a second, and latencies.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.commanding import PATH, say
from benchmarks.measuring import machine
from benchmarks.processes import ENVIRONMENT
from benchmarks.serving import served
from edge_runtime.bundle.reader import Bundle
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import open_engine
from edge_runtime.inference.triton_engine import TritonEngine
from edge_runtime.stream.pixels import UInt8Array
from offline.console import Console
from offline.recipes.triton import measure_jpeg

TOLERANCE = 1e-5
PROCESSES = 4
_DOWN_S = 6.0
_WIRES = ("raw", "jpeg")

Records = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Load:
    """What clients measured.

    Attributes:
        wire: `raw` or `jpeg`.
        clients: How many processes.
        rate: Segments a second, of all.
        median_ms: Of a segment, from the call to its features.
        late_ms: The 95th percentile of that.
    """

    wire: str
    clients: int
    rate: float
    median_ms: float
    late_ms: float


def run_edge(
    bundle: Path, footage: Path, provider: str, stride: int, times: int, output: Path
) -> subprocess.Popen[str]:
    """Start `hh-edge run` on the footage, so many times one after another."""
    cameras = [word for number in range(times) for word in ("--camera", f"c{number}={footage}")]
    command = [sys.executable, "-m", "edge_runtime.cli", "run", "--bundle", str(bundle), *cameras]
    command += ["--provider", provider, "--stride", str(stride), "--threads", "1", "--quiet", "--output", str(output)]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def records_of(path: Path) -> dict[str, Records]:
    """Records by camera, without what differs from run to run."""
    found: dict[str, Records] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        if record["type"] in ("segment", "gap", "event"):
            found.setdefault(record["camera"], []).append(record)
    return found


def apart(one: Records, other: Records) -> float:
    """The largest difference of any number in two lists of records; infinite where anything else differs."""
    if len(one) != len(other):
        return float("inf")
    worst = 0.0
    for first, second in zip(one, other, strict=True):
        for key in first.keys() | second.keys():
            a, b = first.get(key), second.get(key)
            if key in ("camera", "id") or a == b:
                continue
            if not (isinstance(a, float) and isinstance(b, float)):
                return float("inf")
            worst = max(worst, abs(a - b))
    return worst


def scores(records: Records) -> dict[int, float]:
    """Score of each segment, by its first frame."""
    return {one["start_frame"]: one["score"] for one in records if one["type"] == "segment"}


def _client(bundle: Path, address: str, begin: Any, seconds: float, results: Any) -> None:
    opened = Bundle.open(bundle)
    frames = opened.golden().frames[:1]
    engine = TritonEngine(opened.manifest, address)
    engine.features(frames)
    begin.wait()
    took = _again_and_again(engine, frames, seconds)
    engine.close()
    results.put(took)


def _again_and_again(engine: Engine, frames: UInt8Array, seconds: float) -> list[float]:
    """How long each call took, one behind the other for so long."""
    took: list[float] = []
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        begun_s = time.monotonic()
        engine.features(frames)
        took.append(time.monotonic() - begun_s)
    return took


def load(bundle: Path, address: str, wire: str, clients: int, seconds: float) -> Load:
    """Have so many processes ask for one segment after another."""
    spawning = multiprocessing.get_context("spawn")
    begin, results = spawning.Barrier(clients), spawning.Queue()
    given = (bundle, f"{address}?wire={wire}&deadline_s=60", begin, seconds, results)
    processes = [spawning.Process(target=_client, args=given) for _ in range(clients)]
    for process in processes:
        process.start()
    took = [one for _ in processes for one in results.get(timeout=seconds + 120)]
    for process in processes:
        process.join(60)
    late = float(np.percentile(took, 95))
    return Load(wire, clients, len(took) / seconds, 1e3 * statistics.median(took), 1e3 * late)


@contextmanager
def counting(port: int) -> Iterator[tuple[int, list[int]]]:
    """A port that passes everything on to another, and the bytes that went there and came back."""
    counts = [0, 0]
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket, way: int) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                counts[way] += len(data)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                threading.Thread(target=pump, args=(near, far, 0), daemon=True).start()
                threading.Thread(target=pump, args=(far, near, 1), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1], counts
    finally:
        listener.close()


def bytes_a_segment(bundle: Bundle, port: int, wire: str, segments: int = 20) -> tuple[float, float]:
    """Bytes to the server and back for one segment, gRPC and TCP's payload in all."""
    frames = bundle.golden().frames[:1]
    with counting(port) as (near, counts):
        engine = TritonEngine(bundle.manifest, f"triton://127.0.0.1:{near}?wire={wire}")
        engine.features(frames)
        before = list(counts)
        for _ in range(segments):
            engine.features(frames)
        there, back = (after - first for first, after in zip(before, counts, strict=True))
        engine.close()
    return there / segments, back / segments


def same_records(bundle: Path, footage: Path, server: Any, stride: int, work: Path) -> tuple[dict[str, Records], str]:
    """The footage here and by way of the server."""
    found = []
    for name, provider in (("here", "cpu"), ("there", server.address)):
        process = run_edge(bundle, footage, provider, stride, 1, work / f"{name}-{stride}.jsonl")
        _, said = process.communicate(timeout=1200)
        if process.returncode:
            raise click.ClickException(f"hh-edge run on {provider} failed: {said}")
        found.append(records_of(work / f"{name}-{stride}.jsonl"))
    local, remote = found
    worst = apart(local["c0"], remote["c0"])
    verdict = "the same" if worst <= TOLERANCE else "DIFFER"
    return local, (
        f"one process, stride {stride}: {len(local['c0'])} records, {verdict}, numbers differ by at most {worst:.2g}"
    )


def through_a_kill(
    bundle: Path, footage: Path, server: Any, local: Records, stride: int, times: int, work: Path
) -> list[str]:
    """Four processes at once, and the server killed and started again."""
    outputs = [work / f"killed-{number}.jsonl" for number in range(PROCESSES)]
    address = f"{server.address}?deadline_s=3"
    processes = [run_edge(bundle, footage, address, stride, times, output) for output in outputs]
    every = len(scores(local)) * times * PROCESSES

    def done() -> int:
        return sum(output.read_text().count('"type":"segment"') for output in outputs if output.exists())

    begun_s = time.monotonic()
    while done() < every / 4 and time.monotonic() - begun_s < 600:
        time.sleep(0.1)
    server.kill()
    killed_s = time.monotonic()
    time.sleep(_DOWN_S)
    server.start()
    ready_s = time.monotonic()
    lines = [
        f"four processes, {times} x the footage each; the server was killed after a quarter, and ready again "
        f"{ready_s - killed_s:.1f} s later"
    ]
    wanted = scores(local)
    for number, (process, output) in enumerate(zip(processes, outputs, strict=True)):
        process.communicate(timeout=1200)
        found = records_of(output)
        gaps = [one for records in found.values() for one in records if one["type"] == "gap"]
        pairs = [(score, wanted[start]) for records in found.values() for start, score in scores(records).items()]
        worst = max(abs(one - other) for one, other in pairs)
        whole = [name for name, records in found.items() if apart(records, local) <= TOLERANCE]
        seconds = sum(one["end_s"] - one["start_s"] for one in gaps)
        reasons = ", ".join(sorted({one["reason"] for one in gaps})) or "none"
        last = "among them" if f"c{times - 1}" in whole else "NOT"
        lines.append(
            f"  process {number}: {len(pairs)} segments scored, differ by at most {worst:.2g}; {len(gaps)} gaps of "
            f"{seconds:.0f} s in all ({reasons}); files with the same records: {len(whole)} of {times}, the last one "
            f"{last}; exit code {process.returncode}"
        )
    return lines


def batches(server: Any) -> str:
    """How many segments the server ran together on average, by its own count."""
    import tritonclient.grpc

    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.port}")
    counted = client.get_inference_statistics(as_json=True)["model_stats"]
    client.close()
    told = []
    for model in counted:
        runs = int(model.get("execution_count", 0))
        if model["name"].endswith(("_vision", "_language")) and runs:
            told.append(f"{model['name'].rpartition('_')[2]} {int(model['inference_count']) / runs:.2f}")
    return ", ".join(told)


def here(path: Path, seconds: float, threads: int) -> str:
    """The same segment in this process, without a server."""
    bundle = Bundle.open(path)
    frames = bundle.golden().frames[:1]
    engine = open_engine(bundle, "cpu", threads)
    took = _again_and_again(engine, frames, seconds)
    engine.close()
    late = float(np.percentile(took, 95))
    return (
        f"no server, one process: {len(took) / seconds:.2f} segments/s, median {1e3 * statistics.median(took):.0f} "
        f"ms, 95 % {1e3 * late:.0f} ms"
    )


@click.command()
@click.option("--bundle", "path", type=PATH, required=True, help="Folder that `hh-offline build` made.")
@click.option("--footage", type=PATH, required=True, help="A video file.")
@click.option("--clients", type=int, multiple=True, default=(1, 2, 4, 8), show_default=True)
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Of each measurement.")
@click.option("--times", type=int, default=6, show_default=True, help="How often each of four processes scores it.")
@click.option("--threads", type=int, default=2, show_default=True, help="Of each graph on the server.")
@click.option("--max-batch", type=int, default=8, show_default=True)
@click.option("--jpeg", type=int, default=95, show_default=True, help="Quality.")
@click.option("--output", type=PATH, help="A text file.")
def main(
    path: Path,
    footage: Path,
    clients: Sequence[int],
    seconds: float,
    times: int,
    threads: int,
    max_batch: int,
    jpeg: int,
    output: Path | None,
) -> None:
    """See this module's first lines."""
    bundle = Bundle.open(path)
    stride = bundle.manifest.segment.frames
    words = f"python -m benchmarks.triton_clients --bundle {path.name} --footage {footage.name}"
    words += f" --seconds {seconds:g} --times {times} --threads {threads} --max-batch {max_batch} --jpeg {jpeg}"
    lines = [
        words,
        json.dumps(machine()),
        f"bundle {bundle.manifest.bundle_id[:12]}, {bundle.manifest.source_model.name}",
    ]

    def tell(*more: str) -> None:
        lines.extend(more)
        for line in more:
            say(line)

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        effect = measure_jpeg(bundle, jpeg, None, Console(quiet=True))
        tell(effect.lines()[0], "")
        with served(bundle, work, threads, max_batch, jpeg=effect.parameters()) as server:
            # At the bundle's own stride frames are encoded once each, by the vision model; at this one the ensemble
            # takes whole segments.
            for one in sorted({bundle.manifest.segment.step, stride}):
                local, said = same_records(path, footage, server, one, work)
                tell(said)
            tell(*through_a_kill(path, footage, server, local["c0"], stride, times, work), "")
            for wire in _WIRES:
                there, back = bytes_a_segment(bundle, server.port, wire)
                tell(f"bytes a segment, {wire}: {there:,.0f} to the server, {back:,.0f} back")
            # Other work on the machine counts in what follows.
            tell("", f"load of the machine before: {os.getloadavg()[0]:.1f}", here(path, seconds, threads), "")
            tell("wire  clients  segments/s  median ms  95 % ms")
            for wire in _WIRES:
                for number in clients:
                    found = load(path, server.address, wire, number, seconds)
                    tell(f"{wire:<5} {number:7d} {found.rate:11.2f} {found.median_ms:10.0f} {found.late_ms:8.0f}")
            tell(f"segments that ran together, on average over all of these: {batches(server)}")
    if output is not None:
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
