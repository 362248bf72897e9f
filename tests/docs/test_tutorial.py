"""The tutorial's files, as they stand there, in a folder of their own: the task trains, the study plans."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from documents import TREE


def test_the_tutorials_files_train_and_plan(tmp_path: Path) -> None:
    text = (TREE / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for name in ("tumours.py", "run.yaml", "study.yaml"):
        block = re.search(rf"^## [^\n]*`{name}`\n\n((?:(?:    [^\n]*)?\n)+)", text, re.M)
        assert block, name
        (tmp_path / name).write_text(textwrap.dedent(block[1]).split("\n\nhvd-adam")[0])
    for words in (["train", "run.yaml", "steps=20"], ["study", "plan", "study.yaml", "--no-timing"]):
        command = [sys.executable, "-m", "hvd_adam", *words]
        environment = {**os.environ, "PYTHONPATH": str(TREE)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr
    assert "20 runs" in done.stdout and "train_loss <= 0.1" in done.stdout
