"""A run that is asked to stop: a signal raises a flag, and nothing else."""

from __future__ import annotations

import signal
from typing import Any

_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """SIGUSR1 and SIGUSR2 raise `flag`; it rides the next step, so that all ranks stop together.

    Made before torch is imported: until then these signals would end the process.
    """

    def __init__(self) -> None:
        self.flag = False
        for number in _SIGNALS:
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: Any) -> None:
        self.flag = True
        for again in _SIGNALS:  # a batch script repeats itself; Python's own end would take that for a command to die
            signal.signal(again, signal.SIG_IGN)
