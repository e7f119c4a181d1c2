"""A configuration's text to plain values: YAML without its traps, `${VARIABLE}` and `!secret name`.

Keys are text as they are written, so that a camera may be called `on` or `1`. A number is a number, and a time of day
such as 22:30 is none. No error quotes a value: it may be a password.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from edge_runtime.errors import UsageError
from edge_runtime.files import printable, shown_path

#: Where a value lies: keys and positions from the top.
Place = tuple[str | int, ...]

# A few hundred cameras take 100 KB. Aliases of aliases can stand for more values than there are atoms.
_MOST_BYTES = 2**20
_MOST_VALUES = 100_000
_MOST_DEPTH = 32
# So many characters are no secret, and every message holds some.
_HARMLESS = 2

_VARIABLE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?")
_TAG = "tag:yaml.org,2002:"
_SECRET = "!secret"  # noqa: S105  a tag, not a password
# YAML 1.1 as people know it from Home Assistant and Frigate, without base 60, octal 010 and dates.
_RESOLVERS = (
    ("bool", "yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", list("yYnNtTfFoO")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", "<<", ["<"]),
)
_TRUE = {"yes", "true", "on"}


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012  PyYAML's own, emptied


for _kind, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), _first)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file holds, as plain values.

    Attributes:
        tree: Mappings, lists, texts, numbers, truth values and None.
        lines: Line of each value, from 1.
        literal: Places of the texts that are written in the file itself, not put in from elsewhere.
        hidden: Texts that came from secrets or the environment: no message may show them.
    """

    tree: Any = field(repr=False)
    lines: Mapping[Place, int]
    literal: frozenset[Place]
    hidden: frozenset[str] = field(repr=False)

    def line(self, place: Place) -> int | None:
        """The line of a value, or of the nearest one around it."""
        for length in range(len(place), -1, -1):
            if (line := self.lines.get(place[:length])) is not None:
                return line
        return None

    def scrubbed(self, message: str) -> str:
        """A message without the texts that are hidden."""
        for text in sorted(self.hidden, key=len, reverse=True):
            message = message.replace(text, "***")
        return message


def dotted(place: Place) -> str:
    """A place for people: `cameras.gate.mask[0]`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return printable(text)


def read_bytes(path: Path) -> bytes:
    """Read a small file that an operator wrote.

    Raises:
        UsageError: It is not there, no plain file, too large or not permitted.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{shown_path(path)}: is a folder; name the file inside it")
        # A pipe would be waited for; links are what Kubernetes mounts.
        if path.exists() and not path.is_file():
            raise UsageError(f"{shown_path(path)}: is not a plain file; copy it to one")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{shown_path(path)}: cannot be read ({reason}); check the path") from None
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{shown_path(path)}: has more than {_MOST_BYTES} bytes; is this the right file?")
    return data


def parse(
    data: bytes,
    where: str,
    environment: Mapping[str, str] | None = None,
    secret: Callable[[str], str] | None = None,
) -> Parsed:
    """Parse one YAML document.

    Args:
        data: UTF-8.
        where: What errors call it.
        environment: What `${NAME}` stands for; None: such text stays as it is.
        secret: Gives what `!secret name` stands for, or raises UsageError.

    Raises:
        UsageError: No YAML, a key twice, a tag of another kind, an unknown variable or secret; with the line.
    """
    node = _compose(data, where)
    walk = _Walk(where, environment, secret)
    tree = {} if node is None else walk.value(node, (), 0)
    return Parsed(tree, walk.lines, frozenset(walk.literal), frozenset(walk.hidden))


def read_secrets(path: Path) -> dict[str, str]:
    """Read secrets.yaml: names and their texts, whatever they look like.

    Raises:
        UsageError: It is missing, can be read by others, or is no list of names and texts.
    """
    data, shown = read_bytes(path), shown_path(path)
    if readable_by_others(path):
        raise UsageError(f"{shown}: can be read by others than its owner; run chmod 600 {shown}")
    node = _compose(data, shown)
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{shown}: line 1: write one `name: value` a line")
    secrets: dict[str, str] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not (isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)):
            raise UsageError(f"{shown}: line {line}: write one `name: value` a line, the value in quotes")
        if key.value in secrets:
            raise UsageError(f"{shown}: line {line}: {printable(key.value)} is there twice; remove one")
        secrets[key.value] = value.value
    return secrets


