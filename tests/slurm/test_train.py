"""slurm/train.sbatch on a real cluster, without accounting: two nodes, each way of starting ranks, odd places."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster
from conftest import TREE
from jobs import Job, sbatch, submit

LAUNCHERS = ("mpirun", "srun", "horovodrun")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this project in a folder whose path holds blanks, away from any .venv."""
    tree = tmp_path_factory.mktemp("a tree with blanks")
    for part in ("slurm", "launchers", "configs"):
        shutil.copytree(TREE / part, tree / part, ignore=shutil.ignore_patterns("site.sh"))
    return tree


@pytest.fixture(scope="module")
def jobs(session_cluster: Cluster, tree: Path) -> Iterator[dict[str, Job]]:
    """One job for each launcher, all at once; each is submitted from another folder."""
    words = ("--nodes=2", "../slurm/train.sbatch", "digits.yaml", "steps=20")
    yield {
        name: submit(session_cluster, *words, where=tree / "configs", HVD_ADAM_LAUNCHER=name, HVD_ADAM_NIC="eth0")
        for name in LAUNCHERS
    }
    session_cluster.run("scancel", "--user=root")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_nodes_train_together_under_each_launcher(jobs: dict[str, Job], tree: Path, launcher: str) -> None:
    job = jobs[launcher]
    assert job.end() == 0, job.said()
    run = tree / "configs" / "runs" / "digits" / f"job-{job.number}"
    first = json.loads((run / "trace.jsonl").read_text().partition("\n")[0])
    assert first["ranks"] == 2 and len(set(first["hosts"])) == 2
    assert first["threads"] == 1 and first["environment"]["OMPI_MCA_btl_tcp_if_include"] == "eth0"
    assert json.loads((run / "result.json").read_text())["status"] == "done"


WHERE = """
import horovod.torch as hvd, pathlib, socket
hvd.init()
placed = hvd.local_rank(), hvd.local_size(), hvd.cross_rank(), hvd.cross_size()
said = " ".join(map(str, (hvd.rank(), "on", socket.gethostname(), *placed)))
pathlib.Path(__file__).with_name(f"rank-{hvd.rank()}").write_text(said)  # launchers may mix or lose printed lines
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_each_rank_knows_where_it_is(cluster: Cluster, tmp_path: Path, launcher: str) -> None:
    (tmp_path / "where.py").write_text(WHERE)
    words = (
        "salloc",
        "-N2",
        "--ntasks-per-node=2",
        "-c1",
        TREE / "launchers" / launcher,
        "-n",
        "4",
        "--",
        "python",
        "where.py",
    )
    done = cluster.run(*words, where=tmp_path, timeout=120, HVD_ADAM_NIC="eth0", SALLOC_NO_BELL="1")
    said = [path.read_text() for path in sorted(tmp_path.glob("rank-*"))]
    assert said == ["0 on n1 0 2 0 2", "1 on n1 1 2 0 2", "2 on n2 0 2 1 2", "3 on n2 1 2 1 2"], done.stderr


DIVIDED = """
import pathlib, torch
import hvd_adam
from hvd_adam import DistributedOptimizer, GenericAdam
from hvd_adam.optim import divided

world, made = hvd_adam.init(), []
for divided.SMALLEST, share_weights in ((1, True), (1, False), (1 << 60, False)):
    weights = [torch.nn.Parameter(torch.linspace(-1, 1, size)) for size in (300, 1000)]
    optimizer = DistributedOptimizer(GenericAdam(weights), world, share_weights=share_weights)
    for step in range(1, 6):
        optimizer.zero_grad()
        sum((weight**2).sum() * (step + world.rank) for weight in weights).backward()
        optimizer.step()
    seen = world.seen(100)
    assert (optimizer._mean._divided is not None) == (divided.SMALLEST == 1) and len(seen.everyones) == world.local_size
    made.append([*weights, *(value for state in optimizer.optimizer.state.values() for value in state.values())])
