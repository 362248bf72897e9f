"""slurm/study.sbatch without a cluster: what each of its jobs starts, and when an allocation is queued again."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_batch_scripts import Site, differences

FOLDER = "/shared/runs/my study"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "study")


ELEMENT = {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}
CASES: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    ("an element of an array", ("make", "FOLDER", "2", "4-ranks", "0"), ELEMENT),
    ("the second part of an array that was split", ("make", "FOLDER", "2", "4-ranks", "1000"), ELEMENT),
    ("a job for each allocation", ("make", "FOLDER", "2", "4-ranks", "7"), {}),
    ("srun", ("make", "FOLDER", "2", "4-ranks", "0"), {"HVD_ADAM_LAUNCHER": "srun", **ELEMENT}),
    ("in a container", ("make", "FOLDER", "2", "4-ranks", "0"), {"HVD_ADAM_CONTAINER": "/i/h a.sif", **ELEMENT}),
    ("the learning rates", ("pick", "FOLDER", "2"), {}),
    ("the report", ("report", "FOLDER", "2"), {}),
]  # fmt: skip


def call(site: Site, arguments: tuple[str, ...], environment: dict[str, str]):
    folder = site.tree / "runs" / "my study"
    done = site.run(*(str(folder) if word == "FOLDER" else word for word in arguments), **environment)
    done.stderr = done.stderr.replace(str(site.tree), "TREE")
    return done


def test_options_and_lines_are_those_of_the_golden_file(site: Site) -> None:
    said = {}
    for name, arguments, environment in CASES:
        done = call(site, arguments, environment)
        assert done.returncode == 0, done.stderr
        said[name] = done.stderr
    assert not differences("study", said)


MAKE = ("make", "FOLDER", "2", "4-ranks", "0")


def test_an_allocation_that_goes_on_to_its_next_run_has_got_on(site: Site) -> None:
    """Faults in a row count for one run; the way on, where Slurm does not go it, is the study's."""
    home = site.tree / "runs/my study/submissions/2/4-ranks/3"
    home.mkdir(parents=True)
    site.launcher("exit 137")
    for name in ("a", "b"):
        (home / "now").unlink(missing_ok=True)
        (home / "now").symlink_to(f"/shared/{name}")
        for tries in ("1", "2"):
            assert call(site, MAKE, ELEMENT).returncode == 75
            assert (home / "now.tries").read_text().split("\n")[0] == tries
    assert site.requeued.read_text() == 4 * "5_3\n"
    last = call(site, MAKE, {**ELEMENT, "SLURM_RESTART_COUNT": "2", "HVD_ADAM_RESTARTS": "2"})
    assert last.returncode == 75
    assert "allows no more: hvd-adam study submit with --resubmit failed goes on with it" in last.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ((), {}, "study.sbatch .\n  It does make, pick or report.\n"),
        (("make", "FOLDER", "2"), {}, "It wants FOLDER SUBMISSION ARRAY FIRST.\n"),
        (MAKE, {"SLURM_JOB_ID": ""}, "this is not a job.\n"),
    ],
)
def test_a_wrong_call_is_one_message_and_exit_code_2(
    site: Site, arguments: tuple[str, ...], environment: dict[str, str], message: str
) -> None:
    done = call(site, arguments, environment)
    assert done.returncode == 2
    assert done.stderr.startswith("hvd-adam: ") and done.stderr.count("\n") == 3
    assert message in done.stderr


def test_a_node_without_the_environment_is_named(site: Site) -> None:
    site.stub("hostname", "echo n7")
    (site.bin / "hvd-adam").unlink()
    done = call(site, MAKE, ELEMENT)
    assert done.returncode == 2
    assert done.stderr.startswith("hvd-adam: there is no hvd-adam on n7.\n  Neither TREE/.venv nor PATH has it")
    assert "make setup there" in done.stderr and site.restarts() == 0
