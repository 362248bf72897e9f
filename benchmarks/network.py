"""Times training steps between two nodes of a Slurm cluster of its own, whose network is slowed down on purpose.

    python benchmarks/network.py            as root; needs `make slurm`; benchmarks/recorded/network.json
    python benchmarks/network.py far        only the nodes that are far apart; the other figures stay

One rank a node. For every round two jobs start anew, in an order that is drawn: one of ours, and one of the parts and
of bare compute, which Horovod's thread would slow down in a job of ours. What is asked is whether the exchange hides
behind backward, and what halves on the wire save.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
RECORDED = TREE / "benchmarks" / "recorded" / "network.json"
RATES = {"unlimited": None, "1 Gbit/s": "1gbit", "100 Mbit/s": "100mbit"}
FAR = 0.005  # seconds that a packet travels between nodes that are far apart
MODELS = ("lenet", "resnet18", "transformer")
JOBS = {  # by how sums are made: the peers of a job
    "shared": ("hvd_adam", "hvd_adam-fp16"),
    "mpi": ("parts", "bare"),
}
ROUNDS, STEPS = 5, 5
LONG = 1.0  # seconds of a step, from which on one is enough


def rank(model: str, out: str, *names: str) -> None:
    """One rank: rank 0 writes the seconds a step of each peer, the slower rank's."""
    import torch

    from hvd_adam.bench.peers import PEERS
    from hvd_adam.bench.workloads import loaded, workload
    from hvd_adam.comm import init

    world, load = init("mpi"), workload(model)
    torch.manual_seed(0)
    steps = {name: PEERS[name].build(*loaded(load, load.samples, torch.float32)) for name in names}

    def timed(step: Callable[[], None], count: int) -> float:
        world.barrier()
        began = time.perf_counter()
        for _ in range(count):
            step()
        mine = (time.perf_counter() - began) / count
        return max(map(float, world.allgather_bytes(str(mine).encode())))

    firsts = {name: timed(steps[name], 1) for name in names}  # which also open connections
    seconds = {name: timed(steps[name], 1 if firsts[name] > LONG else STEPS) for name in names}
    if world.rank == 0:
        Path(out).write_text(json.dumps(seconds))
    world.close()


def main(only_far: bool) -> int:
    """Starts the cluster, and a job for each network and model."""
    sys.path.insert(0, str(TREE / "tests" / "slurm"))
    import network
    from cluster import Cluster

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    place = TREE / "build" / "network"
    place.mkdir(parents=True, exist_ok=True)
    kept = json.loads(RECORDED.read_text())["measured"] if only_far else []
    found = [one for one in kept if _far() not in one["network"]]
    with Cluster(TREE / "build" / "slurm" / "root", nodes=2, shared=[TREE]) as cluster:
        for far in (True,) if only_far else (False, True):
            for name, rate in RATES.items():
                slow = network.far_apart(cluster, "n1", "n2", FAR, rate) if far else network.limited(cluster, rate)
                with slow:
                    found += _measure(cluster, place, f"{name}, {_far()}" if far else name, found)
    return 0


def _measure(cluster: Any, place: Path, name: str, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A job for each model on this network; what is found is kept after each."""
    from hvd_adam.bench.surroundings import facts, save

    found: list[dict[str, Any]] = []
    for model in MODELS:
        seconds: dict[str, list[float]] = {peer: [] for peers in JOBS.values() for peer in peers}
        for one in _jobs(cluster, place, model):
            for peer, value in one.items():
                seconds[peer].append(value)
        found.append({"network": name, "model": model, "seconds": seconds})
        kept = {**facts(), "measured": [*before, *found], "command": "python benchmarks/network.py"}
        save(RECORDED, "bench network", kept)
        print(f"{model}, {name}: done", flush=True)
    return found


def _jobs(cluster: Any, place: Path, model: str) -> Iterator[dict[str, float]]:
    """Seconds a step of each peer, of one start of its ranks after the other."""
    starts = [sums for _ in range(ROUNDS) for sums in random.sample(list(JOBS), len(JOBS))]
    lines = []
    for number, sums in enumerate(starts):
        names = " ".join(random.sample(JOBS[sums], len(JOBS[sums])))
        program = f"python {Path(__file__).resolve()} rank {model} {place}/seconds-{number}.json {names}"
        lines.append(f"HVD_ADAM_SUMS={sums} {TREE}/launchers/mpirun -n 2 -- {program}")
    options = ("--wait", "--nodes=2", "--ntasks-per-node=1", f"--output={place}/job.out")
    whole = " && ".join(lines)
    done = cluster.run("sbatch", *options, f"--wrap={whole}", where=place, timeout=3000, PYTHONPATH=str(TREE))
    if done.returncode:
        sys.exit(done.stderr + (place / "job.out").read_text())
    return (json.loads((place / f"seconds-{number}.json").read_text()) for number in range(len(starts)))


def _far() -> str:
    return f"{1e3 * FAR:g} ms"


if __name__ == "__main__":
    sys.exit(rank(*sys.argv[2:]) if sys.argv[1:2] == ["rank"] else main(only_far=sys.argv[1:] == ["far"]))
