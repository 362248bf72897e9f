"""Ends a job where some ranks wait in a collective for one that has left Python, and would wait for ever.

Every rank makes the same calls in the same order. One that leaves without `World.close` tells the others how many it
has made; a thread of each listens. Whoever is in a later call than that waits in vain.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mpi4py import MPI

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
        self._listener = threading.Thread(target=self._listen, name="hvd_adam farewell", daemon=True)
        if comm.Get_size() > 1 and MPI.Query_thread() == MPI.THREAD_MULTIPLE:
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
        """As Python ends; MPI still waits for the others, and takes the messages along."""
        if self._over.is_set():
            return
        self.stop()
        mine = self._comm.Get_rank()
        for rank in range(self._comm.Get_size()):
            if rank != mine:
                self._comm.send(self._calls, rank)

    def _listen(self) -> None:
        left: dict[int, int] = {}  # rank -> the calls that it has made
        while not self._over.wait(_INTERVAL):
            while self._comm.Iprobe():
                status = MPI.Status()
                calls = self._comm.recv(status=status)
                left[status.Get_source()] = calls
            missed = [rank for rank, calls in left.items() if calls < self._calls]
            if missed and self._waiting:
                sys.stderr.write(
                    f"hvd-adam: rank {missed[0]} has left Python; rank {self._comm.Get_rank()} on {self._host} waits "
                    "for it in a collective, and would for ever. All ranks end.\n"
                )
                sys.stderr.flush()
                self._comm.Abort(1)
