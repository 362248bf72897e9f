"""Times training steps between two nodes of a Slurm cluster of its own, whose network is slowed down on purpose.

    python benchmarks/network.py            as root; needs `make slurm`; benchmarks/recorded/network.json
    python benchmarks/network.py far        only the nodes that are far apart; the other figures stay

All peers are built in one job, one rank a node, and take turns in an order that is drawn anew each round. What is asked
is whether the exchange hides behind backward, and what halves on the wire save.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
RECORDED = TREE / "benchmarks" / "recorded" / "network.json"
RATES = {"unlimited": None, "1 Gbit/s": "1gbit", "100 Mbit/s": "100mbit"}
FAR = 0.005  # seconds that a packet travels between nodes that are far apart
MODELS = ("lenet", "resnet18", "transformer")
NAMES = ("hvd_adam", "hvd_adam-fp16", "parts", "bare")
ROUNDS, STEPS = 5, 2


def rank(model: str, out: str) -> None:
    """One rank: rank 0 writes the seconds a step of each peer, a value a round, the slower rank's."""
    import torch

    from hvd_adam.bench.peers import PEERS
    from hvd_adam.bench.workloads import loaded, workload
    from hvd_adam.comm import init

    world, load = init("mpi"), workload(model)
    torch.manual_seed(0)
    steps = {name: PEERS[name].build(*loaded(load, load.samples, torch.float32)) for name in NAMES}
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    order = random.Random(0)
    for number in range(ROUNDS + 1):  # the first is not counted
        for name in order.sample(NAMES, len(NAMES)):
            world.barrier()
            began = time.perf_counter()
            for _ in range(STEPS):
                steps[name]()
            mine = (time.perf_counter() - began) / STEPS
            slower = max(map(float, world.allgather_bytes(str(mine).encode())))
            if number:
                seconds[name].append(slower)
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
        out = place / "seconds.json"
        out.unlink(missing_ok=True)
        job = f"{TREE}/launchers/mpirun -n 2 -- python {Path(__file__).resolve()} rank {model} {out}"
        options = ("--wait", "--nodes=2", "--ntasks-per-node=1", f"--output={place}/job.out")
        done = cluster.run("sbatch", *options, f"--wrap={job}", where=place, timeout=1200, PYTHONPATH=str(TREE))
        if done.returncode:
            sys.exit(done.stderr + (place / "job.out").read_text())
        found.append({"network": name, "model": model, "seconds": json.loads(out.read_text())})
        kept = {**facts(), "measured": [*before, *found], "command": "python benchmarks/network.py"}
        save(RECORDED, "bench network", kept)
        print(f"{model}, {name}: done", flush=True)
    return found


def _far() -> str:
    return f"{1e3 * FAR:g} ms"


if __name__ == "__main__":
    sys.exit(rank(*sys.argv[2:]) if sys.argv[1:2] == ["rank"] else main(only_far=sys.argv[1:] == ["far"]))
