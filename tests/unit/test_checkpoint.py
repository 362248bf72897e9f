"""Checkpoints: two kept, damage passed over, a foreign one refused with the keys that differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hvd_adam.comm.solo import SoloWorld
from hvd_adam.config import RunConfig, from_plain
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.training.checkpoint import load_newest, save
from hvd_adam.training.preparation import check_task, load_optimizer_state, optimizer_state, prepare

WORLD = SoloWorld()


def content(value: float) -> dict[str, Any]:
    return {"model": {"w": torch.full((3,), value)}, "samples": 7}


def test_the_newest_comes_back_bit_for_bit_and_two_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, RunConfig(), content(step / 3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000020.ckpt", "step-000000030.ckpt"]
    found = load_newest(WORLD, tmp_path, RunConfig())
    assert found is not None and found["step"] == 30
    assert torch.equal(found["model"]["w"], torch.full((3,), 10.0))


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_a_damaged_one_is_said_and_the_one_before_is_used(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10, RunConfig(), content(1.0))
    newest = save(tmp_path, 20, RunConfig(), content(2.0))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes({"truncated": bytes(data[: len(data) // 2]), "one bit": bytes(data), "empty": b""}[damage])
    found = load_newest(WORLD, tmp_path, RunConfig())
    assert found is not None and found["step"] == 10
    assert "damaged" in capsys.readouterr().err


def test_where_none_can_be_used_the_run_is_refused_and_nothing_is_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (10, 20):
        save(tmp_path, step, RunConfig(), content(1.0)).write_bytes(b"rot")
    for _ in range(2):  # as a batch script that starts it again
        with pytest.raises(RunError) as caught:
            load_newest(WORLD, tmp_path, RunConfig())
        assert "step-000000020.ckpt (checksum), step-000000010.ckpt (checksum)" in str(caught.value)
        assert "would start at step 0 and remove its trace" in str(caught.value)
    assert "the one before it is used" not in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000010.ckpt", "step-000000020.ckpt"]


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path, permissions_bite: None) -> None:
    save(tmp_path / "checkpoints", 10, RunConfig(), content(1.0))
    (tmp_path / "checkpoints").chmod(0)
    with pytest.raises(RunError, match=r"cannot be read \(Permission denied\)"):
        load_newest(WORLD, tmp_path / "checkpoints", RunConfig())


def test_without_any_there_is_none(tmp_path: Path) -> None:
    assert load_newest(WORLD, tmp_path / "none", RunConfig()) is None


def test_a_foreign_one_is_refused_and_the_keys_are_named(tmp_path: Path) -> None:
    save(tmp_path, 10, RunConfig(), content(1.0))
    with pytest.raises(ConfigError) as caught:
        load_newest(WORLD, tmp_path, from_plain({"seed": 3, "workers": 4}))
    assert "seed 0 there, 3 here" in str(caught.value)
    assert "workers 2 there, 4 here" in str(caught.value)


@pytest.mark.parametrize(
    ("there", "here", "allowed"),
    [
        ({"steps": 100}, {"steps": 200}, True),  # a longer budget
        ({"steps": 200}, {"steps": 100}, False),  # a shorter one
        ({"steps": 100}, {"steps": 100, "threads": 2, "engine": "mpi"}, True),  # facts of the launch
        ({"steps": 100, "algorithm": "theorem17"}, {"steps": 200, "algorithm": "theorem17"}, False),  # knows T
    ],
)
def test_what_a_checkpoint_may_be_continued_with(
    tmp_path: Path, there: dict[str, Any], here: dict[str, Any], allowed: bool
) -> None:
    save(tmp_path, 10, from_plain(there), content(1.0))
    if allowed:
        assert load_newest(WORLD, tmp_path, from_plain(here)) is not None
    else:
        with pytest.raises(ConfigError):
            load_newest(WORLD, tmp_path, from_plain(here))


def test_a_folder_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError) as caught:
        save(tmp_path / "file" / "checkpoints", 1, RunConfig(), content(1.0))
    assert caught.value.exit_code == 1


def test_optimizer_state_comes_back_with_its_dtypes() -> None:
    config = from_plain({"optimizer": {"betas": [0.9, "1 - 0.9/t^0.5"]}})  # scheduled: float64 products are kept
    parts = prepare(config, check_task(config))
    for value in parts.adam.state.values():
        value["products"].fill_(1 / 3)
    saved = optimizer_state(parts)
    other = prepare(config, check_task(config))
    load_optimizer_state(other, saved)
    for state in other.adam.state.values():
        assert state["products"].dtype == torch.float64
        assert float(state["products"][0]) == 1 / 3


def test_optimizer_state_of_another_shape_is_refused() -> None:
    config = RunConfig()
    parts = prepare(config, check_task(config))
    saved = optimizer_state(parts)
    name = next(iter(saved["state"]))
    saved["state"][name]["exp_avg"] = torch.zeros(2, 2)
    with pytest.raises(ConfigError, match="shape"):
        load_optimizer_state(parts, saved)
