"""A shell on the login node of a cluster in a box, or one command there.

    python tests/slurm/shell.py [NODES] [-- COMMAND...]

All that runs in it ends when it is left. The working tree is the same folder on every node; /tmp is each node's own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from able import obstacle
from cluster import Cluster

TREE = Path(__file__).resolve().parents[2]
WELCOME = """\
A Slurm cluster of {nodes} nodes, n1 to n{nodes}; you are on its login node, in {tree}.
    sinfo                                                   the nodes
    sbatch --nodes=2 slurm/train.sbatch configs/digits.yaml a job
    ssh n2                                                  a node
It ends, with all its jobs, when you leave this shell.
"""


def main(arguments: list[str]) -> int:
    """Returns the exit code of what ran inside."""
    if obstacle():
        sys.stderr.write(f"slurm: no cluster can be run here: {obstacle()}\n")
        return 1
    at = arguments.index("--") if "--" in arguments else len(arguments)
    before, command = arguments[:at], arguments[at + 1 :]
    nodes = int(before[0]) if before else 4
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with Cluster(TREE / "build" / "slurm" / "root", nodes=nodes, shared=[TREE]) as cluster:
        if not command:
            sys.stderr.write(WELCOME.format(nodes=nodes, tree=TREE))
            command = ["bash", "--norc"]
        environment = {**cluster.environment(), "PS1": r"slurm \w \$ "}
        return subprocess.call([*cluster.enter(where=TREE), *command], env=environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
