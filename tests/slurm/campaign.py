"""Runs that are disturbed at moments drawn by chance, many side by side, each on two nodes of its own.

HVD_ADAM_CAMPAIGN=1 makes all of them, HVD_ADAM_CAMPAIGN=3,7 those of these numbers; without it a slice is made. What
happened is kept, a line each, in build/campaign/.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any, TypeVar

import events
from cluster import Cluster
from conftest import TREE
from jobs import ENDED, submit

CAMPAIGN = bool(os.environ.get("HVD_ADAM_CAMPAIGN"))
RECORDS = TREE / "build" / "campaign"
STEPS, EVERY, EVALUATE = 120, 6, 9
PAUSE, WRITE = 0.7, 2.5  # seconds of a step, and of a checkpoint's write
CONFIG = (
    TREE / "configs/digits-exact.yaml", f"steps={STEPS}", f"checkpoint.every={EVERY}", f"evaluate.every={EVALUATE}",
    "workers=4", "evaluate.chunk=50",
)  # fmt: skip
PATIENCE = 900.0  # seconds after which a job that has not got on is called hung
START_UP = 8.0  # seconds within which a moment of a start-up is drawn

Case, Result = TypeVar("Case"), TypeVar("Result")
Lane = tuple[str, str]


def chosen(cases: list[Case]) -> dict[int, Case]:
    """Of a campaign's cases, by number, those that are asked for."""
    wanted = os.environ.get("HVD_ADAM_CAMPAIGN", "")
    numbers = range(len(cases)) if wanted in ("", "1") else [int(number) for number in wanted.split(",")]
    return {number: cases[number] for number in numbers}


def lanes(count: int) -> Queue[Lane]:
    """Pairs of nodes that no two trials have at the same time."""
    free: Queue[Lane] = Queue()
    for k in range(count):
        free.put((f"n{2 * k + 1}", f"n{2 * k + 2}"))
    return free


