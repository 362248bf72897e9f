"""Every command of the README runs as it is written, in a folder that looks like a clone.

`make test` would run itself, so it is only planned (`make -n`); tests/parallel runs whole elsewhere in the suite, so
here it is cut to a few tests by an environment variable, not by another command.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from documents import TREE, code_lines

README = TREE / "README.md"
PROGRAMS = ("make", "launchers/", "mpirun", "horovodrun", "hvd-adam", "python")
COMMANDS = [line for line in code_lines(README) if line.startswith(PROGRAMS)]
ENDS_WITH = {"train": "everything is in", "pytest": " passed"}

pytestmark = pytest.mark.skipif(
    "OMPI_COMM_WORLD_SIZE" in os.environ, reason="starts jobs of its own: runs outside of one"
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The tree by links, so that runs/ is written beside it and not into it."""
    for entry in TREE.iterdir():
        if entry.name not in ("runs", "build", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def shell(command: str, clone: Path) -> subprocess.CompletedProcess[str]:
    """As the README says it: the environment activated, and for root the two variables that Open MPI wants."""
    lines = ["set -e"]
    if (clone / ".venv").exists():
        lines += [". .venv/bin/activate"]
    if os.geteuid() == 0:
        lines += re.findall(r"`(export OMPI_ALLOW_RUN_AS_ROOT=1 [^`]+)`", README.read_text(encoding="utf-8"))
    inherited = ("OMPI_ALLOW", "MAKE", "MFLAGS")  # also from the make that runs these tests
    environment = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTEST_ADDOPTS"] = "-k test_world"
    return subprocess.run(
        ["bash", "-c", "\n".join([*lines, command])],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1200,  # a guard against a hang, not a claim
    )


def test_the_readme_has_the_commands_of_the_first_steps() -> None:
    bare = [line.split("  #")[0].strip() for line in COMMANDS]
    assert bare[:2] == ["make demo", "make test"]
    for command in (
        "launchers/mpirun -n 2 -- hvd-adam train configs/digits.yaml",
        "mpirun -np 2 hvd-adam train configs/digits.yaml",
        "horovodrun -np 2 hvd-adam train configs/digits.yaml",
        "mpirun -np 2 python -m pytest tests/parallel",
    ):
        assert command in bare


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_a_make_line_names_targets_that_there_are(command: str) -> None:
    words = command.split("#")[0].split()
    done = subprocess.run([words[0], "-n", *words[1:]], cwd=TREE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not (TREE / ".venv/setup.json").is_file(), reason="without a set-up make demo would make one first")
def test_make_demo_ends_with_its_report(clone: Path) -> None:
    done = shell("make demo", clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Linear up to 8 workers" in done.stdout
    assert done.stdout.endswith("the report is in runs/digits/report.html\n")
    assert len(list((clone / "runs/digits").rglob("result.json"))) == 20
    assert (clone / "runs/digits/report.html").is_file()


@pytest.mark.parametrize("command", [line for line in COMMANDS if not line.startswith("make ")])
def test_a_command_runs_as_it_is_written(command: str, clone: Path) -> None:
    done = shell(command, clone)
    said = re.search(r"# exit code (\d+)", command)
    assert done.returncode == (int(said[1]) if said else 0), done.stdout + done.stderr
    for word, end in ENDS_WITH.items():
        if f" {word}" in command:
            assert end in done.stdout
    if " train " in command:
        assert list((clone / "runs").rglob("model.pt"))
