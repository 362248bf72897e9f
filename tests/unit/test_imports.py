"""What a command does not import: each import is paid for at every start, on every rank."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_help_imports_no_torch() -> None:
    code = "import sys; sys.argv = ['hvd-adam', '--help']\nfrom hvd_adam.cli import cli\n"
    code += "cli(standalone_mode=False)\nassert not {'torch', 'pydantic', 'rich', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("determinism", ["default", "exact"])
def test_training_imports_neither_torchs_compiler_nor_scikit_learn(determinism: str, tmp_path: Path) -> None:
    """Each takes as long as torch itself, or half of that."""
    config = tmp_path / "tiny.yaml"
    config.write_text("{task: digits, algorithm: {name: adam, lr: 0.01}, steps: 2}")
    words = ["train", str(config), f"determinism={determinism}", "--run", str(tmp_path / "r")]
    code = f"import sys; from hvd_adam.cli import cli\ncli({words}, standalone_mode=False)"
    code += "\nprint(sorted({'torch._dynamo', 'torch._inductor', 'sklearn', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
