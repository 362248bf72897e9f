"""From a plan to jobs: nothing but values, compared with a golden file, with and with counts by hand."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import pytest

from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.config import StudyConfig
from hvd_adam.study.costs import refuse_over_cap
from hvd_adam.study.plan import Plan, plan
from hvd_adam.study.slurm import fresh, refusal
from hvd_adam.study.submission import START_SECONDS, Job, Wish, arrays, jobs, line, parted, places
from tests.made_study import study_of

GOLDEN = Path(__file__).resolve().parent / "golden" / "study-submit.txt"
FOLDER = Path("/shared/my runs/100%/made")
TUNED: dict[str, Any] = {"grid": {"workers": [1, 2]}, "lr": {"tune": [1.0, 2.0]}, "seeds": 3}


def everything(study: StudyConfig, made: Plan) -> list[str]:
    return [place for cell in (*made.tuning, *made.cells) for place in places(cell, study)]


def submission(study: StudyConfig, wish: Wish, seconds: float | None = 100.0) -> list[Job]:
    made = plan(study)
    known = {cell.name: seconds for cell in (*made.tuning, *made.cells)}
    found = arrays(study, made, everything(study, made), known, wish)
    return jobs(study, found, FOLDER, 3, wish, waiting=any(not cell.runs for cell in made.cells))


def shown(made: list[Job]) -> str:
    ids = {job.name: str(100 + k) for k, job in enumerate(made)}
    return "".join(f"{line(job.command(Path('/a tree/slurm/study.sbatch'), ids))}\n" for job in made)


CASES: list[tuple[str, dict[str, Any], Wish]] = [
    ("packed, one rank a node", {"ranks": 4}, Wish()),
    ("a run an allocation, several ranks a node", {"ranks": 16}, Wish(2, 0.0, 4, 1001, ("--gpus-per-node=4",))),
    ("an array that is split", {"ranks": 4}, Wish(pack_seconds=0, most_elements=4)),
    ("a cluster without arrays", {"grid": {"workers": [1, 2]}, "seeds": 2}, Wish(pack_seconds=0, most_elements=1)),
    ("tuned learning rates", TUNED, Wish()),
]  # fmt: skip


def test_calls_of_sbatch_are_those_of_the_golden_file() -> None:
    """HVD_ADAM_GOLDEN=write writes it anew, to be read before it is committed."""
    text = "\n".join(f"{name}\n{shown(submission(study_of(**keys), wish))}" for name, keys, wish in CASES)
    if os.environ.get("HVD_ADAM_GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert not list(difflib.unified_diff(GOLDEN.read_text().splitlines(), text.splitlines(), lineterm=""))


@pytest.mark.parametrize("pack", [0.0, 250.0, 1e9])
@pytest.mark.parametrize("most", [1, 3, 1001])
@pytest.mark.parametrize("seconds", [100.0, None])
def test_each_run_is_carried_by_one_element_of_one_job(pack: float, most: int, seconds: float | None) -> None:
    study = study_of(**TUNED, ranks=2)
    made, wish = plan(study), Wish(pack_seconds=pack, most_elements=most)
    known = {cell.name: seconds for cell in (*made.tuning, *made.cells)}
    found = {one.name: one for one in arrays(study, made, everything(study, made), known, wish)}
    carried = []
    for job in submission(study, wish, seconds):
        assert job.elements <= max(1, most)
        for k in range(job.elements):
            carried += found[job.array].packs[job.first + k]
    assert sorted(carried) == sorted(everything(study, made))
    for array in found.values():
        for pack_of, total in zip(array.packs, array.seconds, strict=True):
            assert len(pack_of) == 1 or (total is not None and total <= pack)


def test_cells_that_wait_for_a_learning_rate_come_after_the_picks_and_these_after_tuning() -> None:
    made = {job.name: job for job in submission(study_of(**TUNED, ranks=2), Wish())}
    assert made["pick"].after == ("tuning-1-rank", "tuning-2-ranks")
    assert made["1-rank"].after == made["2-ranks"].after == ("pick",)
    assert set(made["report"].after) == set(made) - {"report"}


@pytest.mark.parametrize(
    ("words", "settings", "options"),
    [
        ("seeds=3 --partition=gpu", ("seeds=3",), ("--partition=gpu",)),
        ("--partition gpu --time 60 -p wide", (), ("--partition=gpu", "--time=60", "-pwide")),
        ("--hold seeds=3", ("seeds=3",), ("--hold",)),  # --hold takes nothing
        ("-N2 stray", (), ("-N2stray",)),  # sbatch says what is wrong with it
        ("--mem=4G stray", ("stray",), ("--mem=4G",)),  # the study does
    ],
)
def test_words_are_the_studys_or_sbatchs(words: str, settings: tuple[str, ...], options: tuple[str, ...]) -> None:
    assert parted(words.split()) == (settings, options)


def test_node_hours_count_whole_nodes_and_the_start_of_each_allocation() -> None:
    study = study_of(grid={"workers": [8, 16]}, seeds=3, ranks=16)
    made, wish = plan(study), Wish(pack_seconds=200, tasks_per_node=4)
    eight, sixteen = arrays(study, made, everything(study, made), {cell.name: 100.0 for cell in made.cells}, wish)
    assert [len(pack) for pack in eight.packs] == [2, 1]
    assert eight.node_hours(wish) == pytest.approx(2 * (300 + 2 * START_SECONDS) / 3600)
    assert sixteen.node_hours(wish) == pytest.approx(4 * (300 + 2 * START_SECONDS) / 3600)


def test_a_cap_refuses_with_the_number() -> None:
    refuse_over_cap(2.0, 2.0)
    refuse_over_cap(None, None)
    with pytest.raises(ConfigError, match=r"up to 2\.5 node-hours\.\n  max_node_hours is 2\.") as refused:
        refuse_over_cap(2.5, 2.0)
    assert refused.value.exit_code == 2
    with pytest.raises(ConfigError, match="the seconds a step are not known"):
        refuse_over_cap(None, 2.0)


@pytest.mark.parametrize(
    ("said", "kind", "cure"),
    [
        ("sbatch: error: invalid partition specified: nowhere\nsbatch: error: Batch job submission failed: Invalid "
         "partition name specified\n", ConfigError, "sinfo lists the partitions"),
        ("sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
         ConfigError, "-- --account=NAME"),
        ("sbatch: error: Invalid --time specification\n", ConfigError, "-- --time=04:00:00"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available\n", ConfigError,
         "--tasks-per-node"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n", RunError,
         "the same command then goes on"),
        ("", ConfigError, "the words after -- are sbatch's"),
    ],
)  # fmt: skip
def test_a_refusal_is_in_slurms_words_with_our_cure(said: str, kind: type, cure: str) -> None:
    error = refusal(said)
    assert type(error) is kind and cure in error.cure
    for words in (part.removeprefix("sbatch: error: ") for part in said.splitlines()):
        assert words in error.why


def test_from_inside_a_job_nothing_of_it_goes_along_and_outside_the_users_words_stay() -> None:
    words = {
        "PATH": "/bin",
        "SLURM_CONF": "/c",
        "SBATCH_PARTITION": "mine",
        "SLURM_NTASKS": "3",
        "OMPI_COMM_WORLD_RANK": "1",
    }
    assert fresh(words) == words
    assert fresh({**words, "SLURM_JOB_ID": "7"}) == {"PATH": "/bin", "SLURM_CONF": "/c"}
