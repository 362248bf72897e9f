"""One cluster for the whole session; skipped, with the reason, only where no machine of this kind can run one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from able import obstacle
from cluster import Cluster
from packages import STAMP

TREE = Path(__file__).resolve().parents[2]
PACKAGES = TREE / "build" / "slurm"


@pytest.fixture(scope="session")
def packages() -> Path:
    """Debian's Slurm, unpacked."""
    if obstacle():
        pytest.skip(f"no cluster can be run here: {obstacle()}")
    if not (PACKAGES / STAMP).is_file():
        pytest.fail(f"{PACKAGES} holds no Slurm: make slurm")
    return PACKAGES / "root"


@pytest.fixture(scope="session")
def session_cluster(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Five nodes of four cpus, to which pytest's own folders are shared."""
    own = Path(sys.executable).parent  # its programs are the jobs', with the package of this tree
    os.environ["PATH"] = f"{own}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(TREE)
    with Cluster(packages, nodes=5, shared=[tmp_path_factory.getbasetemp()]) as cluster:
        yield cluster


@pytest.fixture
def cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    """The session's cluster; jobs that a test leaves behind are cancelled."""
    yield session_cluster
    if session_cluster.run("squeue", "-h").stdout.strip():
        session_cluster.run("scancel", "--full", "--signal=KILL", "--user=root")
        session_cluster.run("scancel", "--user=root")
        session_cluster.wait_until_idle()
