"""Damage configurations at random and check each: one line and exit code 2, or a run that could be begun.

    python -m benchmarks.faults.config --bundle bundle/ --count 10000

The example of the documentation is damaged by one to eight edits: characters, lines and values are changed, left
out, doubled and put elsewhere. After each, `hh-edge run --check-config` must end with 0 or 2, without a traceback,
with one line of error, without a password in it, and without having opened a file for writing. Prints what was not so
and exits with 1, else one line of counts.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.cli import cli
from edge_runtime.cli.exit_codes import run_command

EXAMPLE = Path(__file__).parent.parent.parent / "docs" / "cameras.example.yaml"
PASSWORD = "Tr0ub4dor"
HOOK_SECRET = "whsec_" + base64.b64encode(f"{PASSWORD}-{PASSWORD}-{PASSWORD}".encode()).decode()

# An edit: what is done, two places in thousandths of the text, and what is put there.
Edit = tuple[str, int, int, int]
WAYS = ("cut", "double", "insert", "replace", "cut line", "double line", "indent line", "replace value", "swap lines")
# What operators mistype, and what YAML takes for something else.
PIECES = (
    *"\t :-#&*!|>'\"%@`{}[],?\0\x07\r\n~<$\\",
    *("${", "${}", "${NOBODY}", "${GATE_PASSWORD}", "$${", "!secret", "!secret gate", "!secret nobody", "!!binary x"),
    *("!!python/object/apply:os.system [touch x]", "&a", "*a", "<<: *a", "<<: [*night, *night]", "---\n", "...\n"),
    *("null", "yes", "0x1F", "1e400", ".nan", "-1", "99999999999999999999", "22:30", "2026-01-01", "1" * 5000),
    *("[" * 200, "{a: " * 200, "\ufeff", "\u2028", "ä", "🚪", "\x85", "../../etc/passwd", "/dev/zero", "~/x", "."),
    *("mon-fri", "25:00-26:00", "[[0,0],[1,1]]", "0,0,1,0,1,nan", "rtsp://u:p@ss@h/", "rtsp://[::1", "http://h:0/"),
    *("x-y: ", "cameras: ", "version: 2", "timezone: ", "locator: ", "source: ", "mask: ", "schedule: "),
)


def edited(text: str, edits: Sequence[Edit]) -> str:
    """A text with edits made one after another."""
    for way, first, second, piece in edits:
        if not text:
            break
        begin, end = sorted((first * len(text) // 1000, second * len(text) // 1000))
        # A slip is short.
        end = min(end, begin + 40)
        put = PIECES[piece % len(PIECES)]
        lines = text.splitlines(keepends=True)
        line, other = first * len(lines) // 1000, second * len(lines) // 1000
        if way == "cut":
            text = text[:begin] + text[end:]
        elif way == "double":
            text = text[:end] + text[begin:end] + text[end:]
        elif way == "insert":
            text = text[:begin] + put + text[begin:]
        elif way == "replace":
            text = text[:begin] + put + text[begin + len(put) :]
        elif way == "cut line":
            del lines[line]
        elif way == "double line":
            lines.insert(other, lines[line])
        elif way == "indent line":
            lines[line] = " " * (second % 5) + lines[line].lstrip()
        elif way == "replace value":
            lines[line] = f"{lines[line].rstrip().partition(': ')[0]}: {put}\n"
        elif way == "swap lines":
            lines[line], lines[other] = lines[other], lines[line]
        if " " in way:
            text = "".join(lines)
    return text


def random_edits(rng: random.Random) -> list[Edit]:
    """One to eight."""
    count = rng.randint(1, 8)
    return [(rng.choice(WAYS), rng.randrange(1000), rng.randrange(1000), rng.randrange(1000)) for _ in range(count)]


class Writes:
    """Notes every file that this process opens for writing, makes, renames or removes, while it is watched."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._watching = False
        # There is no way to take it back: one for the process.
        sys.addaudithook(self._note)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note what happens meanwhile."""
        self.seen.clear()
        # Modules that are imported for the first time would leave their bytecode.
        bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        self._watching = True
        try:
            yield
        finally:
            self._watching = False
            sys.dont_write_bytecode = bytecode

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        changes = (
            "os.mkdir",
            "os.rename",
            "os.remove",
            "os.rmdir",
            "os.link",
            "os.symlink",
            "os.truncate",
            "os.chmod",
        )
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if event in changes or writes or event in ("os.system", "subprocess.Popen", "socket.connect"):
            self.seen.append(f"{event} {arguments[0]!r}")


def faults(folder: Path, text: str, bundle: Path, writes: Writes) -> tuple[int, list[str]]:
    """Check a configuration as `hh-edge run --check-config` does.

    Args:
        folder: Where it is put, beside a secrets.yaml that is there already.
        text: The configuration.
        bundle: Instead of the one that it names.
        writes: Of this process.

    Returns:
        The exit code, and what should not have been.
    """
    path = folder / "cameras.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    path.chmod(0o600)
    before = sorted(os.listdir(folder))
    out, err, begun = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), writes.watched():
        code = run_command(cli, ["run", "--config", str(path), "--check-config", "--bundle", str(bundle)])
    took_s = time.monotonic() - begun
    lines = err.getvalue().splitlines()
    errors = [line for line in lines if " WARNING " not in line]
    found = [f"wrote: {what}" for what in writes.seen]
    if sorted(os.listdir(folder)) != before:
        found.append(f"the folder holds {sorted(os.listdir(folder))}")
    if code not in (0, 2):
        found.append(f"exit code {code}")
    if len(errors) != (code != 0) or any(not line.startswith("error: ") for line in errors):
        found.append(f"{len(errors)} lines of error with exit code {code}")
    if any("Traceback" in line or "error: unexpected " in line or not line.isprintable() for line in lines):
        found.append("a traceback, or a line that is not printable")
    if PASSWORD in out.getvalue() + err.getvalue():
        found.append("a password")
    if took_s > 20:
        found.append(f"took {took_s:.0f} s")
    return code, [*found, *lines] if found else []


@contextlib.contextmanager
def site() -> Iterator[Path]:
    """A folder with a secrets.yaml, and the environment that the example asks for."""
    with tempfile.TemporaryDirectory() as folder:
        secrets = Path(folder) / "secrets.yaml"
        secrets.write_text(f"gate: {PASSWORD}\nmqtt_password: {PASSWORD}\nhook_secret: {HOOK_SECRET}\n")
        secrets.chmod(0o600)
        before = os.environ.get("GATE_PASSWORD")
        os.environ["GATE_PASSWORD"] = PASSWORD
        try:
            yield Path(folder)
        finally:
            del os.environ["GATE_PASSWORD"]
            if before is not None:
                os.environ["GATE_PASSWORD"] = before


def whole_example() -> str:
    """The example with what its comments show."""
    text = EXAMPLE.read_text(encoding="utf-8")
    head, _, rest = text.partition("# Passwords can lie")
    return head + "\n".join(line.removeprefix("#").removeprefix(" ") for line in rest.splitlines()[2:]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng, text, writes = random.Random(given.seed), whole_example(), Writes()
    codes: Counter[int] = Counter()
    bad, begun = 0, time.monotonic()
    with site() as folder:
        for number in range(given.count):
            damaged = edited(text, random_edits(rng))
            code, found = faults(folder, damaged, given.bundle, writes)
            codes[code] += 1
            if found:
                bad += 1
                print(f"--- {number}: {found}\n{damaged!r}", flush=True)
    print(
        f"{given.count} configurations, seed {given.seed}: {codes[0]} could be run, {codes[2]} were refused in one "
        f"line, {bad} were not as they should be; {time.monotonic() - begun:.0f} s"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
