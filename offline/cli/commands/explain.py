"""`hh-offline explain`."""

from __future__ import annotations

from typing import Any

import click

from offline.cli.options import PATH, QUIET, of_the_model, with_model


@click.command()
@click.argument("records", type=PATH)
@click.option(
    "--model",
    required=True,
    help="A Hugging Face id, a folder in that format, or `reference`; with --endpoint, a model's name there.",
)
@click.option("--endpoint", help="Ask an OpenAI-compatible server, as http://host:8000/v1.")
@click.option(
    "--api-key-env", metavar="VARIABLE", help="Environment variable with the server's API key [default: send none]."
)
@click.option("--timeout", "timeout_s", type=float, default=120.0, show_default=True, help="For the server, seconds.")
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="[CAMERA=]PATH",
    help="The footage of a camera, as it was given to `hh-edge run --camera`. May be repeated.",
)
@click.option("--frames", type=int, default=16, show_default=True, help="How many pictures of an event are shown.")
@click.option("--question", default="What happens in this video?", show_default=True)
@click.option("--max-tokens", type=int, default=128, show_default=True, help="The longest answer.")
@click.option(
    "--output",
    type=PATH,
    help="Append to this file; what is described there is not asked again [default: stdout].",
)
@of_the_model
@QUIET
def explain(quiet: bool, **options: Any) -> None:
    """Events in words: each one's pictures go back to a whole model, which says what happens.

    RECORDS is what `hh-edge run` wrote. Every event that has ended gives one line of JSON: its record, and the
    description; other records are passed over. Killed and started again, it goes on where it was.

    \b
    Example:
      hh-offline explain events.jsonl --model OpenGVLab/InternVL3-1B-hf --video gate=gate.mp4 --output said.jsonl
      hh-offline explain events.jsonl --model qwen --endpoint http://localhost:8000/v1 --video gate.mp4
    """
    from offline.console import Console
    from offline.explain.explain import ExplainOptions
    from offline.explain.explain import explain as run_explain

    run_explain(ExplainOptions(**with_model(options)), Console(quiet))
