"""Stalls, a cut link and a node without power at moments drawn by chance: all ranks end soon, diagnose names the rank.

Five of each kind with HVD_ADAM_CAMPAIGN=1; test_stalls.py has one of each, so that without it there is only the node.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import events
import network
import processes
import pytest
from campaign import CAMPAIGN, EVERY, Disturbed, Lane, chosen, keep, on_a_lane, side_by_side, undisturbed
from cluster import Cluster
from trials import equals

LIMIT, GRACE = 10.0, 5.0  # seconds without a step, and until all ranks have ended then
KINDS = ("data", "backward", "stop", "cut", "node")
CASES = list(chosen([(kind, k) for k in range(5) for kind in KINDS]).values()) if CAMPAIGN else [("node", 0)]
SEED = 4
SIDE_BY_SIDE = 3 if CAMPAIGN else 1


class Stalled(Disturbed):
    """A run that one of its ranks, or the network, holds up."""

    def __init__(self, cluster: Cluster, folder: Path, kind: str, number: int, lane: Lane) -> None:
        chance = random.Random(f"{SEED} {kind} {number}")
        self.kind, self.rank, self.at = kind, chance.choice((0, 1)), chance.randint(12, 30)
        self.share = chance.uniform(0, 0.5)
        stall = {"TEST_STALL": f"{self.rank}:{self.at}:{kind}"} if kind in ("data", "backward", "stop") else {}
        words = (f"stall_limit={LIMIT:g}",)
        super().__init__(cluster, folder, f"{kind} {number}", lane, "--time=30", words=words, **stall)

    def stall(self) -> float:
        """Waits for it, or does it; when it began."""
        self.wait(lambda: self._step("begin", self.at), 0.05)
        if self.kind == "cut":
            time.sleep(self.share)
            network.cut(self.cluster, *self.lane)
        elif self.kind == "node":
            time.sleep(self.share)
            network.link(self.cluster, self.lane[1], up=False)  # a machine without power says no farewell either
            self.cluster.power_off(self.lane[1])
        return time.time() if self.kind in ("cut", "node") else self._step("begin", self.at)[0]["time"]

    def _step(self, edge: str, number: int) -> list[dict[str, Any]]:
        return [event for event in events.of(self.events.read(), "step", edge) if event["step"] == number]

    def diagnosis(self) -> str:
        """What a person is told now."""
        done = self.cluster.run("python", "-m", "hvd_adam", "diagnose", self.run, timeout=120)
        return f"{done.returncode} {done.stdout}"

    def names_it(self, told: str) -> bool:
        """Whether that is the rank and the phase."""
        rank = 1 if self.kind == "node" else self.rank
        who = f"rank {rank} on {self.lane[rank]} is "
        name = f"rank {rank} on {self.lane[rank]} "
        silent = any(
            f"{name}{said}" in told for said in ("is silent: in ", "fell silent first: in ", "was silent for ")
        )
        return {
            "data": f"{who}behind: in data of step {self.at} for " in told,
            "backward": f"{who}behind: in backward of step {self.at} for " in told,
            "stop": silent,
            "cut": "all ranks wait for each other in step " in told and told.count("network between") == 1,
            "node": silent,
        }[self.kind]

    def mend(self) -> None:
        """The link, or the node."""
        if self.kind == "cut":
            network.mend(self.cluster, *self.lane)
        elif self.kind == "node":
            network.link(self.cluster, self.lane[1], up=True)
            self.cluster.power_on(self.lane[1])


def whole(cluster: Cluster, folder: Path, free: Any, truth: Path, kind: str, number: int) -> Stalled:
    with on_a_lane(free, "stalls", f"{kind} {number}") as lane:
        trial = Stalled(cluster, folder, kind, number, lane)
        trial.wait_for_start()
        began = trial.stall()
        trial.note(kind, "step")
        told = []
        while processes.ranks(cluster, str(trial.job.number)) and time.time() < began + 60:
            if not told and time.time() > began + LIMIT - 1.5:
                told.append(trial.diagnosis())
            time.sleep(0.1)
        trial.seconds = time.time() - began
        told.append(trial.diagnosis())
        trial.wait(lambda: trial.state()[0] != "RUNNING")
        trial.mend()
        trial.wait_for_end_of_start()
        queued = time.time() - began
        trial.code = trial.finish()
        trial.judge()
        trial.named = [trial.names_it(text) for text in told]
        facts = {
            "code": trial.code, "equal": trial.code == 0 and equals(trial.run, truth), "ended": round(trial.seconds, 1),
            "queued": round(queued, 1), "named": trial.named, "told": told,
        }  # fmt: skip
        keep("stalls", [{**one, **facts} for one in trial.done])
        return trial


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def runs(
    wide_cluster: Cluster, truth: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Any, Future[Stalled]]]:
    folder, cases = tmp_path_factory.mktemp("stalled"), {case: (truth, *case) for case in CASES}
    yield from side_by_side(wide_cluster, folder, SIDE_BY_SIDE, whole, cases)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_what_stands_still_is_ended_named_and_goes_on(
    runs: dict[Any, Future[Stalled]], truth: Path, case: tuple[str, int]
) -> None:
    trial = runs[case].result()
    assert trial.code == 0, trial.job.said()
    assert equals(trial.run, truth)
    assert trial.named[-1], trial.done
    assert trial.seconds <= LIMIT + GRACE
    assert all(one["lost"] <= EVERY + one["beside"] for one in trial.done), trial.done
