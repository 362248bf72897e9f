"""SIGKILL at moments drawn by chance, many of them inside a checkpoint's write: the run ends as if nothing had been.

HVD_ADAM_CAMPAIGN=1: a hundred kills in 25 runs, a third of which are studies. Without it four, one of each kind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from campaign import CAMPAIGN, EVERY, chosen, keep, on_a_lane, side_by_side, undisturbed
from cluster import Cluster
from killed import STUDY, WAY, WORDS, Killed, KilledStudy, kill
from studies import here
from trials import equals

VICTIMS = ("rank", "mpirun", "batch script", "slurmd")
MOMENTS = ("write",) * 5 + ("start-up",) * 2 + ("step",) * 3
SEED = 3
SIDE_BY_SIDE = 4 if CAMPAIGN else 2


def drawn() -> list[list[tuple[str, str]]]:
    """For each run: what is killed, and when."""
    if not CAMPAIGN:
        return [[("slurmd", "write"), ("batch script", "write")], [("rank", "write"), ("mpirun", "step")]]
    chance = random.Random(SEED)
    victims = [*VICTIMS * 25]
    chance.shuffle(victims)
    kills = [(victim, chance.choice(MOMENTS)) for victim in victims]
    return [kills[k : k + 4] for k in range(0, len(kills), 4)]


CASES = chosen(drawn())


def whole(cluster: Cluster, folder: Path, free: Any, truths: tuple[Path, Path], number: int) -> Killed:
    chance, in_study = random.Random(f"{SEED} {number}"), number % 3 == 0
    with on_a_lane(free, "kills", f"kills {number}") as lane:
        if in_study:
            done = truths[1].parents[1] / "workers-2" / "seed-1"
            trial: Killed = KilledStudy(cluster, folder, f"kills {number}", lane, done, HVD_ADAM_TRIES="10")
        else:
            name = f"kills {number}"
            trial = Killed(cluster, folder, name, lane, "--time=30", words=WORDS, HVD_ADAM_TRIES="10")
        for k, (victim, moment) in enumerate(CASES[number]):
            if k == 0 or trial.done[-1]["again"]:
                trial.wait_for_start()
            kill(trial, victim, moment, chance)
        trial.code = trial.finish()
        trial.judge()
        said = trial.job.said()
        facts = {
            "code": trial.code, "equal": trial.code == 0 and equals(trial.run, truths[in_study]),
            "damaged": said.count("is damaged") + said.count("none of them can be used"), "study": in_study,
        }  # fmt: skip
        trial.facts = facts
        keep("kills", [{**one, **facts} for one in trial.done])
        return trial


@pytest.fixture(scope="module")
def truths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of a job, and of a study."""
    folder = tmp_path_factory.mktemp("truths")
    (folder / "study.yaml").write_text(STUDY.replace("NAME", "truth"))
    here(folder, "study", "run", "study.yaml")
    return undisturbed(folder, *WORDS), folder / "runs" / "truth" / Path(*WAY)


@pytest.fixture(scope="module")
def runs(
    wide_cluster: Cluster, truths: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, Future[Killed]]]:
    folder = tmp_path_factory.mktemp("killed")
    yield from side_by_side(wide_cluster, folder, SIDE_BY_SIDE, whole, {k: (truths, k) for k in CASES})


@pytest.mark.parametrize("number", CASES)
def test_a_run_whose_processes_are_killed_ends_as_an_undisturbed_one(
    runs: dict[int, Future[Killed]], number: int
) -> None:
    trial = runs[number].result()
    assert trial.code == 0, trial.job.said()
    assert trial.facts["equal"] and not trial.facts["damaged"], trial.done
    assert all(one["lost"] <= EVERY + one["beside"] for one in trial.done), trial.done
