"""Finds the subpackages of edge_runtime; everything else is in pyproject.toml."""

from __future__ import annotations

from typing import Any

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py


class WithoutThisFile(build_py):  # type: ignore[misc]  # setuptools is not typed
    """The folder is the package, so this file would be taken for a module of it."""

    def find_package_modules(self, package: str, package_dir: str) -> list[Any]:
        """As setuptools does, but for `edge_runtime.setup`."""
        found = super().find_package_modules(package, package_dir)
        return [one for one in found if tuple(one[:2]) != ("edge_runtime", "setup")]


setup(
    packages=["edge_runtime", *(f"edge_runtime.{name}" for name in find_packages())],
    cmdclass={"build_py": WithoutThisFile},
)
