"""What the workers of a study inherit."""

from __future__ import annotations

import pytest

from hvd_adam.study.crew import environment

JOB = {"SLURM_JOB_ID": "7", "SLURM_TASKS_PER_NODE": "2", "SLURM_NODELIST": "n1", "PMI_RANK": "0"}


@pytest.mark.parametrize(
    ("changes", "ranks", "stays"),
    [
        ({}, 2, True),  # mpirun puts the ranks where the scheduler says
        ({}, 3, False),  # it would refuse the third
        ({"SLURM_TASKS_PER_NODE": "2(x3),1"}, 7, True),
        ({"SLURM_TASKS_PER_NODE": "2(x3),1"}, 8, False),
        ({"SLURM_TASKS_PER_NODE": ""}, 3, True),
        ({"SLURMD_NODENAME": ""}, 3, True),  # a shell on the login node: no place to train at
    ],
)
def test_an_allocation_of_fewer_tasks_than_ranks_is_not_told_to_mpirun(
    changes: dict[str, str], ranks: int, stays: bool
) -> None:
    here = {key: value for key, value in {**JOB, "SLURMD_NODENAME": "n1", **changes}.items() if value}
    told = environment(here, ranks)
    assert ("SLURM_NODELIST" in told and "PMI_RANK" in told) == stays
    assert told["OMP_NUM_THREADS"] == "1"


def test_the_users_threads_and_path_stay_and_the_launchers_own_words_go() -> None:
    told = environment({"OMP_NUM_THREADS": "3", "PYTHONPATH": "/mine", "OMPI_COMM_WORLD_RANK": "0", "PMIX_ID": "x"}, 2)
    assert told["OMP_NUM_THREADS"] == "3" and told["PYTHONPATH"].endswith(":/mine")
    assert "OMPI_COMM_WORLD_RANK" not in told and "PMIX_ID" not in told
