"""Slurm's own programs, and what their refusals mean for a study. Works without accounting: sacct is never asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.launchers import FOLDERS

_FILTERS = ("SQUEUE_", "SINFO_")  # of what a user wants to see of the queue
PATIENCE = 60.0  # seconds for a controller that is busy
USUAL_ARRAY = 1001  # MaxArraySize where there is no Slurm to ask: its own default

# What is found in Slurm's refusal, and what to do about it.
CURES: tuple[tuple[str, str], ...] = (
    ("invalid partition", "sinfo lists the partitions; give yours after --, as in -- --partition=NAME"),
    ("invalid account", "your site says which accounts are yours; give one after --, as in -- --account=NAME"),
    ("invalid --time", "write it as minutes or hours:minutes:seconds, as in -- --time=04:00:00"),
    ("requested time limit is invalid", "sinfo -o '%P %l' shows the longest of each partition; ask for less by --time"),
    ("node configuration is not available", "sinfo shows nodes and cores; ask for fewer ranks, or more to a node by "
     "--tasks-per-node"),
    ("node count specification invalid", "sinfo shows how many nodes there are; more ranks on each: --tasks-per-node"),
    ("more processors requested than permitted", "sinfo shows nodes and cores; ask for fewer ranks"),
    ("cpu count per node can not be satisfied", "sinfo -o '%P %c' shows the cores of a node; --tasks-per-node"),
    ("invalid qos", "your site says which qualities of service are yours; give one after --, as in -- --qos=NAME"),
    ("invalid job array", "scontrol show config says MaxArraySize; lower it by --array-size"),
    ("unrecognized option", "man sbatch lists what may stand after --"),
    ("invalid option", "man sbatch lists what may stand after --"),
    ("unable to contact slurm controller", "wait for it, or ask your site; the same command then goes on"),
    ("violates accounting", "your site's limits on jobs or time are reached; more runs to a job by --pack MINUTES, or "
     "ask for less by -- --time="),
)  # fmt: skip
_OWN_FAULT = ("unable to contact", "violates accounting")  # not a mistake of the user's


@dataclass(frozen=True)
class Queued:
    """An allocation that Slurm has not done with."""

    job: str
    element: int | None
    state: str
    restarts: int
    nodes: str
    reason: str

    @property
    def name(self) -> str:
        """As Slurm writes it: 71, or 71_3 for an element of an array."""
        return self.job if self.element is None else f"{self.job}_{self.element}"


class Slurm:
    """sbatch, squeue, scontrol and scancel as they are on PATH.

    Args:
        environment: of this process, unless said otherwise. From inside a job, what belongs to that job stays here.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = fresh(os.environ if environment is None else environment)

    def submit(self, command: Sequence[str]) -> str:
        """Runs a call of sbatch; the number of the job.

        Raises:
            ConfigError: Slurm refuses what was asked.
            RunError: there is no sbatch here, or no controller answers.
        """
        done = self._run(command)
        if done.returncode:
            raise refusal(done.stderr)
        if not done.stdout.split():
            raise ConfigError(
                f"{command[0]} named no job", "nothing was submitted", "leave out words such as --test-only"
            )
        return done.stdout.split()[-1].partition(";")[0]

    def queue(self) -> list[Queued]:
        """All of this user's jobs that have not ended, elements of arrays each for itself.

        Raises:
            RunError: see `submit`.
        """
        shape = "JobArrayID:40,State:20,RestartCnt:12,NodeList:60,Reason:60"
        done = self._run(["squeue", "--array", "--noheader", f"--user={os.getuid()}", f"--Format={shape}"])
        if done.returncode:
            raise refusal(done.stderr)
        return [_queued(line) for line in done.stdout.splitlines() if line.strip()]

    def cancel(self, jobs: Iterable[str]) -> None:
        """Ends jobs, and all their elements.

        Raises:
            RunError: Slurm did not take that, so that they may go on.
        """
        named = list(jobs)
        done = self._run(["scancel", *named])
        if done.returncode:
            why = " ".join(done.stderr.split()) or f"scancel ended with {done.returncode}"
            raise RunError(
                f"jobs {', '.join(named)} are not cancelled", f"Slurm says: {why}", f"try: scancel {' '.join(named)}"
            )

    def is_here(self) -> bool:
        """Whether this machine has Slurm's programs."""
        return shutil.which("squeue", path=self.environment.get("PATH")) is not None

    def most_elements(self) -> int:
        """Of a job array, as this cluster has it; `USUAL_ARRAY` where there is no Slurm."""
        if not shutil.which("scontrol", path=self.environment.get("PATH")):
            return USUAL_ARRAY
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", self._run(["scontrol", "show", "config"]).stdout, re.MULTILINE)
        return int(found[1]) if found else USUAL_ARRAY

    def nodes(self, options: Sequence[str]) -> tuple[str, int] | None:
        """The partition that a job with these options goes to, and its nodes; None where that cannot be told."""
        if not self.is_here():
            return None
        asked = [word.partition("=")[2] for word in options if word.startswith("--partition=")]
        asked += [word[2:] for word in options if word.startswith("-p") and len(word) > 2]
        name = asked[-1] if asked else self.environment.get("SBATCH_PARTITION", "")
        there = [line.split() for line in self._run(["sinfo", "--noheader", "--format=%P %D"]).stdout.splitlines()]
        for partition, count in (words for words in there if len(words) == 2 and words[1].isdigit()):
            if partition.removesuffix("*") == name or (not name and partition.endswith("*")):
                return partition.removesuffix("*"), int(count)
        return None

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise RunError(
                f"there is no {command[0]} on PATH",
                "a study is submitted to Slurm by it, from a login node of the cluster",
                "go to one, or run the study on this machine: hvd-adam study run",
            ) from None
        except subprocess.TimeoutExpired:
            names = (re.match(r"(?:--job-name=|-J)(.+)", word) for word in command)
            named = [name[1] for name in names if name]  # the last counts
            raise RunError(
                f"{command[0]} has not answered within {PATIENCE:g} s",
                "Slurm's controller is busy or down" + (", and may take the job all the same" if named else ""),
                f"look for it, and scancel it, before you submit again: squeue --me --name={named[-1]}" if named
                else "try again later; what was submitted is noted, and is not submitted twice",
            ) from None  # fmt: skip


