"""Measured points kept on disk, one a line: a long reproduction that was interrupted goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable


class Points:
    """A map from a key (plain values that say what was measured) to plain data, appended to as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        if path.exists():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            for line in whole.splitlines():
                one = json.loads(line)
                self._known[_text(one["key"])] = one["value"]
            if whole != text:  # a last line cut short is measured again
                path.write_text(whole, encoding="utf-8")

    def get(self, key: dict[str, Any], measure: Callable[[], Any]) -> Any:
        """The value of `key`, measured now unless it is known."""
        text = _text(key)
        if text not in self._known:
            value = measure()
            line = (json.dumps({"key": key, "value": value}, allow_nan=False) + "\n").encode()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(file, line)
            finally:
                os.close(file)
            self._known[text] = value
        return self._known[text]


def _text(key: dict[str, Any]) -> str:
    """1 and 1.0 are the same key."""
    plain = {name: float(value) if isinstance(value, int) else value for name, value in key.items()}
    return json.dumps(plain, sort_keys=True)
