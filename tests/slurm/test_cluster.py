"""The cluster that the other tests stand on: its nodes are apart, its faults are real, and nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import network
import pytest
from cluster import HOME, Cluster, sweep

HERE = Path(__file__).resolve().parent
GREET = "import socket, sys; socket.create_connection((sys.argv[1], 22), timeout=3)"


def reaches(cluster: Cluster, here: str | None, there: str) -> bool:
    """Whether a connection from one node to another's sshd is made."""
    return cluster.run(sys.executable, "-c", GREET, there, node=here).returncode == 0


def processes(folder: Path) -> list[int]:
    """All processes that were started for the cluster of this folder, wherever they are by now."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SLURM_CONF={folder}/".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def eventually(claim, seconds: float = 20.0) -> bool:
    """Whether it comes true before our patience ends."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_each_node_has_its_own_name_address_tmp_shared_memory_and_processes(cluster: Cluster) -> None:
    shown = "hostname; ls /tmp /dev/shm; touch /tmp/mine /dev/shm/mine; ip -4 -br address show eth0; ps -e | wc -l"
    done = cluster.run("srun", "-N3", "-l", "sh", "-c", shown)
    assert done.returncode == 0, done.stderr
    said = {k: [line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(k)] for k in "012"}
    assert sorted(lines[0] for lines in said.values()) == ["n1", "n2", "n3"]
    for lines in said.values():
        assert f"10.77.0.{lines[0][1:]}/24" in " ".join(lines)
        assert not any("mine" in line for line in lines)
        assert int(lines[-1]) < 20  # slurmd, sshd, the step and its commands


def test_the_folders_asked_for_are_the_same_on_all_nodes(cluster: Cluster, tmp_path: Path) -> None:
    script = f'echo "$SLURM_PROCID" > "{tmp_path}/$(hostname)"'
    assert cluster.run("srun", "-N3", "sh", "-c", script).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["n1", "n2", "n3"]


def test_nothing_of_an_outer_job_is_inherited(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    assert not {"SLURM_JOB_ID", "SBATCH_PARTITION"} & set(cluster.environment())


def test_every_node_reaches_every_other_by_ssh(cluster: Cluster) -> None:
    for there in ("n2", "n3", "n1"):
        assert cluster.run("ssh", there, "hostname", node="n1").stdout == f"{there}\n"


def test_a_cut_is_seen_by_two_nodes_and_by_nobody_else(cluster: Cluster) -> None:
    network.cut(cluster, "n1", "n2")
    try:
        assert not reaches(cluster, "n1", "n2")
        assert not reaches(cluster, "n2", "n1")
        assert reaches(cluster, "n1", "n3")
        assert reaches(cluster, None, "n1")
    finally:
        network.mend(cluster, "n1", "n2")
    assert reaches(cluster, "n1", "n2")


def test_a_pulled_cable_is_seen_by_all(cluster: Cluster) -> None:
    network.link(cluster, "n3", up=False)
    try:
        assert not reaches(cluster, "n1", "n3")
        assert not reaches(cluster, None, "n3")
    finally:
        network.link(cluster, "n3", up=True)
    assert eventually(lambda: reaches(cluster, "n1", "n3"))


def test_a_rate_is_what_the_kernel_says_it_is_and_can_be_taken_away(cluster: Cluster) -> None:
    shown = ("tc", "qdisc", "show", "dev", "eth0")
    network.limit_rate(cluster, "n2", "100mbit")
    limited = cluster.run(*shown, node="n2").stdout
    network.limit_rate(cluster, "n2", None)
    assert "tbf" in limited and "rate 100Mbit" in limited
    assert "tbf" not in cluster.run(*shown, node="n2").stdout


TRIP = """
import socket, sys, time
began = time.monotonic()
socket.create_connection((sys.argv[1], 22), timeout=3)
print(time.monotonic() - began)
"""


def test_nodes_that_are_far_apart_wait_for_each_others_words(cluster: Cluster) -> None:
    def round_trip(here: str, there: str) -> float:
        """Seconds until a connection is made: once there and back."""
        done = cluster.run(sys.executable, "-c", TRIP, there, node=here)
        return float(done.stdout)

    def way(here: str, there: str) -> str:
        """The device by which a node reaches another."""
        return cluster.run("ip", "-o", "route", "get", f"10.77.0.{there[1:]}", node=here).stdout.split()[2]

    with network.far_apart(cluster, "n1", "n2", 0.05, "100mbit"):
        assert round_trip("n1", "n2") >= 0.1 and round_trip("n2", "n1") >= 0.1
        assert (way("n1", "n2"), way("n2", "n1"), way("n1", "n3"), way("n3", "n2")) == ("far", "far", "eth0", "eth0")
        assert "rate 100Mbit" in cluster.run("tc", "qdisc", "show", "dev", "far", node="n1").stdout
    assert way("n1", "n2") == way("n2", "n1") == "eth0" and reaches(cluster, "n1", "n2")


def test_a_node_without_power_is_gone_and_comes_back(cluster: Cluster) -> None:
    cluster.power_off("n3")
    assert eventually(lambda: not reaches(cluster, None, "n3"))
    cluster.power_on("n3")
    assert eventually(lambda: reaches(cluster, None, "n3"))
    cluster.wait_until_idle()
    assert cluster.run("srun", "-w", "n3", "hostname").stdout == "n3\n"


def test_two_clusters_run_side_by_side_and_nothing_is_left(cluster: Cluster, packages: Path) -> None:
    links = os.listdir("/sys/class/net")
    with Cluster(packages, nodes=1) as second:
        folder = second.folder
        assert second.run("srun", "hostname").stdout == "n1\n"
        assert second.run("sinfo", "-h", "-o", "%D", "-p", "main").stdout.strip() == "1"
        assert cluster.run("sinfo", "-h", "-o", "%D", "-p", "main").stdout.strip() == "5"
        assert second.run("sbatch", "--wrap=sleep 1000").returncode == 0  # it is running when the end comes
        assert len(processes(folder)) > 4
    assert eventually(lambda: not processes(folder))
    assert not folder.exists()
    assert folder.name not in Path("/proc/self/mountinfo").read_text()
    assert os.listdir("/sys/class/net") == links


def test_a_cluster_ends_with_a_killed_owner_and_the_next_one_removes_its_files(packages: Path) -> None:
    script = f"""if True:
        import sys, time
        sys.path.insert(0, {str(HERE)!r})
        from pathlib import Path
        from cluster import Cluster
        with Cluster(Path({str(packages)!r}), nodes=1) as cluster:
            print(cluster.folder, flush=True)
            time.sleep(1000)
    """
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    assert folder.is_relative_to(HOME) and processes(folder)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert eventually(lambda: not processes(folder))
    sweep()
    assert not folder.exists()


def test_with_accounting_sacct_answers_and_without_it_says_that_it_cannot(cluster: Cluster, packages: Path) -> None:
    assert "accounting storage is disabled" in cluster.run("sacct").stderr
    with Cluster(packages, nodes=1, accounting=True) as second:
        number = second.run("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 3").stdout.strip()
        shown = ("sacct", "-n", "-X", "-P", "-o", "jobid,state,exitcode")
        assert eventually(lambda: second.run(*shown).stdout == f"{number}|FAILED|3:0\n", 60)
