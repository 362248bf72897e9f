"""Fixtures of the unit tests."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from hvd_adam.cli import main


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Exit code, standard output and standard error of a command, line breaks of long sentences taken out."""

    def told(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hvd-adam", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, re.sub(r"\s+", " ", said.out), said.err

    return told
