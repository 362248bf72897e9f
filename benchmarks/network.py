"""Times training steps between two nodes of a Slurm cluster of its own, whose network is slowed down on purpose.

    python benchmarks/network.py              as root; needs `make slurm`: nodes side by side, and then 5 ms apart
    python benchmarks/network.py near|far     one of them; the figures of the other, of this kind of machine, stay
    python benchmarks/network.py crowded      two ranks a node

What it finds is kept in benchmarks/recorded/: network.json, and crowded.json.

For every round each job starts anew, in an order that is drawn: one of ours, one of the parts and of bare compute,
which Horovod's thread would slow down in a job of ours, and between nodes of two ranks one whose sums Horovod makes.
What is asked is whether the exchange hides behind backward, and what halves on the wire save.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TREE = Path(__file__).resolve().parents[1]
RECORDED = TREE / "benchmarks" / "recorded"
RATES = {"unlimited": None, "1 Gbit/s": "1gbit", "100 Mbit/s": "100mbit"}
FAR = 0.005  # seconds that a packet travels between nodes that are far apart
MODELS = ("lenet", "resnet18", "transformer")
JOBS = {  # by how sums are made: the peers of a job
    "shared": ("hvd_adam", "hvd_adam-fp16"),
    "mpi": ("parts", "bare"),
}


@dataclass(frozen=True)
class Pair:
    """Two nodes; `kept`: the file of their figures."""

    kept: str = "network"
    said: str = ""  # after the rate
    apart: float = 0.0  # seconds
    ranks: int = 1  # a node
    models: tuple[str, ...] = MODELS
    jobs: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: JOBS)


PAIRS = {
    "near": Pair(),
    "far": Pair(said=f", {1e3 * FAR:g} ms", apart=FAR),
    "crowded": Pair(
        "crowded", ", 2 ranks a node", ranks=2, models=MODELS[:2], jobs={**JOBS, "horovod": ("hvd_adam-horovod",)}
    ),
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


def main(chosen: Sequence[str]) -> int:
    """Starts the cluster, and a job for each network and model."""
    sys.path.insert(0, str(TREE / "tests" / "slurm"))
    import network
    from cluster import Cluster

    if unknown := set(chosen) - set(PAIRS):
        sys.exit(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(PAIRS)}")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    place = TREE / "build" / "network"
    place.mkdir(parents=True, exist_ok=True)
    with Cluster(TREE / "build" / "slurm" / "root", nodes=2, shared=[TREE]) as cluster:
        for pair in (PAIRS[one] for one in chosen):
            for name, rate in RATES.items():
                far = network.far_apart(cluster, "n1", "n2", pair.apart, rate) if pair.apart else None
                with far or network.limited(cluster, rate):
                    _measure(cluster, place, pair, f"{name}{pair.said}")
    return 0


def _measure(cluster: Any, place: Path, pair: Pair, name: str) -> None:
    """Jobs for each model on this network; what is found replaces what was kept of it, after each."""
    from hvd_adam.bench.surroundings import facts, save

    file = RECORDED / f"{pair.kept}.json"
    for model in pair.models:
        seconds: dict[str, list[float]] = {peer: [] for peers in pair.jobs.values() for peer in peers}
        for one in _jobs(cluster, place, pair, model):
            for peer, value in one.items():
                seconds[peer].append(value)
        here, before = facts(), json.loads(file.read_text()) if file.is_file() else {}
        others = before["measured"] if before.get("processor") == here["processor"] else []  # a file is one machine's
        found = [one for one in others if (one["network"], one["model"]) != (name, model)]
        found.append({"network": name, "model": model, "seconds": seconds})
        command = "python benchmarks/network.py" + (f" {pair.kept}" if pair.kept != "network" else "")
        save(file, f"bench {pair.kept}", {**here, "measured": found, "command": command})
        print(f"{model}, {name}: done", flush=True)


def _jobs(cluster: Any, place: Path, pair: Pair, model: str) -> Iterator[dict[str, float]]:
    """Seconds a step of each peer, of one start of its ranks after the other."""
    starts = [sums for _ in range(ROUNDS) for sums in random.sample(list(pair.jobs), len(pair.jobs))]
    lines = []
    for number, sums in enumerate(starts):
        names = " ".join(random.sample(pair.jobs[sums], len(pair.jobs[sums])))
        program = f"python {Path(__file__).resolve()} rank {model} {place}/seconds-{number}.json {names}"
        lines.append(f"HVD_ADAM_SUMS={sums} {TREE}/launchers/mpirun -n {2 * pair.ranks} -- {program}")
    options = ("--wait", "--nodes=2", f"--ntasks-per-node={pair.ranks}", f"--output={place}/job.out")
    whole = " && ".join(lines)
    done = cluster.run("sbatch", *options, f"--wrap={whole}", where=place, timeout=3000, PYTHONPATH=str(TREE))
    if done.returncode:
        sys.exit(done.stderr + (place / "job.out").read_text())
    return (json.loads((place / f"seconds-{number}.json").read_text()) for number in range(len(starts)))


if __name__ == "__main__":
    sys.exit(rank(*sys.argv[2:]) if sys.argv[1:2] == ["rank"] else main(sys.argv[1:] or ["near", "far"]))
