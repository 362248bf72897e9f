"""Runs whose processes are killed: a rank, mpirun, the batch script, slurmd; as a job of its own, and in a study."""

from __future__ import annotations

import random
import re
import shutil
import time
from pathlib import Path
from typing import Any

import processes
from campaign import CAMPAIGN, EVALUATE, EVERY, Disturbed, Lane
from cluster import Cluster
from jobs import ENDED, Job
from studies import hvd_adam, queued

STEPS = 200 if CAMPAIGN else 120  # a slurmd is missed after a quarter of a minute, and ranks go on meanwhile
WORDS = (f"steps={STEPS}", "stall_limit=20")
STUDY = f"""
name: NAME
base: {{task: {{name: digits, batch_norm: true, dropout: 0.1, augment: true}}, algorithm: {{name: adam, lr: 0.003}},
       determinism: exact, local_batch: 8, checkpoint: {{every: {EVERY}}}, evaluate: {{every: {EVALUATE}, chunk: 50}},
       stall_limit: 20}}
grid: {{workers: [2, 4]}}
seeds: [1]
targets: [{{measure: loss, at_most: 0.000001}}]
budget: {{steps: {STEPS}}}
retries: 9
ranks: 2
"""
WAY = ("workers-4", "seed-1")


class Element(Job):
    """The one element of a study's array."""

    def __init__(self, cluster: Cluster, number: str, where: Path) -> None:
        super().__init__(cluster, int(number.partition("_")[0]), where)
        self.name = number

    def facts(self) -> dict[str, str]:
        """What scontrol says of it."""
        shown = self.cluster.run("scontrol", "-o", "show", "job", self.name)
        assert shown.returncode == 0, shown.stderr
        return dict(re.findall(r"(\S+?)=(\S*)", shown.stdout))

    def said(self) -> str:
        """What all jobs of the study have written so far."""
        return "".join(path.read_text() for path in sorted(self.where.glob("runs/*/submissions/*/log/*.out")))


class Killed(Disturbed):
    """A job of train.sbatch."""

    def bring_back(self) -> None:
        """After its batch script was killed, which Slurm takes for its end."""
        self.wait(lambda: self.state()[0] in ENDED)
        self.submit(2)


class KilledStudy(Killed):
    """A study of two runs, one of which is done.

    Args:
        done: the folder of that one.
    """

    def __init__(self, cluster: Cluster, folder: Path, name: str, lane: Lane, done: Path, **more: str) -> None:
        self.study = name.replace(" ", "")
        shutil.copytree(done.parent, folder / f"from {name}" / "runs" / self.study / done.parent.name)
        super().__init__(cluster, folder, name, lane, **more)
        self.run = self.where / "runs" / self.study / Path(*WAY)

    def submit(self, ranks: int) -> None:
        """The first time; later with --resubmit failed."""
        file = self.where / "study.yaml"
        again = ("--resubmit", "failed") if file.exists() else ()
        file.write_text(STUDY.replace("NAME", self.study))
        others = [f"n{k}" for k in range(1, self.cluster.nodes + 1) if f"n{k}" not in self.lane]
        words = ("study", "submit", file, "--no-timing", "--pack", "0", *again, "--", f"--exclude={','.join(others)}")
        done = hvd_adam(self.cluster, self.where, *words, "--time=30", **self.environment)
        assert done.returncode == 0 and done.stdout.startswith("1 run to submit"), done.stdout + done.stderr
        (number,) = (one for one in queued(self.cluster, self.study) if "_" in one)
        self.job = Element(self.cluster, number, self.where)
        self.starts = 0

    def bring_back(self) -> None:
        """Once its report is written too."""
        self.wait(lambda: not queued(self.cluster, self.study))
        self.submit(2)

    def finish(self) -> int:
        """And its report."""
        code = super().finish()
        self.wait(lambda: not queued(self.cluster, self.study))
        assert (self.run.parents[1] / "report.html").is_file(), self.job.said()
        return code


def kill(trial: Killed, victim: str, moment: str, chance: random.Random) -> None:
    """Kills it at such a moment of this start, and sees to it that the run goes on."""
    node = chance.choice(trial.lane)
    number = chance.choice((0, 0, 1))
    find: dict[str, Any] = {
        "rank": lambda: processes.ranks(trial.cluster, str(trial.job.number))[number : number + 1],
        "mpirun": lambda: processes.mpirun(trial.cluster, str(trial.job.number)),
        "batch script": lambda: processes.batch_script(trial.cluster, str(trial.job.number)),
        "slurmd": lambda: processes.slurmd(trial.cluster, node),
    }
    if moment != "start-up":
        trial.wait(find[victim], 0.2)
    trial.reach(moment, chance)
    trial.wait(find[victim], 0.1)
    found = find[victim]()[0]
    trial.note(victim, moment)
    trial.done[-1].update({"rank": number} if victim == "rank" else {"node": node} if victim == "slurmd" else {})
    found.kill()
    if victim == "slurmd":
        _without_slurmd(trial, node, chance.uniform(1, 40))
    elif victim == "batch script":
        trial.bring_back()
        trial.done[-1]["again"] = True
    else:
        assert trial.wait_for_end_of_start(), trial.job.said()


def _without_slurmd(trial: Killed, node: str, seconds: float) -> None:
    """It comes back after so long, or once Slurm has missed it and queued the job again: then the job waits for it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and trial.state() == ("RUNNING", trial.starts):
        time.sleep(0.5)
    missed = trial.state() != ("RUNNING", trial.starts)
    trial.cluster.start_slurmd(node)
    trial.done[-1]["away"] = round(seconds - (deadline - time.monotonic()), 1)
    time.sleep(3)
    if missed or trial.state() != ("RUNNING", trial.starts):
        trial.wait_for_end_of_start()
