"""Reads the versions to install from setup.cfg, the one place where they are written."""

from __future__ import annotations

import configparser
import hashlib
import re
from pathlib import Path

TORCH = ("torch", "torchvision")


def name_of(requirement: str) -> str:
    """Return the normalised name of the package in a requirement: `Foo_Bar[x] >= 1` -> `foo-bar`."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""


class Requirements:
    """The requirements of setup.cfg.

    Attributes:
        run: install_requires; extras: name -> the extra's requirements.
    """

    def __init__(self, setup_cfg: Path):
        parsed = configparser.ConfigParser(interpolation=None)
        parsed.read(setup_cfg, encoding="utf-8")
        self.run = _lines(parsed.get("options", "install_requires"))
        self.extras = {name: _lines(text) for name, text in parsed.items("options.extras_require")}
        self.entry_points = parsed.get("options.entry_points", "console_scripts", fallback="")
        self.project = parsed.get("metadata", "name")

    def torch(self) -> list[str]:
        """Return the requirements of torch and torchvision."""
        return [line for line in self.run if name_of(line) in TORCH]

    def one(self, extra: str, name: str) -> str:
        """Return the requirement of one package of an extra, without blanks."""
        return next(line for line in self.extras[extra] if name_of(line) == name).replace(" ", "")

    def names(self, extras: list[str]) -> set[str]:
        """Return the names of everything that the project needs with these extras."""
        return {name_of(line) for line in (*self.run, *(one for extra in extras for one in self.extras[extra]))}

    def fingerprint(self, extras: list[str]) -> str:
        """Return a short hash of everything here that an installation depends on."""
        lines = [*self.run, *(one for extra in sorted(extras) for one in self.extras[extra]), self.entry_points]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
