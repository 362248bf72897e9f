"""The commands of docs/slurm.md, as they stand there, on the login node of a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster import Cluster
from conftest import TREE
from studies import queued, wait_for

TEXT = (TREE / "docs" / "slurm.md").read_text(encoding="utf-8")
COMMANDS = [line[4:] for line in TEXT.splitlines() if line.startswith("    ")]
ELSEWHERE = {  # what this file does not run, and why
    "sbatch --nodes=4 slurm/train.sbatch configs/mnist.yaml": "MNIST has to be fetched; test_train.py runs the same",
    "cp slurm/site.example.sh slurm/site.sh": "it would change the tree; test_batch_scripts.py reads each line",
    "hvd-adam diagnose runs/mnist/job-ID": "of a run that is not here; test_stalls.py",
    "make slurm-shell": "the cluster that this runs in",
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The tree by links, so that runs/ is written beside it and not into it."""
    for name in ("configs", "hvd_adam", "launchers", "slurm"):
        (tmp_path / name).symlink_to(TREE / name)
    return tmp_path


def test_each_command_is_run_here_or_has_a_reason(cluster: Cluster, clone: Path) -> None:
    ran = [command for command in COMMANDS if command not in ELSEWHERE]
    assert len(ran) >= 9 and set(ELSEWHERE) < set(COMMANDS)
    for command in ran:
        words = ["sh", "-c", command]
        done = cluster.run(*words, where=clone, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        if command.endswith("--dry-run"):
            assert not queued(cluster, "digits") and "node-hours" in done.stdout
        elif command.startswith("hvd-adam study submit"):
            assert len(queued(cluster, "digits")) >= 3 and re.search(r"submitted as \d+, \d+", done.stdout)
        elif command.startswith("hvd-adam study cancel"):
            wait_for(lambda: not queued(cluster, "digits"), clone)
