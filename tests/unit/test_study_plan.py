"""From a study file to cells, names and configs, and how lr moves with the batch: pure, and stored as data."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hvd_adam.errors import ConfigError
from hvd_adam.study import warnings
from hvd_adam.study.config import from_plain, load
from hvd_adam.study.plan import cell_name, plan
from hvd_adam.study.scaling import Refused, scaled

DATA = Path(__file__).parent / "data"
SMALL: dict[str, Any] = {
    "name": "small",
    "base": {"task": {"name": "digits", "model": "softmax"}, "algorithm": {"name": "adam", "lr": 0.01}},
    "grid": {"workers": [1, 2]},
    "seeds": 2,
    "targets": [{"measure": "train_loss", "at_most": 0.5}],
    "budget": {"steps": 100},
}
THEORY: dict[str, Any] = {
    "name": "theory",
    "base": {"task": "toy", "algorithm": "theorem17", "workers": 2, "local_batch": 4},
    "grid": {"workers": [2, 4]},
    "seeds": 2,
    "targets": [{"measure": "mean_gradient_norm", "at_most": 1.0}],
    "mode": "theory",
    "horizons": [100, 200, 400],
}


def test_the_same_file_gives_the_plan_that_is_stored_beside_it() -> None:
    picks = {"workers-1_global_batch-16_theta-0.999": 2.0}
    made = json.loads(json.dumps(asdict(plan(load(DATA / "study.yaml"), picks))))
    assert made == json.loads((DATA / "study-plan.json").read_text())


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"workers": 4, "algorithm.lr": 0.01}, "workers-4_lr-0.01"),
        ({"task.model": "mlp", "check.model": True}, "task.model-mlp_check.model-true"),  # short names would clash
        ({"algorithm.lr": "0.5/sqrt(t)"}, "lr-f7a81031"),  # printf '"0.5/sqrt(t)"' | sha256sum
        ({"algorithm": {"name": "adam"}}, "algorithm-adam-f95eafff"),  # printf '{"name": "adam"}' | sha256sum
        ({"x": None}, "x-None"),
    ],
)
def test_a_cell_is_named_after_its_setting(setting: dict[str, Any], name: str) -> None:
    assert cell_name(setting) == name


ADAM = {"lr": 0.01, "beta": 0.9, "theta": 0.999, "eps": 1e-8}


@pytest.mark.parametrize(
    ("rule", "k", "lr", "beta", "theta", "eps"),
    [  # worked out by hand from Malladi et al. 2022, definitions of the square-root rule
        ("none", 4, 0.01, 0.9, 0.999, 1e-8),
        ("sqrt", 4, 0.02, 0.9, 0.999, 1e-8),
        ("sqrt", 16, 0.04, 0.9, 0.999, 1e-8),
        ("linear", 4, 0.04, 0.9, 0.999, 1e-8),
        ("malladi", 1, 0.01, 0.9, 0.999, 1e-8),
        ("malladi", 4, 0.02, 0.6, 0.996, 5e-9),
        ("malladi", 9, 0.03, 0.1, 0.991, 1e-8 / 3),
        ("malladi", 10, *[None] * 4),  # k (1 - 0.9) = 1
        ("malladi", 16, *[None] * 4),
    ],
)
def test_rules_move_what_they_say(rule: str, k: float, lr: Any, beta: Any, theta: Any, eps: Any) -> None:
    by_torch = {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8}
    documents: list[dict[str, Any]] = [{"algorithm": {"name": "adam", **ADAM}}, {"optimizer": by_torch}]
    for document in (*documents, {"algorithm": "adam"}):
        if lr is None:
            with pytest.raises(Refused, match="not below 1"):
                scaled(document, rule, k)
            continue
        moved = scaled(document, rule, k, factor=0.3)
        section = moved.get("optimizer") or moved["algorithm"]
        start = 1.0 if document != {"algorithm": "adam"} else 0.1  # adam's own lr is 0.001
        assert section["lr"] == pytest.approx(start * 0.3 * lr, rel=1e-12)
        if rule == "malladi":
            betas = section.get("betas") or [section["beta"], section["theta"]]
            assert [*betas, section["eps"]] == pytest.approx([beta, theta, eps], rel=1e-12)
    assert by_torch["lr"] == 0.01  # what was given is left as it was


def test_a_schedule_of_lr_is_moved_as_a_whole() -> None:
    moved = scaled({"algorithm": {"name": "adam", "lr": "0.1/sqrt(t)"}}, "linear", 4)
    assert moved["algorithm"]["lr"] == {"product": {"factors": [4, "0.1/sqrt(t)"]}}


def test_cells_that_malladi_does_not_reach_are_marked_and_not_run() -> None:
    study = from_plain({**SMALL, "grid": {"workers": [1, 2, 16]}, "lr": {"rule": "malladi"}})
    made = plan(study)
    assert [len(cell.runs) for cell in made.cells] == [2, 2, 0]
    assert made.cells[2].refused == "k (1 - beta) = 16 x 0.1 is not below 1"
    assert any("workers-16 is not run" in warning for warning in made.warnings)


def test_all_cells_are_evaluated_on_one_geometric_grid() -> None:
    made = plan(from_plain({**SMALL, "grid": {"workers": [1, 2, 8]}, "resolution": 1.05}))
    kept = {json.dumps(run.config["evaluate"], sort_keys=True) for run in made.runs}
    assert kept == {'{"geometric": 1.05, "start": true, "train": 1000}'}
    assert {run.config["sampling"] for run in made.runs} == {"replacement"}
    assert {run.config["determinism"] for run in made.runs} == {"exact"}


@pytest.mark.parametrize(
    ("budget", "steps"), [({"steps": 70}, [70, 70]), ({"samples": 1000}, [32, 16]), ({"seconds": 5}, [10**9, 10**9])]
)
def test_a_budget_in_samples_gives_each_batch_its_steps(budget: dict[str, Any], steps: list[int]) -> None:
    made = plan(from_plain({**SMALL, "budget": budget}))
    assert [cell.steps for cell in made.cells] == steps
    assert all(run.config.get("max_seconds") == budget.get("seconds") for run in made.runs)


def test_a_global_batch_is_dealt_to_the_workers() -> None:
    made = plan(from_plain({**SMALL, "grid": {"workers": [1, 2, 8], "global_batch": [64]}}))
    assert [cell.batch for cell in made.cells] == [64, 64, 64]
    assert [run.config["local_batch"] for run in made.runs] == [64, 64, 32, 32, 8, 8]


def test_theory_mode_makes_one_run_a_horizon_and_lets_it_end_there() -> None:
    made = plan(from_plain(THEORY))
    assert [cell.name for cell in made.cells] == [f"workers-{w}_T-{T}" for w in (2, 4) for T in (100, 200, 400)]
    for cell in made.cells:
        for run in cell.runs:
            assert run.config["steps"] == cell.horizon and "until" not in run.config
            assert run.config["evaluate"] == {"every": max(1, cell.horizon // 200), "start": True}
    assert {cell.group for cell in made.cells} == {"workers-2", "workers-4"}


def test_tuning_runs_share_no_seed_with_the_study() -> None:
    study = from_plain({**SMALL, "lr": {"tune": [0.5, 1, 2], "tuning_seeds": 2}})
    waiting = plan(study)
    assert len(waiting.tuning) == 6 and all(len(cell.runs) == 2 for cell in waiting.tuning)
    assert not any(cell.runs for cell in waiting.cells)
    assert min(run.seed for run in waiting.runs) > max(study.seeds)
    picked = plan(study, {"workers-1": 0.5, "workers-2": 1.0})
    rates = [run.config["algorithm"]["lr"] for cell in picked.cells for run in cell.runs]
    assert rates == pytest.approx([0.005, 0.005, 0.01, 0.01])
    edge = [warning for warning in picked.warnings if "best lr" in warning]
    assert edge == ["workers-1: the best lr, x 0.5, is the smallest that was tried; smaller ones may be better"]


def test_a_batch_above_a_tenth_of_the_data_is_warned_of() -> None:
    grid = {"workers": [1, 2, 8], "global_batch": [16, 200]}
    made = plan(from_plain({**SMALL, "grid": grid}))
    assert "batch 200 is more than a tenth of the 1,438 training samples" in made.warnings
    assert plan(from_plain(THEORY)).warnings == ()


def test_the_sizes_of_our_data_are_those_of_the_data() -> None:
    from hvd_adam.tasks import get

    digits = get("digits")
    digits.prepare(Path())
    assert digits.train_size == warnings.TRAIN_SIZES["digits"]
    assert not {"toy", "pseudo-huber", "quadratic"} & set(warnings.TRAIN_SIZES)


def test_a_hundred_thousand_runs_are_planned_and_more_refused() -> None:
    grid = {"workers": list(range(1, 101)), "local_batch": [1, 2]}
    made = plan(from_plain({**SMALL, "grid": grid, "seeds": 500}))
    assert len(made.runs) == 100_000
    with pytest.raises(ConfigError, match=r"200 points of the grid, 100,200 runs"):
        plan(from_plain({**SMALL, "grid": grid, "seeds": 501}))
    huge = {f"algorithm.{name}": list(range(1, 1001)) for name in ("lr", "beta", "theta", "eps")}
    with pytest.raises(ConfigError, match=r"1,000,000,000,000 points"):  # nothing of it is laid out first
        plan(from_plain({**SMALL, "grid": huge}))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"grid": {}}, r"a study compares cells"),
    ({"grid": {"workers": []}}, r"grid\.workers: \[\].*no cells"),
    ({"grid": {"workers": [4]}}, r"a grid of one point"),
    ({"grid": {"workers": [2, 2]}}, r"cell workers-2 stands twice"),
    ({"grid": {"algorithm": ["adam", {"name": "adam"}]}}, r"are the same"),
    ({"grid": {"wrokers": [1, 2]}}, r"cell wrokers-1: wrokers.*did you mean workers"),
    ({"grid": {"algorithm.rl": [1, 2]}}, r"cell rl-1.*no such argument"),
    ({"grid": {"seed": [1, 2]}}, r"seeds are the repetitions"),
    ({"grid": {"workers": [2, 3], "global_batch": [64]}}, r"64 for 3 parts.*multiple of 3"),
    ({"grid": {"workers": [2, 3], "ranks": [2]}}, r"workers 3 on 2 ranks"),
    ({"seeds": [1, 1]}, r"stands twice"),
    ({"seeds": []}, r"seeds.*1 entries"),
    ({"targets": []}, r"targets.*1 entries"),
    ({"targets": [{"measure": "acuracy", "at_least": 0.9}]}, r"digits has no such measure.*accuracy"),
    ({"budget": None}, r"no budget.*budget: \{steps: 2000\}"),
    ({"budget": {}}, r"budget: nothing"),
    ({"budget": {"steps": 10, "seconds": 1}}, r"steps and seconds"),
    ({"mode": "theory", "budget": None}, r"mode: theory without horizons.*horizons: \[100"),
    ({"horizons": [1, 2, 3]}, r"horizons: \[1, 2, 3\] in practice mode"),
    ({"lr": {"tune": [1.0]}}, r"lr\.tune.*2 entries"),
    ({"lr": {"tune": [1.0, 1.0]}}, r"stands twice"),
    ({"lr": {"rule": "cube"}}, r"rule: cube.*no such choice"),
    ({"lr": {"rule": "sqrt"}, "base": {"task": "toy", "algorithm": "theorem17"}}, r"no lr that could be moved"),
    ({"resolution": 1.0}, r"resolution"),
    ({"wrong": 1}, r"wrong"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message[:24] for _, message in WRONG])
def test_what_cannot_be_a_study_is_refused_with_the_line_to_change(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?is){message}") as refused:
        plan(from_plain({**SMALL, **change}))
    assert refused.value.exit_code == 2 and refused.value.cure


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": {"steps": 5}}, "take budget out"),
        ({"lr": {"tune": [1, 2]}}, "the theorem says the learning rate"),
        ({"horizons": [100, 100, 200]}, "list it once"),
        ({"targets": [{"measure": "objective", "at_most": 1, "in_a_row": 2}]}, "take in_a_row out"),
    ],
)
def test_theory_mode_takes_no_key_that_it_would_not_obey(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?is){message}"):
        plan(from_plain({**THEORY, **change}))


def test_a_schedule_that_knows_its_horizon_is_no_matter_for_one_long_run() -> None:
    practice = {**THEORY, "mode": "practice", "horizons": None, "budget": {"steps": 100}}
    assert any("knows T" in warning for warning in plan(from_plain(practice)).warnings)
    plain = {**THEORY, "base": {"task": "toy", "algorithm": "adam"}}
    assert any("does not know T" in warning for warning in plan(from_plain(plain)).warnings)


def test_a_study_written_out_is_the_same_study(tmp_path: Path) -> None:
    for document in (SMALL, THEORY):
        study = from_plain(document)
        (tmp_path / "study.yaml").write_text(study.to_yaml())
        assert load(tmp_path / "study.yaml") == study


def test_the_grid_of_batches_spans_what_is_asked() -> None:
    made = plan(from_plain({**SMALL, "grid": {"workers": [2**i for i in range(5)]}, "lr": {"rule": "sqrt"}}))
    rates = [cell.runs[0].config["algorithm"]["lr"] for cell in made.cells]
    assert rates == pytest.approx([0.01 * math.sqrt(2**i) for i in range(5)])
