"""Keeps the memory that torch frees, as the launchers have it: a step takes the same again, and new pages cost time."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's names of them: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")  # by which a user or a site says so


def keep_freed_memory() -> None:
    """Tells glibc's malloc; what a user, a site or a launcher has set stays, and HVD_ADAM_PLAIN=1 leaves it out."""
    if os.environ.get("HVD_ADAM_PLAIN") or any(name in os.environ for name in _VARIABLES):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # none in other C libraries
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, 1 << 30) or set_option(_MMAP_THRESHOLD, 1 << 25)  # all that an older one takes
        set_option(_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Gives the system all pages that hold nothing any more, once; what is freed later is kept as before."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
