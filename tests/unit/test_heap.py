"""Memory that torch frees stays with the process, unless somebody has said otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

KEPT = """
import torch, hvd_adam
hvd_adam.init("solo")

def held():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

before = held()
tensor = torch.ones(24 << 18)  # 24 MB: less than the most that an older glibc keeps
del tensor
print((held() - before) // 1024)
"""


@pytest.mark.parametrize(
    ("environment", "kept"),
    [({}, True), ({"HVD_ADAM_PLAIN": "1"}, False), ({"MALLOC_TRIM_THRESHOLD_": "100000"}, False)],
)
def test_freed_memory_is_kept_unless_it_is_said_otherwise(environment: dict[str, str], kept: bool) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc's malloc alone is told")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", KEPT], capture_output=True, text=True, env={**plain, **environment}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (int(done.stdout) > 20) is kept


def test_freed_memory_goes_back_to_the_system_where_it_is_asked_for() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("glibc's malloc alone is told")
    asked = KEPT.replace("del tensor", "del tensor\nhvd_adam.comm.heap.return_freed_memory()")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, env=plain, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 5
