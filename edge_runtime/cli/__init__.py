"""`hh-edge`: each command parses, calls one function, prints, and returns its exit code.

One file a command. Heavy imports wait for their command: `hh-edge --help` loads neither ONNX Runtime nor OpenCV.
"""

from __future__ import annotations

import os
import sys

import click

from edge_runtime._version import __version__
from edge_runtime.cli import bench, doctor, feedback, forget, inspect, pull, run, token, verify
from edge_runtime.cli.exit_codes import run_command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hh-edge")
def cli() -> None:
    """Watch cameras with a bundle: frames in, anomaly events out.

    \b
    Example:
      hh-edge doctor
      hh-edge verify bundle/
      hh-edge run --bundle bundle/ --camera gate=rtsp://user:password@10.0.0.7/stream
    """


for _module in (run, inspect, verify, pull, bench, doctor, feedback, forget, token):
    cli.add_command(_module.command)


def main() -> None:
    """Entry point of `hh-edge`."""
    left_behind: list[str] = []
    code = run_command(cli, obj=left_behind)
    if left_behind:
        # A reader still blocks in native code: it would run on while the interpreter takes itself apart.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)
