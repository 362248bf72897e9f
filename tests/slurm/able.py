"""Can this machine run a cluster in a box?

python tests/slurm/able.py     # 0 where it can; else 1, and the reason
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

NAMESPACES = (
    "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
)  # fmt: skip
TRIAL = "mount -t tmpfs tmpfs /run && hostname trial && mkdir /run/trial"


@cache
def obstacle() -> str:
    """Why it cannot; empty where it can."""
    if os.geteuid() != 0:
        return "slurmctld needs root, and this is not root"
    if Path("/proc/self/setgroups").read_text().strip() == "deny":
        return "slurmctld sets groups, and this user namespace does not allow it"
    for program, package in (("unshare", "util-linux"), ("dpkg", "dpkg"), ("apt-get", "apt")):
        if shutil.which(program) is None:
            return f"there is no {program} (Debian's {package})"
    done = subprocess.run(["unshare", *NAMESPACES, "sh", "-c", TRIAL], capture_output=True, text=True)
    said = done.stderr.strip().splitlines()
    return "" if done.returncode == 0 else f"namespaces are refused: {said[-1] if said else done.returncode}"


if __name__ == "__main__":
    reason = obstacle()
    if reason:
        sys.exit(f"slurm: no cluster can be run here: {reason}")
