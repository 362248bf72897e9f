"""slurm/bench.sbatch without a cluster: which benchmarks it starts, on how many ranks, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_batch_scripts import Site, differences


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path, "bench")
    made.stub("hvd-adam", 'echo hvd-adam "$@"; case $2 in start) exit ${START_ENDS_WITH-0} ;; esac')
    return made


CASES: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    ("all of them", (), {}),
    ("two of them, with options", ("step", "scale"), {"HVD_ADAM_BENCH_OPTIONS": "--rounds 5 --model lenet"}),
    ("tasks per node, no number of tasks", ("allreduce",), {"SLURM_NTASKS": "", "SLURM_NTASKS_PER_NODE": "8"}),
    ("the study takes the cores of its node", ("study",), {}),
]  # fmt: skip


def test_options_and_lines_are_those_of_the_golden_file(site: Site) -> None:
    said = {}
    for name, arguments, environment in CASES:
        done = site.run(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout
    assert not differences("bench", said)


def test_one_that_fails_does_not_keep_the_others_from_running(site: Site) -> None:
    done = site.run("start", "memory", START_ENDS_WITH="1")
    assert done.returncode == 1
    assert "bench start ended with 1; the others go on" in done.stderr
    assert "hvd-adam bench memory" in done.stdout
    assert site.restarts() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("step", "stepp"), {}, "bench stepp.\n  There is no such benchmark.\n  Choose from step, allreduce"),
        ((), {"SLURM_JOB_ID": ""}, "this is not a job.\n"),
    ],
)
def test_a_wrong_call_is_one_message_and_exit_code_2(
    site: Site, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = site.run(*arguments, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hvd-adam: ") and done.stderr.count("\n") == 3
    assert message in done.stderr
