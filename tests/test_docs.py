"""README and documentation: every command they name exists with its options, and every block of Python runs."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from clips import ROOT

from edge_runtime.cli import cli as edge
from offline.cli import cli as offline

PROGRAMS = {"hh-edge": edge, "hh-offline": offline}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "edge_runtime" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def whole_commands(path: Path) -> Iterator[list[str]]:
    """What a reader would copy: the lines of shell blocks, comments and continuations resolved."""
    for block in blocks(path, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] in PROGRAMS:
                yield words


def mentioned_commands(path: Path) -> Iterator[list[str]]:
    """Inline code that begins with a program; it may leave out what does not matter there."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`]+)`", text):
        words = code.split()
        if words and words[0] in PROGRAMS:
            yield words


def resolve(words: list[str]) -> tuple[click.Context, click.Command, list[str]]:
    """The command that `words` call, and its own arguments. Fails where there is no such command."""
    command: click.Command = PROGRAMS[words[0]]
    context, rest = click.Context(command, info_name=words[0]), words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, context = found, click.Context(found, info_name=name, parent=context)
    return context, command, rest


def option_names(command: click.Command, context: click.Context) -> set[str]:
    # `--help` and `--version` are options of every command like any other.
    return {name for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)} | set(
        command.get_help_option_names(context)
    )


def problem(words: list[str], whole: bool) -> str | None:
    """What is wrong with a command line, in click's own words; None where nothing is."""
    try:
        context, command, rest = resolve(words)
        if whole and not isinstance(command, click.Group):
            command.make_context(context.info_name, rest, parent=context.parent)
        else:
            for name in (word.partition("=")[0] for word in rest if word.startswith("-")):
                if name not in option_names(command, context):
                    raise click.NoSuchOption(name)
    except click.ClickException as error:
        return f"{shlex.join(words)}: {error.format_message()}"
    return None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_tells_to_type_can_be_typed(path: Path) -> None:
    found = [problem(words, whole=True) for words in whole_commands(path)]
    found += [problem(words, whole=False) for words in mentioned_commands(path)]
    assert [text for text in found if text] == []
    for script in re.findall(r"(?<![\w/])scripts/[\w.]+\w", path.read_text()):
        assert (ROOT / script).is_file(), script


def test_the_pages_do_name_commands() -> None:
    """Otherwise the test above holds of nothing."""
    named = {resolve(words)[1].name for path in PAGES for words in whole_commands(path)}
    assert {"run", "verify", "bench", "doctor", "build", "evaluate", "scenes"} <= named


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("hh-edge watch --bundle b", True),
        ("hh-edge verify", True),
        ("hh-edge run --bundle b --camera 0 --locator fast", True),
        ("hh-edge verify b --fast", False),
        ("hh-offline build --modle m", False),
    ],
)
def test_a_wrong_command_is_found(line: str, whole: bool) -> None:
    assert problem(line.split(), whole) is not None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_a_page_compiles_and_imports_what_is_there(path: Path) -> None:
    for block in blocks(path, "python"):
        imports = [node for node in ast.parse(block).body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, []), str(path), "exec"), {})


@pytest.mark.parametrize("page", ["README.md", "edge_runtime/README.md", "docs/tutorials/recorder.md"])
def test_the_recorders_example_runs(
    page: str,
    bundle_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").symlink_to(bundle_dir)
    example = next(block for block in blocks(ROOT / page, "python") if "for frame, seconds in frames:" in block)
    frames = [(np.full((48, 64, 3), 90, np.uint8), number / 15) for number in range(60)]
    exec(compile(example, page, "exec"), {"frames": frames})
    lines = [line for line in capsys.readouterr().out.splitlines() if '"type":"segment"' in line]
    assert len(lines) == 2


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_first_pages_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s#]+)", (ROOT / name).read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
