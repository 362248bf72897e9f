"""One to four interruptions of a kind, at moments drawn by chance: the run ends as if nothing had been, bit for bit.

Five runs of each kind with HVD_ADAM_CAMPAIGN=1, one of one kind without; test_interruptions.py stages one of each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from campaign import CAMPAIGN, EVERY, Disturbed, Lane, chosen, keep, on_a_lane, side_by_side, undisturbed
from cluster import Cluster
from jobs import submit
from trials import equals

KINDS = ("time limit", "preempted, warned", "preempted, unwarned", "scancel", "requeue", "other ranks")
CASES = list(chosen([(kind, k) for k in range(5) for kind in KINDS]).values()) if CAMPAIGN else [("other ranks", 0)]
SEED = 1
SIDE_BY_SIDE = 5 if CAMPAIGN else 1


def interrupt(trial: Disturbed, kind: str) -> None:
    """Does it, now."""
    run, number = trial.cluster.run, str(trial.job.number)
    if kind in ("scancel", "other ranks"):
        run("scancel", "--batch", "--signal=USR1", number)
    elif kind == "requeue":
        run("scontrol", "requeue", number)
    elif kind.startswith("preempted"):
        where = (f"--nodelist={trial.lane[0]}", "--nodes=1", "--ntasks=4")
        more = submit(
            trial.cluster, "--partition=urgent", *where, "--output=/dev/null", "--wrap=sleep 1", where=trial.where
        )
        assert more.end() == 0


def options(kind: str, chance: random.Random) -> tuple[tuple[str, ...], dict[str, str]]:
    """Of sbatch, and the environment."""
    if kind == "time limit":
        return ("--time=1", f"--signal=B:USR1@{chance.randint(10, 45)}"), {}
    more = {"HVD_ADAM_RESTARTS": "0"} if kind == "other ranks" else {}
    partition = ("--partition=patient",) if kind == "preempted, warned" else ()
    return ("--time=10", "--signal=B:USR1@5", *partition), {
        "HVD_ADAM_LAUNCHER": chance.choice(("mpirun", "srun")),
        **more,
    }


def disturb(cluster: Cluster, folder: Path, lane: Lane, kind: str, number: int) -> Disturbed:
    """A run with its interruptions; it may go on at full speed."""
    chance = random.Random(f"{SEED} {kind} {number}")
    words, more = options(kind, chance)
    ranks = chance.choice((1, 2, 4)) if kind == "other ranks" else 2
    trial = Disturbed(cluster, folder, f"{kind} {number}", lane, *words, ranks=ranks, **more)
    for _ in range(chance.randint(1, 4)):
        moment = chance.choice(("start-up", "step", "step", "evaluation"))
        trial.wait_for_start()
        if kind == "time limit":
            trial.wait_for_warning()
            moment = "Slurm's"
        else:
            trial.reach(moment, chance)
        trial.note(kind, moment)
        trial.done[-1]["ranks"] = ranks
        interrupt(trial, kind)
        again = trial.wait_for_end_of_start()
        if kind == "other ranks":
            assert trial.job.end() == 75, trial.job.said()
            ranks = chance.choice([other for other in (1, 2, 4) if other != ranks])
            trial.submit(ranks)
        else:
            assert again, trial.job.said()
    trial.hold.unlink()
    if kind == "time limit":
        cluster.run("scontrol", "update", "TimeLimit=10", f"jobid={trial.job.number}")
    return trial


def whole(cluster: Cluster, folder: Path, free: Any, truth: Path, kind: str, number: int) -> Disturbed:
    with on_a_lane(free, "interruptions", f"{kind} {number}") as lane:
        trial = disturb(cluster, folder, lane, kind, number)
        trial.code = trial.finish()
        trial.judge()
        equal = trial.code == 0 and equals(trial.run, truth)
        keep("interruptions", [{**one, "code": trial.code, "equal": equal} for one in trial.done])
        return trial


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def runs(
    wide_cluster: Cluster, truth: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Any, Future[Disturbed]]]:
    folder, cases = tmp_path_factory.mktemp("interrupted"), {case: (truth, *case) for case in CASES}
    yield from side_by_side(wide_cluster, folder, SIDE_BY_SIDE, whole, cases)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_run_interrupted_at_moments_drawn_by_chance_ends_as_an_undisturbed_one(
    runs: dict[Any, Future[Disturbed]], truth: Path, case: tuple[str, int]
) -> None:
    trial = runs[case].result()
    assert trial.code == 0, trial.job.said()
    assert equals(trial.run, truth)
    assert all(one["lost"] <= EVERY + one["beside"] for one in trial.done), trial.done