assert len(made[0]) == 8 and all(torch.equal(one, it) for one, *its in zip(*made, strict=True) for it in its)
pathlib.Path(__file__).with_name(f"rank-{world.rank}").write_text(f"{world.rank} on {world.host}")
world.close()
"""


@pytest.mark.parametrize("ranks", [4, 3])
def test_ranks_of_each_node_divide_the_step(cluster: Cluster, tmp_path: Path, ranks: int) -> None:
    (tmp_path / "divided.py").write_text(DIVIDED)
    words = ("salloc", "-N2", "--ntasks-per-node=2", "-c1", TREE / "launchers/mpirun", "-n", str(ranks), "--", "python")
    done = cluster.run(*words, "divided.py", where=tmp_path, timeout=120, HVD_ADAM_NIC="eth0", SALLOC_NO_BELL="1")
    said = [path.read_text() for path in sorted(tmp_path.glob("rank-*"))]
    assert said == ["0 on n1", "1 on n1", "2 on n2", "3 on n2"][:ranks], done.stderr


SUMS = """
import os, pathlib, torch
import hvd_adam
world = hvd_adam.init()
numbers = world.zeros(6_000_000, torch.float32, torch.device("cpu")).add_(world.rank + 1)  # several blocks of a sum
assert world._shared is None or world._shared.holds(numbers)
world.wait(world.start_allreduce(numbers, "sum"))
assert torch.equal(numbers, torch.full_like(numbers, sum(range(1, world.size + 1))))
said = f"{world._sums}, Horovod looks for work every {os.environ.get('HOROVOD_CYCLE_TIME', 1)} ms"
pathlib.Path(__file__).with_name(f"rank-{world.rank}").write_text(said)
world.close()
"""


@pytest.mark.parametrize(("ranks", "sums"), [((1, 1), "direct"), ((2, 2), "hierarchical"), ((2, 1), "horovod")])
def test_sums_between_nodes_are_made_as_suits_where_the_ranks_are(
    cluster: Cluster, tmp_path: Path, ranks: tuple[int, int], sums: str
) -> None:
    (tmp_path / "sums.py").write_text(SUMS)
    words = ("salloc", "-N2", f"--ntasks-per-node={ranks[0]}", "-c1", TREE / "launchers/mpirun", "-n", str(sum(ranks)))
    done = cluster.run(
        *words, "--", "python", "sums.py", where=tmp_path, timeout=120, HVD_ADAM_NIC="eth0", SALLOC_NO_BELL="1"
    )
    said = {path.read_text() for path in tmp_path.glob("rank-*")}
    assert said == {f"{sums}, Horovod looks for work every {1 if sums == 'horovod' else 100} ms"}, done.stderr


def test_the_other_ranks_end_when_one_fails_under_srun(cluster: Cluster, tmp_path: Path) -> None:
    there = tmp_path / "there"  # a rank that is still starting would not end of the signal, but be killed: 137
    fails = f"until test -e {there}; do sleep 0.1; done; exit 3"
    script = f'if test "$SLURM_PROCID" = 1; then {fails}; fi; touch {there}; sleep 100'
    done = cluster.run(
        "salloc", "-N2", "--ntasks-per-node=1", TREE / "launchers/srun", "-n", "2", "--", "sh", "-c", script
    )
    assert "task 1: Exited with exit code 3" in done.stderr
    assert done.returncode == 143  # the largest of all ranks': that of the one that was ended


def test_a_job_submitted_from_inside_a_job_has_nothing_of_it(cluster: Cluster, tree: Path) -> None:
    inner = 'sbatch --parsable --nodes=1 --ntasks-per-node=2 "$0" configs/digits.yaml steps=5'
    outer = (
        "srun",
        "-N2",
        "-n3",
        "-c2",
        "--mpi=pmix",
        "--cpu-bind=none",
        "sh",
        "-c",
        f"test $SLURM_PROCID != 0 || {inner}",
    )
    done = cluster.run(*outer, tree / "slurm/train.sbatch", where=tree, timeout=60)
    job = Job(cluster, int(done.stdout.split()[-1]), tree)
    assert job.end() == 0, job.said()
    assert "+ mpirun -np 2 " in job.said()


@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_a_config_that_cannot_be_used_ends_the_job_with_2_and_is_not_queued_again(
    cluster: Cluster, tree: Path, launcher: str
) -> None:
    words = ("--nodes=2", "slurm/train.sbatch", "configs/digits.yaml", "workers=3")
    job = submit(cluster, *words, where=tree, HVD_ADAM_LAUNCHER=launcher)
    assert job.end() == 2, job.said()
    assert "workers: 3, started on 2 ranks" in job.said() and job.facts()["Restarts"] == "0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--partition=nowhere",), "invalid partition specified: nowhere"),
        (("--time=soon",), "Invalid --time specification"),
    ],
)
def test_slurm_refuses_in_its_own_words(cluster: Cluster, tree: Path, options: tuple[str, ...], said: str) -> None:
    done = sbatch(cluster, *options, "slurm/train.sbatch", "configs/digits.yaml", where=tree)
    assert done.returncode != 0 and said in done.stderr