def fresh(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment to submit in: from inside a job, without what Slurm and the launcher gave to that job.

    Outside of one, SBATCH_ variables are the user's own words, and stay. What filters the queue would hide jobs.
    """
    inside = "SLURM_JOB_ID" in environment or "SLURM_JOBID" in environment
    gone = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "PMI_", "PMI2_", "PMIX_", "OMPI_COMM_", "HVD_ADAM_VERDICT")
    left = (*_FILTERS, *(gone if inside else ()))
    return {key: value for key, value in environment.items() if key == "SLURM_CONF" or not key.startswith(left)}


def refusal(said: str) -> RunError | ConfigError:
    """Slurm's own words, and our cure."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    words = "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines) or "it said nothing"
    low = words.lower()
    cure = next((cure for mark, cure in CURES if mark in low), "correct what it names; the words after -- are sbatch's")
    kind = RunError if any(mark in low for mark in _OWN_FAULT) else ConfigError
    return kind("Slurm does not take the job", f"it says: {words}", cure)


def script(name: str) -> Path:
    """The batch script slurm/NAME, beside the source tree or where the package was installed to.

    Raises:
        RunError: it is in neither place.
    """
    places = [folder.parent / "slurm" / name for folder in FOLDERS]
    for path in places:
        if path.is_file():
            return path
    raise RunError(
        f"there is no batch script {name}",
        f"it is looked for as {' and as '.join(map(str, places))}",
        "work in the source tree, or install the package again",
    )


def _queued(line: str) -> Queued:
    job, state, restarts, nodes, reason = (
        line[a:b].strip() for a, b in ((0, 40), (40, 60), (60, 72), (72, 132), (132, 192))
    )
    number, _, element = job.partition("_")
    return Queued(number, int(element) if element.isdigit() else None, state, int(restarts or 0), nodes, reason)
