"""Ends a job where some ranks wait in a collective for one that has left Python, and would wait for ever.

Every rank makes the same calls in the same order. One that leaves without `World.close` tells the next rank how many it
has made, where a thread listens: a rank that is in a later call than that waits in vain. Where some have left and some
wait, there is one that left just before one that waits.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mpi4py import MPI

from hvd_adam.terminal import complain

_INTERVAL = 0.5  # seconds between two looks


class Farewell:
    """Counts this rank's calls, and hears who has left after how many.

    Args:
        comm: all ranks; this is a collective call.
        host: this rank's, for the message.
    """

    def __init__(self, comm: MPI.Intracomm, host: str) -> None:
        self._comm, self._host = comm.Dup(), host
        self._calls = 0
        self._waiting = False
        self._over = threading.Event()
        self._process = os.getpid()
        self.hears = comm.Get_size() == 1 or MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._listener = threading.Thread(target=self._listen, name="hvd_adam farewell", daemon=True)
        if comm.Get_size() > 1 and self.hears:
            self._listener.start()
            atexit.register(self._leave)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a collective."""
        self._calls += 1
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def stop(self) -> None:
        """All have come to the end together."""
        self._over.set()
        if self._listener.is_alive():
            self._listener.join()

    def _leave(self) -> None:
        """As Python ends; MPI still waits for the others, and takes the message along. A fork is no rank."""
        if self._over.is_set() or os.getpid() != self._process:
            return
        self.stop()
        self._comm.send(self._calls, (self._comm.Get_rank() + 1) % self._comm.Get_size())

    def _listen(self) -> None:
        mine = self._comm.Get_rank()
        before = (mine - 1) % self._comm.Get_size()
        made: int | None = None  # calls of the rank before, once it has left
        while not self._over.wait(_INTERVAL):
            if made is None and self._comm.Iprobe():
                made = self._comm.recv()
            if made is not None and made < self._calls and self._waiting:
                complain(
                    f"rank {before} has left Python; rank {mine} on {self._host} waits for it in a "
                    "collective, and would for ever. All ranks end."
                )
                self._comm.Abort(1)