def undisturbed(folder: Path, *words: str) -> Path:
    """The truth: the same training on one rank, without Slurm."""
    run = folder / "undisturbed"
    command = [TREE / "launchers/local", "-n", "1", "--", sys.executable, "-m", "hvd_adam", "train", *CONFIG, *words]
    environment = {**os.environ, "PYTHONPATH": str(TREE)}
    done = subprocess.run([*command, "--run", run], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return run


def slow(hold: Path, events: Path) -> dict[str, str]:
    """The environment of jobs that take their time while `hold` is there, and note where they are."""
    return {
        "PYTHONPATH": f"{TREE}/tests/slurm/faults:{TREE}", "TEST_HOLD": str(hold), "TEST_EVENTS": str(events),
        "TEST_PAUSE": str(PAUSE), "TEST_WRITE": str(WRITE / 11), "TEST_EVALUATION_PAUSE": "0.5",
    }  # fmt: skip


class Disturbed:
    """A job of train.sbatch, and what was done to it.

    Args:
        lane: its nodes.
        options: of sbatch.
        ranks: 1, 2 or 4.
        words: what differs from CONFIG.
    """

    def __init__(
        self, cluster: Cluster, folder: Path, name: str, lane: Lane, *options: str, ranks: int = 2,
        words: tuple[str, ...] = (), **more: str
    ) -> None:  # fmt: skip
        self.cluster, self.name, self.lane, self.options, self.words = cluster, name, lane, options, words
        self.where = folder / f"from {name}"
        self.where.mkdir(exist_ok=True)
        self.run, self.hold = folder / name, folder / f"hold {name}"
        self.hold.touch()
        self.events = events.Events(folder / f"events {name}")
        self.environment = {**slow(self.hold, self.events.path), **more}
        self.done: list[dict[str, Any]] = []
        self.began = 0.0  # when the present start was first seen to run
        self.starts = 0  # of this job
        self.submit(ranks)

    def submit(self, ranks: int) -> None:
        """A job for this run."""
        nodes = self.lane[:1] if ranks == 1 else self.lane
        where = (f"--nodes={len(nodes)}", f"--ntasks-per-node={ranks // len(nodes)}", f"--nodelist={','.join(nodes)}")
        words = (*where, *self.options, TREE / "slurm/train.sbatch", *CONFIG, *self.words, "--run", self.run)
        self.job = submit(self.cluster, *words, where=self.where, **self.environment)
        self.starts = 0

    def state(self) -> tuple[str, int]:
        """What Slurm calls it, and how often it was queued again."""
        facts = self.job.facts()
        return facts["JobState"], int(facts["Restarts"])

    def wait(self, claim: Callable[[], Any], pause: float = 0.5) -> None:
        """Until it is true.

        Raises:
            AssertionError: it does not come true: a hang.
        """
        deadline = time.monotonic() + PATIENCE
        while not claim():
            assert time.monotonic() < deadline, f"{self.name} hangs: {self.job.facts()}\n{self.job.said()[-3000:]}"
            time.sleep(pause)

    def wait_for_start(self) -> None:
        """Until the present start runs."""
        self.wait(lambda: self.state() == ("RUNNING", self.starts))
        self.began = time.time()

    def wait_for_end_of_start(self) -> bool:
        """Until it has ended; whether Slurm has queued it again."""
        self.wait(lambda: self.state()[1] > self.starts or self.state()[0] in ENDED)
        again = self.state()[1] > self.starts
        self.starts = self.state()[1]
        self.done[-1]["again"] = True
        return again

    def wait_for_warning(self) -> None:
        """Until Slurm has asked it to stop; or has ended this start."""
        heard = self.job.said().count("asked to stop")
        self.wait(lambda: self.job.said().count("asked to stop") > heard or self.state()[1] > self.starts)

    def reach(self, moment: str, chance: random.Random) -> None:
        """Waits for a moment of that kind in this start."""
        if moment == "start-up":
            time.sleep(chance.uniform(0, START_UP))
            return
        if moment == "step":
            after, share = chance.randint(1, 15), PAUSE
            self.wait(lambda: self.events.steps_made(self.began) >= after, 0.05)
        else:
            share = {"write": WRITE, "evaluation": 1.0}[moment]
            self.wait(lambda: any(event["what"] == moment for event in self.events.read(self.began)), 0.05)
            seen = time.time()
            self.wait(lambda: self._begins(moment, seen), 0.02)
        time.sleep(chance.uniform(0, share))

    def _begins(self, what: str, after: float) -> bool:
        return any((event["what"], event["edge"]) == (what, "begin") for event in self.events.read(after - 0.1))

    def note(self, kind: str, moment: str) -> None:
        """Before it is disturbed: when, and what it was at."""
        now = time.time()
        self.done.append(
            {"run": self.name, "kind": kind, "wanted": moment, "time": now, "began": self.began,
             "again": False, "at": self.events.under_way(self.began), "step": self.events.last_step(now)}
        )  # fmt: skip

    def finish(self) -> int:
        """Lets it go on at full speed; its exit code."""
        self.hold.unlink(missing_ok=True)
        return self.job.end(PATIENCE)

    def judge(self) -> None:
        """What each disturbance has cost: steps that were made twice; a write that was left unfinished, and the steps
        that were made beside it."""
        lives = self.events.lives()  # the last of them has come to the end
        for one in self.done:
            later = min((other["began"] for other in self.done if other["began"] > one["began"]), default=float("inf"))
            own = [k for k, life in enumerate(lives[:-1]) if one["began"] < life[0]["time"] < later]
            one.update(lost=0, cut=False, beside=0)
            if own and one["again"]:
                life, after = lives[own[-1]], [event for other in lives[own[-1] + 1 :] for event in other]
                begun = events.of(after, "step", "begin")
                one["lost"] = max(0, events.highest(life) - begun[0]["step"] + 1) if begun else 0
                one["cut"], one["beside"] = events.cut(life)


@contextmanager
def on_a_lane(free: Queue[Lane], record: str, run: str) -> Iterator[Lane]:
    """Two nodes for one trial; what goes wrong there is kept, too."""
    lane = free.get()
    try:
        yield lane
    except BaseException as error:
        keep(record, [{"run": run, "failed": str(error)[:3000]}])
        raise
    finally:
        free.put(lane)


def side_by_side(
    cluster: Cluster, folder: Path, count: int, whole: Callable[..., Result], cases: Mapping[Case, tuple[Any, ...]]
) -> Iterator[dict[Case, Future[Result]]]:
    """For a fixture: several trials at once, since most of their time goes into waiting.

    Args:
        whole: what makes one, of cluster, folder, lanes and the case's arguments.
    """
    free = lanes(count)
    with ThreadPoolExecutor(count) as pool:
        yield {case: pool.submit(whole, cluster, folder, free, *more) for case, more in cases.items()}
    cluster.run("scancel", "--user=root")


_writing = threading.Lock()


def keep(name: str, records: list[dict[str, Any]]) -> None:
    """Appends to what the docs are written from."""
    if not CAMPAIGN:
        return
    RECORDS.mkdir(parents=True, exist_ok=True)
    with _writing, (RECORDS / f"{name}.jsonl").open("a") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")
