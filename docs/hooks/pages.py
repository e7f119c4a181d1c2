"""The hook that MkDocs calls: adds pages made at build time, and fills what pages leave open for generated text.

In `nav`, `folder/*` stands for the generated or written pages of that folder. In a page, `<!-- made: NAME -->`
stands for what MADE gives under that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import command_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from packages import package_pages, public_names
from tables import decisions, error_tree, measurements, schema_tables

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
MADE: dict[str, Callable[[], str]] = {
    "public names": public_names,
    "errors": error_tree,
    "measurements": lambda: measurements(ROOT / "benchmarks"),
    "manifest schema": lambda: schema_tables(DOCS / "manifest.schema.json", "../manifest.schema.json"),
    "cameras schema": lambda: schema_tables(DOCS / "cameras.schema.json", "../cameras.schema.json"),
    "cameras example": lambda: f"```yaml\n{(DOCS / 'cameras.example.yaml').read_text()}```",
    "records schema": lambda: schema_tables(DOCS / "records.schema.json", "../records.schema.json"),
}
# Anything that a browser would fetch by itself while it shows a page.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//[^>]*>|<link\b[^>]*\bhref=\"(?:https?:)?//[^>]*>"
)

_pages: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages and put them into the navigation."""
    _pages.clear()
    _pages.update(command_pages() | package_pages(ROOT))
    _pages["adr/index.md"] = decisions(DOCS / "adr")
    for name, source in {
        "contributing.md": ROOT / "CONTRIBUTING.md",
        "changelog.md": ROOT / "CHANGELOG.md",
        "benchmarks.md": ROOT / "benchmarks" / "README.md",
        "model-card.md": ROOT / "models" / "reference" / "README.md",
    }.items():
        _pages[name] = _copied(source)
    config.nav = _expand(config.nav)
    # What `scripts/docs serve` looks at besides docs/.
    config.watch += [str(ROOT / name) for name in ("edge_runtime", "models", "export", "offline", "benchmarks")]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that are written by hand."""
    for name, text in _pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is made from code and files."""

    def fill(match: re.Match[str]) -> str:
        if (name := match[1]) not in MADE:
            raise PluginError(f"{page.file.src_uri}: nothing makes {name!r}; choose from {', '.join(MADE)}")
        return MADE[name]()

    return re.sub(r"<!-- made: (.+?) -->", fill, markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would fetch something from another host: it has to work without a network."""
    if found := _FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri}: would load {found[0]}")
    return output


def _expand(item: Any) -> Any:
    """`folder/*` as the list of that folder's pages, the index first."""
    if isinstance(item, list):
        return [_expand(part) for part in item]
    if isinstance(item, dict):
        return {key: _expand(value) for key, value in item.items()}
    if not item.endswith("/*"):
        return item
    folder = item.removesuffix("*")
    names = {path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md")}
    names |= {name for name in _pages if name.startswith(folder)}
    return sorted(names, key=lambda name: (not name.endswith("/index.md"), name))


def _copied(source: Path) -> str:
    """A file from outside docs/ as a page of the site: links into docs/ stay, others become their words."""

    def link(match: re.Match[str]) -> str:
        words, target = match.groups()
        if re.match(r"https?://|#", target):
            return match[0]
        path = (source.parent / target.partition("#")[0]).resolve()
        if path.is_relative_to(DOCS) and path.is_file():
            return f"[{words}]({path.relative_to(DOCS).as_posix()})"
        return words

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", link, source.read_text())
