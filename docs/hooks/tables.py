"""Tables that are made from what they describe: JSON schemas, the tree of errors, decisions, measurements."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def schema_tables(path: Path, link: str) -> str:
    """A JSON schema as one table an object; a sentence instead where the file does not exist."""
    if not path.is_file():
        return ""
    schema = json.loads(path.read_text())
    parts = [f"The schema as a file: [{path.name}]({link}).\n"]
    for name, definition in schema.get("$defs", {}).items():
        parts += [f"### {name}\n", definition.get("description", "").strip() + "\n", *_fields(definition)]
    return "\n".join(parts)


def _fields(definition: dict[str, Any]) -> Iterator[str]:
    if not (properties := definition.get("properties")):
        return
    required = set(definition.get("required", ()))
    yield "| key | type |\n|---|---|"
    for key, value in properties.items():
        note = "" if key in required else f"; optional, default `{json.dumps(value.get('default'))}`"
        yield f"| `{key}` | {_type(value)}{note} |"
    yield ""


def _type(value: dict[str, Any]) -> str:  # noqa: PLR0911  one return for each kind of schema
    if ref := value.get("$ref"):
        name = ref.rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " or ".join(_type(item) for item in value[key])
    if "enum" in value:
        return " or ".join(f"`{json.dumps(item)}`" for item in value["enum"])
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    kind = str(value.get("type", "any"))
    if kind == "array":
        return f"array of {_type(value.get('items') or {})}"
    if kind == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"object of {_type(value['additionalProperties'])}"
    return kind


def error_tree() -> str:
    """Every deliberate error, its exit code and what it means."""
    from edge_runtime.errors import HeadHuntError

    rows = ["| error | exit code | meaning |", "|---|---|---|"]

    def add(kind: type[HeadHuntError], depth: int) -> None:
        said = " ".join((kind.__doc__ or "").split())
        rows.append(f"| {'&emsp;' * depth}`{kind.__name__}` | {kind.exit_code} | {said} |")
        for child in sorted(kind.__subclasses__(), key=lambda item: item.__name__):
            if child.__module__ == HeadHuntError.__module__:
                add(child, depth + 1)

    add(HeadHuntError, 0)
    return "\n".join(rows) + "\n"


def decisions(folder: Path) -> str:
    """A list of the decisions in `folder`, each by its own heading."""
    rows = []
    for path in sorted(folder.glob("[0-9]*.md")):
        number, title = re.match(r"# (\d+)\. (.+)", path.read_text()).groups()  # type: ignore[union-attr]
        rows.append(f"| {int(number):04d} | [{title}]({path.name}) |")
    return "# Decisions\n\nWhy things are as they are, ten lines each.\n\n| | |\n|---|---|\n" + "\n".join(rows) + "\n"


def measurements(folder: Path) -> str:
    """The recorded output of every benchmark, word for word, under what its program says of itself."""
    links, parts = [], []
    for path in sorted(folder.rglob("*.txt")):
        title = path.stem.replace("_", " ").capitalize()
        links.append(f"- [{title}](#{path.stem})")
        parts.append(f"## {title} {{ #{path.stem} }}\n")
        program = path.with_suffix(".py")
        if program.is_file() and (said := ast.get_docstring(ast.parse(program.read_text()))):
            parts.append(said.splitlines()[0] + "\n")
        parts.append(f"```text\n{path.read_text().rstrip()}\n```\n")
    return "\n".join([*links, "", *parts])
