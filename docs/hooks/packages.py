"""The Python reference: the public names, and one page a package for what lies behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("edge_runtime", "models", "export", "offline")


def package_pages(root: Path) -> dict[str, str]:
    """One page for every folder that is a package, found by looking: a new module appears by itself."""
    pages = {}
    for package in PACKAGES:
        for init in sorted((root / package).rglob("__init__.py")):
            name = ".".join(init.parent.relative_to(root).parts)
            modules = sorted(path.stem for path in init.parent.glob("*.py") if not path.stem.startswith("_"))
            pages[f"packages/{name}.md"] = "\n".join(_package(name, modules)) + "\n"
    return pages


def _package(name: str, modules: list[str]) -> Iterator[str]:
    yield f"# {name}\n"
    # What the package passes on from its modules is shown with the module.
    yield _directive(name, show_root_heading=False, show_root_toc_entry=False, members=False)
    for module in modules:
        yield _directive(f"{name}.{module}", heading_level=2)


def public_names() -> str:
    """`edge_runtime.__all__` as documentation, grouped by what the names are."""
    import edge_runtime

    groups: dict[str, list[str]] = {"Detection": [], "Pictures": [], "Outputs": [], "Records": [], "Errors": []}
    rooms = {"edge_runtime.stream.planes": "Pictures", "edge_runtime.outputs.sink": "Outputs"}
    for name in edge_runtime.__all__:
        value = getattr(edge_runtime, name)
        if isinstance(value, type) and issubclass(value, BaseException):
            groups["Errors"].append(name)
        elif name.endswith("Record"):
            groups["Records"].append(name)
        elif not name.startswith("_"):
            groups[rooms.get(value.__module__, "Detection")].append(name)
    return "\n".join(
        f"## {title}\n\n" + "\n".join(_directive(f"edge_runtime.{name}", heading_level=3) for name in names)
        for title, names in groups.items()
        if names
    )


def _directive(name: str, **options: object) -> str:
    lines = [f"::: {name}", "    options:", *(f"      {key}: {str(value).lower()}" for key, value in options.items())]
    return "\n".join(lines) + "\n"
