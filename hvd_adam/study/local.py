"""Carries runs on this machine: warm processes, side by side as the cores allow."""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from hvd_adam.study.crew import Crew, Kind
from hvd_adam.study.execute import Ended
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import Run

_ALONE: Kind = (1, "")  # what a rank of any crew can make by itself


class LocalExecutor:
    """Groups of ranks that make one run after the other; a context, at whose end all of them have ended.

    Args:
        cores: ranks that work at the same time.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores or len(os.sched_getaffinity(0))
        self._crews: list[Crew] = []
        self._of: Path | None = None  # the folder that they work for

    def __enter__(self) -> LocalExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self.dismiss()

    def carry(self, runs: Sequence[Run], folder: Folder) -> Iterator[Ended]:
        """See `Executor`. Runs on many ranks come first; workers stay for what they can make of what comes next."""
        for kind in sorted({_kind(run) for run in runs}, reverse=True):
            mine = [run for run in runs if _kind(run) == kind]
            crews = self._called(kind, folder, len(mine))
            yield from _side_by_side(mine, crews) if crews[0].kind == kind else _apart(mine, crews)
            if any(crew.has_died for crew in crews):  # what is tried again has a process of its own
                self.dismiss()

    def dismiss(self) -> None:
        """Ends all workers, and waits for their end."""
        for crew in self._crews:
            crew.hang_up()
        for crew in self._crews:
            crew.see_off()
        self._crews = []

    def _called(self, kind: Kind, folder: Folder, most: int) -> list[Crew]:
        """Crews for this kind of run. Others leave first: ranks that wait for orders spin on their cores.

        But not for runs on one rank, where those at hand are as many as can work: they make them each by itself.
        """
        there = sum(crew.ranks_there for crew in self._crews)
        if kind == _ALONE and self._of == folder.path and min(most, self.cores) <= there <= self.cores:
            return self._crews
        if self._of != folder.path or any(crew.kind != kind for crew in self._crews):
            self.dismiss()
            self._of = folder.path
        for i in range(len(self._crews), min(most, max(1, self.cores // kind[0]))):
            self._crews.append(Crew(kind, folder, folder.path / "workers" / f"{kind[0]}-{i}.log"))
        return self._crews


def _side_by_side(runs: Sequence[Run], crews: Sequence[Crew]) -> Iterator[Ended]:
    """Each crew makes one run after the other, all its ranks together."""
    waiting: queue.SimpleQueue[Run] = queue.SimpleQueue()
    for run in runs:
        waiting.put(run)

    def work(crew: Crew) -> Iterator[Ended]:
        while not crew.dismissed:
            try:
                run = waiting.get_nowait()
            except queue.Empty:
                return
            yield crew.make(run)

    return _merged([work(crew) for crew in crews])


def _apart(runs: Sequence[Run], crews: Sequence[Crew]) -> Iterator[Ended]:
    """Each rank of the crews makes runs by itself."""
    told: set[str] = set()
    place = crews[0].errors.parent  # which all ranks see, wherever they are
    with tempfile.TemporaryDirectory(prefix="claims-", dir=place, ignore_cleanup_errors=True) as claims:
        for ended in _merged([crew.make_apart(runs, Path(claims)) for crew in crews]):
            told.add(ended.run.place)
            yield ended
    for run in runs:  # claimed by a rank that died before it said so, or by none, since no crew starts
        if run.place not in told:
            yield Ended(run, f"no worker is left that could make it: {place} has their last words", 1)


def _merged(works: Sequence[Iterator[Ended]]) -> Iterator[Ended]:
    """What comes of all of them, each in a thread of its own; raises what one of them does."""
    ended: queue.SimpleQueue[Ended | BaseException | None] = queue.SimpleQueue()

    def follow(work: Iterator[Ended]) -> None:
        try:
            for one in work:
                ended.put(one)
            ended.put(None)
        except BaseException as error:
            ended.put(error)

    for work in works:
        threading.Thread(target=follow, args=(work,), daemon=True).start()
    working = len(works)
    while working:
        one = ended.get()
        if isinstance(one, BaseException):
            raise one
        if one is None:
            working -= 1
        else:
            yield one


def _kind(run: Run) -> Kind:
    return run.ranks, str(run.config.get("engine") or "")
