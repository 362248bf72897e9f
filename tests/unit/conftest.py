"""Fixtures of the unit tests."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture
def permissions_bite(tmp_path: Path) -> Iterator[None]:
    """A folder's mode holds for root too: the two capabilities that pass it over are laid down, and taken up again."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the version of the call, and this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: first those of 0 to 31, then the others
    assert libc.capget(header, sets) == 0
    before, sets[0] = sets[0], sets[0] & ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0, ctypes.get_errno()
    yield
    sets[0] = before
    assert libc.capset(header, sets) == 0, ctypes.get_errno()
    for folder in (path for path in tmp_path.rglob("*") if path.is_dir()):
        folder.chmod(0o700)  # whoever removes them need not be root
