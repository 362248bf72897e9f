"""A study file and its overrides: what can be set, and how a mistake is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hvd_adam import config_file
from hvd_adam.config_file import write
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.study.config import from_plain, load
from hvd_adam.study.folder import Folder
from hvd_adam.study.plan import plan

STUDY: dict[str, Any] = {
    "name": "small",
    "base": {"task": "digits"},
    "grid": {"workers": [1, 2]},
    "seeds": 2,
    "targets": [{"measure": "train_loss", "at_most": 0.5}],
    "budget": {"steps": 100},
}


@pytest.mark.parametrize("base", ["run.yaml", {"task": "digits"}, {}])
def test_keys_below_base_are_set_as_train_sets_them(base: Any, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("task: digits\n")
    (tmp_path / "study.yaml").write_text(write({**STUDY, "base": base}))
    study = load(tmp_path / "study.yaml", ["base.algorithm.lr=0.5", "base.task.model=mlp"])
    assert study.base["algorithm"] == {"name": "adam", "lr": 0.5}
    assert study.base["task"] == {"name": "digits", "model": "mlp"}


def test_what_follows_grid_is_one_key_with_its_dots(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(write(STUDY))
    study = load(tmp_path / "study.yaml", ["grid.algorithm.lr=[0.1, 0.2]"])
    assert study.grid == {"workers": [1, 2], "algorithm.lr": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": None}, r"grid: .*must be a mapping.*grid: \{workers"),
        ({"targets": {"measure": "train_loss"}}, r"must be a list.*targets: \[\{measure"),
        ({"resolution": 3}, "resolution: 3.*must be <= 2"),
        ({"expect": {"reach": 1.5}}, "expect.reach: 1.5.*must be <= 1"),
        ({"expect": {"slope": [-0.3, -0.6]}}, r"no slope lies between.*slope: \[-0.6, -0.3\]"),
    ],
)
def test_a_mistake_in_a_study_is_answered_with_what_to_write(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        from_plain({**STUDY, **change})


@pytest.mark.parametrize("key", ["grid", "targets"])
def test_a_missing_key_is_named_alone_with_an_example(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_plain({name: value for name, value in STUDY.items() if name != key})
    assert caught.value.found == f"no {key}"
    assert caught.value.cure.startswith(f"write for instance {key}: ") and "Undefined" not in caught.value.cure


@pytest.mark.parametrize(
    "change",
    [
        {"base": {"evaluate": 100}},
        {"base": {"evaluate": None}},
        {"grid": {"evaluate": [1, 2]}},
    ],
)
def test_an_evaluate_that_is_no_mapping_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"(?s)evaluate: .*must be a mapping"):
        plan(from_plain({**STUDY, **change}))


def test_a_ratio_of_cells_that_are_none_is_refused_when_the_study_is_planned() -> None:
    expect = {"time_ratio": {"cell": "workers-2", "base": "worker-1", "at_most": 0.5}}
    with pytest.raises(ConfigError, match=r"(?s)time_ratio: worker-1.*Say workers-1"):
        plan(from_plain({**STUDY, "expect": expect}))


def test_a_folder_is_no_config_and_is_not_offered_in_place_of_itself(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="It is a folder"):
        config_file.read(tmp_path / "run.yaml")
    with pytest.raises(ConfigError) as refused:
        config_file.read(tmp_path / "gone.yaml")
    assert "did you mean" not in str(refused.value).lower()


def test_a_folder_that_is_a_file_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="File exists") as refused:
        Folder(tmp_path / "taken").make()
    assert "disk" not in str(refused.value)
