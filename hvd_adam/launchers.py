"""Where the launchers lie: beside the source tree, else where the package was installed to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hvd_adam.errors import RunError

FOLDERS = (Path(__file__).resolve().parents[1] / "launchers", Path(sys.prefix) / "share" / "hvd_adam" / "launchers")


def launcher(name: str) -> Path:
    """The executable launchers/NAME.

    Raises:
        RunError: it is in neither place.
    """
    for folder in FOLDERS:
        if os.access(folder / name, os.X_OK):
            return folder / name
    raise RunError(
        f"there is no launcher {name}",
        f"it is looked for in {' and in '.join(map(str, FOLDERS))}",
        "work in the source tree, or install the package again",
    )
