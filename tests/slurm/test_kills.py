"""SIGKILL at moments drawn by chance, many of them inside a checkpoint's write: the run ends as if nothing had been.

HVD_ADAM_CAMPAIGN=1: a hundred kills in 25 runs, a third of which are studies. Without it four, one of each kind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from campaign import CAMPAIGN, EVERY, chosen, keep, lanes, undisturbed
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
    lane, chance = free.get(), random.Random(f"{SEED} {number}")
    in_study = number % 3 == 0
    try:
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
    except BaseException as error:
        keep("kills", [{"run": f"kills {number}", "failed": str(error)[:3000]}])
        raise
    finally:
        free.put(lane)


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
    """Several at once: most of their time goes into waiting."""
    folder, free = tmp_path_factory.mktemp("killed"), lanes(SIDE_BY_SIDE)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield {k: pool.submit(whole, wide_cluster, folder, free, truths, k) for k in CASES}
    wide_cluster.run("scancel", "--user=root")


@pytest.mark.parametrize("number", CASES)
def test_a_run_whose_processes_are_killed_ends_as_an_undisturbed_one(
    runs: dict[int, Future[Killed]], number: int
) -> None:
    trial = runs[number].result()
    assert trial.code == 0, trial.job.said()
    assert trial.facts["equal"] and not trial.facts["damaged"], trial.done
    assert all(one["lost"] <= EVERY + one["beside"] for one in trial.done), trial.done
