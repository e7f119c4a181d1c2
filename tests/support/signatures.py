"""The public names of edge_runtime with their signatures, as text.

python tests/support/signatures.py > tests/edge_runtime/public_names.txt
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec

import edge_runtime

# What every exception or record has, and nobody here promises.
_BUILT_IN = (object, BaseException, ValueError, msgspec.Struct)
# Public classes have methods that serve hh-edge's own loop: nothing is promised of them (docs/reference/api.md).
NOT_PROMISED = {
    "Alarm": {"in_segments", "lasts", "quiet_again"},
    "Bundle": {"__init__", "calibration", "golden", "graph_hashes"},
    "Detector": {
        "cutting",
        "encode",
        "encoder",
        "located",
        "note_unscored",
        "probabilities",
        "score_features",
        "score_segment",
        "self_test",
        "sum_up_unscored",
    },
    "Outputs": {"figures"},
    "Stream": {"__init__", "push_lazy", "score_item"},
}


def signatures() -> str:
    """One line a name, parameter list, method or field, in the order of the names."""
    return "".join(f"{line}\n" for name in edge_runtime.__all__ for line in _said(name, getattr(edge_runtime, name)))


def _said(name: str, value: Any) -> Iterator[str]:
    if not isinstance(value, type):
        yield f"{name}: {type(value).__name__}"
        return
    hidden = NOT_PROMISED.get(name, set())
    bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(value, msgspec.Struct):
        for field in msgspec.structs.fields(value):
            default = "" if field.required else f" = {field.default!r}"
            yield f"    {field.name}: {_annotation(value, field.name)}{default}"
    elif not (issubclass(value, BaseException) or getattr(value, "_is_protocol", False) or "__init__" in hidden):
        yield f"    __init__{_parameters(value.__init__)}"
    for attribute in sorted(vars(value) | _inherited(value)):
        if attribute in hidden or (attribute.startswith("_") and attribute not in ("__enter__", "__exit__")):
            continue
        line = _member(value, attribute)
        if line is not None:
            yield f"    {line}"


def _inherited(value: type) -> dict[str, Any]:
    """What public bases of ours add."""
    found: dict[str, Any] = {}
    for base in value.__mro__[1:]:
        if base not in _BUILT_IN and base.__module__.startswith("edge_runtime"):
            found |= vars(base)
    return found


def _member(value: type, name: str) -> str | None:
    member = inspect.getattr_static(value, name)
    if isinstance(member, property):
        if member.fget is None:
            return None
        only = "" if member.fset else " (read only)"
        return f"{name}: {_shown(member.fget.__annotations__.get('return', '?'))}{only}"
    if isinstance(member, classmethod | staticmethod):
        return f"{type(member).__name__} {name}{_parameters(member.__func__)}"
    if inspect.isfunction(member):
        return f"{name}{_parameters(member)}"
    if inspect.isdatadescriptor(member):
        # Of a frozen dataclass or record: its fields are in the parameter list or above.
        return None
    return f"{name} = {member!r}"


def _parameters(function: Any) -> str:
    signature = inspect.signature(function)
    parts, star = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            parts.append("*")
        star = star or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        annotation = "" if parameter.annotation is parameter.empty else f": {_shown(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{parameter.name}{annotation}{default}")
    returned = signature.return_annotation
    arrow = "" if returned is signature.empty else f" -> {_shown(returned)}"
    return f"({', '.join(part for part in parts if part not in ('self', 'cls'))}){arrow}"


def _annotation(value: type, field: str) -> str:
    for owner in value.__mro__:
        if (annotation := inspect.get_annotations(owner).get(field)) is not None:
            return _shown(annotation)
    return "?"


def _shown(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


if __name__ == "__main__":
    print(signatures(), end="")
