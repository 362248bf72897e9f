"""Where facts are read from; tests name other places."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The roots of everything that is read.

    Args:
        environ: environment variables; PATH among them.
        root: of the file system, for /proc, /sys, /dev.
        packages: folders that Python imports from, in order.
        tree: the source tree, or the folder that would be it: holds launchers/ and .venv/.
        folder: the working folder.
        prefix: the environment that Python runs from.
    """

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    root: Path = Path("/")
    packages: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    tree: Path = Path(__file__).resolve().parents[3]
    folder: Path = field(default_factory=lambda: working_folder())
    prefix: Path = field(default_factory=lambda: Path(sys.prefix))

    def read(self, path: str) -> str | None:
        """The text of a file below the root, without closing white space; None where it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def find(self, path: str) -> Path | None:
        """A file of an installed package: the one that an import would take."""
        return next((found for folder in self.packages if os.path.isfile(found := Path(folder) / path)), None)

    def number(self, name: str) -> int | None:
        """A variable as a whole number; None where it is unset or something else."""
        text = self.environ.get(name, "")
        return int(text) if text.isdigit() else None

    def launcher_path(self) -> str:
        """PATH as the launchers have it: first the tree's environment, else the one that they are installed into."""
        own, installed = self.tree / ".venv" / "bin", self.prefix / "bin"
        path = self.environ.get("PATH", "")
        if own.is_dir():
            return f"{own}{os.pathsep}{path}"
        beside_the_tree = (self.tree / "launchers").is_dir()
        return path if beside_the_tree or not (installed / "hvd-adam").exists() else f"{installed}{os.pathsep}{path}"

    def launcher(self, name: str) -> Path | None:
        """A launcher beside the source tree, else the installed one."""
        for folder in (self.tree / "launchers", self.prefix / "share" / "hvd_adam" / "launchers"):
            if os.access(folder / name, os.X_OK):
                return folder / name
        return None


def working_folder() -> Path:
    """Where this process is, by its last name where it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path(os.environ.get("PWD", "/nonexistent"))
