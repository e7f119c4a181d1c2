"""`hh-offline triton`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.exit_codes import tell
from offline.cli.options import PATH, QUIET


@click.command()
@click.argument("bundle", type=PATH)
@click.argument("repository", type=PATH)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "python"]),
    default="onnxruntime",
    show_default=True,
    help="What runs the graphs on the server: its onnxruntime backend, or ONNX Runtime in its Python backend.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "gpu"]),
    default="auto",
    show_default=True,
    help="Where the server runs them; auto: on GPUs where it has any.",
)
@click.option(
    "--instances",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Copies of the vision and language graphs, on each GPU or in all.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads of one copy [default: one a core].")
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    metavar="SEGMENTS",
    help="Most segments in one run of a graph.",
)
@click.option(
    "--preferred-batch",
    "preferred",
    type=click.IntRange(1, 1024),
    multiple=True,
    metavar="SEGMENTS",
    help="Run as soon as so many have come together. Repeat it [default: half of the most, and the most].",
)
@click.option(
    "--queue-delay-ms",
    type=click.FloatRange(0, 10_000),
    default=2.0,
    show_default=True,
    metavar="MS",
    help="How long a segment waits for others.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="What the models' names begin with; further bundles of that name become versions beside it, with the "
    "same options [default: hh_ and the beginning of the bundle's id].",
)
@click.option(
    "--jpeg",
    type=click.IntRange(1, 100),
    metavar="QUALITY",
    help="Also write models that take frames as JPEG of this quality (--provider triton://…?wire=jpeg), and measure "
    "what that does to scores. They need the server's Python backend with OpenCV.",
)
@click.option(
    "--manifest", type=PATH, help="data.csv: measure JPEG on its validation split, not on the golden segments alone."
)
@click.option(
    "--python-path",
    type=str,
    multiple=True,
    metavar="FOLDER",
    help="Where models in Python find numpy, onnxruntime and OpenCV on the server, if not in its own Python. Repeat "
    "it [default: this environment's packages].",
)
@QUIET
def triton(
    bundle: Path,
    repository: Path,
    backend: str,
    device: str,
    instances: int,
    threads: int | None,
    max_batch: int,
    preferred: tuple[int, ...],
    queue_delay_ms: float,
    name: str | None,
    jpeg: int | None,
    manifest: Path | None,
    python_path: tuple[str, ...],
    quiet: bool,
) -> None:
    """Write a bundle's models into the model repository of a Triton Inference Server.

    You get a model each for the vision graph, the language graph and the scorer, and ensembles that take a whole
    segment in one call; requests of many cameras are put together into batches. Other models of the repository stay.
    Then start the server on the repository, and the cameras with `hh-edge run --provider triton://host:8001`.

    \b
    Example:
      hh-offline triton bundle models/
      hh-offline triton bundle models/ --device gpu --instances 2 --max-batch 16 --jpeg 95 --manifest data.csv
      hh-offline triton bundle models/ --backend python --device cpu
    """
    from typing import cast

    from export.triton.configs import Backend, Device, Serving
    from offline.console import Console
    from offline.recipes.triton import TritonOptions, packages_here, serve_on_triton

    serving = Serving(
        backend=cast(Backend, backend),
        device=cast(Device, device),
        instances=instances,
        threads=threads,
        max_batch=max_batch,
        preferred=preferred,
        delay_us=round(1000 * queue_delay_ms),
        python_path=python_path or packages_here(),
    )
    options = TritonOptions(
        bundle=bundle, repository=repository, serving=serving, name=name, jpeg=jpeg, manifest=manifest
    )
    written, _ = serve_on_triton(options, Console(quiet))
    tell(f"{repository}: {', '.join(written.models)}")
    tell(f"on the boxes: hh-edge run --provider triton://host:8001{'' if name is None else f'/{name}'}")
