"""What a study has given to a cluster: kept in its folder, so that nothing is submitted twice and every job is found.

submissions/3/study.yaml      the study as it was submitted     submissions/3/log/          what jobs printed
submissions/3/arrays.json     the runs of each allocation       submissions/3/jobs.json     Slurm's numbers
submissions/3/ARRAY/ELEMENT/  where an allocation stands: `now` is its present run; events.jsonl, its attempts
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hvd_adam.errors import ConfigError
from hvd_adam.study.folder import Folder
from hvd_adam.study.slurm import Queued
from hvd_adam.study.submission import Array, Job

SUBMISSIONS = "submissions"


@dataclass(frozen=True)
class Element:
    """An allocation of a submission: the runs that it makes, one after the other."""

    submission: int
    array: str
    number: int
    runs: tuple[str, ...]

    def folder(self, study: Folder) -> Path:
        """Where it notes how far it is."""
        return study.path / SUBMISSIONS / str(self.submission) / self.array / str(self.number)


class Submitted:
    """The submissions of a study, oldest first."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._arrays: dict[int, dict[str, dict[str, Any]]] = {}

    def numbers(self) -> list[int]:
        """Of all submissions."""
        found = (self.folder.path / SUBMISSIONS).glob("*/arrays.json")
        return sorted(int(path.parent.name) for path in found if path.parent.name.isdigit())

    def path(self, number: int) -> Path:
        """The folder of a submission."""
        return self.folder.path / SUBMISSIONS / str(number)

    def begin(self, number: int, study_yaml: str, arrays: Iterable[Array]) -> None:
        """Writes down what is about to be submitted: jobs may start before this process goes on."""
        path = self.path(number)
        (path / "log").mkdir(parents=True, exist_ok=True)
        self.folder.write_text(f"{SUBMISSIONS}/{number}/study.yaml", study_yaml)
        self.folder.write(f"{SUBMISSIONS}/{number}/arrays.json", [asdict(array) for array in arrays])

    def note(self, number: int, taken: Sequence[tuple[Job, str]]) -> None:
        """Writes down the numbers that Slurm gave, after each: what is in the queue is never forgotten."""
        rows = [{"name": job.name, "id": id, "array": job.array, "first": job.first, "elements": job.elements}
                for job, id in taken]  # fmt: skip
        self.folder.write(f"{SUBMISSIONS}/{number}/jobs.json", rows)

    def forget(self, number: int) -> None:
        """Takes back a submission of which nothing is in the queue."""
        for name in ("arrays.json", "jobs.json"):
            (self.path(number) / name).unlink(missing_ok=True)

    def jobs(self, number: int) -> list[dict[str, Any]]:
        """Those that Slurm has taken."""
        return list(self.folder.read(f"{SUBMISSIONS}/{number}/jobs.json") or [])

    def ids(self) -> list[str]:
        """Slurm's numbers of all jobs of this study, oldest first."""
        return [str(job["id"]) for number in self.numbers() for job in self.jobs(number)]

    def arrays(self, number: int) -> dict[str, dict[str, Any]]:
        """The arrays of a submission, by name."""
        if number not in self._arrays:
            found = self.folder.read(f"{SUBMISSIONS}/{number}/arrays.json") or []
            self._arrays[number] = {array["name"]: array for array in found}
        return self._arrays[number]

    def element(self, number: int, array: str, index: int) -> Element:
        """An allocation.

        Raises:
            ConfigError: there is none such.
        """
        found = self.arrays(number).get(array)
        if found is None:
            raise ConfigError(
                f"array {array} of submission {number} in {self.folder.path}",
                "no such array was submitted from there",
                "submit the study again: hvd-adam study submit",
            )
        packs = found["packs"]
        if not 0 <= index < len(packs):
            raise ConfigError(
                f"element {index} of array {array}",
                f"submission {number} has {len(packs)} allocations in it, and they count from 0",
                "let `hvd-adam study submit` say --array: it counts them",
            )
        return Element(number, array, index, tuple(packs[index]))

    def elements(self, queue: Sequence[Queued]) -> Iterator[tuple[Element, Queued | None]]:
        """All allocations that Slurm was given, oldest first, and where it has each; None: it has ended."""
        live = {(one.job, one.element): one for one in queue}
        for number in self.numbers():
            for job in self.jobs(number):
                for k in range(int(job["elements"])):
                    at = live.get((str(job["id"]), k)) or (live.get((str(job["id"]), None)) if k == 0 else None)
                    yield self.element(number, job["array"], job["first"] + k), at

    def standing(self, queue: Sequence[Queued]) -> dict[str, tuple[Element, Queued | None]]:
        """For each run that was ever submitted: its latest allocation, and where Slurm has it; None: it has ended."""
        return {run: (element, at) for element, at in self.elements(queue) for run in element.runs}
