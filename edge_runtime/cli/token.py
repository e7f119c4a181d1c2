"""`hh-edge token`: who may see the page of a run, and who may change things on it."""

from __future__ import annotations

import click

from edge_runtime.cli.exit_codes import tell
from edge_runtime.cli.options import AS_JSON, DEBUG, as_json_text


@click.group("token")
def command() -> None:
    """Make, list and remove tokens, with which browsers and programs are let in.

    A run that listens on this computer alone (127.0.0.1) needs none, unless the configuration says `require_token`.
    Tokens are kept in the state folder ($STATE_DIRECTORY, else ~/.local/state/headhunt-edge) of the user who runs
    `hh-edge run`, as hashes only; a run that goes on takes changes at once.

    \b
    Example:
      hh-edge token add --role act --name phone
      hh-edge token remove phone
    """


@command.command("add")
@click.option(
    "--role",
    type=click.Choice(["read", "act"]),
    required=True,
    help="read sees everything and changes nothing; act also pauses and adds cameras, sets alarms and marks events.",
)
@click.option("--name", help="What to call it, a person or a device [default: the role and a number].")
@AS_JSON
@DEBUG
def add(role: str, name: str | None, as_json: bool, debug: bool) -> None:
    """Make a token and print it, once: it cannot be shown again."""
    from edge_runtime.server.tokens import add_token, tokens_path

    token = add_token(tokens_path(), "act" if role == "act" else "read", name)
    tell(as_json_text({"token": token}) if as_json else token)


@command.command("list")
@AS_JSON
@DEBUG
def listed(as_json: bool, debug: bool) -> None:
    """List tokens: names, roles, and when each was made."""
    from edge_runtime.server.tokens import read_tokens, tokens_path

    kept = read_tokens(tokens_path())
    if as_json:
        tell(as_json_text({"tokens": [{"name": one.name, "role": one.role, "made": one.made} for one in kept]}))
        return
    width = max((len(one.name) for one in kept), default=0)
    lines = [f"{one.name:<{width}}  {one.role:<4}  {one.made}" for one in kept]
    tell("\n".join(lines) or "no tokens; hh-edge token add makes one")


@command.command("remove")
@click.argument("name")
@DEBUG
def remove(name: str, debug: bool) -> None:
    """Remove a token; whoever has it is refused from then on."""
    from edge_runtime.server.tokens import remove_token, tokens_path

    remove_token(tokens_path(), name)
    tell(f"token {name} is removed")
