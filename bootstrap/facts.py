"""Finds out what a virtual environment holds by reading its files: nothing is imported, so it takes milliseconds."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from bootstrap.requirements import name_of


class Environment:
    """A virtual environment on disk. Every property is read again each time.

    Args:
        folder: such as .venv; need not exist.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.python = folder / "bin" / "python"

    @property
    def site_packages(self) -> Path | None:
        """The folder of the installed packages."""
        return next(iter(sorted(self.folder.glob("lib/python3.*/site-packages"))), None)

    def packages_folder(self) -> Path:
        """Return the folder of the installed packages of an environment that exists."""
        folder = self.site_packages
        if folder is None:
            raise FileNotFoundError(2, "there is no virtual environment", str(self.folder))
        return folder

    def usable(self, minor: tuple[int, int]) -> bool:
        """Say whether its Python exists, has pip, and is of this (major, minor)."""
        site = self.site_packages
        return (
            site is not None
            and self.python.exists()
            and site.parent.name == f"python{minor[0]}.{minor[1]}"
            and (site / "pip" / "__main__.py").exists()
        )

    def _dist_info(self, package: str) -> Path | None:
        # RECORD is the last file that pip writes: a folder without it is an installation that was cut off.
        for folder in self.site_packages.glob("*.dist-info") if self.site_packages else ():
            if name_of(folder.name.split("-")[0]) == package and (folder / "RECORD").exists():
                return folder
        return None

    def packages(self) -> dict[str, str]:
        """Return normalised name -> version of everything that is installed completely."""
        found = {}
        for folder in self.site_packages.glob("*.dist-info") if self.site_packages else ():
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            if (folder / "RECORD").exists():
                found[name_of(name)] = version
        return found

    def version(self, package: str) -> str:
        """Return a package's version; empty where it is not installed."""
        folder = self._dist_info(package)
        return folder.name.removesuffix(".dist-info").partition("-")[2] if folder else ""

    def torch(self) -> tuple[str, str]:
        """Return (version with its build, CUDA release of the build), such as ("2.15.0+cu132", "13.2")."""
        if not self.version("torch") or not self.site_packages:
            return "", ""
        text = (self.site_packages / "torch" / "version.py").read_text(encoding="utf-8")
        return _assigned(text, "__version__"), _assigned(text, "cuda")

    def torch_of_horovod(self) -> str:
        """Return the torch that the installed Horovod was compiled against, as its build has recorded it."""
        if not self.version("horovod") or not self.site_packages:
            return ""
        try:
            text = (self.site_packages / "horovod" / "metadata.json").read_text(encoding="utf-8")
            return json.loads(text).get("pytorch", "")
        except (OSError, ValueError):
            return ""

    def build_of(self, package: str) -> str:
        """Return a hash that tells two builds apart: of the lines in RECORD that hash the compiled files."""
        folder = self._dist_info(package)
        if not folder:
            return ""
        lines = (folder / "RECORD").read_text(encoding="utf-8").splitlines()
        compiled = sorted(line for line in lines if ".so," in line)
        return hashlib.sha256("\n".join(compiled).encode()).hexdigest()[:16]

    def remove_remains(self) -> list[str]:
        """Remove what an interrupted pip leaves behind, and return the names. pip stumbles over it otherwise."""
        removed = []
        for folder in list(self.site_packages.glob("*")) if self.site_packages else ():
            cut_off = folder.name.endswith(".dist-info") and not (folder / "RECORD").exists()
            if folder.is_dir() and (cut_off or folder.name.startswith("~")):
                shutil.rmtree(folder)
                removed.append(folder.name)
        return removed


def _assigned(text: str, name: str) -> str:
    match = re.search(rf"^{name}\b[^=\n]*=\s*['\"]([^'\"]*)['\"]", text, re.M)
    return match.group(1) if match else ""
