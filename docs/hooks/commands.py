"""The command lines as pages: one a program, made from its click commands, so that they cannot differ."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module

import click

PROGRAMS = {"hh-edge": "edge_runtime.cli", "hh-offline": "offline.cli"}


def command_pages() -> dict[str, str]:
    """Page paths and their Markdown."""
    return {
        f"commands/{name}.md": "\n".join(_program(name, import_module(module).cli)) + "\n"
        for name, module in PROGRAMS.items()
    }


def _program(name: str, group: click.Group) -> Iterator[str]:
    commands = list(_walk(name, group, _context(name, group)))
    yield f"# {name}\n"
    yield from _prose(group.help or "")
    yield "| command | what it does |\n|---|---|"
    for path, _, command in commands:
        yield f"| [`{path}`](#{_anchor(path)}) | {_cell(command.get_short_help_str(limit=200))} |"
    yield ""
    yield from _options(group, _context(name, group))
    for path, context, command in commands:
        yield f"## {path} {{ #{_anchor(path)} }}\n"
        yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
        yield from _prose(command.help or "")
        yield from _options(command, context)


def _context(name: str, command: click.Command, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _walk(path: str, group: click.Group, parent: click.Context) -> Iterator[tuple[str, click.Context, click.Command]]:
    """Every command of a group and of its groups; a group itself is no command that one could run."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        if command.hidden:
            continue
        context = _context(name, command, parent)
        if isinstance(command, click.Group):
            yield from _walk(f"{path} {name}", command, context)
        else:
            yield f"{path} {name}", context, command


def _prose(text: str) -> Iterator[str]:
    """A help text as Markdown. Click keeps the lines of a paragraph that begins with `\\b`; so does this."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        kept = paragraph.startswith("\b")
        lines = paragraph.removeprefix("\b").strip("\n").splitlines()
        if not kept:
            yield " ".join(line.strip() for line in lines) + "\n"
            continue
        title, body = lines[0].rstrip(":"), "\n".join(line.removeprefix("  ") for line in lines[1:])
        language = "bash" if title.startswith("Example") else "text"
        yield f"**{title}**\n\n```{language}\n{body}\n```\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    yield "| option | meaning |\n|---|---|"
    for parameter in command.get_params(context):
        if not getattr(parameter, "hidden", False):
            yield _row(parameter, context)
    yield ""


def _row(parameter: click.Parameter, context: click.Context) -> str:
    if not isinstance(parameter, click.Option):
        return f"| `{parameter.make_metavar(context)}` | Required. |"
    names = "/".join([*parameter.opts, *parameter.secondary_opts])
    said = [parameter.help or ""]
    if isinstance(parameter.type, click.Choice):
        said.append(f"One of {', '.join(f'`{choice}`' for choice in parameter.type.choices)}.")
    elif not (parameter.is_flag or parameter.count):
        # A range stands among the notes, with its numbers.
        names += " " + parameter.make_metavar(context).removesuffix(" RANGE")
    extra = parameter.get_help_extra(context)
    if parameter.required:
        said.append("Required.")
    said += [f"{key.capitalize()}: `{extra[key]}`." for key in ("default", "range") if key in extra]
    if parameter.multiple and "epeat" not in said[0]:
        said.append("May be repeated.")
    return f"| `{names}` | {_cell(' '.join(part for part in said if part))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(path: str) -> str:
    return path.split(" ", 1)[1].replace(" ", "-")