def readable_by_others(path: Path) -> bool:
    """Whether the group or everybody may read a file; where there are no such permissions, no."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o044)


def _compose(data: bytes, where: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(data.decode("utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise UsageError(f"{where}: is not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except RecursionError:
        raise UsageError(f"{where}: is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        # A quote that is not closed is found at the end of the file.
        open_quote = error.context_mark is not None and "end of stream" in str(error.problem)
        mark = error.context_mark if open_quote else error.problem_mark or error.context_mark
        # What it found is quoted there, and may be a password: `password: *Secret` is an alias to YAML.
        problem = re.sub(r" ?(?:'.*'|\".*\")", "", " ".join(str(error.problem or error.context).split()))
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise UsageError(
            f"{where}: {place}not YAML ({printable(problem)}); indent with blanks, and write text with "
            "special characters in 'quotes'"
        ) from None
    except (yaml.YAMLError, ValueError):
        # A reader's error names the character, which may be part of a password.
        raise UsageError(f'{where}: holds characters that YAML does not allow; write them as "\\x07"') from None
    return node


class _Walk:
    """Nodes to values, and what is said of them."""

    def __init__(
        self, where: str, environment: Mapping[str, str] | None, secret: Callable[[str], str] | None
    ) -> None:
        self._where, self._environment, self._secret = where, environment, secret
        self._left = _MOST_VALUES
        self.lines: dict[Place, int] = {}
        self.literal: set[Place] = set()
        self.hidden: set[str] = set()

    def value(self, node: yaml.Node, place: Place, depth: int) -> Any:
        self._left -= 1
        if depth > _MOST_DEPTH or self._left < 0:
            raise self._error(node, "nested too deeply, or an alias that holds itself")
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            self._only(node, "map")
            return self._mapping(node, place, depth)
        if isinstance(node, yaml.SequenceNode):
            self._only(node, "seq")
            return [self.value(item, (*place, index), depth + 1) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if node.tag == _SECRET:
            return self._looked_up(node)
        self._only(node, "str", "int", "float", "bool", "null", "merge")
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, inner in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "a key must be text")
            if key.tag == f"{_TAG}merge":
                for source in inner.value if isinstance(inner, yaml.SequenceNode) else [inner]:
                    found = self.value(source, place, depth + 1)
                    if not isinstance(found, dict):
                        raise self._error(source, "<< takes a mapping, as in `<<: *defaults`")
                    # Of several the first holds.
                    merged = found | merged
                continue
            name = key.value
            if name in own:
                raise self._error(key, f"{dotted((*place, name))} is there twice; remove one")
            if name in merged:
                self._forget((*place, name))
            self.lines[*place, name] = key.start_mark.line + 1
            own[name] = self.value(inner, (*place, name), depth + 1)
        return merged | own

    def _forget(self, place: Place) -> None:
        """What was said of a value that came in with `<<` and gives way to another."""
        length = len(place)
        for old in [old for old in self.lines if old[:length] == place]:
            del self.lines[old]
            self.literal.discard(old)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        text: str = node.value
        if "${" in text and self._environment is not None:
            return self._filled(node)
        kind = node.tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool" and node.value.lower() in _TRUE | {"no", "false", "off"}:
            return node.value.lower() in _TRUE
        if kind in ("int", "float"):
            try:
                number = int(text) if kind == "int" else float(text)
            except ValueError:
                raise self._error(node, f"{dotted(place)}: is no number that can be read") from None
            # Nothing here counts that far, and a text of digits is in quotes.
            if not math.isfinite(number) or abs(number) > 2**53:
                raise self._error(node, f"{dotted(place)}: the number is too large; write text in quotes")
            return number
        self.literal.add(place)
        return text

    def _filled(self, node: yaml.ScalarNode) -> str:
        """A text with its variables put in."""
        assert self._environment is not None
        environment = self._environment

        def fill(found: re.Match[str]) -> str:
            name, default = found[1], found[2]
            if found[0] == "$${":
                return "${"
            if name is None:
                raise self._error(node, "${ begins a variable, as in ${NAME} or ${NAME:-default}; $${ is itself")
            value = environment.get(name)
            if default is not None:
                return value or default[2:]
            if value is None:
                raise self._error(
                    node, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                )
            return value

        text = _VARIABLE.sub(fill, node.value)
        if not text.isprintable():
            raise self._error(node, "what the variables stand for is not one line of printable text")
        for found in _VARIABLE.finditer(node.value):
            value = environment.get(found[1] or "", "")
            if len(value) > _HARMLESS:
                self.hidden.add(value)
        return text

    def _looked_up(self, node: yaml.ScalarNode) -> str:
        if self._secret is None:
            raise self._error(node, "!secret is not known here")
        try:
            text = self._secret(node.value)
        except UsageError as error:
            raise self._error(node, str(error)) from None
        if not text.isprintable():
            raise self._error(node, "the secret is not one line of printable text")
        if len(text) > _HARMLESS:
            self.hidden.add(text)
        return text

    def _only(self, node: yaml.Node, *kinds: str) -> None:
        if node.tag not in {_TAG + kind for kind in kinds}:
            raise self._error(
                node, "a tag that is not known here; !secret name is, and text that begins with ! is in quotes"
            )

    def _error(self, node: yaml.Node, message: str) -> UsageError:
        return UsageError(f"{self._where}: line {node.start_mark.line + 1}: {message}")
