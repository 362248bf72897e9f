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
    _give_own_programs()
    with Cluster(packages, nodes=5, shared=[tmp_path_factory.getbasetemp()]) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def wide_cluster(
    packages: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Ten nodes for a campaign, which wants many side by side; else the session's."""
    _give_own_programs()
    if not os.environ.get("HVD_ADAM_CAMPAIGN"):
        yield request.getfixturevalue("session_cluster")
        return
    with Cluster(packages, nodes=10, shared=[tmp_path_factory.getbasetemp()]) as cluster:
        yield cluster


@pytest.fixture
def cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    """The session's cluster; jobs that a test leaves behind are cancelled."""
    yield session_cluster
    if session_cluster.run("squeue", "-h").stdout.strip():
        session_cluster.run("scancel", "--full", "--signal=KILL", "--user=root")
        session_cluster.run("scancel", "--user=root")
        session_cluster.wait_until_idle()


def _give_own_programs() -> None:
    """This Python's are the jobs', with the package of this tree."""
    own = str(Path(sys.executable).parent)
    if not os.environ["PATH"].startswith(own):
        os.environ["PATH"] = f"{own}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(TREE)
